# SPDX-License-Identifier: Apache-2.0
"""MCAP's records as bytes, https://mcap.dev/spec: each is a kind, a length and a body."""

from __future__ import annotations

import struct
from collections.abc import Mapping

from rosbags.rosbag2.storage_mcap import ChunkInfo

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE = 0x01, 0x02, 0x03, 0x04, 0x05
CHUNKS, MESSAGE_INDEX, CHUNK_INDEX, STATISTICS, METADATA = 0x06, 0x07, 0x08, 0x0B, 0x0C
METADATA_INDEX, SUMMARY_OFFSET, DATA_END = 0x0D, 0x0E, 0x0F


def record(kind: int, body: bytes) -> bytes:
    return struct.pack("<BQ", kind, len(body)) + body


def string(text: str) -> bytes:
    data = text.encode()
    return struct.pack("<I", len(data)) + data


def table(table: Mapping[str, str]) -> bytes:
    data = b"".join(string(key) + string(value) for key, value in table.items())
    return struct.pack("<I", len(data)) + data


def mapping(layout: str, values: Mapping[int, int]) -> bytes:
    data = b"".join(struct.pack(layout, *item) for item in values.items())
    return struct.pack("<I", len(data)) + data


def chunk_index(chunk: ChunkInfo) -> bytes:
    return (
        struct.pack("<QQQQ", *chunk[:4])
        + mapping("<HQ", chunk.message_index_offsets)
        + struct.pack("<Q", chunk.message_index_length)
        + string(chunk.compression)
        + struct.pack("<QQ", chunk.compressed_size, chunk.uncompressed_size)
    )


def text(body: bytes, at: int) -> tuple[str, int]:
    """A string and the offset behind it."""
    (length,) = struct.unpack_from("<I", body, at)
    return body[at + 4 : at + 4 + length].decode(), at + 4 + length


def read_table(body: bytes, at: int) -> dict[str, str]:
    (length,) = struct.unpack_from("<I", body, at)
    end, at, table = at + 4 + length, at + 4, {}
    while at < end:
        key, at = text(body, at)
        table[key], at = text(body, at)
    return table

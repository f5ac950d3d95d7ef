# SPDX-License-Identifier: Apache-2.0
"""MCAP's records as bytes, https://mcap.dev/spec: each is a kind, a length and a body."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

MAGIC = b"\x89MCAP0\r\n"
HEADER, FOOTER, SCHEMA, CHANNEL, MESSAGE = 0x01, 0x02, 0x03, 0x04, 0x05
CHUNKS, MESSAGE_INDEX, CHUNK_INDEX, STATISTICS, METADATA = 0x06, 0x07, 0x08, 0x0B, 0x0C
METADATA_INDEX, SUMMARY_OFFSET, DATA_END = 0x0D, 0x0E, 0x0F


@dataclass(frozen=True)
class ChunkIndex:
    """Where a chunk lies: offsets in bytes from the file's start, times in nanoseconds."""

    start: int
    end: int
    offset: int
    length: int
    indices: Mapping[int, int]
    indices_length: int
    compressed: int
    uncompressed: int

    def moved(self, by: int) -> ChunkIndex:
        indices = {channel: offset + by for channel, offset in self.indices.items()}
        return replace(self, offset=self.offset + by, indices=indices)


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


def chunk_index(chunk: ChunkIndex) -> bytes:
    return (
        struct.pack("<QQQQ", chunk.start, chunk.end, chunk.offset, chunk.length)
        + mapping("<HQ", chunk.indices)
        + struct.pack("<Q", chunk.indices_length)
        + string("zstd")
        + struct.pack("<QQ", chunk.compressed, chunk.uncompressed)
    )


def read_chunk_index(body: bytes) -> ChunkIndex:
    start, end, offset, length = struct.unpack_from("<QQQQ", body)
    indices = read_mapping("<HQ", body, 32)
    at = 36 + 10 * len(indices)
    (indices_length,) = struct.unpack_from("<Q", body, at)
    compressed, uncompressed = struct.unpack_from("<QQ", body, text(body, at + 8)[1])
    return ChunkIndex(start, end, offset, length, indices, indices_length, compressed, uncompressed)


def records(data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        kind, length = struct.unpack_from("<BQ", data, at)
        yield kind, data[at + 9 : at + 9 + length]
        at += 9 + length


def u16(body: bytes, at: int = 0) -> int:
    return int(struct.unpack_from("<H", body, at)[0])


def text(body: bytes, at: int) -> tuple[str, int]:
    """A string and the offset behind it."""
    (length,) = struct.unpack_from("<I", body, at)
    return body[at + 4 : at + 4 + length].decode(), at + 4 + length


def read_mapping(layout: str, body: bytes, at: int) -> dict[int, int]:
    (length,) = struct.unpack_from("<I", body, at)
    return dict(struct.iter_unpack(layout, body[at + 4 : at + 4 + length]))


def read_table(body: bytes, at: int) -> dict[str, str]:
    (length,) = struct.unpack_from("<I", body, at)
    end, at, table = at + 4 + length, at + 4, {}
    while at < end:
        key, at = text(body, at)
        table[key], at = text(body, at)
    return table

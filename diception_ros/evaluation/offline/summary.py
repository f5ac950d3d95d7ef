# SPDX-License-Identifier: Apache-2.0
"""Reads the end of an MCAP file: what it holds and where."""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from diception_ros.evaluation.offline import records
from diception_ros.evaluation.offline.records import ChunkIndex


@dataclass(frozen=True)
class Summary:
    """What a complete file says of itself. topics: (name, type) by id from 1; data_end: the offset
    at which its messages end; metadata: its tables by name."""

    topics: tuple[tuple[str, str], ...]
    chunks: tuple[ChunkIndex, ...]
    counts: Mapping[int, int]
    data_end: int
    metadata: Mapping[str, Mapping[str, str]]


def read_summary(path: Path) -> Summary:
    """Of a file that `McapFile` wrote. ValueError for one that is incomplete or another's."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if size < 45:
            raise ValueError(f"{path} is no complete MCAP file: {size} bytes")
        file.seek(-37, os.SEEK_END)
        tail = file.read()
        if tail[:1] != bytes([records.FOOTER]) or tail[-8:] != records.MAGIC:
            raise ValueError(f"{path} is no complete MCAP file: it does not end like one")
        start, offsets = struct.unpack_from("<QQ", tail, 9)
        file.seek(start)
        found = list(records.records(file.read(offsets - start)))
        schemas = {
            records.u16(body): records.text(body, 2)[0]
            for kind, body in found
            if kind == records.SCHEMA
        }
        topics = [
            (records.text(body, 4)[0], schemas[records.u16(body, 2)])
            for kind, body in found
            if kind == records.CHANNEL
        ]
        chunks = tuple(
            records.read_chunk_index(body) for kind, body in found if kind == records.CHUNK_INDEX
        )
        counts = next(
            records.read_mapping("<HQ", body, 42)
            for kind, body in found
            if kind == records.STATISTICS
        )
        tables = {}
        for kind, body in found:
            if kind == records.METADATA_INDEX:
                offset, length = struct.unpack_from("<QQ", body)
                file.seek(offset + 9)
                name, at = records.text(record := file.read(length - 9), 0)
                tables[name] = records.read_table(record, at)
        end = max(
            (chunk.offset + chunk.length + chunk.indices_length for chunk in chunks), default=0
        )
        return Summary(tuple(topics), chunks, counts, end, tables)

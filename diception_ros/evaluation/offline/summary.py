# SPDX-License-Identifier: Apache-2.0
"""What an MCAP file holds and where. rosbags reads all of it but the tables."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from rosbags.rosbag2.storage_mcap import ChunkInfo, McapReader

from diception_ros.evaluation.offline import records


@dataclass(frozen=True)
class Summary:
    """What a complete file says of itself. topics: (name, type) by id from 1; data_end: the offset
    at which its messages end; metadata: its tables by name."""

    topics: tuple[tuple[str, str], ...]
    chunks: tuple[ChunkInfo, ...]
    counts: Mapping[int, int]
    data_end: int
    metadata: Mapping[str, Mapping[str, str]]


def read_summary(path: Path) -> Summary:
    """ValueError for a file that is incomplete."""
    reader = McapReader(path)
    try:
        reader.open()
    except Exception as error:  # rosbags, struct and OSError each in their own way
        cause = " ".join(str(error).split())
        raise ValueError(f"{path} is no complete MCAP file: {cause}") from error
    with closing(reader):
        assert reader.bio is not None
        assert reader.statistics is not None
        ends = [one.chunk_start_offset + _length(one) for one in reader.chunks]
        end = max(ends, default=reader.data_start)
        return Summary(
            tuple((one.topic, one.msgtype) for one in reader.connections),
            tuple(reader.chunks),
            dict(reader.statistics.channel_message_counts),
            end,
            dict(_tables(reader.bio, end, reader.data_end)),
        )


def moved(chunk: ChunkInfo, by: int) -> ChunkInfo:
    """In a file where it lies so many bytes behind."""
    indices = {number: offset + by for number, offset in chunk.message_index_offsets.items()}
    start = chunk.chunk_start_offset + by
    return chunk._replace(chunk_start_offset=start, message_index_offsets=indices)


def _length(chunk: ChunkInfo) -> int:
    """Bytes, with its index."""
    return chunk.chunk_length + chunk.message_index_length


def _tables(file: BinaryIO, begin: int, end: int) -> Iterator[tuple[str, dict[str, str]]]:
    """Names and content of the metadata between two offsets."""
    file.seek(begin)
    while file.tell() < end:
        kind, length = struct.unpack("<BQ", file.read(9))
        if kind == records.METADATA:
            name, at = records.text(body := file.read(length), 0)
            yield name, records.read_table(body, at)
        else:
            file.seek(length, 1)

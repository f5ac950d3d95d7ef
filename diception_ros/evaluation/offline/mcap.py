# SPDX-License-Identifier: Apache-2.0
"""Writes MCAP files that are whole or not there, and joins them without unpacking.

rosbags' own writer makes folders, cannot be taken up again and holds no metadata of ours, hence
this one; its reader serves. Format: https://mcap.dev/spec. A file gets its name only when it is
complete and on the disk, so that a process may be killed at any moment.
"""

from __future__ import annotations

import json
import os
import struct
import sys
import zlib
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from rosbags.rosbag2.storage_mcap import ChunkInfo

from diception_ros.evaluation.offline import records
from diception_ros.evaluation.offline.summary import moved, read_summary

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CHUNK = 4 * 2**20
"""Bytes of messages after which a chunk is packed."""
LEVEL = -5
"""Of zstd, as rosbag2's preset zstd_fast: the outputs of depth and normals become a sixth larger
than at 1, in less than half the time, which matters where the engine runs on the same cores."""


@dataclass(frozen=True)
class Topic:
    """A channel: its name, message type, full definition with its RIHS01
    digest, and latched for transient-local."""

    name: str
    msgtype: str
    definition: str
    digest: str = ""
    encoding: str = "ros2msg"
    latched: bool = False


@dataclass
class _Pending:
    """The chunk that is being filled."""

    data: bytearray = field(default_factory=bytearray)
    start: int = 2**63 - 1
    end: int = 0
    messages: dict[int, list[tuple[int, int]]] = field(default_factory=lambda: defaultdict(list))


class McapFile:
    """A file that is being written; `close` completes it and gives it its name.

    topics: all that may ever be written, in one order, so that files of one run can be joined.
    """

    def __init__(self, path: Path, topics: Sequence[Topic]) -> None:
        self.path, self.topics = path, tuple(topics)
        self._unfinished = path.with_name(f".{path.name}.tmp")
        self._file = self._unfinished.open("wb")
        self._ids = {topic.name: number for number, topic in enumerate(topics, 1)}
        self._chunks: list[ChunkInfo] = []
        self._counts: dict[int, int] = defaultdict(int)
        self._sequence: dict[int, int] = defaultdict(int)
        self._pending = _Pending()
        self._flusher = ThreadPoolExecutor(1, thread_name_prefix="bag flusher")
        self._flushed: Future[None] | None = None
        self._file.write(
            records.MAGIC
            + records.record(
                records.HEADER, records.string("ros2") + records.string("diception_ros")
            )
        )
        for record in self._definitions():
            self._file.write(record)

    @property
    def size(self) -> int:
        """Bytes so far, those not yet packed included."""
        return self._file.tell() + len(self._pending.data)

    def write(self, topic: str, time: int, data: bytes | memoryview) -> None:
        """One serialized message at `time` ns. OSError when the disk is full."""
        channel = self._ids[topic]
        pending = self._pending
        pending.messages[channel].append((time, len(pending.data)))
        pending.start, pending.end = min(pending.start, time), max(pending.end, time)
        self._sequence[channel] += 1
        head = struct.pack("<HIQQ", channel, self._sequence[channel], time, time)
        pending.data += struct.pack("<BQ", records.MESSAGE, len(head) + len(data)) + head
        pending.data += data
        if len(pending.data) >= CHUNK:
            self._pack()

    def append(self, other: Path) -> None:
        """All messages of a file with the same topics, as they are."""
        self._pack()
        found = read_summary(other)
        if found.topics != tuple((topic.name, topic.msgtype) for topic in self.topics):
            raise ValueError(f"{other} has other topics than {self.path}: another run wrote it")
        if not found.chunks:
            return
        begin, end = found.chunks[0].chunk_start_offset, found.data_end
        shift = self._file.tell() - begin
        with other.open("rb") as source:
            source.seek(begin)
            _copy(source, self._file, end - begin)
        self._chunks += [moved(chunk, shift) for chunk in found.chunks]
        for channel, count in found.counts.items():
            self._counts[channel] += count

    def close(self, metadata: Mapping[str, Mapping[str, str]]) -> None:
        """Completes the file with these named tables. OSError when the disk is full."""
        self._pack()
        places = []
        for name, table in {**metadata, "rosbag2": self._rosbag2()}.items():
            record = records.record(records.METADATA, records.string(name) + records.table(table))
            places.append((self._file.tell(), len(record), name))
            self._file.write(record)
        self._file.write(records.record(records.DATA_END, struct.pack("<I", 0)))
        self._summary(places)
        self._file.write(records.MAGIC)
        self._file.flush()
        self._flusher.shutdown()
        os.fsync(self._file.fileno())
        self._file.close()
        self._unfinished.replace(self.path)
        sync_folder(self.path.parent)

    def abandon(self) -> None:
        """Throws the unfinished file away."""
        self._flusher.shutdown()
        try:
            self._file.close()
        finally:
            self._unfinished.unlink(missing_ok=True)

    def _definitions(self) -> Iterator[bytes]:
        numbers: dict[str, int] = {}
        for topic in self.topics:
            if topic.msgtype not in numbers:
                numbers[topic.msgtype] = len(numbers) + 1
                yield records.record(
                    records.SCHEMA,
                    struct.pack("<H", numbers[topic.msgtype])
                    + records.string(topic.msgtype)
                    + records.string(topic.encoding)
                    + records.string(topic.definition),
                )
        for topic in self.topics:
            yield records.record(
                records.CHANNEL,
                struct.pack("<HH", self._ids[topic.name], numbers[topic.msgtype])
                + records.string(topic.name)
                + records.string("cdr")
                + records.table({"offered_qos_profiles": QOS_LATCHED if topic.latched else QOS}),
            )

    def _pack(self) -> None:
        pending, self._pending = self._pending, _Pending()
        if not pending.data:
            return
        packed = pack(pending.data)
        head = struct.pack(
            "<QQQI", pending.start, pending.end, len(pending.data), zlib.crc32(pending.data)
        )
        body = head + records.string("zstd") + struct.pack("<Q", len(packed))
        offset = self._file.tell()
        self._file.write(struct.pack("<BQ", records.CHUNKS, len(body) + len(packed)) + body)
        self._file.write(packed)
        self._flush_behind()
        length, indices = self._file.tell() - offset, {}
        for channel, messages in pending.messages.items():
            indices[channel] = self._file.tell()
            pairs = b"".join(struct.pack("<QQ", *pair) for pair in messages)
            record = struct.pack("<HI", channel, len(pairs)) + pairs
            self._file.write(records.record(records.MESSAGE_INDEX, record))
            self._counts[channel] += len(messages)
        behind, sizes = self._file.tell() - offset - length, (len(packed), len(pending.data))
        span = pending.start, pending.end
        self._chunks.append(ChunkInfo(*span, offset, length, indices, behind, "zstd", *sizes, {}))

    def _flush_behind(self) -> None:
        """Lets the disk write while the run goes on: the fsync at the end would wait for it all."""
        if self._flushed is None or self._flushed.done():
            self._flushed = self._flusher.submit(os.fdatasync, self._file.fileno())

    def _summary(self, places: Sequence[tuple[int, int, str]]) -> None:
        start, groups = self._file.tell(), []
        definitions = list(self._definitions())
        schemas = [record for record in definitions if record[0] == records.SCHEMA]
        groups_of = {
            records.SCHEMA: schemas,
            records.CHANNEL: definitions[len(schemas) :],
            records.CHUNK_INDEX: [
                records.record(records.CHUNK_INDEX, records.chunk_index(chunk))
                for chunk in self._chunks
            ],
            records.METADATA_INDEX: [
                records.record(
                    records.METADATA_INDEX,
                    struct.pack("<QQ", offset, length) + records.string(name),
                )
                for offset, length, name in places
            ],
            records.STATISTICS: [
                records.record(records.STATISTICS, self._statistics(len(schemas), len(places)))
            ],
        }
        for kind, group in groups_of.items():
            begin = self._file.tell()
            self._file.write(b"".join(group))
            if group:
                groups.append(struct.pack("<BQQ", kind, begin, self._file.tell() - begin))
        offsets = self._file.tell()
        for summary_offset in groups:
            self._file.write(records.record(records.SUMMARY_OFFSET, summary_offset))
        self._file.write(records.record(records.FOOTER, struct.pack("<QQI", start, offsets, 0)))

    def _rosbag2(self) -> dict[str, str]:
        """What `ros2 bag` finds in the files it has written itself (JSON is YAML)."""
        start, end = self._span()
        span = {
            "starting_time": {"nanoseconds_since_epoch": start},
            "duration": {"nanoseconds": end - start},
            "message_count": sum(self._counts.values()),
        }
        topics = [
            {
                "topic_metadata": {
                    "name": topic.name,
                    "type": topic.msgtype,
                    "serialization_format": "cdr",
                    "offered_qos_profiles": QOS_LATCHED if topic.latched else QOS,
                    "type_description_hash": topic.digest,
                },
                "message_count": self._counts[self._ids[topic.name]],
            }
            for topic in self.topics
        ]
        table = {
            "version": 8,
            "storage_identifier": "mcap",
            "relative_file_paths": [self.path.name],
            **span,
            "topics_with_message_count": topics,
            "compression_format": "",
            "compression_mode": "",
            "files": [{"path": self.path.name, **span}],
            "custom_data": None,
            "ros_distro": "rosbags",
        }
        return {"serialized_metadata": json.dumps(table)}

    def _span(self) -> tuple[int, int]:
        """The first and last time of a message, 0 and 0 where there is none."""
        first = min((chunk.message_start_time for chunk in self._chunks), default=0)
        return first, max((chunk.message_end_time for chunk in self._chunks), default=0)

    def _statistics(self, schemas: int, metadata: int) -> bytes:
        counts = {number: self._counts[number] for number in self._ids.values()}
        number = sum(counts.values()), schemas, len(self.topics), 0, metadata, len(self._chunks)
        head = struct.pack("<QHIIIIQQ", *number, *self._span())
        return head + records.mapping("<HQ", counts)


def pack(data: bytes | bytearray) -> bytes:
    """As a chunk of messages is packed."""
    return zstd.compress(data, level=LEVEL)


def sync_folder(folder: Path) -> None:
    """Makes a rename in the folder outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _copy(source: BinaryIO, target: BinaryIO, length: int) -> None:
    while length > 0:
        block = source.read(min(length, 2**20))
        if not block:
            raise ValueError("the file became shorter while it was copied")
        target.write(block)
        length -= len(block)


def _qos(durability: int) -> str:
    """One profile as rosbag2 8 and before write it; every later one reads it. Reliable."""
    never = "{sec: 9223372036, nsec: 854775807}"
    return (
        f"[{{history: 1, depth: 10, reliability: 1, durability: {durability}, "
        f"deadline: {never}, lifespan: {never}, liveliness: 1, "
        f"liveliness_lease_duration: {never}, avoid_ros_namespace_conventions: false}}]"
    )


QOS, QOS_LATCHED = _qos(2), _qos(1)
"""durability 2 is volatile, 1 transient-local."""

# SPDX-License-Identifier: Apache-2.0
"""Bags as they lie about: rosbag2 (SQLite, MCAP) and ROS 1, whole, unfinished or damaged.

Everything comes out as ROS 2 messages. What cannot be read is reported and left out, never fatal
beyond the bag it is in.
"""

from __future__ import annotations

import heapq
import sys
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rosbags.interfaces import Connection
from rosbags.rosbag1 import Reader as Reader1
from rosbags.rosbag2 import Reader as Reader2
from rosbags.rosbag2.storage_mcap import MAXSIZE, ChunkInfo, McapReader, msgsrc
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from diception_ros.evaluation.offline.definitions import typestore
from diception_ros.evaluation.offline.unfinished import has_log, salvaged

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

Report = Callable[[str, int, str], None]
"""report(topic, time in ns, cause): something was left out."""
SLACK = 1_000_000_000
"""ns by which messages of an MCAP file without chunks may lie too late."""
ENDS = (".mcap", ".db3", ".mcap.zstd", ".db3.zstd")
"""Of the names of rosbag2's files."""
HEADER = "std_msgs/msg/Header"
PACKED = b"\x28\xb5\x2f\xfd"
"""How zstd's data begins. No CDR message does."""
OLD_NAMES = {"tf/msg/tfMessage": "tf2_msgs/msg/TFMessage"}
"""ROS 1's before tf2, with the same content."""


@dataclass(frozen=True)
class Topic:
    """A topic of a bag. ros1: its messages are ROS 1's."""

    name: str
    msgtype: str
    messages: int
    definition: str = ""
    ros1: bool = False


@dataclass(frozen=True)
class Raw:
    """One message as it was recorded: CDR bytes (ROS 1 ones are converted), received in ns."""

    topic: str
    msgtype: str
    received: int
    data: bytes | memoryview


def decode(raw: Raw, store: Typestore | None = None) -> Any:
    """The message, by the types of this package's ROS unless a store has others. ValueError when
    its type is unknown or its bytes are too few."""
    store = store or typestore()
    if raw.msgtype not in store.types:
        raise ValueError(f"type {raw.msgtype} is not known")
    try:
        # A copy, because the arrays of a message are views: torch wants them writable.
        return store.deserialize_cdr(memoryview(bytearray(raw.data)), raw.msgtype)
    except Exception as error:  # numpy, struct and rosbags each raise their own
        raise ValueError(f"damaged {raw.msgtype} of {len(raw.data)} bytes: {error}") from error


class Bag:
    """An open bag. start and end in ns; notes: what is wrong with it as a whole."""

    def __init__(self, path: Path, readers: Sequence[Any], notes: Sequence[str] = ()) -> None:
        self.path, self.notes = path, tuple(notes)
        self._readers = tuple(readers)
        self._ros1 = isinstance(self._readers[0], Reader1)

    @property
    def topics(self) -> dict[str, Topic]:
        """By name. Of a topic with messages of several types those of the most frequent one."""
        counts, definitions = Counter[tuple[str, str]](), dict[tuple[str, str], str]()
        for reader in self._readers:
            for one in reader.connections:
                kind = one.topic, OLD_NAMES.get(one.msgtype, one.msgtype)
                counts[kind] += one.msgcount
                definitions[kind] = one.msgdef.data
        most = {name: (kind, count) for (name, kind), count in reversed(counts.most_common())}
        return {
            name: Topic(name, kind, count, definitions[name, kind], self._ros1)
            for name, (kind, count) in sorted(most.items())
        }

    @property
    def span(self) -> tuple[int, int]:
        """First and last time in ns; (0, 0) for an empty bag."""
        spans = [_span(reader) for reader in self._readers if _count(reader)]
        return (min(s for s, _ in spans), max(e for _, e in spans)) if spans else (0, 0)

    def messages(
        self,
        topics: Collection[str],
        report: Report,
        start: int | None = None,
        stop: int | None = None,
    ) -> Iterator[Raw]:
        """The messages of these topics with start <= received < stop, in order of reception."""
        known = self.topics
        for reader in self._readers:
            chosen = [one for one in reader.connections if one.topic in topics]
            if chosen:
                for connection, received, data in _messages(reader, chosen, start, stop, report):
                    try:
                        raw = self._raw(connection, received, data)
                    except Exception as error:  # a ROS 1 message that is shorter than its type
                        report(connection.topic, received, f"damaged {connection.msgtype}: {error}")
                        continue
                    if raw.msgtype == (most := known[raw.topic].msgtype):
                        yield raw
                    else:
                        report(raw.topic, received, f"type {raw.msgtype}, where most are {most}")

    def _raw(self, connection: Connection, received: int, data: bytes) -> Raw:
        if self._ros1:
            store = _ros1_store(connection.msgtype, connection.msgdef.data)
            name = OLD_NAMES.get(connection.msgtype, connection.msgtype)
            data = store.ros1_to_cdr(data, connection.msgtype)
            return Raw(connection.topic, name, received, data)
        if bytes(data[:4]) == PACKED:  # one by one; only a missing metadata.yaml would have said so
            data = zstd.decompress(data)
        return Raw(connection.topic, connection.msgtype, received, data)


def is_bag(path: Path) -> bool:
    """Whether a path looks like a bag of ROS 1 or 2, ended or not, packed or not."""
    if path.is_dir():
        names = {file.name for file in path.iterdir()}
        return "metadata.yaml" in names or any(name.endswith(ENDS) for name in names)
    return path.name.endswith((".bag", *ENDS))


@contextmanager
def opened(path: Path) -> Iterator[Bag]:
    """The bag at a path: a folder with metadata.yaml, one without (the recorder was killed), or a
    single .mcap, .db3 or .bag file. ValueError with the cause when nothing of it can be read."""
    with ExitStack() as stack:
        if not path.exists():
            raise ValueError(f"{path}: no such bag")
        if path.is_dir() and not is_bag(path):
            raise ValueError(
                f"{path} cannot be read as a bag: expected metadata.yaml, .mcap or .db3 files in it"
            )
        if path.suffix in (".bag", ".active"):
            yield Bag(path, [_open_ros1(path, stack)])
            return
        try:
            if has_log(path):
                raise ValueError("its log is not in it yet")
            reader = Reader2(path)
            stack.enter_context(reader)
        except Exception as error:  # rosbags, SQLite and YAML each raise their own
            yield Bag(path, *salvaged(path, error, stack))
        else:
            yield Bag(path, _files(reader))


def _files(reader: Reader2) -> list[Any]:
    """The files of a bag one by one: damage in one shall not cost the others."""
    return list(getattr(reader.storage, "storages", ())) or [reader.storage]


def _open_ros1(path: Path, stack: ExitStack) -> Any:
    try:
        return stack.enter_context(Reader1(path))
    except Exception as error:
        raise ValueError(
            f"{path}: {' '.join(str(error).split())} (if its recorder was killed: rosbag reindex)"
        ) from error


def _messages(
    reader: Any,
    connections: Sequence[Connection],
    start: int | None,
    stop: int | None,
    report: Report,
) -> Iterator[tuple[Connection, int, bytes]]:
    """As the reader gives them; damage costs a chunk, or the rest of a file without chunks."""
    last = 0
    try:
        if not isinstance(reader, McapReader):
            source = reader.messages(connections, start, stop)
        elif reader.chunks:
            source = _chunks(reader, connections, start, stop, report)
        else:
            source = _in_order(reader.messages_scan(connections, start, stop))
        for item in source:
            last = item[1]
            yield item
    except (GeneratorExit, MemoryError):
        raise
    except Exception as error:  # rosbags, SQLite, zstd and lz4 each raise their own
        cause = f"the rest of the bag cannot be read: {' '.join(str(error).split())}"
        report(connections[0].topic, last, cause)


def _chunks(
    reader: McapReader,
    connections: Sequence[Connection],
    start: int | None,
    stop: int | None,
    report: Report,
) -> Iterator[tuple[Connection, int, bytes]]:
    """rosbags' own way through the chunks, but a damaged one is left out alone."""
    channels = {one.id: one for one in connections}
    first, end = start or 0, MAXSIZE if stop is None else stop

    assert reader.bio is not None
    bio = reader.bio

    def guarded(chunk: ChunkInfo) -> Iterator[Any]:
        try:
            yield from msgsrc(chunk, channels, first, end, bio)
        except Exception as error:
            cause = f"a damaged chunk of the bag: {' '.join(str(error).split())}"
            report(connections[0].topic, chunk.message_start_time, cause)

    wanted = [
        guarded(chunk)
        for chunk in reader.chunks
        if first <= chunk.message_end_time
        and chunk.message_start_time < end
        and any(chunk.channel_count.get(number, 0) for number in channels)
    ]
    for message in heapq.merge(*wanted, key=lambda item: (item.timestamp, item.offset)):
        if message.connection is not None:
            yield message.connection, message.timestamp, message.data


def _in_order(
    messages: Iterator[tuple[Connection, int, bytes]],
) -> Iterator[tuple[Connection, int, bytes]]:
    """Of a file without chunks, in which they lie as the recorder took them from one topic after
    another: at most SLACK late. What comes before damage is given before the damage is raised."""
    waiting: list[tuple[int, int, Connection, bytes]] = []
    damage: Exception | None = None
    try:
        for number, (connection, received, data) in enumerate(messages):
            heapq.heappush(waiting, (received, number, connection, data))
            while waiting[0][0] < received - SLACK:
                time, _, owner, early = heapq.heappop(waiting)
                yield owner, time, early
    except Exception as error:
        damage = error
    for time, _, owner, early in sorted(waiting, key=lambda one: one[:2]):
        yield owner, time, early
    if damage is not None:
        raise damage


def _span(reader: Any) -> tuple[int, int]:
    owner = reader if hasattr(reader, "start_time") else reader.metadata
    return owner.start_time, owner.end_time - 1


def _count(reader: Any) -> int:
    return int(sum(one.msgcount for one in reader.connections))


_STORES: dict[tuple[str, str], Any] = {}


def _ros1_store(msgtype: str, definition: str) -> Any:
    """The types of a ROS 1 connection by its own definition, but with ROS 2's header."""
    key = msgtype, definition
    if key not in _STORES:
        store = get_typestore(Stores.EMPTY)
        types = get_types_from_msg(definition, msgtype)
        if HEADER in types:
            types[HEADER] = typestore().fielddefs[HEADER]
        store.register(types)
        _STORES[key] = store
    return _STORES[key]

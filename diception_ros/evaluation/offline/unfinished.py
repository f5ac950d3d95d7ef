# SPDX-License-Identifier: Apache-2.0
"""rosbag2 bags whose recorder was killed: without metadata, without an index, partly packed."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from rosbags.rosbag2.storage_mcap import ChunkInfo, McapReader
from rosbags.rosbag2.storage_sqlite3 import Sqlite3Reader

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

STORAGES = {".mcap": McapReader, ".db3": Sqlite3Reader}
PACKED = ".zstd"
"""Ends the names of files that rosbag2 has packed whole."""
LONGEST = 4 * 2**30
"""Bytes. A record of an unfinished file that claims more is damage."""


def salvaged(path: Path, error: Exception, stack: ExitStack) -> tuple[list[Any], list[str]]:
    """Readers of what is there of a rosbag2 that could not be opened because of `error`, and what
    is wrong with it. stack closes them. ValueError when nothing can be read."""
    files = [path] if path.is_file() else sorted(path.iterdir(), key=_natural)
    names = {file.name for file in files}
    readers: list[Any] = []
    left_out: list[str] = []
    for file in files:
        # While a file is packed both are there, and only the first is known to be whole.
        twice = file.suffix == PACKED and file.name.removesuffix(PACKED) in names
        if _storage(file) is None or file.name.startswith(".") or twice:
            continue
        try:
            readers.append(_reader(file, stack))
            if damage := getattr(readers[-1], "damage", ""):
                left_out.append(f"{file.name} {damage}")
        except Exception as why:  # rosbags, SQLite and zstd each raise their own
            left_out.append(f"{file.name}: {' '.join(str(why).split())}")
    if not readers:
        raise ValueError(
            f"{path} cannot be read as a bag: {' '.join(str(error).split()) or 'damaged'}"
            + (f"; {'; '.join(left_out)}" if left_out else "")
        )
    if path.is_file() and not isinstance(readers[0], _Unfinished):
        return readers, []
    left = f"; left out: {'; '.join(left_out)}" if left_out else ""
    return readers, [f"unfinished bag, read without its index{left}"]


def _natural(path: Path) -> tuple[int, str]:
    """bag_2 before bag_10, packed or not."""
    name = path.name.removesuffix(PACKED)
    return len(name), name


def _storage(file: Path) -> Any:
    """The reader of such files by their name, None for others."""
    return STORAGES.get(Path(file.name.removesuffix(PACKED)).suffix)


def _reader(file: Path, stack: ExitStack) -> Any:
    """An open reader; `stack` closes it. Raises what the reader raises."""
    kind = _storage(file)
    plain = _unpacked(file, stack) if file.suffix == PACKED else file
    if has_log(plain):
        plain = _with_log(plain, stack)
    try:
        return _opened(kind(plain), stack)
    except Exception:
        if kind is not McapReader:
            raise
        return _opened(_Unfinished(plain), stack)


def _opened(reader: Any, stack: ExitStack) -> Any:
    reader.open()
    stack.callback(reader.close)
    return reader


def _unpacked(file: Path, stack: ExitStack) -> Path:
    """A file that rosbag2 has packed whole, unpacked beside other temporary files until `stack`
    ends, as rosbags does it where there is metadata."""
    folder = stack.enter_context(TemporaryDirectory())
    plain = Path(folder) / file.name.removesuffix(PACKED)
    with zstd.open(file, "rb") as source, plain.open("wb") as target:
        shutil.copyfileobj(source, target)
    return plain


def log_of(file: Path) -> Path:
    """Where SQLite's write-ahead log lies, if its recorder (preset `resilient`) was killed."""
    return file.with_name(f"{file.name}-wal")


def has_log(file: Path) -> bool:
    """Whether the log holds anything: an empty one is left where a bag was only looked at."""
    log = log_of(file)
    return log.is_file() and log.stat().st_size > 0


def _with_log(file: Path, stack: ExitStack) -> Path:
    """A SQLite file with what its log holds beyond it, beside other temporary files: rosbags reads
    no log, and here nothing writes to a bag."""
    whole = Path(stack.enter_context(TemporaryDirectory())) / file.name
    shutil.copyfile(file, whole)  # without its mode: a bag may be read-only
    shutil.copyfile(log_of(file), log_of(whole))
    with closing(sqlite3.connect(whole)) as database:
        database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return whole


class _Unfinished(McapReader):
    """An MCAP file whose end is missing: its index is made anew from the chunks that are whole.
    damage: what is behind the first torn one, "" where none is."""

    damage = ""

    def open(self) -> None:
        self.bio = self.path.open("rb")
        try:
            self._index()
        except BaseException:
            self.close()
            raise

    def _index(self) -> None:
        assert self.bio is not None
        if self.bio.read(8) != b"\x89MCAP0\r\n":
            raise ValueError("it does not begin like an MCAP file")
        self.data_start = 8
        places, self.data_end = _whole_records(self.bio, self.path.stat().st_size)
        try:
            self.meta_scan()
        except Exception as error:  # zstd, lz4 and rosbags each raise their own
            begun = [place for place in places if place[0] < self.bio.tell()]
            if len(begun) < 2:
                raise
            places, self.data_end = begun[:-1], begun[-1][0]
            self.damage = f"from byte {self.data_end} on: {' '.join(str(error).split())}"
            self.meta_scan()
        self.chunks[:] = [_chunk_info(self.bio, *place) for place in places]
        assert self.statistics is not None
        counts = self.statistics.channel_message_counts
        self.connections = [
            one._replace(msgcount=counts.get(one.id, 0)) for one in self.connections
        ]
        for chunk in self.chunks:  # which channels a chunk holds is not known: any of them
            chunk.channel_count.update(dict.fromkeys(self.channels, 1))
        self.metadata = self.metadata._replace(
            start_time=self.statistics.start_time,
            end_time=self.statistics.end_time + 1,
            message_count=self.statistics.message_count,
        )


def _whole_records(bio: Any, size: int) -> tuple[list[tuple[int, int]], int]:
    """(offset, length) of every whole chunk, and where the last whole record ends."""
    at, chunks = 8, []
    while at + 9 <= size:
        bio.seek(at)
        kind, length = struct.unpack("<BQ", bio.read(9))
        if length > LONGEST or at + 9 + length > size or kind in (0x0F, 0x02):
            break
        if kind == 0x06:
            chunks.append((at, 9 + length))
        at += 9 + length
    return chunks, at


def _chunk_info(bio: Any, offset: int, length: int) -> ChunkInfo:
    bio.seek(offset + 9)
    start, end, uncompressed, _ = struct.unpack("<QQQI", bio.read(28))
    (letters,) = struct.unpack("<I", bio.read(4))
    compression = bio.read(letters).decode()
    (compressed,) = struct.unpack("<Q", bio.read(8))
    return ChunkInfo(start, end, offset, length, {}, 0, compression, compressed, uncompressed, {})

# SPDX-License-Identifier: Apache-2.0
"""The output of a run: parts that are each a whole MCAP file, joined at the end.

OUT.mcap.parts/00000.mcap, 00001.mcap, ... Each appears at once and complete, and says how far the
run had come, so a run may be killed at any moment: what has been written stays readable, and
--resume goes on after the last part.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diception_ros.evaluation.offline.joiner import Joiner
from diception_ros.evaluation.offline.mcap import McapFile, Topic
from diception_ros.evaluation.offline.summary import read_summary

TABLE = "diception"
"""Name of the metadata that holds the run's settings and progress."""
SLICES = "slices.json"
"""In the folder of a run on several machines: how it was cut, see distributed.py."""
PART_BYTES = 64 * 2**20
ROOM = PART_BYTES
"""Bytes that are left free on the disk, so that the part in work can be ended."""
PART_SECONDS = float(os.environ.get("DICEPTION_PART_SECONDS", "30"))
"""A kill costs at most the work of this time. The variable is for tests."""


@dataclass(frozen=True)
class Position:
    """How far a run has come. bag: index of the bag in work; images: of it that are done, answered
    or not; looked, answered, problems, seconds: of the whole run; state: see ScaleTracker.state."""

    bag: int = 0
    images: int = 0
    looked: int = 0
    answered: int = 0
    problems: Mapping[str, int] = field(default_factory=dict)
    state: Mapping[str, Any] = field(default_factory=dict)
    seconds: float = 0.0


class Output:
    """Where messages go. topics: all that may be written; settings: what a resumed run must share;
    joins: whether its parts are to become one file.

    ValueError when the output is there already, or belongs to other settings; OSError as it comes.
    """

    def __init__(
        self,
        out: Path,
        topics: Sequence[Topic],
        settings: Mapping[str, Any],
        resume: bool,
        *,
        joins: bool = True,
    ) -> None:
        self.out, self.folder = out, parts_folder(out)
        self.topics, self.settings = tuple(topics), dict(settings)
        self.position = Position()
        self._parts = self._found(resume)
        self._written = self.position
        self._joiner = Joiner(out, self.topics) if joins else None
        if self._joiner is not None:
            for part in self._parts:
                self._joiner.add(part)
        self._file: McapFile | None = None
        self._opened, self._halfway = 0.0, False

    def write(self, topic: str, received: int, data: bytes | memoryview) -> None:
        """One message; it counts as written with the next `advance`."""
        self._halfway = True
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            name = f"{len(self._parts):05d}.mcap"
            self._file, self._opened = McapFile(self.folder / name, self.topics), time.monotonic()
        self._file.write(topic, received, data)

    def advance(self, position: Position, *, whole: bool = True) -> None:
        """All messages up to this position have been written. Ends the part when it is due. whole:
        False in the middle of a batch, which the next run should find as it was. OSError (ENOSPC)
        when the disk is nearly full, with all of it in whole parts."""
        self.position, self._halfway = position, False
        if not whole or self._file is None:
            return
        short = shutil.disk_usage(self.folder).free < ROOM
        late = time.monotonic() - self._opened >= PART_SECONDS
        if short or late or self._file.size >= PART_BYTES:
            self.end_part()
        if short:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.folder))

    @property
    def safe(self) -> Position:
        """The position up to which all is in whole parts."""
        return self._written

    def end_part(self) -> None:
        """What has been written is safe from now on. A part that holds half a frame is dropped: its
        frames come again with --resume."""
        if self._halfway:
            self.abandon()
            return
        if self._file is None and self.position == self._written:
            return
        if self._file is None:  # only skipped images: they shall not be looked at again
            self.folder.mkdir(parents=True, exist_ok=True)
            self._file = McapFile(self.folder / f"{len(self._parts):05d}.mcap", self.topics)
        file, self._file = self._file, None
        try:
            file.close({TABLE: table_of(self.settings, self.position, complete=False)})
        except OSError:
            file.abandon()
            raise
        self._parts.append(file.path)
        self._written = self.position
        if self._joiner is not None:
            self._joiner.add(file.path)

    def abandon(self) -> None:
        """Drops the part in work: its frames are not done."""
        if self._file is not None:
            self._file.abandon()
            self._file, self._halfway = None, False

    def join(self) -> None:
        """Parts -> OUT.mcap. OSError when the disk cannot hold both; the parts stay then."""
        assert self._joiner is not None
        self.end_part()
        self._joiner.close({TABLE: table_of(self.settings, self.position, complete=True)})
        shutil.rmtree(self.folder, ignore_errors=True)

    def release(self) -> None:
        """Ends what works in the background; the parts stay."""
        if self._joiner is not None:
            self._joiner.abandon()

    def _found(self, resume: bool) -> list[Path]:
        """The parts of an earlier run, its position taken over."""
        if self.folder.is_dir() and not resume:
            raise ValueError(
                f"{self.folder} holds an unfinished run: go on with --resume, or remove it"
            )
        for file in self.folder.glob(".*.tmp") if self.folder.is_dir() else ():
            file.unlink()
        self.out.with_name(f".{self.out.name}.tmp").unlink(missing_ok=True)
        if (self.folder / SLICES).exists():
            raise ValueError(f"{self.folder} was begun with --ray: go on with it, or remove it")
        parts = parts_in(self.folder)
        if parts:
            table = read_summary(parts[-1]).metadata[TABLE]
            check_settings(self.folder, json.loads(table["settings"]), self.settings)
            self.position = Position(**json.loads(table["position"]))
        return parts


def parts_in(folder: Path) -> list[Path]:
    """In order; none where there is no such folder."""
    return sorted(folder.glob("*.mcap"))


def check_settings(path: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """ValueError unless what is at this path was asked for the same."""
    different = _differences(before, plain(now))
    if different:
        raise ValueError(
            f"{path} was written with other settings ({'; '.join(different)}): give the same "
            "ones, or remove it"
        )


def parts_folder(out: Path) -> Path:
    return out.with_name(f"{out.name}.parts")


def finished(
    out: Path, settings: Mapping[str, Any] | None = None, *, resume: bool
) -> Position | None:
    """The position of a run that is complete; None when there is work to do. settings: what is
    asked now, None as long as no engine is there to tell them. ValueError when the file is there
    and nobody said --resume, was not written by this command, or answers something else."""
    if not out.exists():
        return None
    if not resume:
        raise ValueError(f"{out} exists: choose another --out, or remove it")
    table = read_summary(out).metadata.get(TABLE)
    if table is None:
        raise ValueError(f"{out} exists and was not written by diception bag: choose another --out")
    if settings is not None:
        check_settings(out, json.loads(table["settings"]), settings)
        shutil.rmtree(parts_folder(out), ignore_errors=True)  # killed before it could tidy up
    return Position(**json.loads(table["position"]))


def plain(settings: Mapping[str, Any]) -> dict[str, Any]:
    """As they come back from JSON."""
    found: dict[str, Any] = json.loads(json.dumps(settings, default=str))
    return found


def table_of(settings: Mapping[str, Any], position: Position, *, complete: bool) -> dict[str, str]:
    return {
        "settings": json.dumps(plain(settings), sort_keys=True),
        "position": json.dumps(asdict(position)),
        "complete": json.dumps(complete),
    }


def _differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    return [
        f"{key} was {before.get(key)!r}, is {now.get(key)!r}"
        for key in sorted({*before, *now})
        if before.get(key) != now.get(key)
    ]

# SPDX-License-Identifier: Apache-2.0
"""Parts become one file while the run goes on: at its end hardly anything is left to copy."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

from diception_ros.evaluation.offline.mcap import McapFile, Topic

SPARE = 2**30
"""Bytes that a disk must have free beside a part, for the run itself has the first claim to it."""


class Joiner:
    """`out` in the making, in a thread of its own. Where the disk gets short it lets go of what it
    has, and all is joined in the end, if it fits then."""

    def __init__(self, out: Path, topics: Sequence[Topic]) -> None:
        self._out, self._topics = out, tuple(topics)
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="bag joiner")
        self._parts: list[Path] = []
        self._added: list[Future[None]] = []
        self._file: McapFile | None = None
        self._short = False

    def add(self, part: Path) -> None:
        """The next one; it must stay as it is."""
        self._parts.append(part)
        self._added.append(self._thread.submit(self._append, part))

    def close(self, tables: Mapping[str, Mapping[str, str]]) -> None:
        """Completes `out` with these tables. OSError when the disk cannot hold it."""
        try:
            for one in self._added:
                one.result()
            if self._short:
                self._check_room()
            file = self._file if self._file is not None else McapFile(self._out, self._topics)
            self._file = file
            for part in self._parts if self._short else ():
                file.append(part)
            file.close(tables)
            self._file = None
        finally:
            self.abandon()

    def abandon(self) -> None:
        """Throws away what is unfinished."""
        self._thread.shutdown(cancel_futures=True)
        if self._file is not None:
            self._file.abandon()
            self._file = None

    def _append(self, part: Path) -> None:
        if self._short:
            return
        try:
            room = shutil.disk_usage(self._out.parent).free
            self._short = room < SPARE + part.stat().st_size
            if self._file is None and not self._short:
                self._file = McapFile(self._out, self._topics)
            if self._file is not None and not self._short:
                self._file.append(part)
        except OSError:
            self._short = True
        if self._short and self._file is not None:
            self._file.abandon()
            self._file = None

    def _check_room(self) -> None:
        needed = sum(part.stat().st_size for part in self._parts)
        free = shutil.disk_usage(self._out.parent).free
        if free < needed:
            raise OSError(
                f"the disk of {self._out} has {free / 1e9:.1f} GB free, joining the parts needs "
                f"{needed / 1e9:.1f} GB: all results are complete in {self._parts[0].parent}; make "
                "room and run again with --resume"
            )

# SPDX-License-Identifier: Apache-2.0
"""Newest frame wins: one slot per camera, one thread. No ROS, no queue that can grow."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)
T = TypeVar("T")
SILENT = 1.0
"""Seconds after which a source that said nothing is not waited for."""


class Slots(Generic[T]):
    """Holds one item of each source; a newer one takes its place.

    Sources take turns: the one whose last turn is longest ago comes first, so that none starves
    however many others speak, and however much more often.
    """

    def __init__(
        self, sources: Sequence[str] = ("",), clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._condition = threading.Condition()
        self._clock = clock
        self._turns = list(sources)
        self._items: dict[str, T] = {}
        self._since: dict[str, float] = {}
        self._came: dict[str, float] = {}
        self._closed = False

    def put(self, source: str, item: T) -> bool:
        """Stores the item; True if an older one was thrown away for it."""
        with self._condition:
            replaced = source in self._items
            self._items[source] = item
            self._came[source] = self._clock()
            self._since.setdefault(source, self._came[source])
            self._condition.notify()
        return replaced

    def take(self, limit: int = 0, wait: float = 0.0) -> list[tuple[str, T]] | None:
        """Waits for an item, then at most `wait` seconds from its coming for those of the other
        sources; the items of at most `limit` sources (0: all) whose turn it is. None once closed.
        """
        with self._condition:
            self._condition.wait_for(lambda: bool(self._items) or self._closed)
            while not self._closed and (left := self._wait_for_others(limit, wait)) > 0:
                self._condition.wait(left)
            if self._closed:
                return None
            turn = [source for source in self._turns if source in self._items][: limit or None]
            self._turns = [source for source in self._turns if source not in turn] + turn
            for source in turn:
                del self._since[source]
            return [(source, self._items.pop(source)) for source in turn]

    def close(self) -> None:
        """Lets `take` return None from now on."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()

    def _wait_for_others(self, limit: int, wait: float) -> float:
        """Seconds that are worth waiting. Sources that are silent are not waited for."""
        now = self._clock()
        expected = sum(now - came < SILENT for came in self._came.values())
        if len(self._items) >= min(expected, limit or expected):
            return 0.0
        return min(self._since.values()) + wait - now


class Worker(Generic[T]):
    """One thread that handles what `take` gives, one after the other, until that is None.

    An exception in `handle` is logged with its trace and given to `failed`; the thread goes on.
    ended: called by the thread as its last act.
    """

    def __init__(
        self,
        take: Callable[[], T | None],
        handle: Callable[[T], None],
        failed: Callable[[Exception], None],
        name: str,
        ended: Callable[[], None] | None = None,
    ) -> None:
        self._take, self._handle, self._failed, self._ended = take, handle, failed, ended
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def join(self, timeout: float | None) -> bool:
        """Waits for the end of the thread, so many seconds or for ever; True when it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self._take()) is not None:
            try:
                self._handle(item)
            except Exception as error:  # the robot's node must outlive any single frame
                logger.exception("a frame failed")
                self._failed(error)
        if self._ended is not None:
            self._ended()


class Behind(Generic[T]):
    """One more thread, for the last part of each item while the next one's first is worked on. It
    has one item at a time, in the order they come; whoever has the next one waits."""

    def __init__(
        self, handle: Callable[[T], None], failed: Callable[[Exception], None], name: str
    ) -> None:
        self._items: queue.Queue[T | None] = queue.Queue()
        self._worker = Worker(self._items.get, partial(self._handled, handle), failed, name)

    def put(self, item: T) -> None:
        self._items.join()
        self._items.put(item)

    def wait(self) -> None:
        """Until nothing is in work."""
        self._items.join()

    def close(self) -> None:
        """Ends the thread after what is in work."""
        self._items.put(None)
        self._worker.join(None)

    def _handled(self, handle: Callable[[T], None], item: T) -> None:
        try:
            handle(item)
        finally:
            self._items.task_done()


class RateLimiter:
    """Lets at most `rate` events per second pass on average, without drifting below it when the
    source is a little irregular. A rate of 0 lets everything pass."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due, self._rate = float("-inf"), 0.0

    def due(self, rate: float) -> bool:
        """Whether an event may pass now (does not count it). A new rate counts from the event that
        passed last."""
        if self._rate > 0 and rate not in (0, self._rate):
            self._due += 1 / rate - 1 / self._rate
            self._rate = rate
        # 2 ms of grace: a camera at exactly this rate must not lose every second frame.
        return rate <= 0 or self._clock() >= self._due - 0.002

    def passed(self, rate: float) -> None:
        """Counts an event that passed now."""
        if rate <= 0:
            return
        now, period, self._rate = self._clock(), 1 / rate, rate
        base = self._due if now - self._due < period else now
        self._due = base + period

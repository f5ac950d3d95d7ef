# SPDX-License-Identifier: Apache-2.0
"""Newest frame wins: one slot, one thread. No ROS, no queue that can grow."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Generic, TypeVar

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Slot(Generic[T]):
    """Holds one item; a newer one takes its place."""

    def __init__(self) -> None:
        self._condition = threading.Condition()
        self._item: T | None = None
        self._closed = False

    def put(self, item: T) -> bool:
        """Stores the item; True if an older one was thrown away for it."""
        with self._condition:
            replaced = self._item is not None
            self._item = item
            self._condition.notify()
        return replaced

    def take(self) -> T | None:
        """Waits for an item; None once the slot is closed."""
        with self._condition:
            self._condition.wait_for(lambda: self._item is not None or self._closed)
            item, self._item = self._item, None
        return None if self._closed else item

    def clear(self) -> bool:
        """Throws the waiting item away; True if there was one."""
        with self._condition:
            had, self._item = self._item is not None, None
        return had

    def close(self) -> None:
        """Lets `take` return None from now on."""
        with self._condition:
            self._closed = True
            self._condition.notify_all()


class Worker(Generic[T]):
    """One thread that handles the newest item of its slot, one after the other.

    An exception in `handle` is logged with its trace and given to `failed`; the thread goes on.
    """

    def __init__(
        self, handle: Callable[[T], None], failed: Callable[[Exception], None], name: str
    ) -> None:
        self.slot: Slot[T] = Slot()
        self._handle, self._failed = handle, failed
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the item in work; returns at once."""
        self.slot.close()

    def join(self, timeout: float) -> bool:
        """Waits for the end of the thread, in seconds; True when it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while (item := self.slot.take()) is not None:
            try:
                self._handle(item)
            except Exception as error:  # the robot's node must outlive any single frame
                logger.exception("a frame failed")
                self._failed(error)


class RateLimiter:
    """Lets at most `rate` events per second pass on average, without drifting below it when the
    source is a little irregular. A rate of 0 lets everything pass."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._due = float("-inf")

    def due(self, rate: float) -> bool:
        """Whether an event may pass now (does not count it)."""
        # 2 ms of grace: a camera at exactly this rate must not lose every second frame.
        return rate <= 0 or self._clock() >= self._due - 0.002

    def passed(self, rate: float) -> None:
        """Counts an event that passed now."""
        if rate <= 0:
            return
        now, period = self._clock(), 1 / rate
        base = self._due if now - self._due < period else now
        self._due = base + period

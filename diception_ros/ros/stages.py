# SPDX-License-Identifier: Apache-2.0
"""A stopwatch for one frame."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Stages:
    """Milliseconds per stage of one frame, from its arrival on."""

    def __init__(self, received: float) -> None:
        self._received = received
        self.durations = {"queue": 1000 * (time.monotonic() - received)}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """A stage within a stage is counted for itself alone, so that all add up to the whole."""
        started, before = time.monotonic(), sum(self.durations.values())
        yield
        within = sum(self.durations.values()) - before
        self.durations[name] = 1000 * (time.monotonic() - started) - within

    def add(self, stages: Mapping[str, float]) -> None:
        self.durations.update(stages)

    def add_rest(self, name: str) -> None:
        """Everything until now that no stage has counted: time spent on others."""
        self.durations[name] = max(0.0, self.total_ms() - sum(self.durations.values()))

    def total_ms(self) -> float:
        """From arrival until now."""
        return 1000 * (time.monotonic() - self._received)

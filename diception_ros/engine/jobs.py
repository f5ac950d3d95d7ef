# SPDX-License-Identifier: Apache-2.0
"""What one call of the engine works on, what it gives, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

from diception_ros.model.lora import Adapter
from diception_ros.tasks import Request, Result, Task

Settings = tuple[int, float]
"""steps and guidance: requests that share them, and the weights, share a transformer pass."""


@dataclass(frozen=True)
class Job:
    """A request placed: which image, which result slot, its settings made definite, and the adapter
    whose task it asks for."""

    image: int
    slot: int
    request: Request
    task: Task
    settings: Settings
    adapter: Adapter | None = None


@dataclass(frozen=True)
class Outcome:
    """results[i][j] answers requests[i][j] at the size of images[i]. stages: milliseconds of
    preprocess, encode, denoise, decode, postprocess. batch: requests in the pass. graph: whether
    captured graphs ran. steps: those used, per task."""

    results: list[list[Result]]
    stages: Mapping[str, float]
    batch: int
    graph: bool
    steps: Mapping[str, int]


class Clock:
    """Milliseconds per stage."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.stages[name] = 1000 * (time.perf_counter() - started)

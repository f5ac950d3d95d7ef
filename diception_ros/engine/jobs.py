# SPDX-License-Identifier: Apache-2.0
"""What one call of the engine works on, how it runs, what it gives, and how long it took."""

from __future__ import annotations

import time
from collections.abc import Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from diception_ros.model.lora import Adapter
from diception_ros.tasks import Request, Result, Task


@dataclass(frozen=True)
class Options:
    """How a call runs, beside its requests.

    samples: noise seeds per request, in one batch; with more than one, Outcome.spread says where
    they disagree. temporal: 0 starts every frame from noise; up to below 1, the share of the
    stream's previous latents in the start, which then begins at sigma 1 - temporal. deadline_ms:
    time for the whole call; steps, then the network's size, are reduced to hold it.
    """

    samples: int = 1
    temporal: float = 0.0
    deadline_ms: float | None = None

    def __post_init__(self) -> None:
        if not 1 <= self.samples <= 16:
            raise ValueError(f"samples must lie in 1..16, got {self.samples}")
        if not 0.0 <= self.temporal < 1.0:
            raise ValueError(f"temporal must be at least 0 and below 1, got {self.temporal}")
        if self.deadline_ms is not None and not self.deadline_ms > 0:
            raise ValueError(f"deadline_ms must be over 0, got {self.deadline_ms}")


@dataclass(frozen=True)
class Settings:
    """sigmas: steps + 1 values, the last one 0. Jobs with equal settings, and the same weights,
    share a transformer pass."""

    sigmas: tuple[float, ...]
    guidance: float

    @property
    def steps(self) -> int:
        return len(self.sigmas) - 1

    @property
    def passes(self) -> int:
        """Rows that the transformer computes for one job: two a step with guidance."""
        return self.steps * (2 if self.guidance > 1 else 1)


@dataclass(frozen=True)
class Job:
    """A request placed: which image, which result slot, its settings made definite, the adapter
    whose task it asks for, and the seed of its noise. sample: 0 gives the result, the others only
    its spread. stream: whose previous latents it starts from and leaves its own to; None: nobody's.
    """

    image: int
    slot: int
    request: Request
    task: Task
    settings: Settings
    adapter: Adapter | None = None
    seed: int = 0
    sample: int = 0
    stream: Hashable = None


@dataclass(frozen=True)
class Outcome:
    """results[i][j] answers requests[i][j] at the size of images[i].

    stages: milliseconds of preprocess, encode, denoise, decode, postprocess. batch: requests in the
    pass. graph: whether captured graphs ran. steps: those used, per task. canvas: (height, width)
    used. spread[i][j]: (H, W) float32, standard deviation over the samples of the generated colour
    (0..1, mean of the channels); None with one sample. missed: a deadline was given and not held.
    """

    results: list[list[Result]]
    stages: Mapping[str, float]
    batch: int
    graph: bool
    steps: Mapping[str, int]
    canvas: tuple[int, int]
    spread: list[list[npt.NDArray[np.float32] | None]]
    missed: bool = False


class Clock:
    """Milliseconds per stage.

    Work for a GPU is only queued when a stage is left, so its stages are timed by events in the
    stream: no stage waits for them, and each is charged what it cost there.
    """

    def __init__(self, device: torch.device | None = None) -> None:
        """device: where the stages run; None is the host."""
        self._device = device if device is not None and device.type == "cuda" else None
        self._host: dict[str, float] = {}
        self._queued: dict[str, tuple[torch.cuda.Event, torch.cuda.Event]] = {}

    @contextmanager
    def stage(self, name: str, on_host: bool = False) -> Iterator[None]:
        """on_host: the stage runs on the host, whatever the device: by then the stream may be full
        of another call's work."""
        if on_host or self._device is None:
            started = time.perf_counter()
            yield
            self._host[name] = 1000 * (time.perf_counter() - started)
        else:
            event = self._event(self._device)
            yield
            self._queued[name] = event, self._event(self._device)

    def extend(self, name: str, end: torch.cuda.Event | None) -> None:
        """Lets a queued stage end with an event of another stream."""
        if end is not None and name in self._queued:
            self._queued[name] = self._queued[name][0], end

    @property
    def stages(self) -> dict[str, float]:
        """Of the stages that were left, in their order. Waits for the queued ones."""
        for _, end in self._queued.values():
            end.synchronize()
        queued = {name: start.elapsed_time(end) for name, (start, end) in self._queued.items()}
        return {**queued, **self._host}

    @staticmethod
    def _event(device: torch.device) -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record(torch.cuda.current_stream(device))
        return event

    @property
    def total(self) -> float:
        return sum(self.stages.values())

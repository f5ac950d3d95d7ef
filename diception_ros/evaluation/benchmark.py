# SPDX-License-Identifier: Apache-2.0
"""Latency of the engine beside the obvious alternatives, interleaved in one run."""

from __future__ import annotations

import datetime
import platform
import resource
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch

import diception_ros
from diception_ros.engine import Engine
from diception_ros.engine.naive import Naive
from diception_ros.evaluation.floor import Rates, count_flops, floor_ms, synchronize
from diception_ros.tasks import Request

TASK_ORDER = ("depth", "normal", "entity", "point", "semantic", "pose")
FRAME = (480, 640)
"""Height and width of the frames that are asked about."""
WARM_UP = 2
NAIVE, COMPILED, OURS = "naive", "naive, torch.compile", "engine"

Call = Callable[[], object]


@dataclass(frozen=True)
class Cell:
    """What one measurement runs: every camera's frame is asked for the first `tasks` tasks."""

    size: tuple[int, int]
    steps: int = 1
    guidance: float = 1.0
    tasks: int = 1
    cameras: int = 1

    @property
    def is_first(self) -> bool:
        """The cell of the summary: one step, one task."""
        return (self.steps, self.guidance, self.tasks, self.cameras) == (1, 1.0, 1, 1)


@dataclass(frozen=True)
class Latency:
    """Milliseconds for all of a cell's frames; host_ms: processor time of this process a call;
    peak_mib: most memory so far, of the GPU or (on a CPU) of the process."""

    p50: float
    p95: float
    p99: float
    host_ms: float
    calls: int
    peak_mib: float


@dataclass(frozen=True)
class Row:
    """One cell: each contender's latency beside the floor of the engine's own work."""

    cell: Cell
    latencies: Mapping[str, Latency]
    floor_ms: float
    start_ms: float
    """The engine's first call: warming up, and on a GPU capturing."""

    @property
    def ratios(self) -> dict[str, float]:
        """Median time over the engine's, per contender."""
        ours = self.latencies[OURS].p50
        return {name: seen.p50 / ours for name, seen in self.latencies.items() if name != OURS}

    @property
    def share_of_floor(self) -> float:
        return self.floor_ms / self.latencies[OURS].p50


@dataclass
class Report:
    """Everything of a run that is worth keeping."""

    engine: str
    rates: Rates
    loading_ms: float
    rows: list[Row] = field(default_factory=list)

    def summary(self) -> dict[str, float | None]:
        """ratio_vs_naive: one step, one task. three_task_hz: frames a second at one step. The
        share of the floor is for a GPU; a CPU's caches make its floor a guess."""
        first = next((row for row in self.rows if row.cell.is_first), None)
        three = next((r for r in self.rows if r.cell == Cell(r.cell.size, tasks=3)), None)
        gpu = first is not None and torch.cuda.is_available()
        return {
            "ratio_vs_naive": None if first is None else first.ratios.get(NAIVE),
            "three_task_hz": None if three is None else 1000 / three.latencies[OURS].p50,
            "three_task_ratio_vs_naive": None if three is None else three.ratios.get(NAIVE),
            "share_of_floor": first.share_of_floor if gpu and first is not None else None,
        }

    def as_json(self) -> dict[str, Any]:
        cells = [
            {
                **asdict(row.cell),
                "floor_ms": row.floor_ms,
                "share_of_floor": row.share_of_floor,
                "start_ms": row.start_ms,
                "ratios": row.ratios,
                "latencies": {name: asdict(seen) for name, seen in row.latencies.items()},
            }
            for row in self.rows
        ]
        return {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "engine": self.engine,
            "machine": platform.machine(),
            "versions": {
                "diception_ros": diception_ros.__version__,
                "torch": torch.__version__,
                "python": platform.python_version(),
                "cuda": torch.version.cuda,
            },
            "matmul_flops": self.rates.flops,
            "copy_bytes_per_s": self.rates.bandwidth,
            "loading_ms": self.loading_ms,
            "cells": cells,
            "summary": self.summary(),
        }


def run(
    engines: Callable[[tuple[int, int]], Engine],
    cells: Sequence[Cell],
    rates: Rates,
    seconds: float,
    compiled: bool = False,
) -> Iterator[Row]:
    """Measures cell after cell; `seconds` for all of them together. engines: the engine of a canvas
    size. compiled: also the naive code under torch.compile(mode="reduce-overhead")."""
    for i, cell in enumerate(cells):
        started = time.monotonic()
        yield measure(engines(cell.size), cell, rates, seconds / (len(cells) - i), compiled)
        seconds -= time.monotonic() - started


def measure(engine: Engine, cell: Cell, rates: Rates, seconds: float, compiled: bool) -> Row:
    contenders = contenders_of(engine, cell, compiled)
    started = time.perf_counter()
    contenders[OURS]()
    start = 1000 * (time.perf_counter() - started)
    for call in contenders.values():
        for _ in range(WARM_UP):
            call()
    latencies = interleave(contenders, seconds, engine.device)
    flops = count_flops(eager(engine, cell))
    read = cell.steps * engine.weight_bytes
    return Row(cell, latencies, floor_ms(flops, read, rates), start)


def contenders_of(engine: Engine, cell: Cell, compiled: bool) -> dict[str, Call]:
    """All give decoded results at the frames' size."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (*FRAME, 3), np.uint8) for _ in range(cell.cameras)]
    asked = requests_of(engine, cell)
    found: dict[str, Call] = {}
    for name, mode in {NAIVE: None, COMPILED: "reduce-overhead"}.items():
        if mode is None or compiled:
            naive = engine.naive(mode)
            found[name] = lambda naive=naive: [  # type: ignore[misc]
                answer(engine, naive, frame, request) for frame in frames for request in asked
            ]
    found[OURS] = lambda: engine.run(frames, [asked] * len(frames))
    return found


def requests_of(engine: Engine, cell: Cell) -> list[Request]:
    made = []
    for task in TASK_ORDER[: cell.tasks]:
        category = engine.categories[0] if engine.tasks[task].takes_category else None
        made.append(Request(task, category=category, steps=cell.steps, guidance=cell.guidance))
    return made


def answer(engine: Engine, naive: Naive, frame: np.ndarray, request: Request) -> object:
    task = engine.tasks[request.task]
    prompt = task.prompt_for(request.category)
    colours = naive(frame, prompt, request.steps or 1, request.guidance or 1.0)
    return task.decode(colours, **task.options)


def eager(engine: Engine, cell: Cell) -> Call:
    """What the engine computes, without graphs, which a counter cannot see into."""
    plain = engine.sharing(graphs=False)
    frame = np.zeros((*FRAME, 3), np.uint8)
    asked = requests_of(engine, cell)
    return lambda: plain.run([frame] * cell.cameras, [asked] * cell.cameras)


def interleave(
    contenders: Mapping[str, Call], seconds: float, device: torch.device
) -> dict[str, Latency]:
    """Calls them in turn until the time is over, three times at least."""
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    host = dict.fromkeys(contenders, 0.0)
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(spent[OURS]) < 3:
        for name, call in contenders.items():
            synchronize(device)
            started, worked = time.perf_counter(), time.process_time()
            call()
            synchronize(device)
            spent[name].append(1000 * (time.perf_counter() - started))
            host[name] += 1000 * (time.process_time() - worked)
    return {name: latency(times, host[name], device) for name, times in spent.items()}


def latency(times: Sequence[float], host: float, device: torch.device) -> Latency:
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).tolist()
    return Latency(p50, p95, p99, host / len(times), len(times), peak_mib(device))


def peak_mib(device: torch.device) -> float:
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

# SPDX-License-Identifier: Apache-2.0
"""Latency of the engine beside the obvious alternatives, interleaved in one run."""

from __future__ import annotations

import datetime
import platform
import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from typing import Any

import numpy as np
import torch

import diception_ros
from diception_ros.engine import Engine
from diception_ros.engine.jobs import Outcome
from diception_ros.engine.naive import Naive
from diception_ros.evaluation.floor import Rates, count_flops, floor_ms, synchronize
from diception_ros.tasks import Request

TASK_ORDER = ("depth", "normal", "entity", "point", "semantic", "pose")
FRAME = (480, 640)
"""Height and width of the frames that are asked about."""
WARM_UP, WARM_UP_SECONDS = 2, 1.0
"""Calls of every contender before the measured ones; fewer where they take longer than this."""
CALLS = 3
"""Measured of every contender at least."""
RATE_CALLS, SLOW_MS = 6, 1000.0
HEAD = 4
"""Cells that are measured before anything is compiled, which may take minutes."""
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
    peak_mib: most memory, on a GPU what the weights and this contender reserved, on a CPU what the
    process has had so far."""

    p50: float
    p95: float
    p99: float
    host_ms: float
    calls: int
    peak_mib: float


@dataclass(frozen=True)
class Row:
    """One cell: each contender's latency beside the floor of the engine's own work. stages: medians
    of the engine's, ms. rate_hz: calls a second of two threads that call the engine in turn, one
    decoding while the other one's are computed."""

    cell: Cell
    latencies: Mapping[str, Latency]
    floor_ms: float
    start_ms: float
    """The engine's first call: warming up, and on a GPU capturing."""
    stages: Mapping[str, float] = field(default_factory=dict)
    rate_hz: float | None = None

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
    unmeasured: list[Cell] = field(default_factory=list)
    """Cells that there was no time for."""

    def add(self, row: Row) -> None:
        """In the place of an earlier row of the same cell, if there is one."""
        kept = [seen for seen in self.rows if seen.cell != row.cell]
        if row.cell in self.unmeasured:
            self.unmeasured.remove(row.cell)
        self.rows = [*kept, row]

    def summary(self) -> dict[str, float | None]:
        """Of the largest size measured. ratio_vs_naive: one step, one task. three_task_hz: frames a
        second at one step, one after the other; three_task_rate_hz: with two threads. The share of
        the floor is for a GPU; a CPU's caches make its floor a guess."""
        first, three, full = self._row(), self._row(tasks=3), self._row(steps=28, guidance=2.0)
        gpu = first is not None and torch.cuda.is_available()
        ours = None if first is None else first.latencies[OURS]
        return {
            "ratio_vs_naive": None if first is None else first.ratios.get(NAIVE),
            "ratio_vs_compiled": None if first is None else first.ratios.get(COMPILED),
            "ratio_vs_naive_28_steps": None if full is None else full.ratios.get(NAIVE),
            "three_task_hz": None if three is None else 1000 / three.latencies[OURS].p50,
            "three_task_rate_hz": None if three is None else three.rate_hz,
            "three_task_ratio_vs_naive": None if three is None else three.ratios.get(NAIVE),
            "three_task_peak_mib": None if three is None else three.latencies[OURS].peak_mib,
            "share_of_floor": first.share_of_floor if gpu and first is not None else None,
            "p99_over_p50": None if ours is None or not ours.p50 else ours.p99 / ours.p50,
        }

    def _row(self, **asked: float) -> Row | None:
        found = [row for row in self.rows if row.cell == Cell(row.cell.size, **asked)]  # type: ignore[arg-type]
        return max(found, key=lambda row: row.cell.size, default=None)

    def as_json(self) -> dict[str, Any]:
        cells = [
            {
                **asdict(row.cell),
                "floor_ms": row.floor_ms,
                "share_of_floor": row.share_of_floor,
                "start_ms": row.start_ms,
                "ratios": row.ratios,
                "stages_ms": row.stages,
                "rate_hz": row.rate_hz,
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
                "cudnn": torch.backends.cudnn.version() if torch.cuda.is_available() else None,
            },
            "matmul_flops": self.rates.flops,
            "copy_bytes_per_s": self.rates.bandwidth,
            "loading_ms": self.loading_ms,
            "cells": cells,
            "unmeasured": [asdict(cell) for cell in self.unmeasured],
            "summary": self.summary(),
        }


def run(
    engines: Callable[[tuple[int, int]], Engine],
    cells: Sequence[Cell],
    rates: Rates,
    seconds: float,
    compiled: bool = False,
    limit: float | None = None,
) -> Iterator[Row]:
    """Measures cell after cell; `seconds` for all of them together, and none begins after `limit`
    seconds. engines: the engine of a canvas size. compiled: also the naive code under
    torch.compile(mode="reduce-overhead"), in cells of one task and camera; the first such cells
    come twice, without it and then with it."""
    order, begun = list(in_order(cells, compiled)), time.monotonic()
    for i, (cell, both) in enumerate(order):
        started = time.monotonic()
        if limit is not None and started - begun > limit:
            return
        yield measure(engines(cell.size), cell, rates, seconds / (len(order) - i), both)
        seconds -= time.monotonic() - started


def in_order(cells: Sequence[Cell], compiled: bool) -> Iterator[tuple[Cell, bool]]:
    """Every cell, and whether compiled code is measured in it."""
    single = {cell for cell in cells if compiled and cell.tasks == cell.cameras == 1}
    for cell in cells[:HEAD]:
        yield cell, False
    for cell in cells[:HEAD]:
        if cell in single:
            yield cell, True
    for cell in cells[HEAD:]:
        yield cell, cell in single


def measure(engine: Engine, cell: Cell, rates: Rates, seconds: float, compiled: bool) -> Row:
    contenders, device = contenders_of(engine, cell, compiled), engine.device
    peaks, firsts = warm_up(contenders, device)
    latencies, stages = interleave(contenders, peaks, seconds, device)
    read = engine.weight_bytes + (cell.steps - 1) * engine.step_bytes
    floor = floor_ms(flops_of(engine, cell), read, rates)
    slow = latencies[OURS].p50 > SLOW_MS  # then two threads gain nothing, and take long to say so
    hz = None if slow else rate(contenders[OURS])
    return Row(cell, latencies, floor, firsts[OURS], stages, hz)


def warm_up(
    contenders: Mapping[str, Call], device: torch.device
) -> tuple[dict[str, float], dict[str, float]]:
    """The first calls, each contender's by themselves: peak_mib, and ms of the very first."""
    peaks: dict[str, float] = {}
    firsts: dict[str, float] = {}
    resident = torch.cuda.memory_allocated(device) if device.type == "cuda" else 0
    for name, call in contenders.items():
        held, started, calls = reset_peak(device), time.perf_counter(), 0
        while calls < WARM_UP and (not calls or time.perf_counter() - started < WARM_UP_SECONDS):
            call()
            synchronize(device)
            firsts.setdefault(name, 1000 * (time.perf_counter() - started))
            calls += 1
        peaks[name] = peak_mib(device, resident - held)
    return peaks, firsts


def flops_of(engine: Engine, cell: Cell) -> int:
    """Counted at one and at two steps: every further one costs the same."""
    one = count_flops(eager(engine, replace(cell, steps=1)))
    if cell.steps == 1:
        return one
    return one + (cell.steps - 1) * (count_flops(eager(engine, replace(cell, steps=2))) - one)


def rate(call: Call) -> float:
    """Calls a second of two threads."""
    with ThreadPoolExecutor(2) as pool:
        started = time.perf_counter()
        for done in [pool.submit(call) for _ in range(RATE_CALLS)]:
            done.result()
    return RATE_CALLS / (time.perf_counter() - started)


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
    found[OURS] = partial(engine.run, frames, [asked] * len(frames))
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
    contenders: Mapping[str, Call],
    peaks: Mapping[str, float],
    seconds: float,
    device: torch.device,
) -> tuple[dict[str, Latency], dict[str, float]]:
    """Calls them in turn until the time is over, three times at least. The latencies, and the
    medians of the engine's stages."""
    spent: dict[str, list[float]] = {name: [] for name in contenders}
    stages: dict[str, list[float]] = defaultdict(list)
    host = dict.fromkeys(contenders, 0.0)
    end = time.monotonic() + seconds
    while time.monotonic() < end or len(spent[OURS]) < CALLS:
        for name, call in contenders.items():
            synchronize(device)
            started, worked = time.perf_counter(), time.process_time()
            answered = call()
            synchronize(device)
            spent[name].append(1000 * (time.perf_counter() - started))
            host[name] += 1000 * (time.process_time() - worked)
            if isinstance(answered, Outcome):
                for stage, milliseconds in answered.stages.items():
                    stages[stage].append(milliseconds)
    latencies = {name: latency(times, host[name], peaks[name]) for name, times in spent.items()}
    return latencies, {name: float(np.median(seen)) for name, seen in stages.items()}


def latency(times: Sequence[float], host: float, peak: float) -> Latency:
    p50, p95, p99 = np.percentile(times, [50, 95, 99]).tolist()
    return Latency(p50, p95, p99, host / len(times), len(times), peak)


def reset_peak(device: torch.device) -> int:
    """Bytes that are reserved from now on, whatever is called."""
    if device.type != "cuda":
        return 0
    torch.cuda.empty_cache()
    torch.cuda.reset_peak_memory_stats(device)
    return torch.cuda.memory_reserved(device)


def peak_mib(device: torch.device, offset: int) -> float:
    """offset: added to the bytes reserved since: the weights, less what was reserved before."""
    if device.type == "cuda":
        return (torch.cuda.max_memory_reserved(device) + offset) / 2**20
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**10

# SPDX-License-Identifier: Apache-2.0
"""Latency of the engine beside the obvious alternatives, interleaved in one run."""

from __future__ import annotations

import resource
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch

from diception_ros.engine import Engine
from diception_ros.engine.jobs import Outcome
from diception_ros.evaluation.benchmark_report import COMPILED, OURS, Cell, Latency, Row
from diception_ros.evaluation.contenders import Call, contenders_of, flops_of
from diception_ros.evaluation.floor import Rates, floor_ms, synchronize

WARM_UP, WARM_UP_SECONDS = 2, 1.0
"""Calls of every contender before the measured ones; fewer where they take longer than this."""
CALLS = 3
"""Measured of every contender at least."""
RATE_CALLS, SLOW_MS = 6, 1000.0
HEAD = 4
"""Cells that are measured before anything is compiled, which may take minutes."""


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
    failed = broken(contenders) if compiled else {}
    peaks, firsts = warm_up(contenders, device)
    latencies, stages = interleave(contenders, peaks, seconds, device)
    if engine.faults:
        failed[OURS] = engine.faults
    read = engine.weight_bytes + (cell.steps - 1) * engine.step_bytes
    floor = floor_ms(flops_of(engine, cell), read, rates)
    slow = latencies[OURS].p50 > SLOW_MS  # then two threads gain nothing, and take long to say so
    hz = None if slow else rate(contenders[OURS])
    return Row(cell, latencies, floor, firsts[OURS], stages, hz, failed)


def broken(contenders: dict[str, Call]) -> dict[str, str]:
    """Takes compiled code out where this machine cannot compile, and says why; the first call of
    it compiles."""
    try:
        contenders[COMPILED]()
    except Exception as error:  # Inductor's kinds: no compiler, no header, an operator it cannot
        del contenders[COMPILED]
        cause = next(iter(str(error).strip().splitlines()), "")
        return {COMPILED: f"torch.compile cannot run here: {type(error).__name__}: {cause}"}
    return {}


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


def rate(call: Call) -> float:
    """Calls a second of two threads."""
    with ThreadPoolExecutor(2) as pool:
        started = time.perf_counter()
        for done in [pool.submit(call) for _ in range(RATE_CALLS)]:
            done.result()
    return RATE_CALLS / (time.perf_counter() - started)


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

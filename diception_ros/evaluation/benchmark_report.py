# SPDX-License-Identifier: Apache-2.0
"""What a benchmark has measured, and the figures that are drawn from it."""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

import diception_ros
from diception_ros.evaluation.floor import Rates

NAIVE, COMPILED, OURS = "naive", "naive, torch.compile", "engine"


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
    failed: Mapping[str, str] = field(default_factory=dict)
    """Contenders that could not run as asked, and why."""

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
    gpu: bool = False
    """Whether the engine ran on one."""

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
        ours = None if first is None else first.latencies[OURS]
        return {
            "ratio_vs_naive": None if first is None else first.ratios.get(NAIVE),
            "ratio_vs_compiled": None if first is None else first.ratios.get(COMPILED),
            "ratio_vs_naive_28_steps": None if full is None else full.ratios.get(NAIVE),
            "three_task_hz": None if three is None else 1000 / three.latencies[OURS].p50,
            "three_task_rate_hz": None if three is None else three.rate_hz,
            "three_task_ratio_vs_naive": None if three is None else three.ratios.get(NAIVE),
            "three_task_peak_mib": None if three is None else three.latencies[OURS].peak_mib,
            "share_of_floor": first.share_of_floor if self.gpu and first is not None else None,
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
                "failed": row.failed,
                "latencies": {name: asdict(seen) for name, seen in row.latencies.items()},
            }
            for row in self.rows
        ]
        return {
            "date": datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="seconds"),
            "engine": self.engine,
            "machine": processor(),
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


def processor() -> str:
    """The CPU's name and how many of its cores are ours."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{(names or [platform.processor() or platform.machine()])[0]}, {os.cpu_count()} CPUs"

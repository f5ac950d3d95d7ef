# SPDX-License-Identifier: Apache-2.0
"""Which steps and size hold a deadline, from what the stages were measured to cost."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from diception_ros.engine.jobs import Job
from diception_ros.imaging import Canvas

KEEP = 0.8
"""Of the running mean at every new measurement."""
FADE = 0.003
"""Of what was not measured, at every measurement of something else."""
MARGIN = 0.9
"""Share of the deadline that a plan may take."""
SCATTER = 3.0
"""Mean deviations that are added to a mean: 99% of normally scattered calls take less."""
SIZES = (1.0, 0.75, 0.5)
"""Of the engine's canvas, largest first. Steps are given up before size."""
HOST = ("preprocess", "postprocess")
"""Stages that work at the image's size."""
PATCH = 16


@dataclass(frozen=True)
class Plan:
    """most_steps: None leaves the requests' own."""

    canvas: Canvas
    most_steps: int | None = None

    def steps(self, wanted: int) -> int:
        return wanted if self.most_steps is None else min(wanted, self.most_steps)


class Costs:
    """Milliseconds of a stage for an amount of work (images encoded, transformer rows, images
    decoded), as running means; what was never measured is estimated from the nearest that was, in
    proportion to its pixels times work. One thread may learn while another one asks."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._seen: dict[tuple[str, Canvas, int], float] = {}
        self._scatter: dict[tuple[str, Canvas, int], float] = {}
        self._met: set[tuple[str, Canvas, int]] = set()

    def learn(
        self,
        stages: Mapping[str, float],
        work: Mapping[str, int],
        canvas: Canvas,
        captured: bool = False,
    ) -> None:
        """The first measurement of an amount is left out: it holds what a CPU makes on first use,
        and would give up for many calls what can be held. So is that of a call that captured a
        graph; the same amount may have several, as temporal starts have their own."""
        with self._lock:
            for stage, milliseconds in stages.items():
                key = (stage, canvas, work[stage])
                if captured or key not in self._met:
                    self._met.add(key)
                    continue
                self._fade(key, milliseconds)
                mean = self._seen.setdefault(key, milliseconds)
                off = abs(milliseconds - mean)
                self._scatter[key] = KEEP * self._scatter.get(key, 0.0) + (1 - KEEP) * off
                self._seen[key] = KEEP * mean + (1 - KEEP) * milliseconds

    def _fade(self, measured: tuple[str, Canvas, int], milliseconds: float) -> None:
        """What the stage costs at other amounts and sizes draws near to what this one foretells: a
        plan that was too dear while the machine was busy is tried again later."""
        for key in self._seen:
            if key[0] == measured[0] and key != measured:
                foretold = milliseconds * _size(key) / _size(measured)
                self._seen[key] += FADE * (foretold - self._seen[key])
                self._scatter[key] = (1 - FADE) * self._scatter.get(key, 0.0)

    def estimate(self, work: Mapping[str, int], canvas: Canvas) -> float:
        """Milliseconds of the whole call; 0 as long as nothing was measured."""
        with self._lock:
            return sum(self._stage(stage, canvas, amount) for stage, amount in work.items())

    def most(self, work: Mapping[str, int], canvas: Canvas) -> float:
        """Milliseconds that hardly any call takes more than: the estimate and what it scatters."""
        with self._lock:
            scattered = [self._scatter.get((stage, canvas, n), 0.0) for stage, n in work.items()]
        return self.estimate(work, canvas) + SCATTER * sum(scattered)

    def _stage(self, stage: str, canvas: Canvas, amount: int) -> float:
        asked = stage, canvas, amount
        if asked in self._seen:
            return self._seen[asked]
        known = [
            (_size(asked) / _size(key), milliseconds)
            for key, milliseconds in self._seen.items()
            if key[0] == stage
        ]
        ratio, milliseconds = min(known, key=lambda pair: abs(math.log(pair[0])), default=(0, 0))
        return ratio * milliseconds


def work_of(jobs: Sequence[Job], plan: Plan) -> dict[str, int]:
    """Per stage of Outcome.stages, what the jobs cost under a plan."""
    rows = sum(
        plan.steps(job.settings.steps) * job.settings.passes // job.settings.steps for job in jobs
    )
    images = len({job.image for job in jobs})
    return {
        "preprocess": images,
        "encode": images,
        "denoise": rows,
        "decode": len(jobs),
        "postprocess": len(jobs),
    }


def choose(jobs: Sequence[Job], canvas: Canvas, costs: Costs, deadline_ms: float) -> Plan:
    """The first plan, best first, that holds the deadline in all but rare calls; else the
    cheapest."""
    plans = list(_plans(jobs, canvas))
    for plan in plans:
        if costs.most(work_of(jobs, plan), plan.canvas) <= MARGIN * deadline_ms:
            return plan
    return plans[-1]


def _plans(jobs: Sequence[Job], canvas: Canvas) -> Iterator[Plan]:
    """Full size with fewer and fewer steps, then smaller sizes with one."""
    yield Plan(canvas)
    steps = max(job.settings.steps for job in jobs) // 2
    while steps >= 1:
        yield Plan(canvas, steps)
        steps //= 2
    for size in SIZES[1:]:
        height, width = (
            max(PATCH, PATCH * int(size * side / PATCH)) for side in (canvas.height, canvas.width)
        )
        yield Plan(Canvas(height, width), 1)


def _size(key: tuple[str, Canvas, int]) -> int:
    """Of a stage's work, but for a factor; the host's is on the image's pixels, not the canvas'."""
    stage, canvas, amount = key
    return amount if stage in HOST else amount * canvas.height * canvas.width

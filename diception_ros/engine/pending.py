# SPDX-License-Identifier: Apache-2.0
"""A call whose network work is queued (or, on a CPU, done): waiting for it, and decoding."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from diception_ros.engine.deadline import Costs, Plan, work_of
from diception_ros.engine.jobs import Clock, Job, Options, Outcome
from diception_ros.engine.transfers import Arrival
from diception_ros.tasks import Instances, Request, Result
from diception_ros.tasks.decoding import decoded
from diception_ros.tasks.edges import Guide

DECODERS = min(4, os.cpu_count() or 1)
"""Threads that decode one call's answers: most of the work is numpy's and OpenCV's, which let go of
the GIL."""


@dataclass(frozen=True)
class Pending:
    """What `Engine.begin` has begun, about which images. jobs: the requests placed; samples: each
    of them once per noise seed, as generated. captured: it took the time of making graphs, too."""

    images: Sequence[npt.NDArray[np.uint8]]
    requests: Sequence[Sequence[Request]]
    jobs: Sequence[Job]
    samples: Sequence[Job]
    plan: Plan
    options: Options
    generated: Arrival
    clock: Clock
    costs: Costs
    graph: bool
    captured: bool

    def outcome(self) -> Outcome:
        """Waits for the network and decodes its answers; once, by any thread, and without keeping
        another call from the network."""
        colours, clock = self.generated.arrays(), self.clock
        with clock.stage("postprocess", on_host=True):
            results = self._results(colours[:: self.options.samples])
        if self.jobs:
            canvas = self.plan.canvas
            work = work_of(self.samples, Plan(canvas))
            self.costs.learn(clock.stages, work, canvas, self.captured)
        deadline = self.options.deadline_ms
        return Outcome(
            results=results,
            stages=clock.stages,
            batch=len(self.samples),
            graph=self.graph,
            steps={job.task.name: job.settings.steps for job in self.samples},
            canvas=(self.plan.canvas.height, self.plan.canvas.width),
            spread=self._spread(colours),
            missed=deadline is not None and clock.total > deadline,
        )

    def _results(self, firsts: Sequence[npt.NDArray[np.float32]]) -> list[list[Result]]:
        results: list[list[Result | None]] = [[None] * len(asked) for asked in self.requests]
        guides = [Guide(image) for image in self.images]

        def decode(job: Job, colours: npt.NDArray[np.float32]) -> None:
            results[job.image][job.slot] = _decode(job, colours, guides[job.image])

        with ThreadPoolExecutor(DECODERS) as threads:
            each = threads.map if len(self.jobs) > 1 else map
            list(each(decode, self.jobs, firsts))
        return results  # type: ignore[return-value]  # every slot has been filled

    def _spread(
        self, generated: Sequence[npt.NDArray[np.float32]]
    ) -> list[list[npt.NDArray[np.float32] | None]]:
        """Outcome.spread: the population standard deviation over the samples of every job."""
        count = self.options.samples
        spread: list[list[npt.NDArray[np.float32] | None]]
        spread = [[None] * len(asked) for asked in self.requests]
        for row, job in enumerate(self.jobs if count > 1 else ()):
            seen = np.stack(generated[row * count : (row + 1) * count])
            spread[job.image][job.slot] = seen.std(axis=0).mean(axis=-1)
        return spread


def _decode(job: Job, colours: npt.NDArray[np.float32], guide: Guide) -> Result:
    result = decoded(colours, guide, job.task)
    if isinstance(result, Instances) and job.request.category:
        return replace(result, category=job.request.category)
    return result

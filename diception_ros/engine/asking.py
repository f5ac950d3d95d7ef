# SPDX-License-Identifier: Apache-2.0
"""From requests to jobs: what an engine can be asked, and every setting made definite."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from diception_ros.engine.deadline import Plan
from diception_ros.engine.jobs import Job, Options, Settings
from diception_ros.imaging import check_rgb
from diception_ros.model import Diception
from diception_ros.model.lora import Adapter
from diception_ros.model.sampling import check_sigmas, default_sigmas
from diception_ros.tasks import Request, Task
from diception_ros.tasks.decoding import refinement


class Asking:
    """tasks: those of the bundle and of its loaded adapters, by name. Holds no weights."""

    def __init__(self, model: Diception, tasks: Mapping[str, Task]) -> None:
        self._prompts, self._info, self._scheduler = model.prompts, model.info, model.scheduler
        self.tasks = {
            name: replace(task, refine=refinement(self._info.refine, task))
            for name, task in tasks.items()
        }
        self._sigmas: dict[int, tuple[float, ...]] = {}

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories that the bundle's bank has a prompt for."""
        prefixes = [f"{task.prompt} " for task in self.tasks.values() if task.takes_category]
        found = (
            name[len(prefix) :]
            for prefix in prefixes
            for name in self._prompts.names
            if name.startswith(prefix)
        )
        return tuple(dict.fromkeys(found))

    def check(self, request: Request, adapters: Mapping[str, Adapter]) -> Task:
        """The request's task. ValueError, with what to do, if it cannot be answered. adapters:
        loaded ones by task; they bring prompts of their own."""
        task = self._task(request)
        prompt = task.prompt_for(request.category)
        if task.name not in adapters:
            self._prompts.lookup([prompt])
        return task

    def jobs(
        self,
        images: Sequence[Any],
        requests: Sequence[Sequence[Request]],
        adapters: Mapping[str, Adapter],
    ) -> list[Job]:
        """One for every request. ValueError for an image or a request that is none."""
        if len(images) != len(requests):
            raise ValueError(f"{len(images)} images but {len(requests)} lists of requests")
        jobs = []
        for i, asked in enumerate(requests):
            check_rgb(images[i])
            for slot, request in enumerate(asked):
                task = self.check(request, adapters)
                adapter = adapters.get(task.name)
                jobs.append(Job(i, slot, request, task, self._settings(request, task), adapter))
        return jobs

    def samples(
        self,
        jobs: Sequence[Job],
        plan: Plan,
        options: Options,
        first_seed: int,
        streams: Sequence[Hashable] | None,
    ) -> list[Job]:
        """Every job once per noise seed, one beside the other, with the plan's steps."""
        found = []
        for job in jobs:
            settings = job.settings
            if plan.steps(settings.steps) < settings.steps:
                settings = replace(
                    settings, sigmas=self._default_sigmas(plan.steps(settings.steps))
                )
            stream = None if streams is None else streams[job.image]
            job = replace(job, settings=settings, stream=stream)
            found += [replace(job, sample=k, seed=first_seed + k) for k in range(options.samples)]
        return found

    def _task(self, request: Request) -> Task:
        if request.task not in self.tasks:
            raise ValueError(
                f"unknown task '{request.task}': expected one of {', '.join(self.tasks)}"
            )
        task = self.tasks[request.task]
        if request.points and not task.takes_points:
            raise ValueError(f"task '{task.name}' takes no points, got {len(request.points)}")
        return task

    def _settings(self, request: Request, task: Task) -> Settings:
        guidance = request.guidance
        if guidance is None:
            guidance = self._info.guidance(task.name, task.guidance)
        if request.sigmas is not None:
            return Settings(tuple(check_sigmas(request.sigmas)), max(1.0, guidance))
        steps = request.steps or self._info.steps(task.name, task.steps)
        return Settings(self._default_sigmas(steps), max(1.0, guidance))

    def _default_sigmas(self, steps: int) -> tuple[float, ...]:
        if steps not in self._sigmas:
            self._sigmas[steps] = tuple(default_sigmas(self._scheduler, steps))
        return self._sigmas[steps]

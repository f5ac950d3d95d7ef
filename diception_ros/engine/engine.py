# SPDX-License-Identifier: Apache-2.0
"""Engine: several images, several requests each, one shared pass."""

from __future__ import annotations

import logging
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from diception_ros.engine.config import EngineConfig
from diception_ros.engine.stages import Stages
from diception_ros.imaging import Canvas, check_rgb
from diception_ros.model import BundleInfo, Diception
from diception_ros.tasks import TASKS, Instances, Request, Result, Task

logger = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]
Progress = Callable[[str], None]
Settings = tuple[int, float]
"""steps and guidance: requests that share them share a transformer pass."""


@dataclass(frozen=True)
class Job:
    """A request placed: which image, which result slot, and its settings made definite."""

    image: int
    slot: int
    request: Request
    task: Task
    settings: Settings


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


class Engine:
    """One loaded bundle. All methods may be called from any thread; one call runs at a time."""

    def __init__(self, model: Diception, config: EngineConfig, tasks: Mapping[str, Task]) -> None:
        self.config = config
        self.info: BundleInfo = model.info
        self.tasks: dict[str, Task] = dict(tasks)
        self.canvas = Canvas(*(config.canvas or model.info.canvas))
        self._model: Diception | None = model
        size = (self.canvas.height, self.canvas.width)
        self._stages = Stages(model, size, config.max_batch, config.graphs)
        self._noise: dict[int, torch.Tensor] = {}
        self._lock = threading.Lock()
        self.device_name = _device_name(model.device, model.dtype)

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        config: EngineConfig | None = None,
        tasks: Mapping[str, Task] | None = None,
        progress: Progress | None = None,
        warm: Iterable[Request] = (),
    ) -> Engine:
        """Loads a bundle and runs the `warm` requests once, so that their graphs are captured
        before the first frame. ValueError for a device that is not there or a damaged bundle."""
        config, say = config or EngineConfig(), progress or logger.info
        device = config.resolve_device()
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        dtype = config.resolve_dtype(device)
        say(f"loading {bundle} on {device} in {str(dtype).removeprefix('torch.')}")
        engine = cls(
            Diception.load(bundle, device, dtype), config, TASKS if tasks is None else tasks
        )
        for request in warm:
            say(f"warming up {request.task}")
            blank = np.zeros((engine.canvas.height, engine.canvas.width, 3), np.uint8)
            engine.infer([blank], [[request]])
        say(f"{engine.info.name} ready on {engine.device_name}, {engine.graph_state}")
        return engine

    @property
    def graph_state(self) -> str:
        return self._stages.state

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every prompt string of the bundle's bank."""
        return self._loaded().prompts.names

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories that the semantic task can be asked for with this bundle."""
        prefixes = [f"{task.prompt} " for task in self.tasks.values() if task.takes_category]
        found = (
            name[len(prefix) :]
            for prefix in prefixes
            for name in self.prompts
            if name.startswith(prefix)
        )
        return tuple(dict.fromkeys(found))

    def infer(
        self,
        images: Sequence[Image],
        requests: Sequence[Sequence[Request]],
        seed: int | None = None,
    ) -> list[list[Result]]:
        """RGB uint8 images (H, W, 3) and per image its requests -> results at each image's size.

        Deterministic for a given seed. ValueError for an unknown task, a missing category, a prompt
        that is not in the bank, or a point outside the image.
        """
        return self.run(images, requests, seed).results

    def run(
        self,
        images: Sequence[Image],
        requests: Sequence[Sequence[Request]],
        seed: int | None = None,
    ) -> Outcome:
        """As `infer`, with timings. The image is encoded once and shared by its requests; requests
        with equal steps and guidance go through the transformer in one batch."""
        jobs = self._jobs(images, requests)
        results: list[list[Result | None]] = [[None] * len(asked) for asked in requests]
        clock = _Clock()
        with self._lock, torch.inference_mode():
            generated = self._generate(
                images, jobs, self.config.seed if seed is None else seed, clock
            )
        with clock.stage("postprocess"):
            for job, colours in zip(jobs, generated, strict=True):
                results[job.image][job.slot] = self._decode_job(job, colours, images[job.image])
        return Outcome(
            results=results,  # type: ignore[arg-type]  # every slot has been filled
            stages=clock.stages,
            batch=len(jobs),
            graph=self._stages.graphs and not self._stages.failure,
            steps={job.task.name: job.settings[0] for job in jobs},
        )

    def close(self) -> None:
        """Frees the model and its graphs; the engine cannot be used afterwards."""
        with self._lock:
            self._model = None
            del self._stages
            self._noise.clear()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def check(self, request: Request) -> None:
        """ValueError, with what to do, if this bundle cannot answer the request."""
        self._loaded().prompts.lookup([self._task(request).prompt_for(request.category)])

    def _loaded(self) -> Diception:
        if self._model is None:
            raise ValueError("this engine was closed: load a new one")
        return self._model

    def _task(self, request: Request) -> Task:
        if request.task not in self.tasks:
            raise ValueError(
                f"unknown task '{request.task}': expected one of {', '.join(self.tasks)}"
            )
        task = self.tasks[request.task]
        if request.points and not task.takes_points:
            raise ValueError(f"task '{task.name}' takes no points, got {len(request.points)}")
        return task

    def _jobs(self, images: Sequence[Image], requests: Sequence[Sequence[Request]]) -> list[Job]:
        if len(images) != len(requests):
            raise ValueError(f"{len(images)} images but {len(requests)} lists of requests")
        jobs = []
        for i, asked in enumerate(requests):
            check_rgb(images[i])
            for slot, request in enumerate(asked):
                self.check(request)
                task = self._task(request)
                jobs.append(Job(i, slot, request, task, self._settings(request, task)))
        return jobs

    def _settings(self, request: Request, task: Task) -> Settings:
        steps, guidance = request.steps, request.guidance
        if steps is None:
            steps = self.info.steps(task.name, task.steps)
        if guidance is None:
            guidance = self.info.guidance(task.name, task.guidance)
        return steps, max(1.0, guidance)

    def _generate(
        self, images: Sequence[Image], jobs: Sequence[Job], seed: int, clock: _Clock
    ) -> list[torch.Tensor]:
        """One generated image (3, h, w) in [0, 1] per job, on the device."""
        if not jobs:
            return []
        model = self._loaded()
        used = sorted({job.image for job in jobs})
        with clock.stage("preprocess"):
            batch = torch.stack([self.canvas.to_model(images[i]) for i in used])
            batch = batch.to(model.device, model.dtype)
        with clock.stage("encode"):
            encoded = self._stages.encode(batch)
            rows = torch.tensor([used.index(job.image) for job in jobs], device=model.device)
            image_latents = encoded[rows]
        with clock.stage("denoise"):
            latents = self._denoise(images, jobs, image_latents, self._fixed_noise(seed))
        with clock.stage("decode"):
            generated = self._stages.decode(latents).cpu()
        return list(generated)

    def _denoise(
        self,
        images: Sequence[Image],
        jobs: Sequence[Job],
        image_latents: torch.Tensor,
        noise: torch.Tensor,
    ) -> torch.Tensor:
        groups: dict[Settings, list[int]] = defaultdict(list)
        for row, job in enumerate(jobs):
            groups[job.settings].append(row)
        latents = torch.empty_like(image_latents, dtype=torch.float32)
        for (steps, guidance), rows in groups.items():
            conditions = self._conditions(images, [jobs[row] for row in rows])
            start = noise.expand(len(rows), -1, -1, -1)
            unconditional = self._embeds([""]) if guidance > 1 else None
            latents[rows] = self._stages.denoise(
                start, image_latents[rows], conditions, unconditional, steps, guidance
            )
        return latents

    def _conditions(
        self, images: Sequence[Image], jobs: Sequence[Job]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Prompt embeds, pooled and point tokens of some jobs."""
        placed = [
            self.canvas.points_to_model(
                job.request.points,
                job.request.labels,
                images[job.image].shape[:2],
                self.info.point_order,  # type: ignore[arg-type]  # validated by BundleInfo
            )
            for job in jobs
        ]
        points = torch.from_numpy(np.stack([points for points, _ in placed]))
        labels = torch.from_numpy(np.stack([labels for _, labels in placed]))
        tokens = self._loaded().point_tokens(points, labels, len(jobs))
        embeds, pooled = self._embeds([job.task.prompt_for(job.request.category) for job in jobs])
        return embeds, pooled, tokens

    def _embeds(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        model = self._loaded()
        embeds, pooled = model.prompts.lookup(prompts)
        return embeds.to(model.device, model.dtype), pooled.to(model.device, model.dtype)

    def _fixed_noise(self, seed: int) -> torch.Tensor:
        """(1, C, h, w): the same start for every request, kept as long as the seed stays."""
        if seed not in self._noise:
            model = self._loaded()
            noise = model.fixed_noise(self.canvas.height, self.canvas.width, seed)
            self._noise = {seed: noise.to(model.device)}
        return self._noise[seed]

    def _decode_job(self, job: Job, generated: torch.Tensor, image: Image) -> Result:
        colours = self.canvas.from_model(generated, image.shape[:2])
        result = job.task.decode(colours, **job.task.options)
        if isinstance(result, Instances) and job.request.category:
            return replace(result, category=job.request.category)
        return result


class _Clock:
    """Milliseconds per stage."""

    def __init__(self) -> None:
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.stages[name] = 1000 * (time.perf_counter() - started)


def _device_name(device: torch.device, dtype: torch.dtype) -> str:
    precision = str(dtype).removeprefix("torch.")
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({precision})"
    return f"CPU, {torch.get_num_threads()} threads ({precision})"

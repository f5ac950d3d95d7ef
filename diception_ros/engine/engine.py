# SPDX-License-Identifier: Apache-2.0
"""Engine: several images, several requests each, one shared pass."""

from __future__ import annotations

import logging
import threading
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch

from diception_ros.engine.adapters import Adapters, task_of
from diception_ros.engine.config import EngineConfig
from diception_ros.engine.jobs import Clock, Job, Outcome, Settings
from diception_ros.engine.stages import Stages
from diception_ros.imaging import Canvas, check_rgb
from diception_ros.model import BundleInfo, Diception
from diception_ros.model.lora import Adapter
from diception_ros.tasks import TASKS, Instances, Request, Result, Task

logger = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]
Progress = Callable[[str], None]


class Engine:
    """One loaded bundle. All methods may be called from any thread; one call runs at a time.

    Over 300 lines with its docstrings: it is the whole of what callers see of the network.
    """

    def __init__(self, model: Diception, config: EngineConfig, tasks: Mapping[str, Task]) -> None:
        self.config = config
        self.info: BundleInfo = model.info
        self.tasks: dict[str, Task] = dict(tasks)
        self.canvas = Canvas(*(config.canvas or model.info.canvas))
        self._model: Diception | None = model
        size = (self.canvas.height, self.canvas.width)
        self._stages = Stages(model, size, config.max_batch, config.graphs)
        self._adapters = Adapters(model)
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
        adapters: Iterable[str | Path | Adapter] = (),
    ) -> Engine:
        """Loads a bundle and its adapters and runs the `warm` requests once, so that their graphs
        are captured before the first frame. ValueError for a device that is not there, a damaged
        bundle or an adapter of another one."""
        config, say = config or EngineConfig(), progress or logger.info
        device = config.resolve_device()
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        dtype = config.resolve_dtype(device)
        say(f"loading {bundle} on {device} in {str(dtype).removeprefix('torch.')}")
        engine = cls(
            Diception.load(bundle, device, dtype), config, TASKS if tasks is None else tasks
        )
        for adapter in adapters:
            say(f"adapter for {engine.load_adapter(adapter)}")
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

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        """The loaded adapters by the name of their task."""
        self._loaded()
        return self._adapters.loaded

    def check_adapter(self, adapter: Adapter) -> None:
        """ValueError unless the adapter was trained on this very bundle. Waits for no frame."""
        self._loaded()
        self._adapters.check(adapter)

    def load_adapter(self, adapter: str | Path | Adapter) -> str:
        """Adds the task of an adapter (a file or one that was read); returns the task's name.

        From now on requests for this task run with the adapter's weights and all others with the
        bundle's own, in one call of `infer`, too. ValueError for a file that is no adapter, one
        of another bundle, or a task of that name that is there already.
        """
        if not isinstance(adapter, Adapter):
            adapter = Adapter.load(adapter)
        task = task_of(adapter)
        with self._lock:
            self._loaded()
            if task.name in self.tasks:
                raise ValueError(f"adapter '{task.name}': a task of this name is there already")
            self._adapters.add(adapter)
            self.tasks = {**self.tasks, task.name: task}
        return task.name

    def unload_adapter(self, name: str) -> None:
        """Takes the adapter and its task away. ValueError for a name that is not loaded."""
        with self._lock:
            self._loaded()
            self._adapters.remove(name)
            self.tasks = {key: task for key, task in self.tasks.items() if key != name}

    def set_adapter(self, name: str | None) -> None:
        """Which adapter's weights rest merged between calls, None for the bundle's own.

        No answer depends on it: a request always runs with its own task's weights. It spares an
        engine that is asked for this task alone from merging and restoring in every call.
        ValueError for a name that is not loaded.
        """
        with self._lock:
            self._loaded()
            self._adapters.rest(None if name is None else self._adapters.find(name))

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
        with equal steps, guidance and weights go through the transformer in one batch."""
        results: list[list[Result | None]] = [[None] * len(asked) for asked in requests]
        clock = Clock()
        with self._lock, torch.inference_mode():
            jobs = self._jobs(images, requests)
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
            del self._stages, self._adapters
            self._noise.clear()
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def check(self, request: Request) -> None:
        """ValueError, with what to do, if this engine cannot answer the request."""
        prompts, task = self._loaded().prompts, self._task(request)
        prompt = task.prompt_for(request.category)
        if task.name not in self._adapters.loaded:
            prompts.lookup([prompt])

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
                adapter = self._adapters.loaded.get(task.name)
                jobs.append(Job(i, slot, request, task, self._settings(request, task), adapter))
        return jobs

    def _settings(self, request: Request, task: Task) -> Settings:
        steps, guidance = request.steps, request.guidance
        if steps is None:
            steps = self.info.steps(task.name, task.steps)
        if guidance is None:
            guidance = self.info.guidance(task.name, task.guidance)
        return steps, max(1.0, guidance)

    def _generate(
        self, images: Sequence[Image], jobs: Sequence[Job], seed: int, clock: Clock
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
        groups: dict[tuple[Adapter | None, Settings], list[int]] = defaultdict(list)
        for row, job in enumerate(jobs):
            groups[job.adapter, job.settings].append(row)
        latents = torch.empty_like(image_latents, dtype=torch.float32)
        with self._adapters.in_turn() as merging:
            for (adapter, (steps, guidance)), rows in groups.items():
                merging.use(adapter)
                conditions = self._conditions(images, [jobs[row] for row in rows], adapter)
                start = noise.expand(len(rows), -1, -1, -1)
                unconditional = self._embeds([""]) if guidance > 1 else None
                latents[rows] = self._stages.denoise(
                    start, image_latents[rows], conditions, unconditional, steps, guidance
                )
        return latents

    def _conditions(
        self, images: Sequence[Image], jobs: Sequence[Job], adapter: Adapter | None
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
        prompts = [job.task.prompt_for(job.request.category) for job in jobs]
        embeds, pooled = self._embeds(prompts, adapter)
        return embeds, pooled, tokens

    def _embeds(
        self, prompts: Sequence[str], adapter: Adapter | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """An adapter has one prompt, its own."""
        model = self._loaded()
        if adapter is None:
            embeds, pooled = model.prompts.lookup(prompts)
        else:
            embeds = adapter.embeds.expand(len(prompts), -1, -1)
            pooled = adapter.pooled.expand(len(prompts), -1)
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


def _device_name(device: torch.device, dtype: torch.dtype) -> str:
    precision = str(dtype).removeprefix("torch.")
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({precision})"
    return f"CPU, {torch.get_num_threads()} threads ({precision})"

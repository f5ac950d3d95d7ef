# SPDX-License-Identifier: Apache-2.0
"""From placed jobs to their generated images: one encoding an image, one pass per settings."""

from __future__ import annotations

from collections import OrderedDict, defaultdict
from collections.abc import Hashable, Sequence
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import torch

from diception_ros.engine.adapters import Adapters
from diception_ros.engine.jobs import Clock, Job, Settings
from diception_ros.engine.stages import Stages
from diception_ros.engine.transfers import Arrival, Transfers
from diception_ros.imaging import Canvas
from diception_ros.model import Diception
from diception_ros.model.lora import Adapter

Image = npt.NDArray[np.uint8]
STREAMS = 64
"""Latents kept for temporal starts, and calls for which all are: cameras may take turns, each with
more requests than that. Beyond both the oldest are forgotten."""
PROMPTS = 32
"""Prompts kept on the device; the oldest are forgotten."""


class Passes:
    """Runs jobs on one model. Not safe for concurrent calls: the engine holds its lock."""

    def __init__(self, model: Diception, stages: Stages, adapters: Adapters) -> None:
        self._model, self._stages, self._adapters = model, stages, adapters
        self._transfers = Transfers(model.device)
        self._noise: dict[tuple[Canvas, int], torch.Tensor] = {}
        self._prompts: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        self._pointless: torch.Tensor | None = None
        self._before: OrderedDict[Hashable, tuple[int, torch.Tensor]] = OrderedDict()
        self._calls = 0

    def generate(
        self,
        images: Sequence[Image],
        jobs: Sequence[Job],
        canvas: Canvas,
        temporal: float,
        clock: Clock,
    ) -> Arrival:
        """Colours (H, W, 3) in [0, 1] per job, at the size of its image, on their way."""
        model = self._model
        used = sorted({job.image for job in jobs})
        with clock.stage("preprocess"):
            pixels = self._transfers.upload([images[i] for i in used])
            batch = torch.stack([canvas.to_model(one) for one in pixels]).to(model.dtype)
        with clock.stage("encode"):
            encoded = self._stages.encode(batch)
            # Stacked, not indexed: an index would have to cross to the GPU, and be waited for.
            image_latents = torch.stack([encoded[used.index(job.image)] for job in jobs])
        with clock.stage("denoise"):
            latents = self._denoise(images, jobs, image_latents, canvas, temporal)
        with clock.stage("decode"):
            generated = self._stages.decode(latents)
            answers = [
                canvas.resized_back(colours, images[job.image].shape[:2])
                for job, colours in zip(jobs, generated, strict=True)
            ]
        arrival = self._transfers.download(answers)
        clock.extend("decode", arrival.done)
        return arrival

    def _denoise(
        self,
        images: Sequence[Image],
        jobs: Sequence[Job],
        image_latents: torch.Tensor,
        canvas: Canvas,
        temporal: float,
    ) -> torch.Tensor:
        starts, settings = self._starts(jobs, canvas, temporal)
        groups: dict[tuple[Adapter | None, Settings], list[int]] = defaultdict(list)
        for row, job in enumerate(jobs):
            groups[job.adapter, settings[row]].append(row)
        latents = torch.empty_like(image_latents, dtype=torch.float32)
        alone = len(groups) == 1
        with self._adapters.in_turn() as merging:
            for (adapter, asked), rows in groups.items():
                merging.use(adapter)
                conditions = self._conditions(images, [jobs[row] for row in rows], canvas)
                unconditional = self._embeds([""]) if asked.guidance > 1 else None
                given = (starts, image_latents)
                start, image = given if alone else (tensor[rows] for tensor in given)
                found = self._stages.denoise(start, image, conditions, unconditional, asked)
                if alone:  # and no row to be picked or placed
                    latents = found
                else:
                    latents[rows] = found
        self._remember(jobs, latents, canvas, temporal)
        return latents

    def _starts(
        self, jobs: Sequence[Job], canvas: Canvas, temporal: float
    ) -> tuple[torch.Tensor, list[Settings]]:
        """Where every job starts, (N, C, h, w), and its settings from there.

        A rectified flow at sigma is (1 - sigma) target + sigma noise: the previous latents stand
        for the target, and the list of sigmas is scaled to begin at 1 - temporal.
        """
        starts, settings = [], []
        for job in jobs:
            start, asked = self._fixed_noise(canvas, job.seed), job.settings
            before = self._before.get(_key(job, canvas)) if temporal and not job.sample else None
            if before is not None:
                sigma = 1.0 - temporal
                start = temporal * before[1] + sigma * start
                asked = replace(asked, sigmas=tuple(sigma * value for value in asked.sigmas))
            starts.append(start)
            settings.append(asked)
        return torch.cat(starts), settings

    def _remember(
        self, jobs: Sequence[Job], latents: torch.Tensor, canvas: Canvas, temporal: float
    ) -> None:
        if not temporal:
            self._before.clear()
            return
        self._calls += 1
        for row, job in enumerate(jobs):
            if job.stream is not None and not job.sample:
                key = _key(job, canvas)
                self._before[key] = self._calls, latents[row : row + 1].clone()
                self._before.move_to_end(key)
        while len(self._before) > STREAMS:
            key, (call, _) = next(iter(self._before.items()))
            if call > self._calls - STREAMS:
                break
            del self._before[key]

    def _conditions(
        self, images: Sequence[Image], jobs: Sequence[Job], canvas: Canvas
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Prompt embeds, pooled and point tokens of jobs that share their weights."""
        prompts = [job.task.prompt_for(job.request.category) for job in jobs]
        embeds, pooled = self._embeds(prompts, jobs[0].adapter)
        if not any(job.request.points for job in jobs):
            return embeds, pooled, self._no_points().expand(len(jobs), -1, -1)
        placed = [
            canvas.points_to_model(
                job.request.points,
                job.request.labels,
                images[job.image].shape[:2],
                self._model.info.point_order,  # type: ignore[arg-type]  # BundleInfo validates it
            )
            for job in jobs
        ]
        points = torch.from_numpy(np.stack([points for points, _ in placed]))
        labels = torch.from_numpy(np.stack([labels for _, labels in placed]))
        return embeds, pooled, self._model.point_tokens(points, labels, len(jobs))

    def _no_points(self) -> torch.Tensor:
        """(1, 5, W): the point tokens of a request without points; always the same."""
        if self._pointless is None:
            self._pointless = self._model.point_tokens(None, None, 1)
        return self._pointless

    def _embeds(
        self, prompts: Sequence[str], adapter: Adapter | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """An adapter has one prompt, its own."""
        model = self._model
        if adapter is None:
            rows = [self._prompt(prompt) for prompt in prompts]
            return torch.cat([row[0] for row in rows]), torch.cat([row[1] for row in rows])
        embeds = adapter.embeds.to(model.device, model.dtype).expand(len(prompts), -1, -1)
        pooled = adapter.pooled.to(model.device, model.dtype).expand(len(prompts), -1)
        return embeds, pooled

    def _prompt(self, prompt: str) -> tuple[torch.Tensor, torch.Tensor]:
        """(1, T, D) and (1, P) on the device; the last few are kept there (SD3's are 3 MB each)."""
        if prompt not in self._prompts:
            while len(self._prompts) >= PROMPTS:
                del self._prompts[next(iter(self._prompts))]
            device, dtype = self._model.device, self._model.dtype
            embeds, pooled = self._model.prompts.lookup([prompt])
            self._prompts[prompt] = embeds.to(device, dtype), pooled.to(device, dtype)
        return self._prompts[prompt]

    def _fixed_noise(self, canvas: Canvas, seed: int) -> torch.Tensor:
        """(1, C, h, w): the same start for every request; the last few are kept."""
        if (canvas, seed) not in self._noise:
            while len(self._noise) >= STREAMS:
                del self._noise[next(iter(self._noise))]
            noise = self._model.fixed_noise(canvas.height, canvas.width, seed)
            self._noise[canvas, seed] = noise.to(self._model.device)
        return self._noise[canvas, seed]


def _key(job: Job, canvas: Canvas) -> Hashable:
    request = job.request
    return job.stream, request.task, request.category, request.points, request.labels, canvas

# SPDX-License-Identifier: Apache-2.0
"""Training batches: which example comes when, from which source, and as latents."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

from diception_ros.imaging import Canvas
from diception_ros.model import Diception, PromptBank
from diception_ros.model.autoencoder import projection
from diception_ros.tasks import TASKS, Instances, Keypoints, Mask, Task
from diception_ros.training.cache import frame_size, shards_of
from diception_ros.training.images import Folder
from diception_ros.training.objective import Encoded
from diception_ros.training.pool import Pool
from diception_ros.training.recipe import Recipe
from diception_ros.training.targets import Example, prompts_of

Rng = np.random.Generator
ON_BLACK = (Mask, Instances, Keypoints)
"""Results whose pictures are black where there is nothing; those of all others fill the frame."""
MANIFEST = (".yaml", ".yml")
"""Suffixes of a source that is a user's manifest."""
DARK = -0.8
"""Brightness, in -1..1, over which a pixel of a picture on black shows something."""


@dataclass(frozen=True)
class Batch:
    """images, targets (B, 3, H, W) float32 in [-1, 1]; points (B, 5, 2), labels (B, 5); bases (B,)
    float32, see Example."""

    images: torch.Tensor
    targets: torch.Tensor
    prompts: tuple[str, ...]
    points: torch.Tensor
    labels: torch.Tensor
    keys: tuple[Hashable, ...]
    """Of the images, then of the targets; see Example."""
    bases: torch.Tensor


class Source(Protocol):
    """Where examples come from: Pool (rendered shards) or Folder (a user's own images)."""

    tasks: Sequence[str]

    def example(self, task: str, rng: Rng) -> Example: ...


class Batches(Dataset[Batch]):
    """Batch number n, a pure function of (seed, n): training goes on after a kill as if nothing had
    happened, whatever the number of workers. Sources are opened in the process that reads them.
    """

    def __init__(self, recipe: Recipe, tasks: Mapping[str, Task], rank: int = 0) -> None:
        self.recipe, self.known, self.rank = recipe, tasks, rank
        self.sources: list[Source] = []

    def __len__(self) -> int:
        return self.recipe.steps * self.recipe.accumulate

    def __getitem__(self, number: int) -> Batch:
        recipe = self.recipe
        if not self.sources:
            self.sources = [open_source(path, recipe, self.known) for path in recipe.sources]
        rng = np.random.default_rng([recipe.seed, self.rank, number])
        step = number // recipe.accumulate
        shares, weights = recipe.phase(step).shares, recipe.weights(step)
        chances = np.array(list(shares.values()), float)
        tasks = rng.choice(list(shares), size=recipe.batch, p=chances / chances.sum())
        return collate([self.example(str(task), weights, rng) for task in tasks])

    def example(self, task: str, of_sources: Sequence[float], rng: Rng) -> Example:
        has = [task in source.tasks for source in self.sources]
        weights = np.array(of_sources) * has
        if not weights.any():
            raise no_data(task)
        chosen = int(rng.choice(len(weights), p=weights / weights.sum()))
        return self.sources[chosen].example(task, rng)


def open_source(path: Path, recipe: Recipe, tasks: Mapping[str, Task]) -> Source:
    """A folder of rendered shards, or the manifest of a user's images (a .yaml file)."""
    if path.suffix in MANIFEST:
        return Folder.open(path, Canvas(*recipe.canvas), tasks)
    check_shards(path, recipe.canvas)
    return Pool(path, recipe.harsh)


def check_shards(folder: Path, canvas: tuple[int, int]) -> None:
    """ValueError for a folder without any, and for scenes of another size than the canvas."""
    shards = shards_of(folder)
    if not shards:
        raise ValueError(f"no shards in {folder}: render some with 'diception scenes render'")
    height, width = frame_size(shards[0])
    if (height, width) != canvas:
        raise ValueError(
            f"{folder}: scenes of {height}x{width}, but the recipe's canvas is {canvas[0]}x"
            f"{canvas[1]}: render them with 'diception scenes render --size'"
        )


def check_sources(recipe: Recipe, tasks: Mapping[str, Task], bank: PromptBank) -> None:
    """ValueError, before anything is trained, for a source that cannot be read, and for a task of
    any phase that no source has data for or whose prompt is not in the bank. What shards show is
    only known when they are read."""
    for path in recipe.sources:
        if not recipe.live and path.suffix not in MANIFEST:
            check_shards(path, recipe.canvas)
    folders = {
        path: Folder.open(path, Canvas(*recipe.canvas), tasks)
        for path in recipe.sources
        if path.suffix in MANIFEST
    }
    for phase in recipe.phases:
        weights = phase.sources or recipe.sources
        read = [folders.get(path) for path, weight in weights.items() if weight]
        for task in (name for name, share in phase.shares.items() if share):
            of = [(one.prompts_of if one else prompts_of)(task) for one in read]
            if not any(of):
                raise no_data(task)
            bank.rows([prompt for found in of for prompt in found])


def no_data(task: str) -> ValueError:
    return ValueError(f"no source has data for the task '{task}': name one in 'sources'")


def read_autoencoder(folder: Path) -> AutoencoderTiny:
    """ValueError where there is none; nothing is ever downloaded instead."""
    if not (folder / "config.json").is_file():
        raise ValueError(
            f"no autoencoder in {folder}: make one with 'python -m "
            f"diception_ros.training.autoencoder --out {folder}', or go on from a bundle (init)"
        )
    return AutoencoderTiny.from_pretrained(folder, local_files_only=True)


def load_autoencoder(folder: Path) -> AutoencoderTiny:
    vae = read_autoencoder(folder).eval().requires_grad_(False)
    return vae.to(memory_format=torch.channels_last)


class Encoder:
    """Pictures to latents. It remembers those that come again, and takes the short way where the
    encoder is linear: on a CPU, encoding a batch would take a third as long as learning from it.

    foreground: extra weight in the loss of cells where a picture on black shows something; without
    it a small network answers black for small things. remember: how many latents to keep.
    """

    def __init__(
        self,
        model: Diception,
        foreground: float = 0.0,
        remember: int = 0,
        tasks: Mapping[str, Task] = TASKS,
    ) -> None:
        self.model, self.foreground, self.remember = model, foreground, remember
        self.on_black = tuple(task.prompt for task in tasks.values() if task.result in ON_BLACK)
        self.encode = projection(model.vae) or model.encode_image
        self.known: dict[Hashable, torch.Tensor] = {}

    def __call__(self, batch: Batch) -> Encoded:
        latents = self.latents(torch.cat([batch.images, batch.targets]), batch.keys)
        images, targets = latents.chunk(2)
        cells = targets.shape[-2:]
        drawn = functional.adaptive_max_pool2d(batch.targets.amax(1, keepdim=True), cells) > DARK
        on_black = torch.tensor([prompt.startswith(self.on_black) for prompt in batch.prompts])
        on_black = on_black.to(drawn.device)[:, None, None, None]
        weights = 1 + self.foreground * drawn * on_black
        named = (batch.prompts, batch.points, batch.labels)
        shown = batch.targets, batch.bases, batch.images
        return Encoded(images, targets, weights.to(latents.device), *named, *shown)

    @torch.no_grad()
    def latents(self, pictures: torch.Tensor, keys: Sequence[Hashable]) -> torch.Tensor:
        """(N, 3, H, W) in [-1, 1] -> (N, C, h, w) float32 on the model's device."""
        if not self.remember:
            shown = pictures.to(self.model.device).to(memory_format=torch.channels_last)
            return self.encode(shown).half().float()  # as if they had been remembered
        new = [row for row, key in enumerate(keys) if key not in self.known]
        found: list[torch.Tensor | None] = [self.known.get(key) for key in keys]
        if new:
            shown = pictures[new].to(self.model.device).to(memory_format=torch.channels_last)
            for row, latent in zip(new, self.encode(shown).half(), strict=True):
                found[row] = latent
                if keys[row] is not None and len(self.known) < self.remember:
                    self.known[keys[row]] = latent.contiguous().clone()
        return torch.stack(found).float()  # type: ignore[arg-type]  # every row has been found


def load_ahead(batches: Batches, first: int, workers: int) -> Iterator[Batch]:
    """Batches from number `first` on, in order, made by that many processes or by this one."""
    ahead = {"multiprocessing_context": "spawn", "prefetch_factor": 4} if workers else {}
    rows = range(first, len(batches))
    loader = DataLoader(batches, batch_size=None, sampler=rows, num_workers=workers, **ahead)
    return with_plain_errors(iter(loader))


def with_plain_errors(batches: Iterator[Batch]) -> Iterator[Batch]:
    """A ValueError of another process says its whole traceback; the same without that."""
    try:
        yield from batches
    except ValueError as error:
        raise ValueError(str(error).rpartition("\nValueError: ")[2].strip()) from error


def collate(examples: list[Example]) -> Batch:
    images = torch.from_numpy(np.stack([e.image for e in examples])).permute(0, 3, 1, 2)
    targets = torch.from_numpy(np.stack([e.colours for e in examples])).permute(0, 3, 1, 2)
    return Batch(
        images.float() / 127.5 - 1,
        targets * 2 - 1,
        tuple(e.prompt for e in examples),
        torch.from_numpy(np.stack([e.points for e in examples])),
        torch.from_numpy(np.stack([e.labels for e in examples])),
        tuple(e.keys[part] for part in (0, 1) for e in examples),
        torch.tensor([e.base for e in examples], dtype=torch.float32),
    )

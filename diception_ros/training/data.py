# SPDX-License-Identifier: Apache-2.0
"""Training batches from a folder of rendered shards that may still be growing."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from diception_ros.model import autoencoder
from diception_ros.training.cache import load, unpack
from diception_ros.training.scenes import CATEGORIES, Frame
from diception_ros.training.targets import MIN_AREA, NAMED, Example, make_example

Rng = np.random.Generator
Place = tuple[int, int]
"""A frame: its shard's number in the pool and its row."""
LOOK_SECONDS = 20.0
ABSENT = 0.15
"""Share of semantic examples that ask for a category that is not there."""


@dataclass(frozen=True)
class Batch:
    """images, targets (B, 3, H, W) float32 in [-1, 1]; points (B, 5, 2), labels (B, 5)."""

    images: torch.Tensor
    targets: torch.Tensor
    prompts: tuple[str, ...]
    points: torch.Tensor
    labels: torch.Tensor


@dataclass(frozen=True)
class Encoded:
    """A batch whose images and targets (B, C, h, w) are latents."""

    images: torch.Tensor
    targets: torch.Tensor
    prompts: tuple[str, ...]
    points: torch.Tensor
    labels: torch.Tensor


class Pool:
    """All frames of a folder in memory (about 165 KB each at 128 x 128), indexed by content."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shards: list[dict[str, Any]] = []
        self.seen: set[str] = set()
        self.frames: list[Place] = []
        self.posed: list[Place] = []
        self.filled: list[Place] = []
        self.by_category: dict[str, list[Place]] = defaultdict(list)

    def refresh(self, limit: int = 1 << 30) -> int:
        """Reads up to `limit` new shards; returns how many frames there are."""
        for path in sorted(self.folder.glob("*[0-9].npz")):
            if path.name not in self.seen and limit > 0:
                self.seen.add(path.name)
                self.add(load(path))
                limit -= 1
        return len(self.frames)

    def add(self, shard: dict[str, Any]) -> None:
        number = len(self.shards)
        self.shards.append(shard)
        for row in range(len(shard["rgb"])):
            place = (number, row)
            self.frames.append(place)
            if (shard["people"][row, :, :, 3] > 0).sum() >= 5:
                self.posed.append(place)
            instances = np.bincount(shard["instances"][row].ravel())[1:]
            if len(instances) and instances.max() >= 4 * MIN_AREA:
                self.filled.append(place)
            areas = np.bincount(shard["categories"][row].ravel(), minlength=len(CATEGORIES))
            for category, area in zip(CATEGORIES[1:], areas[1:], strict=True):
                if area >= 3 * MIN_AREA:
                    self.by_category[category].append(place)

    def frame(self, place: Place) -> Frame:
        return unpack(self.shards[place[0]], place[1])

    def example(self, task: str, rng: Rng) -> Example:
        """A random example; frames are chosen so that the task has something to show."""
        category, places = "", self.frames
        if task == "semantic":
            category = str(rng.choice(NAMED))
            present = self.by_category[category]
            places = present if present and rng.random() >= ABSENT else self.frames
        elif task == "pose" and self.posed and rng.random() < 0.9:
            places = self.posed
        elif task == "point":
            places = self.filled
        frame = self.frame(places[rng.integers(len(places))])
        if rng.random() < 0.5:
            frame = mirrored(frame)
        return make_example(replace(frame, rgb=jittered(frame.rgb, rng)), task, rng, category)

    def batch(self, size: int, shares: Mapping[str, float], rng: Rng) -> Batch:
        """`size` examples with tasks drawn by their shares."""
        weights = np.array(list(shares.values()), float)
        tasks = rng.choice(list(shares), size=size, p=weights / weights.sum())
        return collate([self.example(str(task), rng) for task in tasks])


class Batches(IterableDataset[Encoded]):
    """Endless encoded batches. New shards of the folder are read as they appear."""

    def __init__(
        self, cache: Path, vae: Path, size: int, shares: Mapping[str, float], seed: tuple[int, ...]
    ) -> None:
        self.cache, self.vae, self.size, self.shares, self.seed = cache, vae, size, shares, seed

    def __iter__(self) -> Iterator[Encoded]:
        worker = get_worker_info()
        rng = np.random.default_rng([*self.seed, worker.id if worker else 0])
        vae = load_autoencoder(self.vae)
        pool = Pool(self.cache)
        if not pool.refresh():
            raise ValueError(
                f"no shards in {self.cache}: render some with diception_ros.training.cache"
            )
        looked = time.monotonic()
        while True:
            if time.monotonic() - looked > LOOK_SECONDS:
                pool.refresh(limit=8)
                looked = time.monotonic()
            yield encode(vae, pool.batch(self.size, self.shares, rng))


def load_autoencoder(folder: Path) -> AutoencoderTiny:
    vae = AutoencoderTiny.from_pretrained(folder).eval().requires_grad_(False)
    return vae.to(memory_format=torch.channels_last)


@torch.no_grad()
def encode(vae: AutoencoderTiny, batch: Batch) -> Encoded:
    pictures = torch.cat([batch.images, batch.targets])
    with torch.autocast("cpu", torch.bfloat16):
        latents = autoencoder.encode(vae, pictures.contiguous(memory_format=torch.channels_last))
    images, targets = latents.float().contiguous().chunk(2)
    return Encoded(images, targets, batch.prompts, batch.points, batch.labels)


def load_ahead(batches: Batches, workers: int) -> Iterator[Encoded]:
    """Batches from that many processes, or from this one. A worker encodes while the trainer steps:
    on a CPU the encoder costs a third of a step."""
    ahead = {"multiprocessing_context": "spawn", "prefetch_factor": 4} if workers else {}
    return iter(DataLoader(batches, batch_size=None, num_workers=workers, **ahead))


def collate(examples: list[Example]) -> Batch:
    images = torch.from_numpy(np.stack([e.image for e in examples])).permute(0, 3, 1, 2)
    targets = torch.from_numpy(np.stack([e.colours for e in examples])).permute(0, 3, 1, 2)
    return Batch(
        images.float() / 127.5 - 1,
        targets * 2 - 1,
        tuple(e.prompt for e in examples),
        torch.from_numpy(np.stack([e.points for e in examples])),
        torch.from_numpy(np.stack([e.labels for e in examples])),
    )


def mirrored(frame: Frame) -> Frame:
    """The frame left-right; normals' x changes sign."""
    fx, fy, cx, cy = frame.intrinsics
    last = frame.depth.shape[1] - 1
    return Frame(
        np.ascontiguousarray(frame.rgb[:, ::-1]),
        frame.depth[:, ::-1],
        frame.normals[:, ::-1] * np.float32([-1, 1, 1]),
        frame.instances[:, ::-1],
        frame.categories[:, ::-1],
        (fx, fy, last - cx, cy),
        tuple(
            (person, points * np.float32([-1, 1]) + np.float32([last, 0]), visible)
            for person, points, visible in frame.keypoints
        ),
    )


def jittered(rgb: np.ndarray, rng: Rng) -> np.ndarray:
    """Gain, cast and gamma on top of the photograph's own: a frame seen twice differs."""
    gains = rng.uniform(0.75, 1.25) * rng.normal(1, 0.07, 3)
    values = np.arange(256, dtype=np.float32)[:, None] / 255
    curve = np.clip(values ** rng.uniform(0.75, 1.35) * gains, 0, 1)
    table = (curve * 255).astype(np.uint8)
    return np.stack([table[rgb[..., channel], channel] for channel in range(3)], axis=-1)

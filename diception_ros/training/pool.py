# SPDX-License-Identifier: Apache-2.0
"""Rendered frames in memory, found by what they show, and each time seen by another camera."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from diception_ros.tasks import TASKS
from diception_ros.training.cache import load, shards_of, unpack
from diception_ros.training.scenes import CATEGORIES, Frame
from diception_ros.training.scenes.photo import harsh
from diception_ros.training.targets import COPY, NAMED, SPOT, Example, least_area, make_example

Rng = np.random.Generator
Place = tuple[int, int]
"""A frame: its shard's number in the pool and its row."""
LOOKS = 4
"""Cameras that a frame, and its mirror image, is seen through."""
ABSENT = 0.15
"""Share of semantic examples that ask for a category that is not there."""


class Pool:
    """All frames of a folder in memory (about 165 KB each at 128 x 128), indexed by content.

    harsh: share of examples whose image gets what bad cameras do, beside gain, cast and gamma.
    most: shards that are read, the first ones; all if not said.
    """

    def __init__(self, folder: Path, harsh: float = 0.0, most: int | None = None) -> None:
        self.folder, self.harsh = folder, harsh
        self.shards: list[dict[str, Any]] = []
        self.frames: list[Place] = []
        self.posed: list[Place] = []
        self.filled: list[Place] = []
        self.by_category: dict[str, list[Place]] = defaultdict(list)
        for path in shards_of(folder)[:most]:
            self.add(load(path))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Those that these frames have something to show for."""
        named = any(self.by_category.values())
        there = {"semantic": named, "pose": self.posed, "point": self.filled}
        return tuple(task for task in (*TASKS, COPY, SPOT) if there.get(task, True))

    def add(self, shard: dict[str, Any]) -> None:
        number, least = len(self.shards), least_area(shard["instances"][0].size)
        self.shards.append(shard)
        for row in range(len(shard["rgb"])):
            place = (number, row)
            self.frames.append(place)
            if (shard["people"][row, :, :, 3] > 0).sum() >= 5:
                self.posed.append(place)
            instances = np.bincount(shard["instances"][row].ravel())[1:]
            if len(instances) and instances.max() >= 4 * least:
                self.filled.append(place)
            areas = np.bincount(shard["categories"][row].ravel(), minlength=len(CATEGORIES))
            for category, area in zip(CATEGORIES[1:], areas[1:], strict=True):
                if area >= 3 * least:
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
        place = places[rng.integers(len(places))]
        side, look = bool(rng.random() < 0.5), int(rng.integers(LOOKS))
        frame = self.shown(place, side, np.random.default_rng((*place, side, look)))
        example = make_example(frame, task, rng, category)
        seen = (str(self.folder), *place, side)
        image, target = (*seen, look), (*seen, task, category)
        target = {COPY: image, "point": None, SPOT: None}.get(task, target)
        return replace(example, keys=(image, target))

    def shown(self, place: Place, side: bool, rng: Rng) -> Frame:
        """The frame, mirrored or not, as a camera of the generator's choice shows it."""
        frame = mirrored(self.frame(place)) if side else self.frame(place)
        look = harsh if rng.random() < self.harsh else jittered
        return replace(frame, rgb=look(frame.rgb, rng))


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

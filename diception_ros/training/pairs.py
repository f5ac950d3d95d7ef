# SPDX-License-Identifier: Apache-2.0
"""A folder of image/target pairs: what an adapter is trained on, or measured with."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from diception_ros.evaluation.datasets.readers import PICTURES, find_files, read_rgb
from diception_ros.imaging import POINT_TOKENS, Canvas
from diception_ros.model import Diception
from diception_ros.tasks import Mask, Task
from diception_ros.training.objective import Encoded
from diception_ros.training.pool import jittered

Picture = npt.NDArray[np.uint8]
Colours = npt.NDArray[np.float32]
"""(H, W, 3) RGB in 0..1."""
SMALLEST_PART = 0.6
"""Of a picture's height and width, in which a variant shows it."""


@dataclass(frozen=True)
class Pair:
    """image and target (H, W, 3) uint8 RGB of one size; the target as the task's picture is drawn:
    for a mask white on black."""

    name: str
    image: Picture
    target: Picture


@dataclass(frozen=True)
class Pairs:
    """skipped: a line for every pair that could not be read. mirror: whether their mirror images
    are pairs as well."""

    pairs: tuple[Pair, ...]
    skipped: tuple[str, ...] = ()
    mirror: bool = True

    @property
    def images(self) -> list[Picture]:
        return [pair.image for pair in self.pairs]

    def targets(self, task: Task) -> list[Picture]:
        """The targets as the task itself draws what it reads in them: a mask exactly white on
        black, a disparity grey."""
        read = [task.decode(pair.target.astype(np.float32) / 255) for pair in self.pairs]
        return [np.rint(task.encode(result) * 255).astype(np.uint8) for result in read]

    def first(self, count: int) -> Pairs:
        """ValueError if there are fewer."""
        if count > len(self.pairs):
            raise ValueError(f"expected at least {count} pairs, found {len(self.pairs)}")
        return replace(self, pairs=self.pairs[:count], skipped=())


def read_pairs(folder: Path, task: Task | None = None) -> Pairs:
    """Pairs by name from images/ and targets/, PNG or JPG files of equal stems.

    What cannot be read, differs in size, or cannot be a target of the task, is skipped with a line.
    ValueError for a missing folder or partner, and when nothing is left.
    """
    images, targets = (find_files(folder / part, PICTURES) for part in ("images", "targets"))
    for name in sorted(set(images) ^ set(targets)):
        there, missing = ("images", "targets") if name in images else ("targets", "images")
        raise ValueError(
            f"{folder}: {there}/{name} has no partner in {missing}/: expected files of equal stems"
        )
    pairs, skipped = [], []
    for name in images:
        try:
            pair = read_pair(name, images[name], targets[name])
            if task and task.result is Mask:
                check_white(pair.target, targets[name])
            pairs.append(pair)
        except ValueError as error:
            skipped.append(f"skipped {error}")
    if not pairs:
        raise ValueError(f"{folder}: none of {len(skipped)} pairs can be read: {skipped[0]}")
    return Pairs(tuple(pairs), tuple(skipped))


def read_pair(name: str, *paths: Path) -> Pair:
    """ValueError names the file."""
    pictures = []
    for path in paths:
        try:
            pictures.append(np.array(read_rgb(path)))
        except ValueError as error:
            raise ValueError(f"{path}: {' '.join(str(error).split())}") from error
    image, target = pictures
    if image.shape != target.shape:
        sizes = [f"{picture.shape[1]}x{picture.shape[0]}" for picture in pictures]
        raise ValueError(f"{name}: the image is {sizes[0]}, its target {sizes[1]}")
    return Pair(name, image, target)


def check_white(target: Picture, path: Path) -> None:
    """ValueError for a mask of class numbers or dark colours: it would be read as nothing at all.
    One that is black throughout says that there is nothing."""
    brightest = target.mean(-1).max()
    if target.any() and brightest < 127.5:
        raise ValueError(f"{path}: expected white (255) on black, the brightest is {brightest:.0f}")


def encode_pairs(
    model: Diception, pairs: Pairs, task: Task, variants: int, foreground: float, seed: int
) -> Encoded:
    """Latents of every pair and its mirror image, `variants` times: first as it is, then varied.
    foreground: extra weight in the loss of a mask's white cells."""
    rng, canvas = np.random.default_rng(seed), Canvas(*model.info.canvas)
    images, targets, weights = [], [], []
    for image, target in zip(pairs.images, pairs.targets(task), strict=True):
        for variant in range(variants):
            shown = varied(image, target, rng) if variant else (image, target)
            seen, asked = (ways(canvas.to_model(picture), pairs.mirror) for picture in shown)
            images.append(encoded(model, seen))
            targets.append(encoded(model, asked))
            white = functional.adaptive_max_pool2d(asked[:, :1], targets[0].shape[-2:]) > 0
            weights.append(1 + foreground * white * (task.result is Mask))
    count = sum(len(part) for part in images)
    return Encoded(
        torch.cat(images),
        torch.cat(targets),
        torch.cat(weights).to(model.device),
        (task.prompt,) * count,
        torch.zeros(count, POINT_TOKENS, 2),
        torch.zeros(count, POINT_TOKENS, dtype=torch.long),
    )


def varied(image: Picture, target: Picture, rng: np.random.Generator) -> tuple[Picture, Picture]:
    """A part of both, in other colours: few pictures are soon known by heart."""
    height, width = image.shape[:2]
    shares = rng.uniform(SMALLEST_PART, 1) * np.exp(rng.uniform(-0.15, 0.15) * np.array([1, -1]))
    h, w = np.minimum(np.maximum(shares * (height, width), 1), (height, width)).astype(int)
    top, left = rng.integers(height - h + 1), rng.integers(width - w + 1)
    part = np.s_[top : top + h, left : left + w]
    return jittered(image[part], rng), target[part]


def ways(picture: torch.Tensor, mirror: bool) -> torch.Tensor:
    """(3, H, W) -> it and its mirror image (2, 3, H, W), or it alone (1, 3, H, W)."""
    return torch.stack([picture, picture.flip(-1)] if mirror else [picture])


@torch.no_grad()
def encoded(model: Diception, pictures: torch.Tensor) -> torch.Tensor:
    """(N, 3, H, W) in [-1, 1] -> (N, C, h, w), of the model's device and dtype."""
    return model.encode_image(pictures.to(model.device, model.dtype))


def take(data: Encoded, rows: torch.Tensor) -> Encoded:
    """These rows of a set with one prompt."""
    parts = (data.images, data.targets, data.weights, data.points, data.labels)
    images, targets, weights, points, labels = (part[rows.to(part.device)] for part in parts)
    prompts = data.prompts[:1] * len(rows)
    return Encoded(images.float(), targets.float(), weights, prompts, points, labels)

# SPDX-License-Identifier: Apache-2.0
"""A folder of image/target pairs: what an adapter is trained on, or measured with."""

from __future__ import annotations

from dataclasses import dataclass
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


@dataclass(frozen=True)
class Pair:
    """image and target (H, W, 3) uint8 RGB of one size; the target as the task's picture is drawn:
    for a mask white on black."""

    name: str
    image: Picture
    target: Picture


@dataclass(frozen=True)
class Pairs:
    """skipped: a line for every pair that could not be read."""

    pairs: tuple[Pair, ...]
    skipped: tuple[str, ...] = ()

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
        return Pairs(self.pairs[:count])


def read_pairs(folder: Path) -> Pairs:
    """Pairs by name from images/ and targets/, PNG or JPG files of equal stems.

    What cannot be read, or differs in size, is skipped with a line. ValueError for a missing
    folder or partner, and when nothing is left.
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
            pairs.append(read_pair(name, images[name], targets[name]))
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


def encode_pairs(
    model: Diception, pairs: Pairs, task: Task, variants: int, foreground: float, seed: int
) -> Encoded:
    """Latents of every pair, as it is and mirrored, `variants` times: first in its own colours,
    then in others. foreground: extra weight in the loss of a mask's white cells."""
    rng, canvas = np.random.default_rng(seed), Canvas(*model.info.canvas)
    targets, images, weights = [], [], []
    for pair, target in zip(pairs.pairs, pairs.targets(task), strict=True):
        for variant in range(variants):
            image = jittered(pair.image, rng) if variant else pair.image
            images.append(latents_both_ways(model, canvas.to_model(image)))
        shown = both_ways(canvas.to_model(target))
        targets += [latents_both_ways(model, canvas.to_model(target))] * variants
        white = functional.adaptive_max_pool2d(shown[:, :1], targets[0].shape[-2:]) > 0
        weights += [1 + foreground * white * (task.result is Mask)] * variants
    count = 2 * len(images)
    return Encoded(
        torch.cat(images),
        torch.cat(targets),
        torch.cat(weights).to(model.device),
        (task.prompt,) * count,
        torch.zeros(count, POINT_TOKENS, 2),
        torch.zeros(count, POINT_TOKENS, dtype=torch.long),
    )


def both_ways(picture: torch.Tensor) -> torch.Tensor:
    """(3, H, W) -> it and its mirror image (2, 3, H, W)."""
    return torch.stack([picture, picture.flip(-1)])


@torch.no_grad()
def latents_both_ways(model: Diception, picture: torch.Tensor) -> torch.Tensor:
    """(3, H, W) in [-1, 1] -> (2, C, h, w) float32 on the model's device."""
    return model.encode_image(both_ways(picture).to(model.device, model.dtype)).float()


def take(data: Encoded, rows: torch.Tensor) -> Encoded:
    """These rows of a set with one prompt."""
    parts = (data.images, data.targets, data.weights, data.points, data.labels)
    images, targets, weights, points, labels = (part[rows.to(part.device)] for part in parts)
    return Encoded(images, targets, weights, data.prompts[: len(rows)], points, labels)

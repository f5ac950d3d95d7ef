# SPDX-License-Identifier: Apache-2.0
"""The control of an adaptation: as many parameters, trained on the same pairs from nothing.

A U-Net (Ronneberger et al. 2015, arXiv 1505.04597) and no small transformer: of all networks, those
of convolutions learn best from a few images alone, so the control is a strong one.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from diception_ros.imaging import Canvas
from diception_ros.tasks import Task
from diception_ros.training.pairs import Colours, Pairs, Picture, varied

LEVELS = 4
RATE = 3e-3
BATCH = 8
Clock = Callable[[], float]


class UNet(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] -> logits of the task's colours (B, 3, H, W)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        widths = [channels * min(level + 1, 3) for level in range(LEVELS)]
        self.down = nn.ModuleList(map(block, [3, *widths[:-1]], widths))
        joined = [deep + flat for deep, flat in zip(widths[:0:-1], widths[-2::-1], strict=True)]
        self.up = nn.ModuleList(map(block, joined, widths[-2::-1]))
        self.last = nn.Conv2d(channels, 3, 1)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        maps = [self.down[0](images)]
        for layer in self.down[1:]:
            maps.append(layer(functional.max_pool2d(maps[-1], 2)))
        found = maps.pop()
        for layer in self.up:
            flat = maps.pop()
            found = functional.interpolate(found, flat.shape[-2:], mode="bilinear")
            found = layer(torch.cat([found, flat], dim=1))
        return self.last(found)  # type: ignore[no-any-return]


def block(inside: int, outside: int) -> nn.Sequential:
    layers: list[nn.Module] = []
    for channels in (inside, outside):
        convolution = nn.Conv2d(channels, outside, 3, padding=1)
        layers += [convolution, nn.GroupNorm(1, outside), nn.SiLU()]
    return nn.Sequential(*layers)


def size_of(network: nn.Module) -> int:
    return sum(weight.numel() for weight in network.parameters())


def largest(parameters: int) -> UNet:
    """The widest one with at most this many parameters."""
    channels = 1
    while size_of(UNet(channels + 1)) <= parameters:
        channels += 1
    return UNet(channels)


def train_unet(
    pairs: Pairs,
    task: Task,
    canvas: Canvas,
    parameters: int,
    seconds: float,
    seed: int,
    clock: Clock = time.monotonic,
) -> UNet:
    """Trained with the adapter's augmentation, batch and schedule for that long by the clock."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = largest(parameters)
    rng, targets = np.random.default_rng(seed), pairs.targets(task)
    optimizer = torch.optim.AdamW(network.parameters(), lr=RATE)
    started = clock()
    while (done := (clock() - started) / max(seconds, 1e-3)) < 1:
        optimizer.param_groups[0]["lr"] = RATE * (0.5 + 0.5 * math.cos(math.pi * done))
        images, truths = [], []
        for row in rng.integers(len(targets), size=BATCH):
            both = torch.stack(
                [canvas.to_model(part) for part in varied(pairs.images[row], targets[row], rng)]
            )
            image, truth = both.flip(-1) if rng.random() < 0.5 else both
            images.append(image)
            truths.append(truth / 2 + 0.5)
        logits = network(torch.stack(images))
        loss = functional.binary_cross_entropy_with_logits(logits, torch.stack(truths))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return network.eval()


@torch.no_grad()
def answers_of(network: UNet, images: Sequence[Picture], canvas: Canvas) -> list[Colours]:
    """Colours at the images' own sizes."""
    found = []
    for image in images:
        (colours,) = network(canvas.to_model(image)[None]).sigmoid()
        found.append(canvas.from_model(colours, image.shape[:2]))
    return found

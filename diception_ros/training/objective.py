# SPDX-License-Identifier: Apache-2.0
"""Flow matching: the loss that every training and adaptation of this project minimises."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn

from diception_ros.model import Diception
from diception_ros.model.autoencoder import decode_unclamped
from diception_ros.tasks import TASKS, Task
from diception_ros.tasks.decoding import refinement
from diception_ros.training.pictures import PictureError
from diception_ros.training.targets import ordered


@dataclass(frozen=True)
class Encoded:
    """A batch whose images and targets (B, C, h, w) are latents; weights (B, 1, h, w) of the cells
    in the loss; prompts B strings; points (B, 5, 2), labels (B, 5); for errors of pictures also the
    targets and the images as pictures (B, 3, H, W) in [-1, 1] and bases (B,), see targets.Example,
    wherever they were made."""

    images: torch.Tensor
    targets: torch.Tensor
    weights: torch.Tensor
    prompts: tuple[str, ...]
    points: torch.Tensor
    labels: torch.Tensor
    pictures: torch.Tensor | None = None
    bases: torch.Tensor | None = None
    shown: torch.Tensor | None = None


@dataclass(frozen=True)
class Noising:
    """full_noise: share of samples at sigma 1, which is all that one step sees; the others are
    logit-normal (Esser et al. 2024, arXiv 2403.03206, section 3.1). serving_noise: share of samples
    whose noise is the very buffer that serving starts from. dropout: share of samples whose prompt
    is empty and whose points are zero tokens, guidance's unconditional branch.
    """

    full_noise: float = 0.75
    serving_noise: float = 0.5
    dropout: float = 0.0


class Objective(nn.Module):
    """The model inside its loss: one module to wrap for several processes.

    picture: weight of the decoded pictures' errors, of samples at sigma 1; see pictures.py.
    """

    def __init__(
        self,
        model: Diception,
        noising: Noising,
        picture: float = 0.0,
        tasks: Mapping[str, Task] = TASKS,
    ) -> None:
        super().__init__()
        self.model, self.noising, self.picture = model, noising, picture
        self.errors = PictureError(tasks, partial(refinement, model.info.refine))
        device = model.device
        self.serving = model.fixed_noise(*model.info.canvas).to(device)
        self.embeds, self.pooled = model.prompts.embeds.to(device), model.prompts.pooled.to(device)

    def forward(self, batch: Encoded, seed: tuple[int, ...]) -> torch.Tensor:
        """Weighted mean squared error of the velocity noise - target at
        x = (1 - sigma) target + sigma noise, and the pictures' errors if they have a weight, a
        scalar. All randomness comes from the seed.
        """
        targets, count = batch.targets, len(batch.targets)
        noise, sigma, dropped = self._draw(targets, seed)
        share, prompts = sigma[:, None, None, None], batch.prompts
        if self.noising.dropout:
            prompts = ["" if d else p for p, d in zip(prompts, dropped.tolist(), strict=True)]
        rows = self.model.prompts.rows(prompts).to(targets.device)
        points = ordered(batch.points, self.model.info.point_order)
        tokens = self.model.point_tokens(points, batch.labels, count)
        tokens = tokens * ~dropped[:, None, None]
        noisy = (1 - share) * targets + share * noise
        predicted = self.model.velocity(
            noisy, batch.images, sigma * 1000, self.embeds[rows], self.pooled[rows], tokens
        )
        error = (predicted.float() - (noise - targets)).square()
        loss = (batch.weights * error).mean()
        if not self.picture or batch.pictures is None or batch.bases is None or batch.shown is None:
            return loss
        answers = decode_unclamped(self.model.vae, noise - predicted.float())
        pictures = (one.to(answers.device) / 2 + 0.5 for one in (batch.pictures, batch.shown))
        bases = batch.bases.to(answers.device)
        errors = self.errors(answers, *pictures, prompts, bases) * (sigma == 1)
        return loss + self.picture * errors.mean()

    def _draw(
        self, targets: torch.Tensor, seed: tuple[int, ...]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Noise (B, C, h, w), sigma (B,), dropped (B,) bool, drawn on the device."""
        start = int(np.random.SeedSequence(seed).generate_state(1)[0])
        device, count, chances = targets.device, len(targets), self.noising
        generator = torch.Generator(device).manual_seed(start)
        drawn = {"generator": generator, "device": device}
        noise = torch.randn(targets.shape, **drawn)
        served, full, dropped = torch.rand(3, count, **drawn)
        fixed = (served < chances.serving_noise)[:, None, None, None]
        noise = torch.where(fixed, self.serving, noise)
        sigma = torch.sigmoid(torch.randn(count, **drawn))
        sigma = torch.where(full < chances.full_noise, 1.0, sigma)
        return noise, sigma, dropped < chances.dropout

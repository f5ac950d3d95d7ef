# SPDX-License-Identifier: Apache-2.0
"""Trains the embedded bundle's decoder on pictures that the device renders.

The encoder stays as training.autoencoder makes it, so a transformer's latents keep their meaning.
"""

from __future__ import annotations

import argparse
import csv
import math
import time
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch.nn import functional

from diception_ros.model.precision import autocast
from diception_ros.training.autoencoder import AutoencoderRecipe, loss, photographs
from diception_ros.training.data import read_autoencoder
from diception_ros.training.live.batches import LiveBatches
from diception_ros.training.recipe import Recipe, read_recipe

Tensor = torch.Tensor
PHOTOGRAPHS, RECOLOURED = 0.1, 0.15
"""Shares of the pictures."""
CROPS = 2000


def crops(side: int, rng: np.random.Generator) -> Tensor:
    """(CROPS, 3, side, side) uint8 of photographs, mirrored and with changed colours."""
    import cv2

    photos, found = photographs(), []
    for _ in range(CROPS):
        image = photos[rng.integers(len(photos))]
        size = int(rng.uniform(side // 2, min(image.shape[:2])))
        top, left = (int(rng.integers(limit - size + 1)) for limit in image.shape[:2])
        part = cv2.resize(image[top : top + size, left : left + size], (side, side))
        part = part[:, :: int(rng.choice([-1, 1]))] * rng.uniform(0.6, 1.4, 3)
        found.append((np.clip(part[..., rng.permutation(3)], 0, 1) * 255).astype(np.uint8))
    return torch.from_numpy(np.stack(found)).permute(0, 3, 1, 2)


def recoloured(pictures: Tensor, generator: torch.Generator) -> Tensor:
    """Other colours where something is drawn, -1..1: as data sets with random colours have."""
    draw = {"generator": generator, "device": pictures.device}
    mix = torch.rand(len(pictures), 3, 3, **draw)
    mix = mix / mix.sum(-1, keepdim=True)
    turned = (torch.rand(len(pictures), 3, 1, 1, **draw) < 0.5).float()
    shown = torch.einsum("boc,bchw->bohw", mix, pictures / 2 + 0.5)
    lit = (pictures > -0.98).any(1, keepdim=True)
    return torch.where(lit, (turned - shown).abs() * 2 - 1, -1.0)


class Pictures:
    """What the decoder will see: images and targets of the recipe's tasks, and photographs."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.batches = LiveBatches(recipe, device).from_number(0)
        self.photographs = crops(recipe.canvas[0], np.random.default_rng(recipe.seed)).to(device)
        self.generator = torch.Generator(device).manual_seed(recipe.seed)

    def __next__(self) -> Tensor:
        """(B, 3, H, W) in [-1, 1]."""
        batch = next(self.batches)
        targets = batch.targets
        kind = torch.rand(len(targets), 1, 1, 1, generator=self.generator, device=targets.device)
        other = recoloured(targets, self.generator)
        targets = torch.where(kind < RECOLOURED, other, targets)
        count = max(1, round(PHOTOGRAPHS * len(targets)))
        rows = torch.randint(CROPS, (count,), generator=self.generator, device=targets.device)
        photos = self.photographs[rows].float() / 127.5 - 1
        quarter = len(targets) // 4
        shown = torch.cat([batch.images[:: max(len(targets) // quarter, 1)], targets, photos])
        return shown.contiguous(memory_format=torch.channels_last)


def fit(recipe: Recipe, folder: Path, out: Path, seconds: float, device: torch.device) -> None:
    """Trains the decoder of `folder` for that long, writes `out` with a log."""
    model = read_autoencoder(folder).to(device, memory_format=torch.channels_last)
    model.encoder.requires_grad_(False)
    weights = list(model.decoder.parameters())
    optimizer = torch.optim.AdamW(weights, lr=recipe.rate, weight_decay=1e-3, fused=True)
    pictures = Pictures(recipe, device)
    shown = next(pictures)
    out.mkdir(parents=True, exist_ok=True)
    started, step = time.monotonic(), 0
    with (out / "log.csv").open("w", newline="", buffering=1) as file:
        log = csv.writer(file)
        log.writerow(["step", "seconds", "loss", "psnr"])
        while (elapsed := time.monotonic() - started) < seconds:
            warm = min(1.0, (step + 1) / 100)
            rate = recipe.rate * warm * (0.5 + 0.5 * math.cos(math.pi * elapsed / seconds))
            optimizer.param_groups[0]["lr"] = rate
            value, error = learn(model, shown, optimizer, pictures.generator)
            if step % 50 == 0:
                psnr = -10 * math.log10(max(float(error), 1e-9))
                log.writerow([step, f"{elapsed:.0f}", f"{float(value):.4f}", f"{psnr:.2f}"])
            step, shown = step + 1, next(pictures)
    model.float().to("cpu").save_pretrained(out)


def learn(
    model: AutoencoderTiny, shown: Tensor, optimizer: torch.optim.Optimizer, draws: torch.Generator
) -> tuple[Tensor, Tensor]:
    """One step; the loss and the mean squared error in 0..1."""
    with autocast(shown.device):
        latents = model.encode(shown).latents
        spread = torch.rand(len(shown), 1, 1, 1, generator=draws, device=shown.device)
        noise = torch.randn(latents.shape, generator=draws, device=shown.device)
        scale = AutoencoderRecipe.latent_noise / model.config.scaling_factor
        output = model.decode(latents + noise * spread * scale).sample
    value = loss(output.float(), shown)
    optimizer.zero_grad()
    value.backward()
    torch.nn.utils.clip_grad_norm_(model.decoder.parameters(), 1.0)
    optimizer.step()
    with torch.no_grad():
        error = functional.mse_loss(output.float().clamp(-1, 1), shown) / 4
    return value.detach(), error


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True, help="a recipe with 'live'")
    parser.add_argument("--autoencoder", type=Path, required=True, help="what to go on from")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--seconds", type=float, default=90)
    arguments = parser.parse_args()
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        recipe = read_recipe(arguments.config)
        fit(recipe, arguments.autoencoder, arguments.out, arguments.seconds, device)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

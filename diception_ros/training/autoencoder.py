# SPDX-License-Identifier: Apache-2.0
"""Trains the embedded bundle's autoencoder: photographs, renders and the colours of every task."""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import nn
from torch.nn import functional

from diception_ros.model.precision import autocast
from diception_ros.tasks import TASKS
from diception_ros.training.cache import SHARD, load, shards_of, unpack
from diception_ros.training.targets import NAMED, make_example

SIZE = 64
Image = np.ndarray
"""float32 (SIZE, SIZE, 3) RGB in [0, 1] throughout this file. Small crops, because
convolutions do not care and a CPU makes four times the steps."""
CELL, LATENTS = 8, 16
IMAGES = 0.5
"""Weight of images, beside those of the tasks' pictures, in the principal components."""
SHARES = {
    "depth": 0.18,
    "normal": 0.22,
    "entity": 0.28,
    "semantic": 0.06,
    "point": 0.06,
    "pose": 0.2,
}
"""How often which task's pictures are drawn, beside photographs and rendered images."""


@dataclass(frozen=True)
class AutoencoderRecipe:
    """minutes: training time; decoder_channels: feature maps at every level."""

    minutes: float = 16.0
    batch: int = 8
    rate: float = 1e-3
    decoder_channels: int = 48
    latent_noise: float = 0.15
    """Noise on unit-scale latents while training: the decoder must forgive the transformer."""
    frames: int = 2500
    """Rendered frames whose pictures are held in memory, 0.3 MB each."""
    seed: int = 0


def build(recipe: AutoencoderRecipe) -> AutoencoderTiny:
    """LATENTS channels at an eighth of the size, few decoder blocks where the maps are large. The
    encoder has no non-linear block: see `principal_components`.
    """
    model = AutoencoderTiny(
        encoder_block_out_channels=(CELL**2 * 3 // 4,) * 4,
        decoder_block_out_channels=(recipe.decoder_channels,) * 4,
        num_encoder_blocks=(0, 0, 0, 0),
        num_decoder_blocks=(3, 4, 3, 0),
        latent_channels=LATENTS,
    )
    for module in model.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="linear")
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return model


def photographs() -> list[Image]:
    """The colour photographs inside the scikit-image wheel (public domain or CC0)."""
    from skimage import data

    names = ("astronaut", "coffee", "chelsea", "rocket")
    return [getattr(data, name)().astype(np.float32) / 255 for name in names]


def crop(image: Image, rng: np.random.Generator) -> Image:
    """A random crop of random scale, mirrored, with changed colours."""
    height, width = image.shape[:2]
    side = int(rng.uniform(SIZE, min(height, width)))
    top, left = rng.integers(height - side + 1), rng.integers(width - side + 1)
    part = cv2.resize(
        image[top : top + side, left : left + side], (SIZE, SIZE), interpolation=cv2.INTER_AREA
    )
    if rng.random() < 0.5:
        part = part[:, ::-1]
    colour = part * rng.uniform(0.6, 1.4, 3) + rng.uniform(-0.15, 0.15)
    return np.clip(colour[:, :, rng.permutation(3)], 0, 1).astype(np.float32)


def pictures(folder: Path, rng: np.random.Generator, frames: int) -> dict[str, list[Image]]:
    """Rendered frames as the network will see them: {"image": [...], task: [...]} uint8 RGB."""
    found: dict[str, list[Image]] = {name: [] for name in ("image", *SHARES)}
    paths = rng.permutation(shards_of(folder))
    if not len(paths):
        raise ValueError(f"no shards in {folder}: render some with 'diception scenes render'")
    for path in paths[: max(frames // SHARD, 1)]:
        shard = load(path)
        for row in range(len(shard["rgb"])):
            frame = unpack(shard, row)
            found["image"].append(frame.rgb)
            for task in SHARES:
                category = str(rng.choice(NAMED)) if TASKS[task].takes_category else ""
                colours = make_example(frame, task, rng, category).colours
                if task in ("depth", "normal") or colours.any():
                    found[task].append((np.clip(colours, 0, 1) * 255 + 0.5).astype(np.uint8))
    return found


def part(picture: Image, rng: np.random.Generator) -> Image:
    """A crop; of pictures on black, one around something that is drawn."""
    height, width = picture.shape[:2]
    top, left = rng.integers(height - SIZE + 1), rng.integers(width - SIZE + 1)
    drawn = np.flatnonzero(picture.any(-1))
    if len(drawn) < picture.shape[0] * picture.shape[1] // 2 and len(drawn):
        row, column = divmod(int(rng.choice(drawn)), width)
        top = int(np.clip(row - rng.integers(SIZE), 0, height - SIZE))
        left = int(np.clip(column - rng.integers(SIZE), 0, width - SIZE))
    return picture[top : top + SIZE, left : left + SIZE].astype(np.float32) / 255


def recoloured(picture: Image, rng: np.random.Generator) -> Image:
    """Entity colours as other data sets draw them: random ones, black stays black."""
    mixed = picture @ rng.dirichlet(np.ones(3), 3).T.astype(np.float32)
    return np.where(picture.any(-1, keepdims=True), np.abs(rng.integers(0, 2, 3) - mixed), 0)


def sample(
    rng: np.random.Generator, photos: list[Image], renders: Mapping[str, list[Image]]
) -> Image:
    """One training image: a photograph, a rendered one, or a task's picture."""
    kind = rng.random()
    if kind < 0.1:
        return crop(photos[rng.integers(len(photos))], rng)
    if kind < 0.3:
        return part(renders["image"][rng.integers(len(renders["image"]))], rng)
    weights = np.array(list(SHARES.values()))
    task = str(rng.choice(list(SHARES), p=weights / weights.sum()))
    chosen = part(renders[task][rng.integers(len(renders[task]))], rng)
    if task == "entity" and rng.random() < 0.25:
        return recoloured(chosen, rng)
    return chosen[:, ::-1] if rng.random() < 0.5 and task != "normal" else chosen


def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 plus squared error plus the L1 of image gradients, which keeps edges sharp."""
    edges = sum(
        functional.l1_loss(output.diff(dim=axis), target.diff(dim=axis)) for axis in (-1, -2)
    )
    return functional.l1_loss(output, target) + functional.mse_loss(output, target) + 0.5 * edges


@torch.no_grad()
def principal_components(model: AutoencoderTiny, cells: torch.Tensor, shares: torch.Tensor) -> None:
    """Makes the encoder the projection of every 8 x 8 cell onto its first principal components,
    each divided by the fourth root of its deviation.

    cells (N, 192) RGB in [0, 1], channels first; shares (N,): their weights. The squared error of
    such latents is nearly that of the pixels, few of them carry most of it, and they reconstruct
    as well as those of a trained encoder of this size did.
    """
    weights = (shares / shares.sum())[:, None]
    mean = (weights * cells).sum(0)
    values, vectors = torch.linalg.eigh((weights * (cells - mean)).T @ (cells - mean))
    deviations = values.flip(0)[:LATENTS].clamp_min(1e-8).sqrt()
    rows = vectors.flip(1)[:, :LATENTS].T / deviations[:, None] ** 0.25
    rows = rows / (rows @ (cells - mean).T).std(1).max()
    first, *halving, last = model.encoder.layers
    for layer in (first, *halving, last):
        layer.weight.zero_()
    first.bias.zero_()
    first.weight[range(3), range(3), 1, 1] = 1.0
    held = 3
    for layer in halving[:-1]:  # four neighbours side by side: (y, x, channels before)
        for place in range(4):
            new = range(place * held, (place + 1) * held)
            layer.weight[new, range(held), 1 + place // 2, 1 + place % 2] = 1.0
        held *= 4
    # Channel (y1, x1, y0, x0, c) of the cell's quarter (y2, x2) is pixel (4 y2 + 2 y1 + y0, ...).
    fine = rows.reshape(LATENTS, 3, 2, 2, 2, 2, 2, 2)  # c, y2, y1, y0, x2, x1, x0
    taps = fine.permute(0, 3, 6, 4, 7, 1, 2, 5).reshape(LATENTS, held, 2, 2)
    halving[-1].weight[:LATENTS, :held, 1:, 1:] = taps
    last.weight[range(LATENTS), range(LATENTS), 1, 1] = 1.0
    last.bias.copy_(-(rows @ mean))


def cells_of(renders: Mapping[str, list[Image]], each: int) -> tuple[torch.Tensor, torch.Tensor]:
    """8 x 8 cells (N, 192) of up to `each` pictures of every kind, and their weights."""
    found, weights = [], []
    for name, share in {"image": IMAGES, **SHARES}.items():
        shown = torch.from_numpy(np.stack(renders[name][:each])).float().permute(0, 3, 1, 2) / 255
        cells = functional.unfold(shown, CELL, stride=CELL).transpose(1, 2).flatten(0, 1)
        found.append(cells)
        weights.append(torch.full((len(cells),), share / len(cells)))
    return torch.cat(found), torch.cat(weights)


def batch(
    rng: np.random.Generator, size: int, photos: list[Image], renders: Mapping[str, list[Image]]
) -> torch.Tensor:
    images = np.stack([sample(rng, photos, renders) for _ in range(size)]).astype(np.float32)
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


def train(recipe: AutoencoderRecipe, out: Path, cache: Path) -> AutoencoderTiny:
    """Trains for recipe.minutes, saves to `out` every minute and at the end; goes on from what
    `out` holds. cache: a folder of rendered shards.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    photos, renders = photographs(), pictures(cache, rng, recipe.frames)
    if (out / "config.json").is_file():
        model = AutoencoderTiny.from_pretrained(out)
    else:
        model = build(recipe)
        principal_components(model, *cells_of(renders, each=400))
        finish(model, batch(rng, 64, photos, renders))
        model.save_pretrained(out)
    model = model.to(memory_format=torch.channels_last).train()
    model.encoder.requires_grad_(False)
    optimizer = torch.optim.AdamW(model.decoder.parameters(), lr=recipe.rate, weight_decay=1e-3)
    start, saved, step = time.monotonic(), time.monotonic(), 0
    with (out / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        log.writerow(["step", "seconds", "loss", "psnr"])
        while (elapsed := time.monotonic() - start) < recipe.minutes * 60:
            progress = elapsed / (recipe.minutes * 60)
            warm = min(1.0, (step + 1) / 100)
            rate = recipe.rate * warm * (0.5 + 0.5 * np.cos(np.pi * progress))
            for group in optimizer.param_groups:
                group["lr"] = rate
            target = batch(rng, recipe.batch, photos, renders)
            with autocast(target.device):
                latents = model.encode(target).latents
                spread = recipe.latent_noise * float(rng.random()) / model.config.scaling_factor
                noise = torch.randn_like(latents) * spread
                output = model.decode(latents + noise).sample
            value = loss(output.float(), target)
            optimizer.zero_grad()
            value.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            if step % 20 == 0:
                error = functional.mse_loss(output.detach().float().clamp(-1, 1), target) / 4
                psnr = -10 * torch.log10(error).item()
                log.writerow([step, f"{elapsed:.0f}", f"{value.item():.4f}", f"{psnr:.2f}"])
                file.flush()
            if time.monotonic() - saved > 60:
                model.save_pretrained(out)
                saved = time.monotonic()
            step += 1
    model.save_pretrained(out)
    return model


@torch.no_grad()
def finish(model: AutoencoderTiny, images: torch.Tensor) -> None:
    """Writes the latents' measured mean and deviation into the config: on average they are of
    unit scale, as the noise is."""
    latents = model.encode(images).latents
    model.register_to_config(
        shift_factor=float(latents.mean()), scaling_factor=float(1 / latents.std())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=AutoencoderRecipe.minutes)
    parser.add_argument("--cache", type=Path, required=True, help="folder of rendered shards")
    arguments = parser.parse_args()
    try:
        train(AutoencoderRecipe(minutes=arguments.minutes), arguments.out, arguments.cache)
    except (ValueError, OSError) as error:
        parser.error(str(error))


if __name__ == "__main__":
    main()

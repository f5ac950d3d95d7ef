# SPDX-License-Identifier: Apache-2.0
"""Trains the embedded bundle's autoencoder: photographs, renders and the colours of every task."""

from __future__ import annotations

import argparse
import csv
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import cv2
import numpy as np
import torch
from diffusers import AutoencoderTiny
from torch import nn
from torch.nn import functional

from diception_ros.training.cache import SHARD, load, unpack

SIZE = 64
Image = np.ndarray
"""float32 (SIZE, SIZE, 3) RGB in [0, 1] throughout this file. Small crops, because
convolutions do not care and a CPU makes four times the steps."""


@dataclass(frozen=True)
class AutoencoderRecipe:
    """minutes: training time; channels: feature maps of encoder and decoder at every level."""

    minutes: float = 12.0
    batch: int = 16
    rate: float = 7e-4
    encoder_channels: int = 32
    decoder_channels: int = 40
    latent_noise: float = 0.15
    """Noise on unit-scale latents while training: the decoder must forgive the transformer."""
    seed: int = 0


def build(recipe: AutoencoderRecipe) -> AutoencoderTiny:
    """16 latent channels at an eighth of the size, few blocks where the maps are large."""
    model = AutoencoderTiny(
        encoder_block_out_channels=(recipe.encoder_channels,) * 4,
        decoder_block_out_channels=(recipe.decoder_channels,) * 4,
        num_encoder_blocks=(0, 2, 2, 2),
        num_decoder_blocks=(3, 2, 1, 1),
        latent_channels=16,
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


def shapes(rng: np.random.Generator, colour: Callable[[], Image], count: int) -> Image:
    """Flat or shaded polygons, ellipses and boxes over a background, edges antialiased."""
    canvas = np.ascontiguousarray(colour())
    for _ in range(count):
        mask = np.zeros((SIZE, SIZE), np.uint8)
        centre = rng.integers(0, SIZE, 2)
        reach = rng.uniform(3, 40)
        if rng.random() < 0.4:
            axes = [int(v) for v in rng.uniform(2, reach + 2, 2)]
            angle = float(rng.uniform(0, 360))
            cv2.ellipse(mask, [int(v) for v in centre], axes, angle, 0, 360, 255, -1, cv2.LINE_AA)
        else:
            corners = centre + rng.normal(0, reach / 2, (int(rng.integers(3, 7)), 2))
            hull = cv2.convexHull(corners.astype(np.float32)).astype(np.int32)
            cv2.fillPoly(mask, [hull], 255, cv2.LINE_AA)
        alpha = (mask / 255.0)[:, :, None]
        canvas = canvas * (1 - alpha) + colour() * alpha
    return canvas.astype(np.float32)


def flat(rng: np.random.Generator) -> Callable[[], Image]:
    def colour() -> Image:
        base = rng.uniform(0, 1, 3) * (rng.random() > 0.15)
        return np.broadcast_to(base, (SIZE, SIZE, 3)).astype(np.float32)

    return colour


def ramp(rng: np.random.Generator, channels: int) -> Callable[[], Image]:
    """Linear gradients: grey ones look like disparity, coloured ones like curved normals."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32) / SIZE - 0.5

    def colour() -> Image:
        slope = rng.normal(0, 0.3, (2, channels))
        plane = rng.uniform(0, 1, channels) + rows[..., None] * slope[0]
        plane = plane + columns[..., None] * slope[1]
        return np.clip(np.broadcast_to(plane, (SIZE, SIZE, 3)), 0, 1).astype(np.float32)

    return colour


def skeleton(rng: np.random.Generator) -> Image:
    """Coloured lines that end in red disks, on black."""
    canvas = np.zeros((SIZE, SIZE, 3), np.float32)
    for _ in range(int(rng.integers(1, 4))):
        joints = (rng.uniform(0, SIZE, 2) + rng.normal(0, 16, (10, 2))).astype(int).tolist()
        for a, b in pairwise(joints):
            cv2.line(canvas, a, b, rng.uniform(0.2, 1, 3).tolist(), 2, cv2.LINE_AA)
        for joint in joints:
            cv2.circle(canvas, joint, int(rng.integers(2, 4)), (1.0, 0.0, 0.0), -1, cv2.LINE_AA)
    return canvas


def sample(rng: np.random.Generator, photos: list[Image], renders: list[Image]) -> Image:
    """One training image of the mixture."""
    if renders and rng.random() < 0.5:
        return renders[rng.integers(len(renders))].astype(np.float32) / 255
    kind = rng.random()
    if kind < 0.45:
        return crop(photos[rng.integers(len(photos))], rng)
    if kind < 0.6:
        return shapes(rng, flat(rng), int(rng.integers(1, 12)))
    if kind < 0.75:
        return shapes(rng, ramp(rng, 1), int(rng.integers(1, 15)))
    if kind < 0.88:
        return shapes(rng, ramp(rng, 3), int(rng.integers(1, 15)))
    if kind < 0.94:
        white = (np.zeros((SIZE, SIZE, 3), np.float32), np.ones((SIZE, SIZE, 3), np.float32))
        return shapes(rng, lambda: white[int(rng.random() < 0.5)], int(rng.integers(1, 6)))
    return skeleton(rng)


def render_crops(folder: Path, rng: np.random.Generator, frames: int = 1500) -> list[Image]:
    """Crops of rendered frames and of their targets: disparity, normals, instance colours."""
    crops = []
    for path in rng.permutation(sorted(folder.glob("*[0-9].npz")))[: frames // SHARD]:
        shard = load(path)
        for row in range(len(shard["rgb"])):
            frame = unpack(shard, row)
            inverse = np.nan_to_num(1 / frame.depth)
            low, high = inverse.min(), inverse.max()
            colours = rng.uniform(0, 1, (256, 3)) * (np.arange(256) > 0)[:, None]
            pictures = (
                frame.rgb / 255,
                np.repeat(((inverse - low) / (high - low + 1e-6))[..., None], 3, -1),
                np.nan_to_num(0.5 - 0.5 * frame.normals, nan=0.5),
                colours[frame.instances],
            )
            top, left = rng.integers(0, frame.depth.shape[0] - SIZE + 1, 2)
            part = np.s_[top : top + SIZE, left : left + SIZE]
            crops += [np.clip(picture[part] * 255, 0, 255).astype(np.uint8) for picture in pictures]
    return crops


def loss(output: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    """L1 plus squared error plus the L1 of image gradients, which keeps edges sharp."""
    edges = sum(
        functional.l1_loss(output.diff(dim=axis), target.diff(dim=axis)) for axis in (-1, -2)
    )
    return functional.l1_loss(output, target) + functional.mse_loss(output, target) + 0.5 * edges


def unit_scale(latents: torch.Tensor) -> torch.Tensor:
    """Penalty that keeps every channel near zero mean and unit deviation."""
    mean, deviation = latents.mean((0, 2, 3)), latents.std((0, 2, 3))
    return mean.square().mean() + (deviation - 1).square().mean()


def batch(rng: np.random.Generator, size: int, photos: list[Image], renders: list[Image]):
    images = np.stack([sample(rng, photos, renders) for _ in range(size)])
    pixels = torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1
    return pixels.contiguous(memory_format=torch.channels_last)


def train(recipe: AutoencoderRecipe, out: Path, cache: Path | None = None) -> AutoencoderTiny:
    """Trains for recipe.minutes, saves to `out` every minute and at the end; goes on from what
    `out` holds. cache: a folder of rendered shards for half of the mixture.
    """
    torch.manual_seed(recipe.seed)
    rng = np.random.default_rng(recipe.seed)
    old = (out / "config.json").is_file()
    model = AutoencoderTiny.from_pretrained(out) if old else build(recipe)
    model = model.to(memory_format=torch.channels_last).train()
    photos, renders = photographs(), render_crops(cache, rng) if cache else []
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.rate, weight_decay=1e-3)
    out.mkdir(parents=True, exist_ok=True)
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
            with torch.autocast("cpu", torch.bfloat16):
                latents = model.encode(target).latents
                noise = torch.randn_like(latents) * recipe.latent_noise * float(rng.random())
                output = model.decode(latents + noise).sample
            value = loss(output.float(), target) + 0.02 * unit_scale(latents.float())
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
    finish(model, batch(rng, 64, photos, renders))
    model.save_pretrained(out)
    return model


@torch.no_grad()
def finish(model: AutoencoderTiny, images: torch.Tensor) -> None:
    """Writes the latents' measured mean and deviation into the config."""
    latents = model.encode(images).latents
    model.register_to_config(
        shift_factor=float(latents.mean()), scaling_factor=float(1 / latents.std())
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--minutes", type=float, default=AutoencoderRecipe.minutes)
    parser.add_argument("--cache", type=Path, help="folder of rendered shards")
    arguments = parser.parse_args()
    train(AutoencoderRecipe(minutes=arguments.minutes), arguments.out, arguments.cache)


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""Trains a model from scratch on rendered scenes: flow matching on latents, every task at once."""

from __future__ import annotations

import argparse
import csv
import logging
import time
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from diception_ros.model import BundleInfo, Diception
from diception_ros.tasks import TASKS
from diception_ros.training.data import Batches, Encoded, load_ahead, load_autoencoder
from diception_ros.training.network import build
from diception_ros.training.targets import COPY

LOG = logging.getLogger(__name__)
SAVE_SECONDS, LOG_STEPS = 120.0, 20


@dataclass(frozen=True)
class Recipe:
    """config/train.yaml says what each field means."""

    autoencoder: Path
    cache: Path
    out: Path
    minutes: float = 50.0
    copy_minutes: float = 1.5
    batch: int = 16
    rate: float = 1e-3
    warmup_steps: int = 200
    decay_from: float = 0.65
    ema: float = 0.999
    full_noise: float = 0.75
    serving_noise: float = 0.5
    threads: int = 2
    workers: int = 0
    seed: int = 0
    canvas: int = 128
    shares: Mapping[str, float] = field(default_factory=lambda: {"depth": 0.5, "normal": 0.5})
    early_minutes: float = 0.0
    early_shares: Mapping[str, float] = field(default_factory=dict)
    late_minutes: float = 0.0
    late_shares: Mapping[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        unknown = sorted({*self.shares, *self.early_shares, *self.late_shares} - {*TASKS, COPY})
        if unknown:
            raise ValueError(f"shares: unknown task '{unknown[0]}', expected {', '.join(TASKS)}")
        if not 0 <= self.copy_minutes < self.minutes:
            raise ValueError(
                f"copy_minutes must lie in 0..minutes ({self.minutes}), got {self.copy_minutes}"
            )


def read_recipe(path: Path, **changes: Any) -> Recipe:
    """A recipe from YAML; changes that are not None win. ValueError names unknown keys."""
    values = yaml.safe_load(path.read_text())
    values.update({name: value for name, value in changes.items() if value is not None})
    unknown = sorted(set(values) - {entry.name for entry in fields(Recipe)})
    if unknown:
        raise ValueError(f"{path}: unknown setting '{unknown[0]}'")
    for name in ("autoencoder", "cache", "out"):
        values[name] = Path(values[name])
    return Recipe(**values)


class Trainer:
    """Model, its running mean, optimizer and clock; everything that a checkpoint holds."""

    def __init__(self, recipe: Recipe) -> None:
        torch.set_num_threads(recipe.threads)
        vae = load_autoencoder(recipe.autoencoder)
        info = BundleInfo(name="embedded", canvas=(recipe.canvas, recipe.canvas))
        self.recipe = recipe
        self.model = build(vae, info, recipe.seed)
        self.weights = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.mean = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self.optimizer = torch.optim.AdamW(
            self.weights.values(), lr=recipe.rate, betas=(0.9, 0.95), weight_decay=0.01, fused=True
        )
        self.noise = self.model.fixed_noise(recipe.canvas, recipe.canvas)
        self.step, self.seconds = 0, 0.0

    def rate(self) -> float:
        """Warm-up by steps, then constant, then a cosine down to 2% by the clock."""
        recipe = self.recipe
        warm = min(1.0, (self.step + 1) / recipe.warmup_steps)
        done = min(self.seconds / (60 * recipe.minutes), 1.0)
        late = max(done - recipe.decay_from, 0) / (1 - recipe.decay_from)
        return recipe.rate * warm * (0.02 + 0.98 * (0.5 + 0.5 * float(np.cos(np.pi * late))))

    def train_step(self, batch: Encoded) -> float:
        for group in self.optimizer.param_groups:
            group["lr"] = self.rate()
        generator = torch.Generator().manual_seed(self.recipe.seed * 1_000_003 + self.step)
        value = objective(self.model, batch, self.noise, self.recipe, generator)
        self.optimizer.zero_grad(set_to_none=True)
        value.backward()
        torch.nn.utils.clip_grad_norm_(self.weights.values(), 1.0)
        self.optimizer.step()
        self.step += 1
        keep = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        with torch.no_grad():
            mean, weights = list(self.mean.values()), list(self.weights.values())
            torch._foreach_lerp_(mean, weights, 1 - keep)
        return float(value.detach())

    def save(self, path: Path) -> None:
        """A checkpoint, written whole or not at all."""
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_suffix(".part")
        state = {
            "weights": {name: weight.detach() for name, weight in self.weights.items()},
            "mean": self.mean,
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
        }
        torch.save(state, part)
        part.rename(path)

    def resume(self, path: Path) -> None:
        state = torch.load(path, weights_only=True)
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(state["weights"][name])
                self.mean[name].copy_(state["mean"][name])
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]


def objective(
    model: Diception,
    batch: Encoded,
    serving: torch.Tensor,
    recipe: Recipe,
    generator: torch.Generator,
) -> torch.Tensor:
    """Mean squared error of the velocity noise - target at x = (1 - sigma) target + sigma noise."""
    count, images, targets = len(batch.images), batch.images, batch.targets
    noise = torch.randn(targets.shape, generator=generator)
    served = torch.rand(count, generator=generator) < recipe.serving_noise
    noise = torch.where(served[:, None, None, None], serving, noise)
    sigma = torch.sigmoid(torch.randn(count, generator=generator))
    sigma = torch.where(torch.rand(count, generator=generator) < recipe.full_noise, 1.0, sigma)
    share = sigma[:, None, None, None]
    embeds, pooled = model.prompts.lookup(batch.prompts)
    with torch.autocast("cpu", torch.bfloat16):
        tokens = model.point_tokens(batch.points, batch.labels, count)
        noisy = (1 - share) * targets + share * noise
        predicted = model.velocity(noisy, images, sigma * 1000, embeds, pooled, tokens)
    return (predicted.float() - (noise - targets)).square().mean()


def train(recipe: Recipe) -> Trainer:
    """Trains until the recipe's minutes are over; resumes from out/last.pt if there is one."""
    trainer, checkpoint = Trainer(recipe), recipe.out / "last.pt"
    if checkpoint.is_file():
        trainer.resume(checkpoint)
    recipe.out.mkdir(parents=True, exist_ok=True)
    run(trainer, {COPY: 1.0}, recipe.copy_minutes)
    if recipe.early_shares:
        run(trainer, recipe.early_shares, recipe.early_minutes)
    if recipe.late_shares:
        run(trainer, recipe.shares, recipe.minutes - recipe.late_minutes)
        run(trainer, recipe.late_shares, recipe.minutes)
    else:
        run(trainer, recipe.shares, recipe.minutes)
    trainer.save(checkpoint)
    return trainer


def run(trainer: Trainer, shares: Mapping[str, float], until_minutes: float) -> None:
    """Steps on tasks of these shares until the trainer's own clock reads until_minutes."""
    if trainer.seconds >= 60 * until_minutes:
        return
    recipe, losses = trainer.recipe, []
    seed = (recipe.seed, trainer.step)
    source = Batches(recipe.cache, recipe.autoencoder, recipe.batch, shares, seed)
    batches = load_ahead(source, recipe.workers)
    batch, saved = next(batches), time.monotonic()
    with (recipe.out / "log.csv").open("a", newline="") as file:
        log = csv.writer(file)
        while trainer.seconds < 60 * until_minutes:
            begun = time.monotonic()
            losses.append(trainer.train_step(batch))
            if trainer.step % LOG_STEPS == 0:
                row = (trainer.step, trainer.seconds, float(np.mean(losses)), trainer.rate())
                log.writerow([f"{value:.5g}" for value in row])
                file.flush()
                LOG.info("step %d, %.0f s, loss %.4f, rate %.1e", *row)
                losses.clear()
            batch = next(batches)
            trainer.seconds += time.monotonic() - begun
            if begun - saved > SAVE_SECONDS:
                trainer.save(recipe.out / "last.pt")
                saved = begun


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--minutes", type=float)
    parser.add_argument("--autoencoder", type=Path)
    parser.add_argument("--cache", type=Path)
    parser.add_argument("--out", type=Path)
    changes = vars(parser.parse_args())
    train(read_recipe(changes.pop("config"), **changes))


if __name__ == "__main__":
    main()

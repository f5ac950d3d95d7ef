# SPDX-License-Identifier: Apache-2.0
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from diception_ros.model import EMBEDDED_BUNDLE
from diception_ros.training import cache
from diception_ros.training.data import Batch
from diception_ros.training.recipe import Phase, Recipe, Size
from diception_ros.training.scenes import make_frame
from diception_ros.training.train import Trainer, train

SIZE = 32
VAE = EMBEDDED_BUNDLE / "vae"
TASKS = ("depth", "normal", "entity", "semantic", "point", "pose")


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with one small shard."""
    folder = tmp_path_factory.mktemp("scenes")
    frames = [make_frame(seed, SIZE, SIZE) for seed in range(12)]
    np.savez(folder / "000000000.npz", **cache.pack(frames))
    return folder


@pytest.fixture
def recipe(scenes: Path, tmp_path: Path) -> Callable[..., Recipe]:
    """A tiny network around the embedded autoencoder, two phases of six steps."""

    def make(**changes: Any) -> Recipe:
        settings = {
            "out": tmp_path / "out",
            "sources": {scenes: 1.0},
            "phases": (Phase(6, {"copy": 1.0}), Phase(12, dict.fromkeys(TASKS, 1.0))),
            "autoencoder": VAE,
            "network": Size(width=128, heads=2, layers=2),
            "canvas": (SIZE, SIZE),
            "batch": 2,
            "warmup_steps": 2,
            "decay_steps": 4,
            "log_every": 1,
            "save_every": 4,
            "threads": 1,
            "workers": 0,
        }
        return Recipe(**{**settings, **changes})

    return make


@pytest.fixture
def train_until(monkeypatch: pytest.MonkeyPatch) -> Callable[[Recipe, int], None]:
    """Trains a recipe and is killed after so many steps."""

    def killed(recipe: Recipe, last: int) -> None:
        step = Trainer.train_step

        def heeded(trainer: Trainer, batches: Iterator[Batch]) -> torch.Tensor:
            if trainer.step == last:
                raise KeyboardInterrupt
            return step(trainer, batches)

        with monkeypatch.context() as patched:
            patched.setattr(Trainer, "train_step", heeded)
            with pytest.raises(KeyboardInterrupt):
                train(recipe)

    return killed

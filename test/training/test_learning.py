# SPDX-License-Identifier: Apache-2.0
"""A minute of training that must show: the loss falls, the answers get better and come from the
image. The control is the same run with a rate of zero."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from diception_ros.training import cache
from diception_ros.training.evaluate import evaluate
from diception_ros.training.recipe import Phase, Recipe, Size
from diception_ros.training.scenes import Frame, plain_frame
from diception_ros.training.train import train

SIZE, FRAMES, UNSEEN = 64, 256, 48
COPYING, STEPS = 120, 600


@pytest.fixture(scope="module")
def rooms(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[Frame], list[Frame]]:
    """Shards to learn from, their first frames, and frames of other seeds."""
    folder = tmp_path_factory.mktemp("rooms")
    frames = [plain_frame(seed, SIZE, SIZE) for seed in range(FRAMES)]
    np.savez(folder / "000000000.npz", **cache.pack(frames))
    unseen = [plain_frame(seed, SIZE, SIZE) for seed in range(FRAMES, FRAMES + UNSEEN)]
    return folder, frames[:128], unseen


def test_loss_falls_and_metrics_rise(
    rooms: tuple[Path, list[Frame], list[Frame]], recipe: Callable[..., Recipe], tmp_path: Path
) -> None:
    folder, seen, unseen = rooms
    phases = (Phase(COPYING, {"copy": 1.0}), Phase(STEPS, {"normal": 1.0}))
    settings = {
        "sources": {folder: 1.0},
        "phases": phases,
        "network": Size(width=128, heads=2, layers=3),
        "canvas": (SIZE, SIZE),
        "batch": 16,
        "warmup_steps": 50,
        "decay_steps": 200,
        "ema": 0.98,
        "log_every": 10,
        "save_every": 1000,
        "remember": 100_000,
        "workers": 1,
    }
    control = train(
        recipe(out=tmp_path / "control", rate=0.0, **{**settings, "phases": phases[:1]})
    )
    trained = train(recipe(out=tmp_path / "trained", **settings))
    with (tmp_path / "trained" / "log.csv").open() as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    start, end = COPYING // 10, len(losses)
    assert np.mean(losses[start - 3 : start]) < 0.7 * np.mean(losses[:3])
    assert np.mean(losses[end - 5 : end]) < 0.8 * np.mean(losses[start : start + 3])
    with control.averaged() as model:
        nothing = evaluate(model, unseen, seen)["normal"]["network"]
    with trained.averaged() as model:
        rows = evaluate(model, unseen, seen)["normal"]
    assert rows["network"]["mean_deg"] < nothing["mean_deg"] - 20
    assert rows["network"]["mean_deg"] < rows["exchanged"]["mean_deg"] - 5

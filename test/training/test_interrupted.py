# SPDX-License-Identifier: Apache-2.0
"""What a kill, a power cut and a full disk leave of a training, and what it makes of that."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import pytest

from diception_ros.training.progress import log_from
from diception_ros.training.recipe import Phase, Recipe
from diception_ros.training.train import train

from .test_train import losses

MakeRecipe = Callable[..., Recipe]


def test_a_resumed_training_has_one_row_for_every_validation_and_step(
    recipe: MakeRecipe, scenes: Path, train_until: Callable[[Recipe, int], None]
) -> None:
    """It is killed after the fourth step and goes on from the third; what a power cut may leave at
    the end of a log is no row."""
    checked = {"validation": scenes, "validate_every": 2, "save_every": 3}
    made = recipe(phases=(Phase(6, {"depth": 1.0}),), **checked)
    train_until(made, 4)
    for rest in ("1", "\n\0\0"):
        with (made.out / "log.csv").open("a") as file:
            file.write(rest)
    train(made)
    assert [number for number, _ in losses(made.out)] == [1, 2, 3, 4, 5, 6]
    folder = made.out / "validation"
    with (folder / "metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [row["step"] for row in rows] == ["2", "4", "6"]
    assert all(0 <= float(row["depth delta1"]) <= 1 for row in rows)
    assert sorted(path.name for path in folder.glob("*.png")) == [
        f"{number:07d}.png" for number in (2, 4, 6)
    ]


def test_a_full_disk_is_told_and_leaves_the_last_checkpoint(recipe: MakeRecipe) -> None:
    trainer = train(recipe())
    before = (recipe().out / "last.pt").read_bytes()
    (recipe().out / "last.part").symlink_to("/dev/full")
    with pytest.raises(OSError, match=r"last\.pt cannot be written, is the disk full\?"):
        trainer.save()
    assert not (recipe().out / "last.part").is_symlink()
    assert (recipe().out / "last.pt").read_bytes() == before


def test_a_checkpoint_of_which_a_part_is_missing_is_refused(recipe: MakeRecipe) -> None:
    train(recipe())
    path = recipe().out / "last.pt"
    path.write_bytes(path.read_bytes()[:-1000])
    with pytest.raises(ValueError, match=r"last\.pt is damaged, remove it to begin anew"):
        train(recipe())


def test_rows_of_other_columns_are_kept_aside(tmp_path: Path) -> None:
    """As when a training goes on with a validation of other tasks."""
    path = tmp_path / "metrics.csv"
    for step, columns in ((1, ("step", "a")), (2, ("step", "a", "b")), (3, ("step", "a", "b"))):
        with log_from(path, step, columns) as log:
            log.writerow([step, *columns[1:]])
    assert path.read_text().split() == ["step,a,b", "2,a,b", "3,a,b"]
    assert (tmp_path / "metrics.before.csv").read_text().split() == ["step,a", "1,a"]

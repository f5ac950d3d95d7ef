# SPDX-License-Identifier: Apache-2.0
"""A training checkpoint as a bundle, with a card that says what it is and what was measured."""

from __future__ import annotations

import argparse
import json
import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from diception_ros.model import BundleInfo, save_bundle
from diception_ros.tasks import TASKS
from diception_ros.training.evaluate import Rows
from diception_ros.training.targets import NAMED
from diception_ros.training.train import Recipe, Trainer, read_recipe

LOG = logging.getLogger(__name__)
STORY = """\
Trained from random weights on a CPU, so that the node works without a download. No third-party \
weights or data sets: rendered rooms and outdoor scenes of this project's own ray caster, with \
exact depth, normals, instances, categories and keypoints; photographs of the scikit-image package \
serve as textures.
{steps} steps of batch {batch} on one core of a CPU ({minutes:.0f} minutes), flow matching on \
{canvas}x{canvas} images, {parameters:.1f} million parameters. {phases}
Entity colours are not random here: red grows with the column, green with the row, blue with the \
size of the instance, since one step would answer the mean of random colours. Decoding needs no \
palette all the same. Semantic masks are white on black. Prompts are fixed random vectors, no text \
is understood; categories in the bank: {categories}. Meant for one step without guidance.
{limits}
"""


@dataclass(frozen=True)
class Notes:
    """What only a person can say. phases: what was learned when; limits: what it cannot do."""

    phases: str = ""
    limits: str = ""


def card(
    recipe: Recipe, trainer: Trainer, notes: Notes, table: dict[str, Rows] | None = None
) -> BundleInfo:
    """What bundle.yaml holds; figures rounded to three digits."""
    rounded: dict[str, Any] = {}
    for task, rows in (table or {}).items():
        rounded[task] = {
            name: {key: round(value, 3) for key, value in scores.items()}
            for name, scores in rows.items()
        }
    return BundleInfo(
        name="embedded",
        canvas=(recipe.canvas, recipe.canvas),
        defaults={task: {"steps": 1, "guidance": 1.0} for task in TASKS},
        licence="Apache-2.0",
        source="trained from random weights by diception_ros.training on its own renderings",
        training=STORY.format(
            steps=trainer.step,
            batch=recipe.batch,
            minutes=trainer.seconds / 60,
            canvas=recipe.canvas,
            parameters=sum(weight.numel() for weight in trainer.weights.values()) / 1e6,
            categories=", ".join(NAMED),
            phases=notes.phases,
            limits=notes.limits,
        ),
        metrics={"rendered scenes never seen": rounded} if rounded else {},
    )


def export(
    checkpoint: Path,
    recipe: Recipe,
    out: Path,
    notes: Notes,
    table: dict[str, Rows] | None = None,
) -> BundleInfo:
    """Writes the running mean of a checkpoint as a bundle in half precision."""
    trainer = Trainer(recipe)
    trainer.resume(checkpoint)
    with torch.no_grad():
        for name, weight in trainer.weights.items():
            weight.copy_(trainer.mean[name])
    trainer.model.info = card(recipe, trainer, notes, table)
    save_bundle(trainer.model, out, torch.float16)
    return trainer.model.info


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--autoencoder", type=Path)
    parser.add_argument("--checkpoint", type=Path, help="default: last.pt of the recipe's out")
    parser.add_argument("--metrics", type=Path, help="metrics.json of the evaluation")
    parser.add_argument("--notes", type=Path, help="YAML: phases, limits; for the card")
    parser.add_argument("--out", type=Path, required=True, help="folder of the bundle")
    arguments = parser.parse_args()
    recipe = replace(read_recipe(arguments.config, autoencoder=arguments.autoencoder), threads=1)
    table = json.loads(arguments.metrics.read_text()) if arguments.metrics else None
    notes = Notes(**yaml.safe_load(arguments.notes.read_text())) if arguments.notes else Notes()
    checkpoint = arguments.checkpoint or recipe.out / "last.pt"
    info = export(checkpoint, recipe, arguments.out, notes, table)
    LOG.info("%s\n%s", arguments.out, info.training)


if __name__ == "__main__":
    main()

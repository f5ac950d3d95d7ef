# SPDX-License-Identifier: Apache-2.0
"""A training checkpoint as a bundle, with a card that says what it is and what was measured."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import yaml

from diception_ros.model import BundleInfo, Diception, save_bundle
from diception_ros.tasks import TASKS
from diception_ros.training.checkpoint import CHECKPOINT
from diception_ros.training.recipe import Recipe
from diception_ros.training.targets import NAMED
from diception_ros.training.train import Trainer, first_model

STORY = """\
Trained from random weights, so that the node works without a download. No third-party weights or \
data sets: rendered rooms and outdoor scenes of this project's own ray caster, with exact depth, \
normals, instances, categories and keypoints; photographs of the scikit-image package serve as \
textures.
{steps} steps of batch {batch} in {minutes:.0f} minutes ({hardware}), flow matching on \
{height}x{width} images, {parameters:.1f} million parameters. {phases}
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
    recipe: Recipe,
    trainer: Trainer,
    made: dict[str, Any],
    notes: Notes,
    metrics: dict[str, Any],
) -> BundleInfo:
    """What bundle.yaml holds: a new network's whole story, or the bundle's own, continued. made:
    how it was trained, see Trainer.made."""
    facts = {
        **made,
        "steps": trainer.step,
        "minutes": trainer.seconds / 60,
        "height": recipe.canvas[0],
        "width": recipe.canvas[1],
        "parameters": sum(weight.numel() for weight in trainer.weights.values()) / 1e6,
        "categories": ", ".join(NAMED),
        "phases": notes.phases,
        "limits": notes.limits,
    }
    if recipe.init is not None:
        more = (
            "{steps} further steps of batch {batch}, {minutes:.0f} minutes ({hardware}). {phases}"
        )
        story = f"{trainer.model.info.training}\n{more.format(**facts)}"
        return replace(trainer.model.info, training=story, metrics=metrics)
    return BundleInfo(
        name="embedded",
        canvas=recipe.canvas,
        prompts="random",
        defaults={task: {"steps": 1, "guidance": 1.0} for task in TASKS},
        licence="Apache-2.0",
        source="trained from random weights by diception_ros.training on its own renderings",
        training=STORY.format(**facts),
        metrics=metrics,
    )


def export(
    recipe: Recipe,
    out: Path,
    notes: Notes | None = None,
    metrics: dict[str, Any] | None = None,
    blend: float = 1.0,
) -> BundleInfo:
    """Writes the running mean of recipe.out's checkpoint as a bundle in half precision. blend: see
    `blended`. ValueError if there is no checkpoint."""
    checkpoint = recipe.out / CHECKPOINT
    if not checkpoint.is_file():
        raise ValueError(f"no checkpoint {checkpoint}: train it with 'diception train' first")
    trainer = Trainer(recipe)
    made = trainer.resume(checkpoint)
    with trainer.averaged() as model:
        if blend != 1:
            blended(model, recipe, blend)
        info = card(recipe, trainer, made, notes or Notes(), metrics or {})
        told = (
            f"{info.training}\n{blend:.0%} of the weights are of these steps, the rest of before."
        )
        model.info = info if blend == 1 else replace(info, training=told)
        save_bundle(model, out)
    return model.info


@torch.no_grad()
def blended(model: Diception, recipe: Recipe, share: float) -> None:
    """Weights of which `share` is the training's and the rest the bundle's that it began with. They
    often do better than either, since each strayed elsewhere (Wortsman et al. 2022, arXiv
    2109.01903). ValueError for a share outside 0..1 and without such a bundle."""
    if not 0 <= share <= 1:
        raise ValueError(f"blend must lie in 0..1, got {share:g}")
    if recipe.init is None:
        raise ValueError("blend needs a recipe with 'init': this one began with random weights")
    start = first_model(recipe)
    for part in ("transformer", "point_embedder"):  # all that a training changes
        before = getattr(start, part).state_dict()
        for name, weight in getattr(model, part).named_parameters():
            weight.lerp_(before[name].to(weight), 1 - share)


def export_files(
    recipe: Recipe,
    out: Path,
    metrics: Path | None = None,
    notes: Path | None = None,
    blend: float = 1.0,
) -> BundleInfo:
    """`export` with its words and figures from files. ValueError for files that say others."""
    said = Notes(**entries(notes, yaml.safe_load, "phases", "limits")) if notes else Notes()
    found = entries(metrics, json.loads) if metrics else {"tables": {}}
    if "tables" not in found:
        raise ValueError(f"{metrics}: expected the evaluation's metrics.json, found no 'tables'")
    return export(recipe, out, said, rounded(found["tables"]), blend)


def entries(path: Path, parse: Callable[[str], Any], *known: str) -> dict[str, Any]:
    """ValueError for a file without entries, or, if some are known, with others."""
    try:
        found = parse(path.read_text())
    except (ValueError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read: {error}") from error
    if not isinstance(found, dict) or (known and not set(found) <= set(known)):
        wanted = ", ".join(known) or "by name"
        raise ValueError(f"{path}: expected entries {wanted}, found {str(found)[:80]}")
    return found


def rounded(table: Any) -> Any:
    """Figures of nested tables to three digits."""
    if isinstance(table, dict):
        return {name: rounded(value) for name, value in table.items()}
    return round(table, 3) if isinstance(table, float) else table

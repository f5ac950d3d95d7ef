# SPDX-License-Identifier: Apache-2.0
"""How training is going, on scenes it never sees: a picture and a row of figures."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import cv2

from diception_ros.model import Diception
from diception_ros.training.data import Pool
from diception_ros.training.evaluate import network_scores, sheet
from diception_ros.training.progress import log_from
from diception_ros.training.recipe import Recipe
from diception_ros.training.scenes import Frame

LOG = logging.getLogger(__name__)
SCENES = 48


@dataclass(frozen=True)
class Validation:
    """Writes <folder>/<step>.png and a row of <folder>/metrics.csv."""

    folder: Path
    pool: Pool
    frames: list[Frame]

    @classmethod
    def open(cls, recipe: Recipe) -> Validation | None:
        if not recipe.validate_every or recipe.validation is None:
            return None
        pool = Pool(recipe.validation, most=2)
        if not pool.frames:
            raise ValueError(
                f"no shards in {recipe.validation}: render some with 'diception scenes render'"
            )
        frames = [pool.frame(place) for place in pool.frames[:SCENES]]
        (recipe.out / "validation").mkdir(parents=True, exist_ok=True)
        return cls(recipe.out / "validation", pool, frames)

    def run(self, model: Diception, step: int) -> dict[str, float]:
        """The metrics of one step without guidance, by name."""
        picture = cv2.cvtColor(sheet(model, self.pool), cv2.COLOR_RGB2BGR)
        cv2.imwrite(str(self.folder / f"{step:07d}.png"), picture)
        found = network_scores(model, self.frames)
        with log_from(self.folder / "metrics.csv", step - 1, ("step", *found)) as log:
            log.writerow([step, *(f"{value:.4f}" for value in found.values())])
        LOG.info("step %d: %s", step, "  ".join(f"{k} {v:.3f}" for k, v in found.items()))
        return found

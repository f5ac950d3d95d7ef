# SPDX-License-Identifier: Apache-2.0
"""Cracks in a floor: branching, jagged lines of varying width in the floor's own metres."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

Rng = np.random.Generator
Float = npt.NDArray[np.float64]
JAGGED = 0.17
"""Standard deviation of a midpoint's offset, per length of its line."""


@dataclass(frozen=True)
class Crack:
    """Segments from `start` to `end` (S, 2) in metres, half as wide as `halves` (S, 2) there."""

    start: Float
    end: Float
    halves: Float

    def covers(self, points: Float) -> npt.NDArray[np.bool_]:
        """Which of the floor's points (N, 2) lie in the crack, (N,)."""
        along = self.end - self.start
        offset = points[:, None] - self.start
        share = (offset * along).sum(-1) / np.maximum((along**2).sum(-1), 1e-12)
        share = np.clip(share, 0, 1)
        distance = np.linalg.norm(offset - share[..., None] * along, axis=-1)
        half = self.halves[:, 0] * (1 - share) + self.halves[:, 1] * share
        return np.asarray((distance < half).any(-1))


def sample_crack(start: Float, end: Float, width: float, rng: Rng) -> Crack:
    """A crack between two places (2,) of the floor, about `width` metres wide in its middle, with
    branches.
    """
    line = jagged(start, end, 5, rng)
    middle = np.sin(np.linspace(0.25, np.pi - 0.25, len(line)))
    lines = [(line, width / 2 * middle * rng.uniform(0.75, 1.25, len(line)))]
    for _ in range(int(rng.integers(1, 4))):
        at = int(rng.integers(len(line) // 5, len(line) * 4 // 5))
        turn = rng.choice([-1, 1]) * rng.uniform(0.5, 1.2)
        c, s = np.cos(turn), np.sin(turn)
        away = np.array([[c, -s], [s, c]]) @ (end - start) * rng.uniform(0.2, 0.45)
        branch = jagged(line[at], line[at] + away, 3, rng)
        lines.append((branch, width / 2 * np.linspace(0.7, 0.25, len(branch))))
    return Crack(
        np.concatenate([points[:-1] for points, _ in lines]),
        np.concatenate([points[1:] for points, _ in lines]),
        np.concatenate([np.stack([half[:-1], half[1:]], axis=1) for _, half in lines]),
    )


def jagged(start: Float, end: Float, levels: int, rng: Rng) -> Float:
    """A broken line (2**levels + 1, 2): midpoints displaced sideways (Fournier et al. 1982)."""
    points = np.stack([start, end])
    for _ in range(levels):
        along = points[1:] - points[:-1]
        sideways = along[:, ::-1] * [-1, 1] * rng.normal(0, JAGGED, (len(along), 1))
        middle = points[:-1] + along / 2 + sideways
        points = np.concatenate([np.stack([points[:-1], middle], 1).reshape(-1, 2), points[-1:]])
    return points

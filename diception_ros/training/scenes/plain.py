# SPDX-License-Identifier: Apache-2.0
"""Bare rooms with a few solids, to begin with: a network learns from these what shading means far
sooner than from furnished ones."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diception_ros.training.scenes.shapes import BOX
from diception_ros.training.scenes.solids import (
    CHECKER,
    FLAT,
    NOISE,
    STRIPES,
    Light,
    Material,
    Solid,
    random_material,
    yaw,
)
from diception_ros.training.scenes.world import World

Rng = np.random.Generator
PATTERNS, CHANCES = (FLAT, CHECKER, STRIPES, NOISE), (0.7, 0.1, 0.1, 0.1)


def plain_world(seed: int) -> World:
    """A room of coloured walls, two to seven boxes, ellipsoids and cylinders on its floor, and one
    lamp. No photographs, no people, no categories."""
    rng = np.random.default_rng([seed, 4])
    extent = np.array([*rng.uniform(1.5, 3.5, 2), rng.uniform(1.15, 1.5)])
    solids = [lone_solid(rng, extent, number + 1) for number in range(int(rng.integers(2, 8)))]
    lamp = rng.uniform(-0.6, 0.6, 3) * extent
    lamp[2] = 2 * extent[2] * rng.uniform(0.75, 0.97)
    return World(
        tuple(solids),
        Solid(BOX, np.array([0, 0, extent[2]]), extent, surface(rng, muted=True)),
        tuple(surface(rng, muted=True) for _ in range(6)),
        (Light(lamp, np.full(3, rng.uniform(0.7, 1.4) * float(extent[:2].mean()) ** 1.4)),),
        np.full(3, rng.uniform(0.2, 0.4)),
        (np.zeros(3), np.zeros(3)),
        (),
        extent,
    )


def lone_solid(rng: Rng, extent: np.ndarray, instance: int) -> Solid:
    """Somewhere on the floor, turned about the vertical."""
    half = rng.uniform(0.12, 0.6, 3)
    at = np.array([*rng.uniform(-0.85, 0.85, 2) * extent[:2], half[2]])
    turn = yaw(rng.uniform(0, 2 * np.pi))
    return Solid(int(rng.integers(3)), at, half, surface(rng, muted=False), turn, instance)


def surface(rng: Rng, *, muted: bool) -> Material:
    pattern = int(rng.choice(PATTERNS, p=CHANCES))
    return replace(random_material(rng, muted=muted), pattern=pattern, gloss=0.0)

# SPDX-License-Identifier: Apache-2.0
"""Solids with a pose, a material and an owner; a world is a list of them and lights."""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace

import numpy as np

FLAT, CHECKER, STRIPES, NOISE, PHOTO = range(5)


@dataclass(frozen=True)
class Material:
    """Two colours (linear RGB, 0..1) mixed by a pattern of `size` metres; gloss 0..1."""

    colour: tuple[float, float, float]
    second: tuple[float, float, float]
    pattern: int = FLAT
    size: float = 0.3
    photo: int = 0
    gloss: float = 0.0


@dataclass(frozen=True)
class Solid:
    """kind: BOX, ELLIPSOID or CYLINDER. centre (x, y, z) and half extents in metres, world z up.
    rotation: (3, 3), local to world. instance: 0 for floor, walls and sky; category: index into
    CATEGORIES, 0 for none.
    """

    kind: int
    centre: np.ndarray
    half: np.ndarray
    material: Material
    rotation: np.ndarray = field(default_factory=lambda: np.eye(3))
    instance: int = 0
    category: int = 0


@dataclass(frozen=True)
class Light:
    """A point light at `position` in metres; `colour` is its strength per channel."""

    position: np.ndarray
    colour: np.ndarray


def yaw(angle: float) -> np.ndarray:
    c, s = math.cos(angle), math.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1.0]])


def towards(direction: np.ndarray) -> np.ndarray:
    """A rotation whose z axis is `direction`."""
    z = direction / np.linalg.norm(direction)
    helper = np.array([1.0, 0, 0]) if abs(z[0]) < 0.9 else np.array([0, 1.0, 0])
    x = np.cross(helper, z)
    x /= np.linalg.norm(x)
    return np.stack([x, np.cross(z, x), z], axis=1)


def limb(kind: int, a: np.ndarray, b: np.ndarray, radius: float, material: Material) -> Solid:
    """A solid along the segment a-b."""
    half = np.array([radius, radius, np.linalg.norm(b - a) / 2 + radius * 0.5])
    return Solid(kind, (a + b) / 2, half, material, towards(b - a))


def placed(
    solids: list[Solid], at: np.ndarray, angle: float, instance: int, category: int
) -> list[Solid]:
    """A model in its own frame, turned by `angle` about z and moved to `at`."""
    turn = yaw(angle)
    return [
        replace(
            solid,
            centre=turn @ solid.centre + at,
            rotation=turn @ solid.rotation,
            instance=instance,
            category=category,
        )
        for solid in solids
    ]


def random_material(rng: np.random.Generator, *, muted: bool = False) -> Material:
    """A plausible surface: flat colours most often, then patterns and photographs."""
    if muted:
        base = rng.uniform(0.35, 0.95) + rng.normal(0, 0.06, 3)
    else:
        base = rng.beta(1.2, 1.4, 3) if rng.random() < 0.7 else np.full(3, rng.uniform(0.03, 0.95))
    second = base * rng.uniform(0.4, 1.0) + rng.normal(0, 0.05, 3)
    return Material(
        colour=tuple(np.clip(base, 0.02, 1)),
        second=tuple(np.clip(second, 0.02, 1)),
        pattern=int(rng.choice(5, p=[0.45, 0.1, 0.13, 0.2, 0.12])),
        size=float(np.exp(rng.uniform(np.log(0.04), np.log(0.7)))),
        photo=int(rng.integers(64)),
        gloss=float(rng.random() ** 3),
    )

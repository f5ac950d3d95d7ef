# SPDX-License-Identifier: Apache-2.0
"""Things of no kind: parts put together at random. A network that has seen only a few kinds takes
what it does not know for background; among these nothing is worth knowing by heart."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from diception_ros.training.scenes.held_out import add_things
from diception_ros.training.scenes.shapes import BOX, CYLINDER
from diception_ros.training.scenes.solids import (
    Material,
    Solid,
    limb,
    random_material,
    towards,
    yaw,
)
from diception_ros.training.scenes.world import Camera, World, sample_camera, sample_world

Rng = np.random.Generator
Part = tuple[list[Solid], np.ndarray]
"""Solids and the point (3,) where the next part may begin."""
MOST_SOLIDS = 68
"""Of a scene."""
MANY = 24
"""Solids of one thing from which on no part is repeated."""
WIDEST = 0.75
"""Metres from a thing's middle to its edge."""


def assembled_scene(seed: int) -> tuple[World, Camera]:
    """The furnished world of a seed and before its camera one to four things of no kind; fewer
    where it would have more than MOST_SOLIDS solids."""
    world = sample_world(seed)
    camera = sample_camera(world, seed)
    rng = np.random.default_rng([seed, 8])
    models = (assembled(rng) for _ in range(int(rng.integers(1, 5))))
    return add_things(world, camera, models, rng, MOST_SOLIDS), camera


def assembled(rng: Rng) -> list[Solid]:
    """One to five parts, each begun at the end of one before, some of them twice or around the
    middle; it stands on z = 0."""
    materials = [random_material(rng) for _ in range(int(rng.integers(1, 4)))]
    size = float(np.exp(rng.uniform(np.log(0.12), np.log(0.8))))
    ends, solids = [np.zeros(3)], list[Solid]()
    for _ in range(int(rng.integers(1, 6))):
        make = PARTS[rng.integers(len(PARTS))]
        material = materials[rng.integers(len(materials))]
        part, end = make(rng, ends[rng.integers(len(ends))], size, material)
        copies = repeated(part, rng)
        solids += copies if len(solids) + len(copies) <= MANY else part
        ends.append(end)
    return standing(solids)


def bar(rng: Rng, at: np.ndarray, size: float, material: Material) -> Part:
    """A rod of any direction, more often upright."""
    direction = rng.normal(0, 1, 3) * [0.6, 0.6, 1.0]
    direction[2] = abs(direction[2])
    end = at + direction / np.linalg.norm(direction) * size * rng.uniform(0.4, 1.8)
    radius = size * np.exp(rng.uniform(np.log(0.02), np.log(0.12)))
    return [limb(int(rng.choice([BOX, CYLINDER])), at, end, max(radius, 0.008), material)], end


def lump(rng: Rng, at: np.ndarray, size: float, material: Material) -> Part:
    """A box, cylinder or ellipsoid of any proportions, upright."""
    half = size * np.exp(rng.uniform(np.log(0.12), np.log(0.8), 3))
    kind = int(rng.integers(3))
    if kind != BOX:
        half[1] = half[0]
    centre = at + up(half[2] * rng.uniform(0.5, 1.0))
    turn = yaw(rng.uniform(0, np.pi)) if kind == BOX else np.eye(3)
    return [Solid(kind, centre, half, material, turn)], centre + up(half[2])


def plate(rng: Rng, at: np.ndarray, size: float, material: Material) -> Part:
    """A board or disc of any tilt."""
    wide = size * rng.uniform(0.25, 0.9, 2)
    kind = int(rng.choice([BOX, CYLINDER]))
    if kind == CYLINDER:
        wide[1] = wide[0]
    half = np.array([*wide, size * rng.uniform(0.02, 0.08)])
    turn = towards(rng.normal(0, 1, 3) * [1, 1, 1.5] + [0, 0, 1e-3])
    end = at + turn @ (half * [*rng.uniform(-0.9, 0.9, 2), 1.0])
    return [Solid(kind, at, half, material, turn)], end


def stack(rng: Rng, at: np.ndarray, size: float, material: Material) -> Part:
    """Layers that grow or shrink on the way up."""
    count, height = int(rng.integers(3, 8)), size * rng.uniform(0.3, 1.5)
    radii = size * np.linspace(*rng.uniform(0.06, 0.6, 2), count)
    kind, thick = int(rng.choice([BOX, CYLINDER])), height / count / 2
    solids = [
        Solid(kind, at + up(thick * (2 * i + 1)), np.array([r, r, thick]), material)
        for i, r in enumerate(radii)
    ]
    return solids, at + up(height)


def bow(rng: Rng, at: np.ndarray, size: float, material: Material) -> Part:
    """Bars along an arc in a plane of any direction."""
    count, radius = int(rng.integers(3, 8)), size * rng.uniform(0.2, 0.7)
    angles = np.linspace(0, rng.uniform(1.0, 2 * np.pi), count + 1)
    flat = np.stack([np.cos(angles) - 1, 0 * angles, np.sin(angles)], axis=1) * radius
    points = at + flat @ (yaw(rng.uniform(0, 2 * np.pi)) @ towards(rng.normal(0, 1, 3))).T
    thick = max(size * rng.uniform(0.02, 0.08), 0.008)
    chain = pairwise(points)
    return [limb(CYLINDER, a, b, thick, material) for a, b in chain], points[count // 2]


PARTS: tuple[Callable[[Rng, np.ndarray, float, Material], Part], ...] = (
    *(bar, bar, lump, lump, plate, stack, bow),
)


def repeated(part: list[Solid], rng: Rng) -> list[Solid]:
    """The part, or the part twice, or three to five times around the vertical."""
    count = int(rng.choice([1, 2, 3, 4, 5], p=[0.6, 0.2, 0.08, 0.07, 0.05]))
    turns = [yaw(2 * np.pi * i / count) for i in range(count)]
    return [
        replace(solid, centre=turn @ solid.centre, rotation=turn @ solid.rotation)
        for turn in turns
        for solid in part
    ]


def standing(solids: list[Solid]) -> list[Solid]:
    """The same on z = 0, made smaller where it is wider than WIDEST."""
    half = np.array([np.abs(s.rotation) @ s.half for s in solids])
    centre = np.array([s.centre for s in solids])
    scale = min(1.0, WIDEST / float((np.abs(centre) + half)[:, :2].max()))
    lift = up(-float((centre - half)[:, 2].min()))
    return [replace(s, centre=(s.centre + lift) * scale, half=s.half * scale) for s in solids]


def up(height: float) -> np.ndarray:
    return np.array([0, 0, height])

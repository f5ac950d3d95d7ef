# SPDX-License-Identifier: Apache-2.0
"""Kinds of things that no training scene has, for evaluation: scenes with one to four of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from itertools import pairwise

import numpy as np

from diception_ros.training.scenes.objects import block
from diception_ros.training.scenes.render import render
from diception_ros.training.scenes.shapes import BOX, CYLINDER, ELLIPSOID
from diception_ros.training.scenes.solids import (
    Material,
    Solid,
    limb,
    placed,
    random_material,
    towards,
)
from diception_ros.training.scenes.world import (
    Camera,
    World,
    distance_to,
    sample_camera,
    sample_world,
)

Rng = np.random.Generator
PLACES = 12
"""Tries to find a free place for a thing."""
VIEWS = 24
"""Views that are tried until a held-out thing is seen well, in a picture of GLANCE pixels."""
GLANCE = 64
SEEN_WELL = 0.004
"""Share of the picture."""


def floor_lamp(rng: Rng) -> list[Solid]:
    metal, shade = random_material(rng), random_material(rng, muted=True)
    h, r = rng.uniform(1.2, 1.7), rng.uniform(0.14, 0.24)
    rings = [
        block(
            shade, [0, 0, h + 0.06 * i], [r * (1 - 0.14 * i), r * (1 - 0.14 * i), 0.031], CYLINDER
        )
        for i in range(5)
    ]
    foot = block(metal, [0, 0, 0.02], [0.16, 0.16, 0.02], CYLINDER)
    return [foot, block(metal, [0, 0, h / 2], [0.02, 0.02, h / 2], CYLINDER), *rings]


def ladder(rng: Rng) -> list[Solid]:
    """A stepladder: two frames that lean on each other."""
    metal, w, h = random_material(rng), rng.uniform(0.17, 0.25), rng.uniform(1.0, 1.8)
    spread, steps = h * 0.28, int(rng.integers(4, 7))
    solids = [block(metal, [0, 0, h], [w, 0.09, 0.025])]
    for x in (-w, w):
        top = np.array([x * 0.9, 0, h])
        solids += [limb(BOX, np.array([x, s * spread, 0.02]), top, 0.02, metal) for s in (-1, 1)]
    for step in range(1, steps):
        share = step / steps
        solids.append(block(metal, [0, spread * (share - 1), h * share], [w, 0.05, 0.016]))
    return solids


def stool(rng: Rng) -> list[Solid]:
    wood, r, h = random_material(rng), rng.uniform(0.15, 0.2), rng.uniform(0.42, 0.75)
    solids = [block(random_material(rng), [0, 0, h], [r, r, 0.03], CYLINDER)]
    for angle in np.arange(3) * 2 * np.pi / 3:
        out = np.array([np.cos(angle), np.sin(angle), 0])
        foot, top = out * r * 1.15 + [0, 0, 0.02], out * r * 0.6 + [0, 0, h]
        solids.append(limb(CYLINDER, foot, top, 0.02, wood))
    return solids


def bicycle(rng: Rng) -> list[Solid]:
    """Wheels are rings of twelve bars around a hub; the frame is bars between joints."""
    paint, rubber = random_material(rng), Material((0.04, 0.04, 0.04), (0.07, 0.07, 0.07))
    r, half = rng.uniform(0.28, 0.34), rng.uniform(0.45, 0.55)
    rear, front = np.array([-half, 0, r + 0.02]), np.array([half, 0, r + 0.02])
    pedal, seat = np.array([-0.08, 0, r]), np.array([-0.2, 0, r + 0.45])
    head, bar = np.array([half - 0.2, 0, r + 0.42]), np.array([half - 0.24, 0, r + 0.6])
    bars = [(rear, pedal), (rear, seat), (pedal, seat), (pedal, head), (seat, head), (bar, front)]
    solids = [limb(CYLINDER, a, b, 0.018, paint) for a, b in bars]
    grip = np.array([0, 0.24, 0.02])
    solids.append(limb(CYLINDER, bar - grip * [0, 1, -1], bar + grip, 0.015, rubber))
    solids.append(block(rubber, [-0.22, 0, r + 0.5], [0.13, 0.07, 0.03], ELLIPSOID))
    angles = np.arange(13) * np.pi / 6
    rim = np.stack([np.cos(angles), 0 * angles, np.sin(angles)], axis=1) * r
    for hub in (rear, front):
        solids += [limb(BOX, hub + a, hub + b, 0.018, rubber) for a, b in pairwise(rim)]
    return solids


def guitar(rng: Rng) -> list[Solid]:
    """Upright on its stand, leaning back a little."""
    wood, dark = random_material(rng), Material((0.1, 0.06, 0.04), (0.06, 0.04, 0.03))
    lean = towards(np.array([0, -0.25, 1.0]))

    def part(material: Material, z: float, half: list[float], kind: int, y: float = 0) -> Solid:
        centre = np.array([0, y, 0.12]) + lean @ [0, 0, z]
        return Solid(kind, centre, np.array(half), material, lean)

    size = rng.uniform(0.85, 1.1)
    disc = towards(lean @ [0, 1.0, 0])
    solids = [
        Solid(
            CYLINDER, np.array([0, 0, 0.12]) + lean @ [0, 0, z], np.array([r, r, 0.05]), wood, disc
        )
        for z, r in ((0.12, 0.2 * size), (0.36 * size, 0.15 * size))
    ]
    hole = Solid(
        CYLINDER,
        solids[1].centre + lean @ [0, 0.045, -0.05],
        np.array([0.05, 0.05, 0.01]),
        dark,
        disc,
    )
    neck = part(dark, 0.72 * size, [0.025, 0.02, 0.26 * size], BOX, y=0.04)
    head = part(wood, 1.03 * size, [0.045, 0.018, 0.08], BOX, y=0.04)
    feet = [
        limb(CYLINDER, np.array([x, y, 0.01]), np.array([0, -0.02, 0.2]), 0.012, dark)
        for x, y in ((-0.16, 0.14), (0.16, 0.14), (0, -0.2))
    ]
    return [*solids, hole, neck, head, *feet]


def bucket(rng: Rng) -> list[Solid]:
    """Widens upwards in rings, dark inside, its handle up as an arch."""
    plastic, metal = random_material(rng), random_material(rng)
    dark = replace(plastic, colour=tuple(0.35 * c for c in plastic.colour), pattern=0)
    r, h = rng.uniform(0.11, 0.17), rng.uniform(0.2, 0.3)
    radii = r * np.linspace(0.78, 1, 5)
    rings = [
        block(plastic, [0, 0, h * (2 * i + 1) / 10], [radius, radius, h / 10], CYLINDER)
        for i, radius in enumerate(radii)
    ]
    mouth = block(dark, [0, 0, h], [r * 0.92, r * 0.92, 0.004], CYLINDER)
    angles = np.linspace(0, np.pi, 8)
    arch = np.stack([np.cos(angles), 0 * angles, np.sin(angles) * 1.1], axis=1) * r + [0, 0, h]
    bars = [limb(CYLINDER, a, b, 0.01, metal) for a, b in pairwise(arch)]
    return [*rings, mouth, *bars]


def traffic_cone(rng: Rng) -> list[Solid]:
    orange = Material((0.95, rng.uniform(0.2, 0.35), 0.03), (0.8, 0.25, 0.05))
    white = Material((0.92, 0.92, 0.9), (0.85, 0.85, 0.85))
    h, r = rng.uniform(0.4, 0.75), rng.uniform(0.13, 0.18)
    levels = 14
    radii = np.linspace(r, 0.03, levels)
    rings = [
        block(
            white if i in (5, 6, 9, 10) else orange,
            [0, 0, 0.03 + h * (i + 0.5) / levels],
            [radius, radius, h / levels / 2 * 1.02],
            CYLINDER,
        )
        for i, radius in enumerate(radii)
    ]
    return [block(orange, [0, 0, 0.015], [r * 1.3, r * 1.3, 0.015]), *rings]


def coat_tree(rng: Rng) -> list[Solid]:
    """A bare coat tree: a pole with hooks that branch off."""
    wood, h = random_material(rng), rng.uniform(1.3, 1.8)
    solids = [block(wood, [0, 0, h / 2], [0.025, 0.025, h / 2], CYLINDER)]
    for angle in np.arange(4) * np.pi / 2:
        out = np.array([np.cos(angle), np.sin(angle), 0])
        solids.append(limb(CYLINDER, out * 0.26 + [0, 0, 0.02], np.array([0, 0, 0.3]), 0.02, wood))
        hook = np.array([0, 0, h * rng.uniform(0.82, 0.95)])
        solids.append(limb(CYLINDER, hook, hook + out * 0.17 + [0, 0, 0.1], 0.014, wood))
    return solids


MODELS: dict[str, Callable[[Rng], list[Solid]]] = {
    "floor lamp": floor_lamp,
    "ladder": ladder,
    "stool": stool,
    "bicycle": bicycle,
    "guitar": guitar,
    "bucket": bucket,
    "traffic cone": traffic_cone,
    "coat tree": coat_tree,
}


def unseen_scene(seed: int) -> tuple[World, Camera]:
    """The world of a seed with one to four held-out things, and a view with one of them in it."""
    world = sample_world(seed)
    for view in range(VIEWS):
        camera = sample_camera(world, seed + view)
        more = add_unseen(world, camera, np.random.default_rng([seed, 4, view]))
        seen = render(more, camera, GLANCE, GLANCE).instances
        if (seen > known_instances(world)).mean() > SEEN_WELL:
            break
    return more, camera


def add_unseen(world: World, camera: Camera, rng: Rng) -> World:
    """The world and one to four held-out things; see add_things."""
    names = rng.choice(list(MODELS), int(rng.integers(1, 5)))
    return add_things(world, camera, (MODELS[str(name)](rng) for name in names), rng)


def add_things(
    world: World, camera: Camera, models: Iterable[list[Solid]], rng: Rng, limit: int = 1 << 30
) -> World:
    """The world and the models, standing free on its floor before the camera. They are of category
    0 and their instances follow the world's; fewer where there is no place or where the world would
    have more than `limit` solids.
    """
    solids = list(world.solids)
    instance = known_instances(world)
    for model in models:
        reach = max(float(np.linalg.norm(s.centre[:2])) + float(s.half[:2].max()) for s in model)
        for _ in range(PLACES if len(solids) + len(model) <= limit else 0):
            at = before(camera, reach, rng)
            if free(at, reach, solids, world.extent):
                instance += 1
                solids += placed(model, at, rng.uniform(0, 2 * np.pi), instance, 0)
                break
    return replace(world, solids=tuple(solids))


def known_instances(world: World) -> int:
    """The highest instance id; held-out things that are added have higher ones."""
    return max((solid.instance for solid in world.solids), default=0)


def before(camera: Camera, reach: float, rng: Rng) -> np.ndarray:
    """A spot (3,) on the floor within the camera's horizontal view."""
    forward = camera.rotation[:2, 2]
    angle = np.arctan2(forward[1], forward[0]) + rng.uniform(-0.4, 0.4) * camera.fov
    distance = reach + rng.uniform(0.7, 3.5)
    return np.array(
        [*(camera.position[:2] + distance * np.array([np.cos(angle), np.sin(angle)])), 0]
    )


def free(at: np.ndarray, reach: float, solids: list[Solid], extent: np.ndarray) -> bool:
    """Whether a thing of that radius touches neither walls nor other things."""
    if (np.abs(at[:2]) > extent[:2] - reach).any():
        return False
    things = [solid for solid in solids if solid.instance]
    return all(distance_to(s, np.array([*at[:2], s.centre[2]])) > 0.8 * reach for s in things)

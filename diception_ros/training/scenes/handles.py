# SPDX-License-Identifier: Apache-2.0
"""Things with handles to grasp, each standing on z = 0 with its front towards +y, in metres."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from diception_ros.training.scenes.objects import block
from diception_ros.training.scenes.shapes import BOX, CYLINDER
from diception_ros.training.scenes.solids import Material, Solid, limb, random_material

Rng = np.random.Generator


@dataclass(frozen=True)
class Handled:
    """body and handle: solids. small: stands on tops and has a front and a back; other things
    stand with their back (y = -depth) to a wall.
    """

    body: list[Solid]
    handle: list[Solid]
    depth: float
    small: bool = False


def grip(rng: Rng, body: Material) -> Material:
    """A plain material, darker or brighter than the body's."""
    bright = np.mean(body.colour) < 0.45
    tone = rng.uniform(0.7, 0.95) if bright else rng.uniform(0.03, 0.2)
    tint = np.clip(tone * rng.normal(1, 0.12, 3), 0.02, 1)
    return Material(tuple(tint), tuple(tint), gloss=float(rng.uniform(0.2, 0.8)))


def bow(a: np.ndarray, b: np.ndarray, out: np.ndarray, r: float, look: Material) -> list[Solid]:
    """A handle from a to b that stands off along `out` (3,): a bar on two posts."""
    post = limb(CYLINDER, a, a + out, r, look), limb(CYLINDER, b, b + out, r, look)
    return [*post, limb(CYLINDER, a + out, b + out, r, look)]


def arch(a: np.ndarray, b: np.ndarray, out: np.ndarray, r: float, look: Material) -> list[Solid]:
    """A round handle from a to b whose middle is `out` (3,) away."""
    angles = np.linspace(0, np.pi, 8)[:, None]
    points = (a + b) / 2 + (a - b) / 2 * np.cos(angles) + out * np.sin(angles)
    return [limb(CYLINDER, start, end, r, look) for start, end in pairwise(points)]


def drawers(rng: Rng) -> Handled:
    wood, front = random_material(rng, muted=True), random_material(rng, muted=True)
    look = grip(rng, front)
    w, d, h = rng.uniform(0.25, 0.5), rng.uniform(0.2, 0.28), rng.uniform(0.3, 0.55)
    rows, r = int(rng.integers(2, 5)), rng.uniform(0.015, 0.024)
    body, handle = [block(wood, [0, 0, h], [w, d, h])], []
    half, reach = h / rows, w * rng.uniform(0.25, 0.5)
    out = np.array([0, rng.uniform(0.04, 0.06), 0])
    for row in range(rows):
        z = half * (2 * row + 1)
        body.append(block(front, [0, d, z], [w * 0.94, 0.015, half * 0.88]))
        a, b = np.array([-reach, d, z]), np.array([reach, d, z])
        handle += bow(a, b, out, r, look)
    return Handled(body, handle, d)


def cabinet(rng: Rng) -> Handled:
    wood, front = random_material(rng, muted=True), random_material(rng, muted=True)
    look = grip(rng, front)
    w, d, h = rng.uniform(0.3, 0.5), rng.uniform(0.18, 0.28), rng.uniform(0.4, 0.95)
    r, reach, z = rng.uniform(0.016, 0.025), rng.uniform(0.1, 0.22), h * rng.uniform(0.9, 1.3)
    out = np.array([0, rng.uniform(0.045, 0.065), 0])
    body, handle = [block(wood, [0, 0, h], [w, d, h])], []
    for side in (-1, 1):
        body.append(block(front, [side * w / 2, d, h], [w * 0.47, 0.015, h * 0.95]))
        a = np.array([side * w * 0.12, d, z - reach])
        handle += bow(a, a + np.array([0, 0, 2 * reach]), out, r, look)
    return Handled(body, handle, d)


def door(rng: Rng) -> Handled:
    wood, frame = random_material(rng, muted=True), random_material(rng)
    look = grip(rng, wood)
    w, h, side = rng.uniform(0.38, 0.48), rng.uniform(0.95, 1.02), float(rng.choice([-1, 1]))
    jambs = [block(frame, [s * (w + 0.04), 0, h], [0.04, 0.04, h + 0.04]) for s in (-1, 1)]
    body = [block(wood, [0, 0, h], [w, 0.025, h]), *jambs]
    at, r = np.array([side * w * 0.8, 0.02, 1.0]), rng.uniform(0.017, 0.024)
    neck, lever = at + np.array([0, 0.07, 0]), np.array([-side * rng.uniform(0.12, 0.17), 0, 0])
    if rng.random() < 0.5:
        handle = [limb(CYLINDER, at, neck, r, look), limb(CYLINDER, neck, neck + lever, r, look)]
    else:
        up = np.array([0, 0, rng.uniform(0.12, 0.25)])
        handle = bow(at - up, at + up, np.array([0, 0.06, 0]), r, look)
    return Handled(body, handle, 0.03)


def mug(rng: Rng) -> Handled:
    clay = random_material(rng)
    look = grip(rng, clay) if rng.random() < 0.5 else clay
    r, h = rng.uniform(0.045, 0.06), rng.uniform(0.045, 0.065)
    inside = Material((0.08, 0.06, 0.05), (0.12, 0.09, 0.07))
    body = [
        block(clay, [0, 0, h], [r, r, h], CYLINDER),
        block(inside, [0, 0, 2 * h], [r * 0.86, r * 0.86, 0.001], CYLINDER),
    ]
    a, b = np.array([r * 0.95, 0, 0.45 * h]), np.array([r * 0.95, 0, 1.6 * h])
    handle = arch(
        a, b, np.array([rng.uniform(0.7, 1.0) * h, 0, 0]), rng.uniform(0.008, 0.012), look
    )
    return Handled(body, handle, r, small=True)


def pan(rng: Rng) -> Handled:
    metal = random_material(rng)
    r, h = rng.uniform(0.1, 0.14), rng.uniform(0.02, 0.05)
    inside = Material((0.06, 0.06, 0.06), (0.1, 0.1, 0.1))
    body = [
        block(metal, [0, 0, h], [r, r, h], CYLINDER),
        block(inside, [0, 0, 2 * h], [r * 0.92, r * 0.92, 0.001], CYLINDER),
    ]
    a, long = np.array([r * 0.97, 0, 1.6 * h]), rng.uniform(0.16, 0.24)
    handle = [
        limb(BOX, a, a + np.array([long, 0, 0.03]), rng.uniform(0.014, 0.019), grip(rng, metal))
    ]
    return Handled(body, handle, r, small=True)


def bucket(rng: Rng) -> Handled:
    plastic = random_material(rng)
    dark = Material(*([tuple(0.3 * c for c in plastic.colour)] * 2))
    r, h = rng.uniform(0.1, 0.15), rng.uniform(0.18, 0.28)
    body = [
        block(plastic, [0, 0, h * (2 * i + 1) / 10], [s * r, s * r, h / 10], CYLINDER)
        for i, s in enumerate(np.linspace(0.78, 1, 5))
    ]
    body.append(block(dark, [0, 0, h], [r * 0.92, r * 0.92, 0.004], CYLINDER))
    a, b = np.array([-r, 0, h * 0.95]), np.array([r, 0, h * 0.95])
    look = grip(rng, plastic)
    handle = arch(a, b, np.array([0, 0, r * 1.2]), rng.uniform(0.01, 0.014), look)
    return Handled(body, handle, r, small=True)


def suitcase(rng: Rng) -> Handled:
    shell = random_material(rng)
    w, d, h = rng.uniform(0.18, 0.28), rng.uniform(0.06, 0.1), rng.uniform(0.12, 0.2)
    reach, out = w * rng.uniform(0.3, 0.45), np.array([0, 0, rng.uniform(0.05, 0.08)])
    a, b = np.array([-reach, 0, 2 * h]), np.array([reach, 0, 2 * h])
    handle = bow(a, b, out, rng.uniform(0.015, 0.02), grip(rng, shell))
    return Handled([block(shell, [0, 0, h], [w, d, h])], handle, d, small=True)


MODELS: dict[str, Callable[[Rng], Handled]] = {
    "drawers": drawers,
    "cabinet": cabinet,
    "door": door,
    "mug": mug,
    "pan": pan,
    "bucket": bucket,
    "suitcase": suitcase,
}

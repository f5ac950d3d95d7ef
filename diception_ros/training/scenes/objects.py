# SPDX-License-Identifier: Apache-2.0
"""Things built of solids, each standing on z = 0 of its own frame, in metres."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from diception_ros.training.scenes.shapes import BOX, CYLINDER, ELLIPSOID
from diception_ros.training.scenes.solids import Material, Solid, limb, random_material

Rng = np.random.Generator
Model = tuple[list[Solid], np.ndarray]
"""Solids and keypoints (K, 3); things without keypoints have K = 0."""

CATEGORIES = (
    "",
    "chair",
    "dining table",
    "couch",
    "bed",
    "tv",
    "refrigerator",
    "bottle",
    "cup",
    "vase",
    "potted plant",
    "book",
    "sports ball",
    "person",
    "car",
    "bench",
)
NO_KEYPOINTS = np.zeros((0, 3))


def block(material: Material, centre: list[float], half: list[float], kind: int = BOX) -> Solid:
    return Solid(kind, np.array(centre), np.array(half), material)


def legs(rng: Rng, x: float, y: float, height: float, material: Material) -> list[Solid]:
    kind, r = (BOX if rng.random() < 0.6 else CYLINDER), rng.uniform(0.02, 0.045)
    corners = ((x, y), (-x, y), (x, -y), (-x, -y))
    return [block(material, [a, b, height / 2], [r, r, height / 2], kind) for a, b in corners]


def chair(rng: Rng) -> list[Solid]:
    seat, frame = random_material(rng), random_material(rng)
    w, h, back = rng.uniform(0.2, 0.28), rng.uniform(0.4, 0.5), rng.uniform(0.2, 0.35)
    return [
        block(seat, [0, 0, h], [w, w, 0.03]),
        block(seat, [0, -w, h + back], [w, 0.03, back]),
        *legs(rng, w - 0.04, w - 0.04, h, frame),
    ]


def table(rng: Rng) -> list[Solid]:
    wood = random_material(rng)
    w, d, h = rng.uniform(0.4, 0.9), rng.uniform(0.3, 0.6), rng.uniform(0.45, 0.8)
    if rng.random() < 0.25:
        foot = block(wood, [0, 0, h / 2], [0.06, 0.06, h / 2], CYLINDER)
        return [block(wood, [0, 0, h], [d, d, 0.025], CYLINDER), foot]
    return [block(wood, [0, 0, h], [w, d, 0.025]), *legs(rng, w - 0.06, d - 0.06, h, wood)]


def couch(rng: Rng) -> list[Solid]:
    cloth = random_material(rng)
    w, h = rng.uniform(0.7, 1.1), rng.uniform(0.18, 0.24)
    arms = [block(cloth, [s * w, 0, h * 1.5], [0.09, 0.42, h * 1.5]) for s in (-1, 1)]
    back = block(cloth, [0, -0.36, h * 2], [w, 0.12, h * 2])
    return [block(cloth, [0, 0, h], [w, 0.42, h]), back, *arms]


def bed(rng: Rng) -> list[Solid]:
    cloth, frame = random_material(rng), random_material(rng)
    w = rng.uniform(0.45, 0.85)
    return [
        block(frame, [0, 0, 0.14], [w, 1.0, 0.14]),
        block(cloth, [0, 0, 0.38], [w, 0.98, 0.1]),
        block(random_material(rng, muted=True), [0, -0.75, 0.52], [w * 0.7, 0.2, 0.07], ELLIPSOID),
        block(frame, [0, -1.0, 0.5], [w, 0.04, 0.5]),
    ]


def tv(rng: Rng) -> list[Solid]:
    w = rng.uniform(0.25, 0.55)
    dark = Material((0.03, 0.03, 0.04), (0.05, 0.05, 0.06), gloss=0.8)
    foot = block(dark, [0, 0, 0.05], [0.12, 0.08, 0.05])
    return [block(dark, [0, 0, 0.1 + w * 0.56], [w, 0.03, w * 0.56]), foot]


def refrigerator(rng: Rng) -> list[Solid]:
    shell, w = random_material(rng, muted=True), rng.uniform(0.28, 0.4)
    h = rng.uniform(0.6, 0.95)
    handle = block(random_material(rng), [w * 0.7, 0.33, h], [0.02, 0.04, h * 0.3])
    return [block(shell, [0, 0, h], [w, 0.32, h]), handle]


def bottle(rng: Rng) -> list[Solid]:
    glass, r, h = random_material(rng), rng.uniform(0.03, 0.05), rng.uniform(0.08, 0.13)
    neck = block(glass, [0, 0, h * 2.4], [r * 0.4, r * 0.4, h * 0.5], CYLINDER)
    return [block(glass, [0, 0, h], [r, r, h], CYLINDER), neck]


def cup(rng: Rng) -> list[Solid]:
    r, h = rng.uniform(0.035, 0.06), rng.uniform(0.04, 0.07)
    return [block(random_material(rng), [0, 0, h], [r, r, h], CYLINDER)]


def vase(rng: Rng) -> list[Solid]:
    clay, r, h = random_material(rng), rng.uniform(0.06, 0.14), rng.uniform(0.09, 0.2)
    neck = block(clay, [0, 0, h * 2], [r * 0.4, r * 0.4, h * 0.5], CYLINDER)
    return [block(clay, [0, 0, h], [r, r, h], ELLIPSOID), neck]


def plant(rng: Rng) -> list[Solid]:
    pot, r = random_material(rng), rng.uniform(0.08, 0.18)
    green = Material((0.08, rng.uniform(0.25, 0.6), 0.08), (0.03, 0.15, 0.03), 3, 0.05)
    leaves = [
        block(green, [*rng.normal(0, r, 2), r * rng.uniform(2.5, 5)], [r * 0.9, r, r * 1.2], 1)
        for _ in range(4)
    ]
    return [block(pot, [0, 0, r], [r, r, r], CYLINDER), *leaves]


def book(rng: Rng) -> list[Solid]:
    return [block(random_material(rng), [0, 0, 0.02], [rng.uniform(0.07, 0.12), 0.15, 0.02])]


def ball(rng: Rng) -> list[Solid]:
    r = rng.uniform(0.08, 0.16)
    return [block(random_material(rng), [0, 0, r], [r, r, r], ELLIPSOID)]


def car(rng: Rng) -> list[Solid]:
    paint = random_material(rng)
    dark = Material((0.03, 0.03, 0.03), (0.06, 0.06, 0.06))
    glass = Material((0.1, 0.13, 0.16), (0.1, 0.13, 0.16), gloss=0.9)
    wheels = [
        Solid(
            CYLINDER,
            np.array([x, y, 0.32]),
            np.array([0.32, 0.32, 0.1]),
            dark,
            np.array([[1.0, 0, 0], [0, 0, 1], [0, -1, 0]]),
        )
        for x in (-1.25, 1.25)
        for y in (-0.8, 0.8)
    ]
    cabin = block(glass, [-0.2, 0, 1.2], [1.0, 0.72, 0.28])
    return [block(paint, [0, 0, 0.65], [2.0, 0.85, 0.32]), cabin, *wheels]


def bench(rng: Rng) -> list[Solid]:
    wood, w = random_material(rng), rng.uniform(0.6, 0.9)
    back = block(wood, [0, -0.2, 0.7], [w, 0.03, 0.18])
    return [block(wood, [0, 0, 0.45], [w, 0.2, 0.03]), back, *legs(rng, w - 0.1, 0.15, 0.45, wood)]


def person(rng: Rng) -> Model:
    """A figure of ellipsoids and its keypoints: nose, then per side shoulder to ankle."""
    skin_tone = np.array([0.75, 0.55, 0.42]) * rng.uniform(0.35, 1.2)
    skin = Material(tuple(np.clip(skin_tone, 0, 1)), tuple(np.clip(skin_tone * 0.9, 0, 1)))
    shirt, trousers = random_material(rng), random_material(rng)
    size = rng.uniform(0.85, 1.08)
    hip_z, shoulder_z = 0.95, 1.42
    solids = [limb(ELLIPSOID, np.array([0, 0, 0.9]), np.array([0, 0, 1.5]), 0.17, shirt)]
    solids.append(Solid(ELLIPSOID, np.array([0, 0, 1.66]), np.array([0.1, 0.11, 0.13]), skin))
    hair = Material((0.08, 0.05, 0.03), (0.2, 0.15, 0.1))
    solids.append(Solid(ELLIPSOID, np.array([0, -0.03, 1.71]), np.array([0.11, 0.11, 0.11]), hair))
    points = [np.array([0, 0.11, 1.65])]
    for side in (-1, 1):
        shoulder, hip = np.array([side * 0.19, 0, shoulder_z]), np.array([side * 0.1, 0, hip_z])
        elbow = shoulder + swing(rng, 0.28, 1.2, outward=side * 0.5)
        wrist = elbow + swing(rng, 0.26, 1.4, outward=side * 0.3)
        knee = hip + swing(rng, 0.44, 0.5, outward=side * 0.15)
        ankle = knee + swing(rng, 0.42, 0.35, outward=0.0)
        solids += [
            limb(ELLIPSOID, shoulder, elbow, 0.06, shirt),
            limb(ELLIPSOID, elbow, wrist, 0.05, skin),
            limb(ELLIPSOID, hip, knee, 0.09, trousers),
            limb(ELLIPSOID, knee, ankle, 0.065, trousers),
        ]
        points += [shoulder, elbow, wrist, hip, knee, ankle]
    lift = -min(point[2] for point in points) + 0.06
    moved = [
        Solid(
            s.kind,
            (s.centre + np.array([0, 0, lift])) * size,
            s.half * size,
            s.material,
            s.rotation,
        )
        for s in solids
    ]
    return moved, (np.array(points) + np.array([0, 0, lift])) * size


def swing(rng: Rng, length: float, spread: float, outward: float) -> np.ndarray:
    """A limb of that length hanging down, swung by up to `spread` radians."""
    forward = rng.uniform(-spread, spread) * 0.7
    direction = np.array([outward * rng.random(), np.sin(forward), -np.cos(forward)])
    return direction / np.linalg.norm(direction) * length


def clutter(rng: Rng) -> list[Solid]:
    """One to three solids of no category."""
    material, kind = random_material(rng), int(rng.integers(3))
    half = np.exp(rng.uniform(np.log(0.04), np.log(0.35), 3))
    if kind != BOX:
        half[1] = half[0]
    solids = [Solid(kind, np.array([0, 0, half[2]]), half, material)]
    if rng.random() < 0.3:
        small = half * rng.uniform(0.4, 0.8)
        top = np.array([0, 0, 2 * half[2] + small[2]])
        solids.append(Solid(int(rng.integers(3)), top, small, random_material(rng)))
    return solids


MODELS: dict[str, Callable[[Rng], list[Solid]]] = {
    "chair": chair,
    "dining table": table,
    "couch": couch,
    "bed": bed,
    "tv": tv,
    "refrigerator": refrigerator,
    "bottle": bottle,
    "cup": cup,
    "vase": vase,
    "potted plant": plant,
    "book": book,
    "sports ball": ball,
    "car": car,
    "bench": bench,
}
FURNITURE = ("chair", "chair", "dining table", "couch", "bed", "refrigerator", "tv", "bench")
SMALL = ("bottle", "cup", "vase", "potted plant", "book", "sports ball", "tv")


def build(name: str, rng: Rng) -> Model:
    """The solids of a category (or "" for clutter) and its keypoints."""
    if name == "person":
        return person(rng)
    return (MODELS[name](rng) if name else clutter(rng)), NO_KEYPOINTS

# SPDX-License-Identifier: Apache-2.0
"""Tasks that the network has never seen, for adaptation from few pairs of picture and mask."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.training.scenes import photos
from diception_ros.training.scenes.cracks import sample_crack
from diception_ros.training.scenes.handles import MODELS, Handled
from diception_ros.training.scenes.objects import CATEGORIES, table
from diception_ros.training.scenes.photo import photograph
from diception_ros.training.scenes.render import Frame, render
from diception_ros.training.scenes.shading import FLOOR
from diception_ros.training.scenes.solids import (
    CHECKER,
    FLAT,
    NOISE,
    STRIPES,
    Material,
    Solid,
    placed,
)
from diception_ros.training.scenes.world import (
    Camera,
    World,
    distance_to,
    look,
    room,
    sample_camera,
    sample_world,
)

Rng = np.random.Generator
Bool = npt.NDArray[np.bool_]
WORLDS = 20_000_000
"""Seeds of the worlds start here, beyond those of training and evaluation."""
VARIANTS = 100
"""Scenes that are tried for a seed until its mask is neither tiny nor everywhere."""
DIM = 0.6
"""A crack where the floor is darker than this share of the picture's mean is lost in shadow."""


@dataclass(frozen=True)
class Pair:
    """rgb (H, W, 3) uint8; mask (H, W) bool, exact to the pixel, without what is occluded."""

    rgb: npt.NDArray[np.uint8]
    mask: Bool


def make_pair(task: str, seed: int, height: int, width: int) -> Pair:
    """The pair of a seed. task: a key of TASKS. ValueError for another one, and for a size in which
    nothing can be seen.
    """
    if task not in TASKS:
        raise ValueError(f"no task '{task}': choose one of {', '.join(TASKS)}")
    first = WORLDS + seed * VARIANTS
    for variant in range(first, first + VARIANTS):
        pair = TASKS[task](variant, height, width)
        if pair is not None:
            return Pair(photograph(pair.rgb, variant), pair.mask)
    raise ValueError(
        f"none of {VARIANTS} scenes shows {task} well in {width} x {height} pixels, "
        f"seed {seed}: take a larger size or another seed"
    )


def floor_crack(variant: int, height: int, width: int) -> Pair | None:
    """A floor or ground with a dark crack; None where too little of it is seen."""
    rng = np.random.default_rng([variant, 5])
    world = light_floor(sample_world(variant), rng)
    camera = looking_down(sample_camera(world, variant), rng)
    frame = render(world, camera, height, width, list(photos()))
    places, seen = floor_of(frame, camera)
    if seen.mean() < 0.25:
        return None
    (start, end), spread = ends(places, seen, rng)
    if spread < 0.4 * width:
        return None
    away = np.linalg.norm(np.array([*(start + end) / 2, 0]) - camera.position)
    # Pixels of a 128 wide picture, turned into metres at the crack's middle.
    wide = float(rng.uniform(4, 7) / 128 * width * away / frame.intrinsics[0])
    mask = np.zeros(seen.shape, bool)
    mask[seen] = sample_crack(start, end, wide, rng).covers(places[seen])
    if not 0.012 < mask.mean() < 0.12 or frame.rgb[mask].mean() < DIM * frame.rgb.mean():
        return None
    dark = rng.uniform(0.04, 0.16) ** (1 / 2.2)  # the share of the floor's light, gamma-encoded
    shaded = frame.rgb * np.where(mask, dark, 1.0)[..., None]
    return Pair(shaded.astype(np.uint8), mask)


def floor_of(frame: Frame, camera: Camera) -> tuple[np.ndarray, Bool]:
    """World x, y (H, W, 2) in metres of every pixel and whether it shows the floor (z = 0)."""
    points = points_of(frame, camera)
    seen = (frame.instances == 0) & (np.abs(points[..., 2]) < 2e-3) & (frame.depth < 12)
    return points[..., :2], seen


def points_of(frame: Frame, camera: Camera) -> np.ndarray:
    """World coordinates (H, W, 3) in metres of every pixel, NaN for the sky."""
    fx, fy, cx, cy = frame.intrinsics
    rows, columns = np.indices(frame.depth.shape)
    rays = np.stack([(columns - cx) / fx, (rows - cy) / fy, np.ones(rows.shape)], axis=-1)
    return rays * frame.depth[..., None] @ camera.rotation.T + camera.position


def ends(places: np.ndarray, seen: Bool, rng: Rng) -> tuple[np.ndarray, float]:
    """The farthest apart in the picture of eight pairs of floor pixels: their places (2, 2) in
    metres and the pixels between them.
    """
    pixels = np.argwhere(seen)
    pairs = pixels[rng.integers(len(pixels), size=(8, 2))]
    spread = np.linalg.norm(pairs[:, 0] - pairs[:, 1], axis=-1)
    rows, columns = pairs[spread.argmax()].T
    return places[rows, columns], float(spread.max())


def light_floor(world: World, rng: Rng) -> World:
    """The world on a floor that a dark crack shows on."""
    pattern = int(rng.choice([FLAT, CHECKER, STRIPES, NOISE]))
    tone = rng.uniform(0.4, 0.85) + rng.normal(0, 0.05, 3)
    second = tone * rng.uniform(0.75, 1.0)
    colours = (tuple(np.clip(tone, 0.25, 1)), tuple(np.clip(second, 0.2, 1)))
    floor = Material(*colours, pattern, size=float(rng.uniform(0.1, 0.6)), gloss=0.1)
    if world.surfaces:
        surfaces = list(world.surfaces)
        surfaces[FLOOR] = floor
        return replace(world, surfaces=tuple(surfaces))
    solids = [s if s.instance else replace(s, material=floor) for s in world.solids]
    return replace(world, solids=tuple(solids))


def looking_down(camera: Camera, rng: Rng) -> Camera:
    """The camera, at a person's height or less, turned to the floor one to three metres ahead."""
    position = np.array([*camera.position[:2], rng.uniform(0.8, 1.8)])
    ahead = camera.rotation[:2, 2] / np.linalg.norm(camera.rotation[:2, 2])
    target = np.array([*(position[:2] + ahead * rng.uniform(1.0, 2.8)), 0.0])
    return Camera(position, look(position, target, float(rng.normal(0, 0.05))), camera.fov)


def free_floor(variant: int, height: int, width: int) -> Pair | None:
    """Where a robot could drive: the floor or ground that is seen; None where it is little."""
    world = sample_world(variant)
    camera = sample_camera(world, variant)
    frame = render(world, camera, height, width, list(photos()))
    _, seen = floor_of(frame, camera)
    return Pair(frame.rgb, seen) if 0.08 < seen.mean() < 0.7 else None


def support(variant: int, height: int, width: int) -> Pair | None:
    """Where a robot could put something down: level tops of things, 25 cm to 1.4 m high."""
    world = room(np.random.default_rng([variant, 7]))
    camera = sample_camera(world, variant)
    frame = render(world, camera, height, width, list(photos()))
    upright = (frame.normals @ camera.rotation.T)[..., 2]
    level = points_of(frame, camera)[..., 2]
    tops = (frame.instances > 0) & (upright > 0.95) & (level > 0.25) & (level < 1.4)
    return Pair(frame.rgb, tops) if 0.03 < tops.mean() < 0.5 else None


def handle(variant: int, height: int, width: int) -> Pair | None:
    """Something that has a handle, near the camera; None where no handle is seen well."""
    world, camera, number = handle_scene(variant)
    if not stands_free(camera, world):
        return None
    frame = render(world, camera, height, width, list(photos()))
    mask = frame.instances == number
    _, _, stats, _ = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    largest = stats[1:, cv2.CC_STAT_AREA].max(initial=0) / mask.size
    good = largest * 128**2 >= 40 and 0.005 < mask.mean() < 0.2
    return Pair(frame.rgb, mask) if good else None


def handle_scene(variant: int) -> tuple[World, Camera, int]:
    """A furnished room with one thing that has handles, a view, and the handles' instance id."""
    rng = np.random.default_rng([variant, 6])
    world = room(rng)
    thing = MODELS[str(rng.choice(list(MODELS)))](rng)
    at, angle = (on_floor if thing.small else at_wall)(thing, world.extent, rng)
    solids = cleared(world.solids, at, 0.7)
    number = max((s.instance for s in solids), default=0) + 1
    if thing.small and rng.random() < 0.75:
        desk = table(rng)
        solids += placed(desk, at, angle, number, CATEGORIES.index("dining table"))
        at = np.array([*at[:2], desk[0].centre[2] + desk[0].half[2]])
    solids += placed(thing.body, at, angle, number + 1, 0)
    handles = placed(thing.handle, at, angle, number + 2, 0)
    world = replace(world, solids=(*solids, *handles), keypoints=())
    return world, facing(handles, angle, thing.small, rng), number + 2


def on_floor(thing: Handled, extent: np.ndarray, rng: Rng) -> tuple[np.ndarray, float]:
    """A place (3,) away from the walls, and a direction."""
    at = rng.uniform(-0.6, 0.6, 2) * extent[:2]
    return np.array([*at, 0.0]), float(rng.uniform(0, 2 * np.pi))


def at_wall(thing: Handled, extent: np.ndarray, rng: Rng) -> tuple[np.ndarray, float]:
    """A place (3,) with the back to a wall, and the turn of +y into the room."""
    axis, sign = int(rng.integers(2)), float(rng.choice([-1, 1]))
    at = np.array([*rng.uniform(-0.6, 0.6, 2) * extent[:2], 0.0])
    at[axis] = sign * (extent[axis] - thing.depth)
    inward = np.zeros(2)
    inward[axis] = -sign
    return at, float(np.arctan2(-inward[0], inward[1]))


def cleared(solids: Sequence[Solid], at: np.ndarray, reach: float) -> list[Solid]:
    """Without the things that come within `reach` metres of a place of the floor, and without
    refrigerators: they have handles that are not marked.
    """
    fridge = CATEGORIES.index("refrigerator")
    gone = {s.instance for s in solids if s.category == fridge}
    gone |= {s.instance for s in solids if distance_to(s, np.array([*at[:2], s.centre[2]])) < reach}
    return [s for s in solids if s.instance not in gone]


def facing(handles: list[Solid], angle: float, small: bool, rng: Rng) -> Camera:
    """A view in which the handles are 22 to 55 of 128 pixels long, from before their front."""
    one = handles[rng.integers(len(handles))].centre
    length = 2 * max(float(s.half.max()) for s in handles)
    fov = float(np.deg2rad(rng.uniform(45, 70)))
    distance = max(64 / np.tan(fov / 2) * max(length, 0.1) / rng.uniform(22, 55), 0.4)
    behind = np.pi if small and rng.random() < 0.5 else 0.0
    turn = angle + np.pi / 2 + behind + np.deg2rad(rng.uniform(-55, 55))
    rise = distance * rng.uniform(0.25, 0.75) if small else rng.uniform(-0.2, 0.6) * distance
    away = np.array([np.cos(turn), np.sin(turn)]) * np.sqrt(distance**2 - rise**2)
    position = one + np.array([*away, rise])
    target = one + rng.normal(0, 0.07 * distance, 3)
    return Camera(position, look(position, target, float(rng.normal(0, 0.05))), fov)


def stands_free(camera: Camera, world: World) -> bool:
    """Whether the camera is in the room and in none of its things."""
    x, y, z = np.abs(camera.position) / [*world.extent[:2] * 0.96, 2 * world.extent[2] * 0.95]
    inside = max(x, y, z) < 1 and camera.position[2] > 0.15
    return inside and all(distance_to(s, camera.position) > 0.12 for s in world.solids)


TASKS: dict[str, Callable[[int, int, int], Pair | None]] = {
    "floor-crack": floor_crack,
    "handle": handle,
    "free-floor": free_floor,
    "support": support,
}

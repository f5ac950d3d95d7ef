# SPDX-License-Identifier: Apache-2.0
"""Seeded worlds: furnished rooms and open ground with buildings, lit and looked at."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from diception_ros.training.scenes.objects import CATEGORIES, FURNITURE, SMALL, build
from diception_ros.training.scenes.shapes import BOX
from diception_ros.training.scenes.solids import (
    Light,
    Material,
    Solid,
    placed,
    random_material,
    yaw,
)

Rng = np.random.Generator
MAX_SOLIDS = 60


@dataclass(frozen=True)
class Camera:
    """position (3,) in metres; rotation (3, 3) from the optical frame (x right, y down, z forward)
    to the world (z up); focal length and centre are set from the field of view when rendering.
    fov: horizontal field of view in radians.
    """

    position: np.ndarray
    rotation: np.ndarray
    fov: float


@dataclass(frozen=True)
class World:
    """shell: the room seen from inside, or None outdoors (then `sky` colours are seen).
    keypoints: one (K, 3) array of metres per person, its instance id first in the tuple.
    """

    solids: tuple[Solid, ...]
    shell: Solid | None
    surfaces: tuple[Material, ...]
    lights: tuple[Light, ...]
    ambient: np.ndarray
    sky: tuple[np.ndarray, np.ndarray]
    keypoints: tuple[tuple[int, np.ndarray], ...]
    extent: np.ndarray


def look(position: np.ndarray, target: np.ndarray, roll: float = 0.0) -> np.ndarray:
    """Optical-frame rotation for a camera at position that looks at target, y down."""
    forward = target - position
    forward = forward / np.linalg.norm(forward)
    right = np.cross(forward, [0, 0, 1.0])
    right /= np.linalg.norm(right)
    frame = np.stack([right, np.cross(forward, right), forward], axis=1)
    return frame @ yaw(roll)


class Builder:
    """Collects things that do not overlap on the floor."""

    def __init__(self, rng: Rng, extent: np.ndarray) -> None:
        self.rng, self.extent = rng, extent
        self.solids: list[Solid] = []
        self.keypoints: list[tuple[int, np.ndarray]] = []
        self.circles: list[tuple[np.ndarray, float]] = []
        self.instances = 0

    def stand(self, name: str, limit: int = MAX_SOLIDS) -> None:
        """Puts one thing at a free place of the floor; nothing if there is none or it is full."""
        solids, points = build(name, self.rng)
        if len(self.solids) + len(solids) > limit:
            return
        reach = max(float(np.linalg.norm(s.centre[:2])) + float(s.half[:2].max()) for s in solids)
        for _ in range(8):
            at = self.rng.uniform(-1, 1, 2) * np.maximum(self.extent[:2] - reach * 0.8, 0.05)
            if all(np.linalg.norm(at - c) > 0.75 * (reach + r) for c, r in self.circles):
                self.circles.append((at, reach))
                self.add(name, solids, points, np.array([*at, 0.0]))
                return

    def add(self, name: str, solids: list[Solid], points: np.ndarray, at: np.ndarray) -> None:
        self.instances += 1
        angle = self.rng.uniform(0, 2 * np.pi)
        category = CATEGORIES.index(name)
        self.solids += placed(solids, at, angle, self.instances, category)
        if len(points):
            self.keypoints.append((self.instances, points @ yaw(angle).T + at))

    def put_on_tops(self, count: int) -> None:
        """Small things on flat tops."""
        tops = [s for s in self.solids if s.kind == BOX and s.half[:2].min() > 0.2]
        tops = [s for s in tops if 0.3 < s.centre[2] + s.half[2] < 1.2]
        for _ in range(count if tops else 0):
            top = tops[self.rng.integers(len(tops))]
            name = str(self.rng.choice([*SMALL, ""]))
            solids, points = build(name, self.rng)
            spot = top.rotation @ (top.half * [*self.rng.uniform(-0.7, 0.7, 2), 1.0]) + top.centre
            if len(self.solids) + len(solids) <= MAX_SOLIDS:
                self.add(name, solids, points, spot)

    def hang(self, count: int) -> None:
        """Flat boxes on the walls: pictures, windows, doors, shelves."""
        for _ in range(count):
            axis, sign = int(self.rng.integers(2)), float(self.rng.choice([-1, 1]))
            half = np.array([*self.rng.uniform(0.15, 0.6, 2), 0.0])
            size = np.array([half[0], half[0], half[1]])
            size[axis] = self.rng.choice([0.02, 0.03, 0.15])
            at = self.rng.uniform(-0.8, 0.8, 3) * self.extent
            at[axis] = sign * (self.extent[axis] - size[axis])
            at[2] = np.clip(self.rng.uniform(0.6, 2.0), size[2], 2 * self.extent[2] - size[2])
            self.instances += 1
            material = random_material(self.rng)
            self.solids.append(Solid(BOX, at, size, material, np.eye(3), self.instances, 0))


def room(rng: Rng) -> World:
    """A closed room with furniture, people, clutter and one or two lamps."""
    extent = np.array([rng.uniform(1.4, 4.0), rng.uniform(1.4, 4.0), rng.uniform(1.15, 1.6)])
    builder = Builder(rng, extent)
    for _ in range(int(rng.integers(2, 6))):
        builder.stand(str(rng.choice(FURNITURE)), MAX_SOLIDS - 15)
    for _ in range(int(rng.choice([0, 0, 1, 1, 2]))):
        builder.stand("person")
    for _ in range(int(rng.integers(1, 9))):
        builder.stand(str(rng.choice(["", *SMALL])))
    builder.put_on_tops(int(rng.integers(0, 6)))
    builder.hang(int(rng.integers(0, 5)))
    centre = np.array([0, 0, extent[2]])
    shell = Solid(BOX, centre, extent, random_material(rng, muted=True))
    walls = random_material(rng, muted=True)
    surfaces = tuple(
        random_material(rng, muted=bool(rng.random() < 0.7)) if rng.random() < 0.3 else walls
        for _ in range(4)
    )
    floor, ceiling = random_material(rng), random_material(rng, muted=True)
    lights = []
    for _ in range(int(rng.integers(1, 3))):
        spot = rng.uniform(-0.8, 0.8, 3) * extent
        spot[2] = 2 * extent[2] * rng.uniform(0.7, 0.97)
        tint = np.clip(rng.normal(1, 0.1, 3), 0.6, 1.4)
        lights.append(Light(spot, tint * rng.uniform(0.5, 1.6) * float(extent[:2].mean()) ** 1.4))
    ambient = np.full(3, rng.uniform(0.12, 0.5)) * np.clip(rng.normal(1, 0.06, 3), 0.8, 1.2)
    return World(
        tuple(builder.solids),
        shell,
        (*surfaces, floor, ceiling),
        tuple(lights),
        ambient,
        (np.zeros(3), np.zeros(3)),
        tuple(builder.keypoints),
        extent,
    )


def outdoors(rng: Rng) -> World:
    """Ground, buildings, cars, people and a sky."""
    extent = np.array([rng.uniform(6, 14), rng.uniform(6, 14), 3.0])
    builder = Builder(rng, extent)
    for _ in range(int(rng.integers(2, 7))):
        half = np.array([*rng.uniform(1.0, 4.0, 2), rng.uniform(1.2, 5.0)])
        far = rng.uniform(0.7, 1.6) * extent[:2] * rng.choice([-1, 1], 2)
        turn = yaw(rng.choice([0, rng.uniform(0, 3)]))
        at = np.array([*far, half[2]])
        builder.instances += 1
        wall = random_material(rng, muted=True)
        builder.solids.append(Solid(BOX, at, half, wall, turn, builder.instances))
    for name in rng.choice(["car", "car", "person", "bench", "potted plant", "", ""], 12):
        builder.stand(str(name))
    ground = Solid(BOX, np.array([0, 0, -1.0]), np.array([80, 80, 1.0]), random_material(rng))
    sun = np.array([*rng.uniform(-40, 40, 2), 40.0])
    return World(
        (*builder.solids, ground),
        None,
        (),
        (Light(sun, np.array([1.0, 0.96, 0.88]) * rng.uniform(2000, 4200)),),
        np.array([0.9, 1.0, 1.15]) * rng.uniform(0.2, 0.5),
        (np.array([0.35, 0.55, 0.9]) * rng.uniform(0.4, 1.1), np.full(3, rng.uniform(0.5, 1))),
        tuple(builder.keypoints),
        extent,
    )


def sample_world(seed: int) -> World:
    """The world of a seed; one in five is outdoors."""
    rng = np.random.default_rng([seed, 1])
    return outdoors(rng) if rng.random() < 0.2 else room(rng)


def sample_camera(world: World, seed: int) -> Camera:
    """A view of the world: height, tilt, roll and field of view vary as on robots and phones."""
    rng = np.random.default_rng([seed, 2])
    things = [s for s in world.solids if s.instance]
    for _ in range(30):
        reach = world.extent * [0.93, 0.93, 1.0]
        position = rng.uniform(-1, 1, 3) * reach
        position[2] = rng.uniform(0.3, min(1.9, 2 * world.extent[2] - 0.2))
        aim = things[rng.integers(len(things))].centre if things else np.zeros(3)
        target = aim * rng.uniform(0.3, 1.0) + rng.normal(0, 0.3, 3)
        clear = all(distance_to(solid, position) > 0.35 for solid in world.solids)
        if clear and np.linalg.norm((target - position)[:2]) > 0.8:
            break
    rotation = look(position, target, float(rng.normal(0, 0.04)))
    return Camera(position, rotation, float(np.deg2rad(rng.uniform(45, 85))))


def distance_to(solid: Solid, point: np.ndarray) -> float:
    """Distance in metres from the point to the solid's bounding box, 0 inside."""
    local = np.abs(solid.rotation.T @ (point - solid.centre)) - solid.half
    return float(np.linalg.norm(np.maximum(local, 0)))

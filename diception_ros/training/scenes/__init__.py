# SPDX-License-Identifier: Apache-2.0
"""An endless, seeded source of scenes with exact ground truth, rendered by ray casting in torch."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import torch

from diception_ros.training.scenes.assembled import assembled_scene
from diception_ros.training.scenes.held_out import known_instances, unseen_scene
from diception_ros.training.scenes.objects import CATEGORIES
from diception_ros.training.scenes.photo import photograph
from diception_ros.training.scenes.plain import plain_world
from diception_ros.training.scenes.render import Frame, render
from diception_ros.training.scenes.world import (
    Camera,
    World,
    look,
    room,
    sample_camera,
    sample_world,
)

__all__ = [
    "CATEGORIES",
    "Camera",
    "Frame",
    "World",
    "assembled_frame",
    "assembled_scene",
    "furnished_scene",
    "known_instances",
    "make_frame",
    "plain_frame",
    "plain_scene",
    "render",
    "sample_camera",
    "sample_world",
    "sequence",
    "unseen_frame",
]


@cache
def photos() -> tuple[torch.Tensor, ...]:
    """Textures: 256 x 256 crops of the photographs inside the scikit-image wheel."""
    from skimage import data

    names = ("astronaut", "coffee", "chelsea", "rocket", "brick", "grass", "gravel", "camera")
    pictures = []
    for name in names:
        try:
            picture = getattr(data, name)()
        except (OSError, RuntimeError, ModuleNotFoundError):  # not in this wheel: needs a download
            continue
        colour = picture if picture.ndim == 3 else picture[..., None].repeat(3, -1)
        scaled = cv2.resize(colour[..., :3], (256, 256), interpolation=cv2.INTER_AREA)
        pictures.append(torch.from_numpy(scaled.astype(np.float32) / 255))
    return tuple(pictures)


def furnished_scene(seed: int) -> tuple[World, Camera]:
    world = sample_world(seed)
    return world, sample_camera(world, seed)


def plain_scene(seed: int) -> tuple[World, Camera]:
    """A bare room with a few solids."""
    world = plain_world(seed)
    return world, sample_camera(world, seed)


def make_frame(seed: int, height: int, width: int) -> Frame:
    """The frame of a seed, as a camera would have taken it."""
    return _taken(furnished_scene(seed), seed, height, width)


def plain_frame(seed: int, height: int, width: int) -> Frame:
    """The same of a bare room."""
    return _taken(plain_scene(seed), seed, height, width)


def assembled_frame(seed: int, height: int, width: int) -> Frame:
    """The world of a seed with one to four things of no kind before the camera."""
    return _taken(assembled_scene(seed), seed, height, width)


def unseen_frame(seed: int, height: int, width: int) -> Frame:
    """The world of a seed with one to four things of held-out kinds, at least one of them in view.
    Their instance ids are those above known_instances(sample_world(seed)).
    """
    return _taken(unseen_scene(seed), seed, height, width)


def _taken(scene: tuple[World, Camera], seed: int, height: int, width: int) -> Frame:
    frame = render(*scene, height, width, list(photos()))
    return replace(frame, rgb=photograph(frame.rgb, seed))


def sequence(seed: int, frames: int, height: int, width: int) -> Iterator[tuple[Frame, Camera]]:
    """A camera that moves through one furnished room: frames and its poses."""
    world = room(np.random.default_rng([seed, 1]))
    start = sample_camera(world, seed)
    forward = start.rotation[:, 2]
    target = start.position + forward * 2.5
    side = start.rotation[:, 0]
    for number in range(frames):
        phase = 2 * np.pi * number / max(frames, 1)
        position = start.position + side * 0.25 * np.sin(phase) + forward * 0.15 * np.cos(phase)
        camera = Camera(position, look(position, target), start.fov)
        frame = render(world, camera, height, width, list(photos()))
        yield replace(frame, rgb=photograph(frame.rgb, seed)), camera

# SPDX-License-Identifier: Apache-2.0
"""Worlds as arrays of one size, made by worker processes ahead of the renderer."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import torch

from diception_ros.training.cache import ASSEMBLED, KEYPOINTS, MAX_PEOPLE, PLAIN
from diception_ros.training.scenes import (
    Camera,
    World,
    assembled_scene,
    furnished_scene,
    plain_scene,
)
from diception_ros.training.scenes.assembled import MOST_SOLIDS
from diception_ros.training.scenes.solids import Material

Arrays = dict[str, np.ndarray]
CHUNK = 64
"""Worlds that are packed and rendered together."""
SOLIDS = MOST_SOLIDS
"""Rows of a world's solids; a room holds at most 64."""
LIGHTS, SURFACES = 2, 6
FURNISHED_KIND, PLAIN_KIND, ASSEMBLED_KIND = "furnished", "plain", "assembled"
KINDS = {
    FURNISHED_KIND: (0, furnished_scene),
    PLAIN_KIND: (PLAIN.start, plain_scene),
    ASSEMBLED_KIND: (ASSEMBLED.start, assembled_scene),
}
"""Kinds of scenes: their first seed and what makes the scene of a seed."""


def pack_world(world: World, camera: Camera) -> Arrays:
    """Float32 arrays: solid (SOLIDS, 15) centre, half extents, rotation; kind (SOLIDS,), -1 where
    there is none; owner (SOLIDS, 2) instance and category; material (SOLIDS + 1 + SURFACES, 10)
    of the solids, the shell and its six sides; shell (6,) centre and half extents, zeros outdoors;
    light (LIGHTS, 6); air (9,) ambient, zenith, horizon; camera (13,) position, rotation, fov;
    people (MAX_PEOPLE, KEYPOINTS, 3) in metres, NaN where there is none. ValueError for a world of
    more solids or lights.
    """
    count = len(world.solids)
    if count > SOLIDS or len(world.lights) > LIGHTS:
        raise ValueError(
            f"expected at most {SOLIDS} solids and {LIGHTS} lights, "
            f"found {count} and {len(world.lights)}"
        )
    solid, kind = np.zeros((SOLIDS, 15)), np.full(SOLIDS, -1)
    owner, light = np.zeros((SOLIDS, 2)), np.zeros((LIGHTS, 6))
    material, shell = np.zeros((SOLIDS + 1 + SURFACES, 10)), np.zeros(6)
    solid[:, 3:6] = 1
    for row, s in enumerate(world.solids):
        solid[row] = [*s.centre, *s.half, *s.rotation.ravel()]
        kind[row], owner[row], material[row] = s.kind, (s.instance, s.category), coats(s.material)
    if world.shell:
        shell[:] = [*world.shell.centre, *world.shell.half]
        material[SOLIDS:] = [coats(m) for m in (world.shell.material, *world.surfaces)]
    for row, lamp in enumerate(world.lights):
        light[row] = [*lamp.position, *lamp.colour]
    people = np.full((MAX_PEOPLE, KEYPOINTS, 3), np.nan)
    for row, (_, points) in enumerate(world.keypoints[:MAX_PEOPLE]):
        people[row] = points
    arrays = {
        "solid": solid,
        "kind": kind,
        "owner": owner,
        "material": material,
        "shell": shell,
        "light": light,
        "air": np.concatenate([world.ambient, *world.sky]),
        "camera": np.concatenate([camera.position, camera.rotation.ravel(), [camera.fov]]),
        "people": people,
    }
    return {name: value.astype(np.float32) for name, value in arrays.items()}


def coats(material: Material) -> list[float]:
    """colour (3), second colour (3), pattern, size, photo, gloss."""
    last = (material.pattern, material.size, material.photo, material.gloss)
    return [*material.colour, *material.second, *last]


def pack_chunk(kind: str, number: int) -> Arrays:
    """The scenes of CHUNK seeds of a kind, stacked."""
    first, make = KINDS[kind]
    seeds = range(first + number * CHUNK, first + (number + 1) * CHUNK)
    return stack([pack_world(*make(seed)) for seed in seeds])


def stack(packed: Sequence[Arrays]) -> Arrays:
    return {name: np.stack([one[name] for one in packed]) for name in packed[0]}


def chunks_ahead(
    order: Sequence[str], workers: int, rank: int = 0, processes: int = 1
) -> Iterator[tuple[str, Arrays]]:
    """One chunk for every kind in `order`, in that order; each kind counts its own chunks, of which
    every so many processes has the one of its rank. Made by worker processes, at most four a worker
    ahead; by this process where workers is 0.
    """
    seen = dict.fromkeys(KINDS, rank)
    jobs = []
    for kind in order:
        jobs.append((kind, seen[kind]))
        seen[kind] += processes
    if not workers:
        yield from ((kind, pack_chunk(kind, number)) for kind, number in jobs)
        return
    waiting: deque[tuple[str, Future[Arrays]]] = deque()
    with ProcessPoolExecutor(workers, get_context("spawn"), initializer=single_thread) as pool:
        try:
            for kind, number in jobs:
                waiting.append((kind, pool.submit(pack_chunk, kind, number)))
                if len(waiting) >= 4 * workers:
                    kind, made = waiting.popleft()
                    yield kind, made.result()
            for kind, made in waiting:
                yield kind, made.result()
        finally:  # closed early, at the end of a training: nobody waits for what was ahead
            pool.shutdown(cancel_futures=True)


def single_thread() -> None:
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    torch.set_num_threads(1)

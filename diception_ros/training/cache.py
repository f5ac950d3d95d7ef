# SPDX-License-Identifier: Apache-2.0
"""Frames rendered ahead into compressed shards, and read back as training goes on."""

from __future__ import annotations

import argparse
import logging
import time
from pathlib import Path

import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from diception_ros.training.scenes import (
    Frame,
    assembled_frame,
    make_frame,
    plain_frame,
    unseen_frame,
)

LOG = logging.getLogger(__name__)
SHARD = 64
MAX_PEOPLE, KEYPOINTS = 4, 13
PLAIN = range(5_000_000, 6_000_000)
"""Seeds of bare rooms, to begin a training with; HELD_OUT further on they are for evaluation."""
ASSEMBLED = range(6_000_000, 7_000_000)
"""Seeds of furnished scenes with things of no kind in them, put together at random."""
HELD_OUT = 10_000_000
"""Seeds from here on are for evaluation only: they also show kinds of things never trained on."""


def pack(frames: list[Frame]) -> dict[str, np.ndarray]:
    """A shard's arrays: half-precision depth (NaN sky), normals in 1/127, 8-bit ids, and per frame
    up to MAX_PEOPLE rows of (instance, x, y, visible) for each keypoint.
    """
    people = np.zeros((len(frames), MAX_PEOPLE, KEYPOINTS, 4), np.float32)
    for row, frame in enumerate(frames):
        for person, (instance, points, visible) in enumerate(frame.keypoints[:MAX_PEOPLE]):
            people[row, person, :, 0] = instance
            people[row, person, :, 1:3] = points
            people[row, person, :, 3] = visible
    normals = np.stack([np.nan_to_num(frame.normals) for frame in frames])
    return {
        "rgb": np.stack([frame.rgb for frame in frames]),
        "depth": np.stack([frame.depth for frame in frames]).astype(np.float16),
        "normals": np.round(normals * 127).astype(np.int8),
        "instances": np.stack([frame.instances for frame in frames]).astype(np.uint8),
        "categories": np.stack([frame.categories for frame in frames]).astype(np.uint8),
        "intrinsics": np.array([frame.intrinsics for frame in frames], np.float32),
        "people": people,
    }


def unpack(shard: dict[str, np.ndarray], row: int) -> Frame:
    """One frame of a loaded shard."""
    normals = shard["normals"][row].astype(np.float32)
    length = np.linalg.norm(normals, axis=-1, keepdims=True)
    people = shard["people"][row]
    return Frame(
        shard["rgb"][row],
        shard["depth"][row].astype(np.float32),
        np.where(length > 0, normals / np.maximum(length, 1), np.nan),
        shard["instances"][row].astype(np.uint16),
        shard["categories"][row].astype(np.uint16),
        tuple(shard["intrinsics"][row].tolist()),
        tuple((int(p[0, 0]), p[:, 1:3], p[:, 3] > 0) for p in people if p[0, 0] > 0),
    )


def shards_of(folder: Path) -> list[Path]:
    """The folder's shards by their seeds; none that is being written."""
    return sorted(folder.glob("*[0-9].npz"))


def frame_size(path: Path) -> tuple[int, int]:
    """(height, width) of a shard's frames; of its arrays only one is read."""
    with np.load(path) as shard:
        height, width = shard["rgb"].shape[1:3]
    return height, width


def load(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as shard:
        return {name: shard[name] for name in shard.files}


def frame_of(seed: int, size: int) -> Frame:
    """The frame that belongs to a seed: training's, or one of evaluation's."""
    if seed % HELD_OUT in PLAIN:
        return plain_frame(seed, size, size)
    if seed % HELD_OUT in ASSEMBLED:
        return assembled_frame(seed, size, size)
    make = unseen_frame if seed >= HELD_OUT else make_frame
    return make(seed, size, size)


def fill(folder: Path, first: int, count: int, size: int) -> str:
    """Renders seeds first .. first + count - 1, rounded up to whole shards; those that exist are
    left alone. Returns what was made and how fast, for people. ValueError for one of another size.
    """
    folder.mkdir(parents=True, exist_ok=True)
    started, made = time.monotonic(), 0
    seeds = range(first, first + count, SHARD)
    console = Console(stderr=True)
    for seed in track(seeds, f"rendering {size} x {size}", console=console):
        path = folder / f"{seed:09d}.npz"
        if path.exists():
            check_size(path, size)
            continue
        frames = [frame_of(number, size) for number in range(seed, seed + SHARD)]
        np.savez(path.with_suffix(".part.npz"), **pack(frames))
        path.with_suffix(".part.npz").rename(path)
        made += SHARD
    seconds = max(time.monotonic() - started, 1e-6)
    there = len(seeds) * SHARD - made
    before = f"; {there} were there already" if there else ""
    return f"{made} frames in {seconds:.1f} s, {made / seconds:.1f} a second{before}"


def check_size(path: Path, size: int) -> None:
    height, width = frame_size(path)
    if (height, width) != (size, size):
        raise ValueError(
            f"{path} holds frames of {width}x{height}, not {size}x{size}: choose another folder, "
            "or remove it"
        )


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--first", type=int, default=0, help="first seed")
    parser.add_argument("--count", type=int, default=20000, help="frames")
    parser.add_argument("--size", type=int, default=128, help="height and width in pixels")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    LOG.info(fill(arguments.folder, arguments.first, arguments.count, arguments.size))


if __name__ == "__main__":
    main()

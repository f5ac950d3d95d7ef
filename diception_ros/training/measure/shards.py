# SPDX-License-Identifier: Apache-2.0
"""Rendered scenes for evaluation: never those that training saw."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from diception_ros.training.cache import HELD_OUT, PLAIN, load, shards_of, unpack
from diception_ros.training.scenes import Frame, known_instances, sample_world


def read_scenes(folder: Path, count: int, held_out: bool) -> tuple[list[Frame], list[int]]:
    """The first `count` frames of a folder's shards and their seeds: those of evaluation only
    (HELD_OUT and above) or of training only. ValueError if there is none.
    """
    frames, seeds = [], []
    for path in shards_of(folder):
        first = int(path.stem)
        if (first >= HELD_OUT) == held_out and len(frames) < count:
            shard = load(path)
            rows = range(min(len(shard["rgb"]), count - len(frames)))
            frames += [unpack(shard, row) for row in rows]
            seeds += [first + row for row in rows]
    if not frames:
        wanted = f"seeds from {HELD_OUT} on" if held_out else f"seeds below {HELD_OUT}"
        raise ValueError(
            f"no shards of {wanted} in {folder}: render some with diception_ros.training.cache"
        )
    return frames, seeds


def only_held_out_kinds(frame: Frame, seed: int) -> Frame:
    """The frame with no instances but those of kinds that no training scene has: none in a bare
    room."""
    if seed % HELD_OUT in PLAIN:
        return replace(frame, instances=np.zeros_like(frame.instances))
    new = frame.instances > known_instances(sample_world(seed))
    return replace(frame, instances=np.where(new, frame.instances, 0).astype(np.uint16))

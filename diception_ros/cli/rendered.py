# SPDX-License-Identifier: Apache-2.0
"""The demo's moving camera: a room that no training has seen, rendered with its exact truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from diception_ros.evaluation.material import DemoFrame

if TYPE_CHECKING:
    from diception_ros.training.scenes import Frame

SEED = 10_000_074
"""Beyond the seeds that training renders (diception_ros.training.cache.HELD_OUT)."""
SIZE = (192, 256)


def rendered_sequence(frames: int, seed: int = SEED) -> list[DemoFrame]:
    """Frames in order, 256 x 192, always the same for one seed."""
    from diception_ros.training.scenes import CATEGORIES, sequence

    return [
        as_demo_frame(frame, number, CATEGORIES[1:])
        for number, (frame, _) in enumerate(sequence(seed, frames, *SIZE))
    ]


def as_demo_frame(frame: Frame, number: int, names: Sequence[str]) -> DemoFrame:
    """The renderer's frame with its truth; names: of categories 1, 2, ..."""
    seen = [(person, xy[visible]) for person, xy, visible in frame.keypoints if visible.any()]
    joints = np.concatenate([xy for _, xy in seen]) if seen else None
    people = np.repeat([person for person, _ in seen], [len(xy) for _, xy in seen])
    return DemoFrame(
        name=f"room_{number:02d}",
        rgb=frame.rgb,
        credit="rendered, unseen room",
        sequence=True,
        intrinsics=frame.intrinsics,
        depth_m=frame.depth,
        normals=np.nan_to_num(frame.normals),
        ids=frame.instances,
        classes=frame.categories.astype(np.uint8),
        class_names=tuple(names),
        keypoints=None if joints is None else joints.astype(np.float32),
        people=None if joints is None else people,
    )

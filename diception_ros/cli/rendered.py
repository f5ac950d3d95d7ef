# SPDX-License-Identifier: Apache-2.0
"""The demo's moving camera: a room that no training has seen, rendered with its exact truth."""

from __future__ import annotations

import numpy as np

from diception_ros.evaluation.material import DemoFrame

SEED = 10_000_074
"""Beyond the seeds that training renders (diception_ros.training.cache.HELD_OUT)."""
SIZE = (192, 256)


def rendered_sequence(frames: int, seed: int = SEED) -> list[DemoFrame]:
    """Frames in order, 256 x 192, always the same for one seed."""
    from diception_ros.training.scenes import CATEGORIES, sequence

    return [
        DemoFrame(
            name=f"room_{number:02d}",
            rgb=frame.rgb,
            credit="rendered, unseen room",
            sequence=True,
            intrinsics=frame.intrinsics,
            depth_m=frame.depth,
            normals=np.nan_to_num(frame.normals),
            ids=frame.instances,
            classes=frame.categories.astype(np.uint8),
            class_names=tuple(CATEGORIES[1:]),
        )
        for number, (frame, _) in enumerate(sequence(seed, frames, *SIZE))
    ]

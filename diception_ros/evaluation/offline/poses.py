# SPDX-License-Identifier: Apache-2.0
"""Poses from a bag's /tf_static: where the lidar sits on the robot. Moving frames are not followed:
what is kept must not grow with the bag."""

from __future__ import annotations

from typing import Any

from scipy.spatial.transform import Rotation

from diception_ros.evaluation.offline.sources import Bag, Report, decode
from diception_ros.geometry.transforms import TransformTree
from diception_ros.ros.transforms import FindPose

STATIC = "/tf_static"


def static_poses(bag: Bag, report: Report) -> FindPose:
    """Answers as the node's listener does, from the static transforms of the whole bag."""
    tree = TransformTree()
    for raw in bag.messages({STATIC}, report):
        try:
            for item in decode(raw).transforms:
                offset, turn = item.transform.translation, item.transform.rotation
                tree.add(
                    item.header.frame_id.lstrip("/"),
                    item.child_frame_id.lstrip("/"),
                    (offset.x, offset.y, offset.z),
                    (turn.x, turn.y, turn.z, turn.w),
                )
        except ValueError as error:
            report(raw.topic, raw.received, str(error))

    def find(target: str, source: str, stamp: Any) -> tuple[float, ...]:
        pose = tree.pose(target.lstrip("/"), source.lstrip("/"), 0)
        if pose is None:
            raise ValueError(
                f"no transform from '{source}' to '{target}' in {STATIC} of {bag.path}"
            )
        turn = Rotation.from_matrix(pose[:3, :3]).as_quat()
        return tuple(float(value) for value in (*pose[:3, 3], *turn))

    return find

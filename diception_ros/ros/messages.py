# SPDX-License-Identifier: Apache-2.0
"""Results -> contents of messages, each with the header of the image it answers. No ROS here."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from diception_ros.ros import content
from diception_ros.ros.camera import Located
from diception_ros.ros.content import Content
from diception_ros.tasks import Instance, Instances, Keypoints

ENCODINGS = {
    ("uint8", 1): "mono8",
    ("uint16", 1): "mono16",
    ("uint8", 3): "rgb8",
    ("float32", 1): "32FC1",
    ("float32", 3): "32FC3",
}


def image_message(header: Any, pixels: npt.NDArray[Any]) -> Any:
    """uint8, uint16 or float32 array (H, W) or (H, W, 3) -> sensor_msgs/Image, tightly packed."""
    channels = 1 if pixels.ndim == 2 else pixels.shape[2]
    height, width = pixels.shape[:2]
    return Content(
        content.IMAGE,
        header=header,
        height=height,
        width=width,
        encoding=ENCODINGS[pixels.dtype.name, channels],
        is_bigendian=int(sys.byteorder == "big"),
        step=width * channels * pixels.itemsize,
        data=np.ascontiguousarray(pixels).reshape(-1).view(np.uint8),
    )


def instance_array(
    header: Any, task: str, found: Sequence[tuple[int, Instances]], located: Located | None
) -> Any:
    """(class id, Instances) pairs of one task -> InstanceArray; class id -1 for entities. With
    metric depth each instance has the median position of its pixels."""
    instances = []
    for class_id, group in found:
        for item in group.instances:
            position = located.of_instance(group.ids, item) if located else None
            instances.append(_instance(item, class_id, group.category or "", position))
    return Content(content.INSTANCE_ARRAY, header=header, task=task, instances=instances)


def _instance(
    item: Instance, class_id: int, name: str, position: npt.NDArray[np.float32] | None
) -> Any:
    x, y, width, height = item.box
    return Content(
        content.INSTANCE,
        id=item.id,
        class_id=class_id,
        class_name=name,
        score=float(item.score),
        x=int(x),
        y=int(y),
        width=int(width),
        height=int(height),
        area=int(item.area),
        centroid_x=float(item.centroid[0]),
        centroid_y=float(item.centroid[1]),
        has_position=position is not None,
        position=_point(position),
    )


def keypoint_array(header: Any, keypoints: Keypoints, located: Located | None) -> Any:
    """Keypoints -> KeypointArray, with positions where metric depth is known."""
    messages = []
    for (x, y), score in zip(keypoints.points, keypoints.scores, strict=True):
        position = located.at(float(x), float(y)) if located else None
        messages.append(
            Content(
                content.KEYPOINT,
                x=float(x),
                y=float(y),
                score=float(score),
                has_position=position is not None,
                position=_point(position),
            )
        )
    return Content(content.KEYPOINT_ARRAY, header=header, keypoints=messages)


def frame_report(
    header: Any,
    tasks: Iterable[str],
    stages: dict[str, float],
    *,
    age_ms: float,
    batch: int,
    steps: int,
    graph: bool,
    dropped: int,
) -> Any:
    """FrameReport; stages in milliseconds, in the order in which they ran."""
    return Content(
        content.FRAME_REPORT,
        header=header,
        tasks=list(tasks),
        stages=list(stages),
        durations=np.array(list(stages.values()), np.float32),
        age_ms=float(age_ms),
        batch=batch,
        steps=steps,
        graph_replayed=graph,
        dropped=dropped,
    )


def label_info(header: Any, categories: Sequence[str], threshold: float) -> Any:
    """vision_msgs/LabelInfo with ids from 1, 0 the background."""
    names = ("background", *categories)
    classes = [
        Content(content.VISION_CLASS, class_id=i, class_name=name) for i, name in enumerate(names)
    ]
    return Content(content.LABEL_INFO, header=header, class_map=classes, threshold=float(threshold))


def _point(position: npt.NDArray[np.float32] | None) -> Any:
    if position is None:
        return Content(content.POINT, x=0.0, y=0.0, z=0.0)
    x, y, z = (float(part) for part in position)
    return Content(content.POINT, x=x, y=y, z=z)

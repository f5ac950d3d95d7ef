# SPDX-License-Identifier: Apache-2.0
"""A frame on its way and everything that is known about it. No ROS here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.geometry import Intrinsics
from diception_ros.ros.camera import Located
from diception_ros.ros.parameters import NodeParameters
from diception_ros.ros.scale import Reference
from diception_ros.tasks import Instances, MetricDepth, Result

if TYPE_CHECKING:  # at run time no ROS is needed here
    from diception_ros.ros.incoming import Prompts


@dataclass(frozen=True)
class Frame:
    """One image on its way. rgb uint8 (H, W, 3) at the published size; input_size (width, height)
    in pixels as it came; camera and camera_info belong to the published size. references and
    prompts: those at hand when the work began, because newer ones push them out meanwhile."""

    header: Any
    rgb: npt.NDArray[np.uint8]
    input_size: tuple[int, int]
    camera_info: Any | None = None
    camera: Intrinsics | None = None
    references: tuple[Reference, ...] = ()
    prompts: Prompts | None = None


@dataclass(frozen=True)
class Answers:
    """Everything that is known about one frame. results: by task; semantic: by class id from 1;
    metric and confidence (H, W) uint8 only where there are metres."""

    frame: Frame
    parameters: NodeParameters
    results: Mapping[str, Result] = field(default_factory=dict)
    semantic: Mapping[int, Instances] = field(default_factory=dict)
    metric: MetricDepth | None = None
    confidence: npt.NDArray[np.uint8] | None = None

    @cached_property
    def located(self) -> Located | None:
        """Positions of all pixels, None without metres."""
        if self.metric is None or self.frame.camera is None:
            return None
        return Located(self.metric.meters, self.frame.camera)

    @cached_property
    def classes(self) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
        """Class ids and confidences, both (H, W) uint8; where classes overlap the surer wins."""
        shape = self.frame.rgb.shape[:2]
        if len(self.semantic) == 1:
            ((class_id, found),) = self.semantic.items()
            confidence = confidences(found)
            return (confidence > 0).view(np.uint8) * np.uint8(class_id), confidence
        ids, confidence = np.zeros(shape, np.uint8), np.zeros(shape, np.uint8)
        for class_id, found in self.semantic.items():
            score = confidences(found)
            wins = score > confidence
            ids[wins], confidence[wins] = class_id, score[wins]
        return ids, confidence


def confidences(found: Instances) -> npt.NDArray[np.uint8]:
    """Of every pixel (H, W): 1..255 where there is an instance, 0 for none."""
    # A small instance may have lost its pixels to a smaller size, and be the one of the highest id.
    highest = max((item.id for item in found.instances), default=0)
    scores = np.zeros(1 + max(255, highest, int(found.ids.max(initial=0))), np.uint8)
    for item in found.instances:
        scores[item.id] = max(1, round(255 * item.score))
    if len(scores) > 256:
        return scores.take(found.ids)
    return np.asarray(cv2.LUT(found.ids.astype(np.uint8), scores), np.uint8)  # 4 times as fast

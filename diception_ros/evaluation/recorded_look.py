# SPDX-License-Identifier: Apache-2.0
"""A second look into a bag: the frames that the report shows."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from diception_ros.evaluation.bags import read_messages
from diception_ros.evaluation.datasets.sample import Sample
from diception_ros.evaluation.judge import BROKEN
from diception_ros.evaluation.pictures import Panels, draw, draw_point, draw_semantic
from diception_ros.evaluation.protocols.presets import DepthPreset
from diception_ros.evaluation.recorded_outputs import Outputs, Published
from diception_ros.evaluation.recorded_truth import Truths
from diception_ros.evaluation.truths import object_under
from diception_ros.evaluation.views import Picture, view_of


class Look:
    """The outputs, truths and pictures of the images of a few stamps."""

    def __init__(self, outputs: Outputs, truths: Truths, stamps: Collection[int]) -> None:
        self._outputs, self._truths, self._stamps = outputs, truths, set(stamps)
        self._pictures: dict[int, npt.NDArray[Any]] = {}
        self._found: dict[int, tuple[Sample | None, Published]] = {}

    def read(self, bag: Path, node: str) -> None:
        """What cannot be read was named when it was judged."""
        for item in read_messages(bag):
            wanted, mine = item.stamp in self._stamps, item.topic in self._outputs.wanted
            try:
                if mine and (wanted or item.topic not in self._outputs.topics):
                    self._outputs.add(item)
                elif item.topic in self._truths.topics:
                    if any(self._truths.near(item.stamp, stamp) for stamp in self._stamps):
                        self._truths.add(item)
                elif item.topic in self._truths.wanted:
                    self._truths.add(item)
                elif wanted and not item.topic.startswith(node):
                    view = view_of(item.topic, item.message, has_camera=False)
                    if isinstance(view, Picture):
                        self._pictures.setdefault(item.stamp, view.rgb)
            except BROKEN:
                continue

    def frame(self, stamp: int) -> tuple[Sample | None, Published]:
        """Truth, with the camera's picture where it fits, and outputs of one stamp."""
        if stamp not in self._found:
            published = self._outputs.take(stamp)
            sample, picture = (
                self._truths.sample(stamp, published.arrays),
                self._pictures.get(stamp),
            )
            if sample is not None and picture is not None and picture.shape == sample.rgb.shape:
                sample = replace(sample, rgb=picture)
            self._found[stamp] = sample, published
        return self._found[stamp]

    def panels(self, task: str, stamp: int, preset: DepthPreset) -> Panels | None:
        """The task's pictures, None where truth or answer is missing."""
        sample, published = self.frame(stamp)
        if sample is None:
            return None
        if task == "point":
            one, mask = object_under(sample, published.clicks), published.mask
            if one is None or mask is None:
                return None
            return draw_point(sample, one, mask, published.clicks)
        for answers in published.answers():
            if task == "semantic" and answers.classes is not None:
                return draw_semantic(sample, answers.classes, published.categories)
            panels = draw(task, sample, answers, preset)
            if panels is not None:
                return panels
        return None

# SPDX-License-Identifier: Apache-2.0
"""What can be asked of a frame whose truth is known."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from diception_ros.tasks import TASKS, Mask
from diception_ros.training.scenes import CATEGORIES, Frame
from diception_ros.training.targets import colours_of, innermost, least_area, soft

Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Rng = np.random.Generator
JOINTS = 5
"""Visible keypoints that a person must have to be counted."""


@dataclass(frozen=True)
class Question:
    """One task asked of one image.

    task: a key of TASKS. frame: the truth. image (H, W, 3) uint8: what is shown, the frame's own
    unless it was exchanged. category: for the semantic task. click (row, column): the pixel of the
    frame that the point task asks about.
    """

    task: str
    frame: Frame
    image: npt.NDArray[np.uint8]
    category: str = ""
    click: tuple[int, int] | None = None

    @property
    def size(self) -> tuple[int, int]:
        """(H, W) of the frame."""
        height, width = self.frame.depth.shape
        return height, width

    @property
    def prompt(self) -> str:
        return TASKS[self.task].prompt_for(self.category or None)

    @property
    def mask(self) -> Bool:
        """(H, W): the clicked instance, or everything of the category."""
        if self.click is not None:
            return self.frame.instances == self.frame.instances[self.click]
        return self.frame.categories == CATEGORIES.index(self.category)

    def colours(self) -> Float:
        """What the network is trained to generate here, (H, W, 3) in [0, 1]."""
        if self.task == "point":
            return soft(TASKS["point"].encode(Mask(self.mask, self.mask.astype(np.float32))))
        return colours_of(self.frame, self.task, self.category)


def ask(task: str, frames: list[Frame], rng: Rng) -> list[Question]:
    """One question, drawn at random, of every frame that can show the task."""
    found = [possible(task, frame) for frame in frames]
    return [some[rng.integers(len(some))] for some in found if some]


def possible(task: str, frame: Frame) -> list[Question]:
    """Every question of the task that the frame's truth can answer: one for every category (the
    semantic task) and for every instance, clicked at its pixel farthest from its edge (the point
    task, as SAM's one-point protocol, Kirillov et al. 2023), else one or none.
    """
    question = Question(task, frame, frame.rgb)
    if task == "semantic":
        names = [CATEGORIES[i] for i in large(frame.categories, smallest_category(frame))]
        return [replace(question, category=name) for name in names]
    if task == "point":
        ids = large(frame.instances, smallest_instance(frame))
        return [replace(question, click=innermost(frame.instances == i)) for i in ids]
    shows = {
        "depth": (np.nan_to_num(frame.depth) > 0).any(),
        "normal": np.isfinite(frame.normals).any(),
        "entity": len(large(frame.instances, smallest_instance(frame))) > 0,
        "pose": any(visible.sum() >= JOINTS for _, _, visible in frame.keypoints),
    }
    return [question] if shows[task] else []


def exchange(questions: list[Question], frames: list[Frame]) -> list[Question]:
    """The same questions, each of the image of the next frame that is asked the task; of the next
    of all `frames` where only one is asked.
    """
    asked = {id(question.frame) for question in questions}
    ring = [frame for frame in frames if id(frame) in asked] if len(asked) > 1 else frames
    following = {id(frame): ring[i - len(ring) + 1] for i, frame in enumerate(ring)}
    return [replace(question, image=following[id(question.frame)].rgb) for question in questions]


def smallest_instance(frame: Frame) -> int:
    """Pixels under which an instance is neither asked for nor scored: 0.3% of the image."""
    return round(2 * least_area(frame.instances.size))


def smallest_category(frame: Frame) -> int:
    """Pixels under which a category is not asked for: 0.4% of the image."""
    return round(3 * least_area(frame.categories.size))


def large(ids: npt.NDArray[np.uint16], least: int) -> list[int]:
    """The ids, without 0, of at least `least` pixels."""
    areas = np.bincount(ids.ravel())
    areas[0] = 0
    return np.flatnonzero(areas >= max(least, 1)).tolist()

# SPDX-License-Identifier: Apache-2.0
"""Poses from a bag's /tf and /tf_static, as the node's listener gives them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from scipy.spatial.transform import Rotation

from diception_ros.evaluation.offline.sources import Bag, Raw, Report, decode, opened
from diception_ros.geometry.transforms import Matrix, TransformTree
from diception_ros.ros.camera import stamp_ns
from diception_ros.ros.transforms import FindPose

MOVING, STATIC = "/tf", "/tf_static"
BEHIND = 10_000_000_000
"""ns of moving transforms that are kept, as tf2 keeps them, on both sides of the time that is asked
for: memory must not grow with the bag."""
AHEAD = 1_000_000_000
"""ns after the time that is asked for, up to which transforms are read at least."""
BACK = 2_000_000_000
"""ns by which times go back where a bag was recorded over a loop."""


@contextmanager
def bag_transforms(bag: Bag, report: Report) -> Iterator[FindPose]:
    """Answers as the node's listener does, for times that go on as the bag does. One thread may
    ask, and has to be the one that leaves this."""
    with ExitStack() as stack:
        yield BagTransforms(bag, report, stack)


class BagTransforms:
    """Static transforms are those of the whole bag; moving ones are read as far as is asked."""

    def __init__(self, bag: Bag, report: Report, stack: ExitStack) -> None:
        self._bag, self._report, self._stack = bag, report, stack
        self._topics = [topic for topic in (MOVING, STATIC) if topic in bag.topics]
        self._tree = TransformTree()
        self._moving: Iterator[list[Any]] | None = None
        self._of_next_loop: list[Any] = []
        self._newest: dict[str, int] = {}
        self._asked = self._read = 0
        for raw in bag.messages({STATIC}, report):
            self._add(self._decoded(raw), static=True)

    def __call__(self, target: str, source: str, stamp: Any) -> tuple[float, ...]:
        """See FindPose."""
        at = stamp.sec * 1_000_000_000 + stamp.nanosec
        self._go_to(at)
        pose = self._pose(target.lstrip("/"), source.lstrip("/"), at)
        if pose is None:
            raise ValueError(
                f"no transform from '{source}' to '{target}' at {at / 1e9:.3f} s in "
                f"{' and '.join(self._topics) or f'{MOVING} and {STATIC}'} of {self._bag.path}"
            )
        turn = Rotation.from_matrix(pose[:3, :3]).as_quat()
        return tuple(float(value) for value in (*pose[:3, 3], *turn))

    def _pose(self, target: str, source: str, at: int) -> Matrix | None:
        """Reads on for what is not known yet: that one frame has come so far does not say that the
        others have, as AMCL dates map -> odom ahead (transform_tolerance)."""
        while (pose := self._tree.pose(target, source, at)) is None and self._read <= at + BEHIND:
            if (items := self._next()) is None:
                break
            self._add(items)
        return pose

    def _go_to(self, at: int) -> None:
        if at < self._asked - BACK:
            while self._next() is not None:
                pass  # what is left of the loop before
            self._tree.forget(None)
            self._newest.clear()
            self._read = 0
            self._add(self._of_next_loop)
            self._of_next_loop = []
        self._asked = at
        while self._read <= at + AHEAD and (items := self._next()) is not None:
            self._add(items)
        self._tree.forget(at - BEHIND)

    def _next(self) -> list[Any] | None:
        """The transforms of the next message, None at the end and where times start again."""
        if self._moving is None:
            self._moving = self._messages()
        items = None if self._of_next_loop else next(self._moving, None)
        if items and self._starts_again(items):
            self._of_next_loop = items
            return None
        for item in items or ():
            frame, stamp = item.child_frame_id, stamp_ns(item.header)
            self._newest[frame] = max(stamp, self._newest.get(frame, stamp))
            self._read = max(self._read, stamp)
        return items

    def _starts_again(self, items: list[Any]) -> bool:
        """Whether all go back, each against its own frame: others may be dated ahead for good."""
        return all(
            stamp_ns(item.header) < self._newest.get(item.child_frame_id, 0) - BACK
            for item in items
        )

    def _messages(self) -> Iterator[list[Any]]:
        """By a reader of its own: the bag's is at work in another thread."""
        if MOVING in self._bag.topics:
            bag = self._stack.enter_context(opened(self._bag.path))
            yield from map(self._decoded, bag.messages({MOVING}, self._report))

    def _decoded(self, raw: Raw) -> list[Any]:
        try:
            return list(decode(raw).transforms)
        except ValueError as error:
            self._report(raw.topic, raw.received, str(error))
            return []

    def _add(self, items: list[Any], static: bool = False) -> None:
        for item in items:
            try:
                self._tree.add_stamped(item, always=static)
            except ValueError as error:
                topic = STATIC if static else MOVING
                self._report(topic, stamp_ns(item.header), str(error))

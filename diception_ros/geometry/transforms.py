# SPDX-License-Identifier: Apache-2.0
"""A tree of frames over time, as tf2 keeps it; no ROS."""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Sequence
from itertools import takewhile
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.spatial.transform import Rotation, Slerp

Matrix = npt.NDArray[np.float64]
Pose = tuple[Matrix, Matrix]
"""Translation (3,) in metres and quaternion (4,) x y z w."""


class TransformTree:
    """Poses of child frames in their parents. Times are nanoseconds. keep: how far from a frame's
    newest transform its others may lie that are kept; None: all are."""

    def __init__(self, keep: int | None = None) -> None:
        self._keep = keep
        self._parent: dict[str, str] = {}
        self._static: dict[str, Pose] = {}
        self._moving: dict[str, dict[int, Pose]] = defaultdict(dict)
        self._times: dict[str, list[int]] = {}

    def add(
        self,
        parent: str,
        child: str,
        translation: Sequence[float],
        quaternion: Sequence[float],
        stamp: int | None = None,
    ) -> None:
        """The pose of child in parent at a time; stamp None: always (tf_static).
        ValueError for a quaternion of no length, values that are not finite, or a frame in
        itself."""
        offset, turn = np.asarray(translation, np.float64), np.asarray(quaternion, np.float64)
        if not (np.isfinite(offset).all() and np.isfinite(turn).all() and np.linalg.norm(turn) > 0):
            raise ValueError(
                f"transform of '{child}' in '{parent}': expected finite numbers and a unit "
                f"quaternion, found {list(translation)} and {list(quaternion)}"
            )
        if child == parent:
            raise ValueError(f"transform of '{child}' in itself: expected another parent")
        self._parent[child] = parent
        if stamp is None:
            self._static[child] = (offset, turn)
        else:
            known = self._moving[child]
            known[stamp] = (offset, turn)
            self._times.pop(child, None)
            if (keep := self._keep) is not None:
                for old in list(takewhile(lambda one: abs(one - stamp) > keep, known)):
                    del known[old]

    def add_stamped(self, item: Any, *, always: bool) -> None:
        """A TransformStamped as messages hold it; always: of tf_static. ValueError as `add`."""
        stamp, offset, turn = item.header.stamp, item.transform.translation, item.transform.rotation
        self.add(
            item.header.frame_id.lstrip("/"),
            item.child_frame_id.lstrip("/"),
            (offset.x, offset.y, offset.z),
            (turn.x, turn.y, turn.z, turn.w),
            None if always else int(stamp.sec) * 1_000_000_000 + int(stamp.nanosec),
        )

    def forget(self, before: int | None) -> None:
        """Drops moving transforms of before a time; None: all of them."""
        for child, known in self._moving.items():
            old = [stamp for stamp in known if before is None or stamp < before]
            for stamp in old:
                del known[stamp]
            if old:
                self._times.pop(child, None)

    def __bool__(self) -> bool:
        return bool(self._parent)

    def root(self, frame: str) -> str:
        """The frame at the top of the tree that `frame` is in; itself when nothing is known."""
        return self._chain(frame)[-1]

    def pose(self, target: str, source: str, stamp: int) -> Matrix | None:
        """(4, 4) that takes points of source into target, both at `stamp`; None where the tree does
        not connect them, or knows nothing at both sides of the time: as tf2, it does not guess."""
        up, down = self._chain(source), self._chain(target)
        common = next((frame for frame in up if frame in down), None)
        if common is None:
            return None
        halves = []
        for chain in (down, up):
            whole = np.eye(4)
            for frame in chain[: chain.index(common)]:
                step = self._edge(frame, stamp)
                if step is None:
                    return None
                whole = step @ whole
            halves.append(whole)
        result: Matrix = np.linalg.inv(halves[0]) @ halves[1]
        return result

    def _chain(self, frame: str) -> list[str]:
        """The frame, its parent, its parent's, ...; a loop ends it."""
        chain = [frame]
        while (parent := self._parent.get(chain[-1])) is not None and parent not in chain:
            chain.append(parent)
        return chain

    def _edge(self, child: str, stamp: int) -> Matrix | None:
        if child in self._static:
            return matrix_of(*self._static[child])
        known = self._moving[child]
        if stamp in known:
            return matrix_of(*known[stamp])
        times = self._times.setdefault(child, sorted(known))
        after = bisect_left(times, stamp)
        if after in (0, len(times)):
            return None
        earlier, later = times[after - 1], times[after]
        share = (stamp - earlier) / (later - earlier)
        (start, first), (end, last) = known[earlier], known[later]
        turn = Slerp([0.0, 1.0], Rotation.from_quat([first, last]))(share)
        return matrix_of(start + share * (end - start), turn.as_quat())


def matrix_of(translation: Matrix, quaternion: Matrix) -> Matrix:
    """(4, 4) of a translation (3,) and a quaternion (4,) x y z w."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_quat(quaternion).as_matrix()
    matrix[:3, 3] = translation
    return matrix

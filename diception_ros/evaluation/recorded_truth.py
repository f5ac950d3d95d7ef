# SPDX-License-Identifier: Apache-2.0
"""Truth for a recording: topics of the same bag, or a folder whose images are named by stamp."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.bags import Recorded, image_array
from diception_ros.evaluation.datasets.sample import DataSet, Item, Sample, objects_of
from diception_ros.evaluation.recorded_outputs import CLASSES, LABELS, OUTPUTS, Labels, numbered
from diception_ros.evaluation.system import frame_name

MILLIMETRES = ("16UC1", "mono16")
AFTER = 10**9
"""ns after the output that a truth was kept for: the first of an image may be damaged, and the rest
of them come later."""
PAIR = np.dtype((np.int64, 2))

Array = npt.NDArray[Any]


class Truths:
    """What is known of the images of a recording. topics: see `truth_array`. items: of a folder, by
    stamp. slop: s between an image and a topic's truth. categories: see Labels."""

    def __init__(
        self,
        topics: Sequence[str],
        items: Mapping[int, Item],
        slop: float,
        categories: Sequence[str] = (),
    ) -> None:
        self.topics, self.items, self.slop = topics, items, slop
        classes = [topic for topic in topics if is_classes(topic)]
        self._labels = {labels_beside(topic): Labels(categories) for topic in classes}
        self._arrays: dict[str, dict[int, Array]] = {topic: {} for topic in topics}
        self._received: dict[str, dict[int, int]] = {topic: {} for topic in topics}
        self._due: dict[str, dict[int, int]] = {topic: {} for topic in topics}
        self._outputs = np.empty(0, PAIR)

    def __bool__(self) -> bool:
        return bool(self.topics or self.items)

    @property
    def wanted(self) -> set[str]:
        """Every topic that `add` takes: those of truth, and the names of their classes."""
        return {*self.topics, *self._labels}

    def expect(self, outputs: Iterable[tuple[int, int]]) -> None:
        """Stamp and time of recording of all that is to be judged, by which `prune` knows what is
        still needed."""
        found = np.fromiter(outputs, PAIR)
        self._outputs = found[np.argsort(found[:, 0], kind="stable")]

    def near(self, stamp: int, image: int) -> bool:
        """Whether a truth of one stamp may be an image's."""
        return abs(stamp - image) <= self.slop * 1e9

    def add(self, item: Recorded) -> None:
        """A message on one of `wanted`. ValueError for an encoding that is no truth."""
        if item.topic in self._labels:
            self._labels[item.topic].add(item)
        else:
            self._arrays[item.topic][item.stamp] = truth_array(item.message, item.topic)
            self._received[item.topic][item.stamp] = item.received
            self._due[item.topic][item.stamp] = self._next_output(item)

    def _next_output(self, truth: Recorded) -> int:
        """When the next output that a truth may be of is recorded; its own time if none is."""
        reach = int(self.slop * 1e9)
        span = truth.stamp - reach, truth.stamp + reach + 1
        first, last = np.searchsorted(self._outputs[:, 0], span)
        times = [int(time) for time in self._outputs[first:last, 1] if time >= truth.received]
        return min(times, default=truth.received)

    def prune(self, received: int, waiting: Collection[int]) -> None:
        """Drops what no image needs: none of those that wait, by stamp, and no later one. received:
        how far the recording has been read."""
        for topic, arrays in self._arrays.items():
            past = [stamp for stamp, due in self._due[topic].items() if due < received - AFTER]
            for stamp in past:
                if not any(self.near(stamp, image) for image in waiting):
                    del arrays[stamp], self._received[topic][stamp], self._due[topic][stamp]

    def complete(self, stamp: int) -> bool:
        """Whether there is a truth of an image on every topic by now."""
        return len(self._found(stamp)) == len(self._arrays)

    def _found(self, stamp: int) -> dict[str, int]:
        """By topic the stamp of an image's truth, where there is one."""
        return {
            topic: near
            for topic, arrays in self._arrays.items()
            if (near := nearest(arrays, stamp, self.slop)) is not None
        }

    def sample(self, stamp: int, outputs: Mapping[str, Array]) -> Sample | None:
        """The truth of an image, None without any. Its picture is the folder's, or plain grey.
        ValueError if truths and outputs are not all of one size, or classes have no names."""
        sizes = {values.shape[:2] for name, values in outputs.items() if name != "keypoints"}
        if stamp in self.items:
            sample = replace(self.items[stamp].load(), name=frame_name(stamp))
            the_size({sample.size, *sizes})
            return sample
        found = self._found(stamp)
        if not found:
            return None
        known: dict[str, Any] = {}
        for topic, near in found.items():
            known |= self._known(topic, near)
        sizes |= {self._arrays[topic][near].shape[:2] for topic, near in found.items()}
        rgb = np.full((*the_size(sizes), 3), 0xE0, np.uint8)
        return Sample(frame_name(stamp), rgb, **known)

    def _known(self, topic: str, stamp: int) -> dict[str, Any]:
        """Fields of a Sample."""
        values = self._arrays[topic][stamp]
        if is_classes(topic):
            names = self._labels[labels_beside(topic)].at(self._received[topic][stamp])
            if names is None:
                raise ValueError(f"{topic}: no {labels_beside(topic)} was recorded by then")
            classes, class_names = numbered(values, names, unnamed=-1)
            return {"classes": classes, "class_names": class_names}
        if values.ndim == 3:
            return {"normals": values}
        if values.dtype.kind == "f":
            return {"depth_m": values}
        return {"objects": tuple(objects_of(values))}


def is_classes(topic: str) -> bool:
    """Whether a topic holds class ids, by its name: this package's, or another node's alike."""
    return topic.endswith(f"/{CLASSES}")


def labels_beside(topic: str) -> str:
    """The topic that names the classes of a mask."""
    return topic.removesuffix(CLASSES) + LABELS


def truth_array(message: Any, topic: str) -> Array:
    """An image of truth: depth (H, W) float32 metres with NaN, normals (H, W, 3), or ids (H, W).
    16 bits are millimetres, as depth cameras publish them (REP 118), but on */entity/mask and
    */semantic/mask."""
    named = is_classes(topic) or topic.endswith(f"/{OUTPUTS['ids']}")
    if message.encoding in MILLIMETRES and not named:
        values = image_array(_as(message, "mono16")).astype(np.float32) / np.float32(1000)
        metres: Array = np.where(values > 0, values, np.float32(np.nan))
        return metres
    return image_array(message)


def _as(message: Any, encoding: str) -> Any:
    names = ("height", "width", "is_bigendian", "step", "data")
    fields = {name: getattr(message, name) for name in names}
    return SimpleNamespace(encoding=encoding, **fields)


def the_size(sizes: set[tuple[int, ...]]) -> tuple[int, ...]:
    """ValueError if truths and outputs are not all of one size."""
    if len(sizes) != 1:
        listed = ", ".join(f"{size[1]}x{size[0]}" for size in sorted(sizes))
        raise ValueError(
            f"outputs and truth are of different sizes ({listed}): register the depth to the "
            "camera, or publish at its size"
        )
    return next(iter(sizes))


def stamped_items(data: DataSet) -> dict[int, Item]:
    """The images whose names are stamps. ValueError if there are none."""
    stamps = [(stamp_of(item.name), item) for item in data.items]
    found = {stamp: item for stamp, item in stamps if stamp is not None}
    if not found:
        raise ValueError(
            f"{data.path}: expected images named by their stamp, nanoseconds or "
            f"seconds.nanoseconds, found {data.items[0].name}"
        )
    return found


def stamp_of(name: str) -> int | None:
    """Nanoseconds of 1700000000123456789 or 1700000000.123456789 (or _), else None."""
    seconds, _, rest = Path(name).name.replace("_", ".").partition(".")
    if not seconds.isdigit() or (rest and not (rest.isdigit() and len(rest) == 9)):
        return None
    return int(seconds) * 10**9 + int(rest) if rest else int(seconds)


def nearest(stamps: Mapping[int, Any], stamp: int, slop: float) -> int | None:
    """The stamp nearest to another one (ns), None if it is farther than slop (s)."""
    away: Callable[[int], int] = lambda one: abs(one - stamp)  # noqa: E731
    near = min(stamps, key=away, default=None)
    return near if near is not None and away(near) <= slop * 1e9 else None


def named_topics(against: Sequence[str]) -> tuple[tuple[str, ...], list[Path]]:
    """--against, parted into topics and folders: what exists as a path is one."""
    folders = [Path(name) for name in against if Path(name).exists()]
    topics = tuple(name for name in against if not Path(name).exists())
    for topic in topics:
        if not topic.startswith("/"):
            raise ValueError(
                f"--against '{topic}': neither a folder nor a topic (which begins with /)"
            )
    return topics, folders

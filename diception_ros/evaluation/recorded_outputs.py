# SPDX-License-Identifier: Apache-2.0
"""What the node published, gathered by the image that it is about."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.answers import Answers
from diception_ros.evaluation.bags import Recorded, answer_array, read_messages
from diception_ros.evaluation.protocols.clicks import Click
from diception_ros.evaluation.protocols.depth import AFFINE_DISPARITY, METRIC

OUTPUTS = {
    "disparity": "disparity_relative/image",
    "depth": "depth/image",
    "normals": "normals/image",
    "ids": "entity/mask",
    "classes": "semantic/mask",
    "point": "point/mask",
    "keypoints": "pose/keypoints",
}
"""Topics below the node's name, by what they hold."""
CLASSES, LABELS, PROMPTS = OUTPUTS["classes"], "semantic/label_info", "point/prompts"
TOGETHER = 10**9
"""ns between prompts and the mask that answers them, as they were recorded: they follow each other
directly, so the nearest are the right ones."""
MOST = 1000
"""Prompts that are kept where no mask uses them."""

Array = npt.NDArray[Any]


class Labels:
    """The names of class ids, as LabelInfo messages said them over time. unsaid: those of ids 1, 2
    and so on where none did."""

    def __init__(self, unsaid: Sequence[str] = ()) -> None:
        self._unsaid = dict(enumerate(unsaid, start=1)) or None
        self._when: list[int] = []
        self._names: list[dict[int, str]] = []

    def add(self, item: Recorded) -> None:
        """Id 0 is the background, whatever it is called."""
        said = {int(one.class_id): str(one.class_name) for one in item.message.class_map}
        said.pop(0, None)
        if not self._names or said != self._names[-1]:
            self._when.append(item.received)
            self._names.append(said)

    def at(self, received: int) -> Mapping[int, str] | None:
        """What had been said by then; before anything was, what was said first (a recorder may get
        a latched message late); `unsaid` while nothing was, or None."""
        if not self._names:
            return self._unsaid
        return self._names[max(0, bisect_right(self._when, received) - 1)]


def numbered(ids: Array, names: Mapping[int, str], unnamed: int) -> tuple[Array, tuple[str, ...]]:
    """Class ids (H, W) as numbers, i + 1 for the i-th of the names that come with them; 0 stays,
    ids without a name become `unnamed`. Ids of one name become one; a name may be of an id that the
    image's type cannot hold."""
    categories = tuple(dict.fromkeys(names[number] for number in sorted(names)))
    table = np.full(int(np.iinfo(ids.dtype).max) + 1, unnamed, np.int16)
    table[0] = 0
    for number, name in names.items():
        if number < len(table):
            table[number] = categories.index(name) + 1
    return table[ids], categories


@dataclass(frozen=True)
class Published:
    """About one image. arrays: by their name in OUTPUTS; classes are numbered, see Answers.
    categories: of the classes. clicks: that the point mask answers. problems: what has to be left
    out, and why."""

    arrays: Mapping[str, Array] = field(default_factory=dict)
    categories: tuple[str, ...] = ()
    clicks: tuple[Click, ...] = ()
    problems: tuple[str, ...] = ()

    def answers(self) -> list[Answers]:
        """Relative disparity and metres are judged apart, each by the one protocol that fits it
        here."""
        some, found = self.arrays, []
        if "disparity" in some:
            found.append(Answers(depth=some["disparity"], protocols=(AFFINE_DISPARITY,)))
        if "depth" in some:
            found.append(Answers(depth=some["depth"], kind="metric", protocols=(METRIC,)))
        rest = Answers(
            normals=some.get("normals"),
            ids=some.get("ids"),
            classes=some.get("classes"),
            keypoints=some.get("keypoints"),
        )
        return [*found, rest]

    @property
    def mask(self) -> Array | None:
        """(H, W) bool, the answer to the clicks."""
        return self.arrays["point"] > 0 if "point" in self.arrays else None


class Outputs:
    """Arrays by the stamp of their image, until it is taken. without: topics to pass over.
    categories: see Labels."""

    def __init__(
        self, node: str, without: Collection[str] = (), categories: Sequence[str] = ()
    ) -> None:
        self.topics = {
            f"{node}/{topic}": name for name, topic in OUTPUTS.items() if topic not in without
        }
        self._labels_topic, self._prompts_topic = f"{node}/{LABELS}", f"{node}/{PROMPTS}"
        self._arrays: dict[int, dict[str, Array]] = {}
        self._received: dict[tuple[int, str], int] = {}
        self._labels = Labels(categories)
        self._prompts: list[tuple[int, tuple[Click, ...]]] = []

    def __len__(self) -> int:
        return len(self._arrays)

    @property
    def wanted(self) -> set[str]:
        """Every topic that `add` takes."""
        return {*self.topics, self._labels_topic, self._prompts_topic}

    @property
    def waiting(self) -> Collection[int]:
        """Stamps of the images that are not taken yet, in the order of recording."""
        return self._arrays.keys()

    @property
    def oldest(self) -> int:
        """As recorded, not by its stamp: clocks jump back."""
        return next(iter(self._arrays))

    def begun(self, stamp: int) -> int:
        """When the first output of a waiting image was recorded (ns)."""
        return min(self._received[stamp, name] for name in self._arrays[stamp])

    def add(self, item: Recorded, keep: bool = True) -> tuple[str, Array] | None:
        """An output's name and array, None of what goes with one. keep: for `take`. ValueError for
        an encoding that the output cannot have."""
        if item.topic == self._labels_topic:
            self._labels.add(item)
        elif item.topic == self._prompts_topic:
            self._prompts = [*self._prompts[-MOST:], (item.received, clicks_of(item.message))]
        else:
            name, values = self.topics[item.topic], answer_array(item.message)
            if keep:
                self._arrays.setdefault(item.stamp, {})[name] = values
                self._received[item.stamp, name] = item.received
            return name, values
        return None

    def take(self, stamp: int) -> Published:
        """Everything about an image, once; an image that nothing is about is empty."""
        arrays = self._arrays.pop(stamp, {})
        received = {name: self._received.pop((stamp, name)) for name in arrays}
        problems = []
        categories: tuple[str, ...] = ()
        clicks: tuple[Click, ...] = ()
        if "classes" in arrays:
            names = self._labels.at(received["classes"])
            ids = arrays.pop("classes")
            if names is None:
                problems.append(f"{CLASSES}: no {LABELS} was recorded, which names its classes")
            else:
                arrays["classes"], categories = numbered(ids, names, unnamed=0)
        if "point" in arrays:
            clicks = self._prompts_at(received["point"])
            if not clicks:
                del arrays["point"]
                problems.append(
                    f"{OUTPUTS['point']}: no {PROMPTS} was recorded beside it, which says what was "
                    "asked"
                )
        return Published(arrays, categories, clicks, tuple(problems))

    def _prompts_at(self, received: int) -> tuple[Click, ...]:
        """Those recorded nearest; what is long past is forgotten."""
        self._prompts = [one for one in self._prompts if one[0] >= received - TOGETHER]
        near = min(self._prompts, key=lambda one: abs(one[0] - received), default=None)
        return near[1] if near is not None and near[0] <= received + TOGETHER else ()


def when_recorded(bag: Path, topics: Collection[str]) -> Iterator[tuple[int, int]]:
    """Stamp and time of recording of all messages on some topics; none of them is decoded."""
    return ((item.stamp, item.received) for item in read_messages(bag, topics))


def clicks_of(message: Any) -> tuple[Click, ...]:
    """A PointPrompts message; no labels mean that all points are inside."""
    labels = message.labels if len(message.labels) else np.ones(len(message.x), np.uint8)
    return tuple(
        (float(x), float(y), int(label))
        for x, y, label in zip(message.x, message.y, labels, strict=True)
    )

# SPDX-License-Identifier: Apache-2.0
"""One image with what is known about it, and a data set as a list of them that are read when asked.

A reader is a function: folder -> DataSet. Files are only looked for then; `Item.load` opens them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.datasets.readers import PICTURES

Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]
Rgb = npt.NDArray[np.uint8]
Size = tuple[int, int]
Box = tuple[int, int, int, int]
"""top, bottom, left, right; rows top..bottom - 1, columns left..right - 1."""


@dataclass(frozen=True)
class Object:
    """One true object. patch (h, w): its mask inside the box whose upper left pixel is `corner`
    (row, column), so that hundreds fit in memory. crowd: a group that nobody parted. keypoints
    (K, 3) x, y, visibility (0 not labelled). area, bbox (x, y, width, height): as annotated, 0 and
    None for the mask's own.
    """

    patch: Bool
    corner: tuple[int, int]
    category: str = ""
    crowd: bool = False
    keypoints: npt.NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 3)))
    area: float = 0.0
    bbox: tuple[float, float, float, float] | None = None

    def mask(self, size: Size) -> Bool:
        """(H, W) of an image of that size."""
        mask = np.zeros(size, np.bool_)
        (row, column), (height, width) = self.corner, self.patch.shape
        mask[row : row + height, column : column + width] = self.patch
        return mask

    @property
    def pixels(self) -> int:
        return int(self.patch.sum())

    @property
    def box(self) -> tuple[float, float, float, float]:
        """x, y, width, height in pixels."""
        (row, column), (height, width) = self.corner, self.patch.shape
        return float(column), float(row), float(width), float(height)


def object_of(mask: Bool, **known: Any) -> Object:
    """The Object of a mask (H, W); further fields as they are."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Object(np.zeros((0, 0), np.bool_), (0, 0), **known)
    top, left = int(rows[0]), int(columns[0])
    return Object(mask[top : rows[-1] + 1, left : columns[-1] + 1].copy(), (top, left), **known)


def objects_of(ids: npt.NDArray[Any], categories: Mapping[int, str] | None = None) -> list[Object]:
    """The objects of an id image (H, W), 0 or less = none; category by id."""
    names = categories or {}
    found = [int(i) for i in np.unique(ids) if i > 0]
    return [object_of(ids == i, category=names.get(i, "")) for i in found]


@dataclass(frozen=True)
class Sample:
    """rgb (H, W, 3) uint8; truths of that size, None where there is none: depth_m metres along Z,
    NaN unknown; normals (H, W, 3) unit, optical frame, NaN unknown; objects, which may overlap;
    classes (H, W), i + 1 for class_names[i], 0 none of them, -1 not judged. group: the scene or
    sequence that the image is of.
    """

    name: str
    rgb: Rgb
    group: str = ""
    depth_m: Float | None = None
    normals: Float | None = None
    objects: tuple[Object, ...] | None = None
    classes: npt.NDArray[np.int16] | None = None
    class_names: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        size = self.rgb.shape[:2]
        for what in ("depth_m", "normals", "classes"):
            value = getattr(self, what)
            if value is not None and value.shape[:2] != size:
                raise ValueError(
                    f"the image is {size[1]}x{size[0]}, its {what} {value.shape[1]}x"
                    f"{value.shape[0]}: expected the same size"
                )

    @property
    def size(self) -> Size:
        height, width = self.rgb.shape[:2]
        return height, width

    def cut(self, box: Box) -> Sample:
        """The part inside the box; objects that lie outside are dropped."""
        top, bottom, left, right = box
        rows, columns = slice(top, bottom), slice(left, right)
        arrays = {
            what: None if (value := getattr(self, what)) is None else value[rows, columns]
            for what in ("rgb", "depth_m", "normals", "classes")
        }
        objects = self.objects
        if objects is not None:
            inside = [(one, one.mask(self.size)[rows, columns]) for one in objects]
            objects = tuple(
                replace(
                    object_of(mask),
                    category=one.category,
                    crowd=one.crowd,
                    keypoints=_moved(one.keypoints, box),
                )
                for one, mask in inside
                if mask.any()
            )
        return replace(self, **arrays, objects=objects)  # type: ignore[arg-type]


def _moved(joints: npt.NDArray[np.float64], box: Box) -> npt.NDArray[np.float64]:
    """Keypoints (K, 3) in the frame of the box; those outside are not labelled (0, 0, 0)."""
    top, bottom, left, right = box
    moved = joints - (left, top, 0) if len(joints) else joints
    inside = (moved[:, 0] >= 0) & (moved[:, 0] < right - left)
    inside &= (moved[:, 1] >= 0) & (moved[:, 1] < bottom - top)
    return np.where(inside[:, None], moved, 0.0)


@dataclass(frozen=True)
class Item:
    """An image that can be loaded. load: ValueError or OSError if its files are broken."""

    name: str
    load: Callable[[], Sample]


@dataclass(frozen=True)
class DataSet:
    """form: the reader's name; tasks: those with truth; preset: the depth preset that the field
    uses with it."""

    form: str
    path: Path
    items: tuple[Item, ...]
    tasks: tuple[str, ...]
    preset: str = "plain"

    def __post_init__(self) -> None:
        if not self.items:
            raise ValueError(f"{self.path}: no image with truth in the form '{self.form}'")

    def only(self, names: Iterable[str]) -> DataSet:
        """The images of these names, in the order given. ValueError for one that is not there."""
        known = {item.name: item for item in self.items}
        chosen: list[Item] = []
        for name in names:
            if name not in known:
                raise ValueError(
                    f"{self.path}: no image '{name}', but for example {next(iter(known))}"
                )
            chosen.append(known[name])
        return replace(self, items=tuple(chosen))


def read_list(file: Path) -> list[str]:
    """Names of a published split: the first word of each line, without a leading slash and a
    picture's suffix, as in the lists of KITTI's Eigen split and of BTS' NYU. Lines whose second
    word is None (no truth, in the former) are left out. ValueError if there are none."""
    try:
        lines = [line.split() for line in file.read_text("utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"{file}: cannot be read as a list of image names: {error}") from error
    paths = [Path(words[0].lstrip("/")) for words in lines if words and words[1:2] != ["None"]]
    names = [
        (path.with_suffix("") if path.suffix.lower() in PICTURES else path).as_posix()
        for path in paths
    ]
    if not names:
        raise ValueError(f"{file}: expected image names, one a line, found none")
    return names


def every(items: Sequence[Item], number: int) -> tuple[Item, ...]:
    """At most `number` of the items, evenly spread; all for 0."""
    if number <= 0 or number >= len(items):
        return tuple(items)
    places = np.unique(np.linspace(0, len(items) - 1, number).round().astype(int))
    return tuple(items[place] for place in places)

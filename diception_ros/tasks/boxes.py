# SPDX-License-Identifier: Apache-2.0
"""Boxes of labelled segments."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Box = tuple[int, int, int, int]
"""First row, first column, row and column after the last."""


def find_boxes(segments: npt.NDArray[np.integer[Any]]) -> dict[int, Box]:
    found = ndimage.find_objects(segments)
    return {
        i: (box[0].start, box[1].start, box[0].stop, box[1].stop)
        for i, box in enumerate(found, start=1)
        if box is not None
    }


def cut(box: Box) -> tuple[slice, slice]:
    return slice(box[0], box[2]), slice(box[1], box[3])


def around(a: Box, b: Box) -> Box:
    return min(a[0], b[0]), min(a[1], b[1]), max(a[2], b[2]), max(a[3], b[3])


def extent(box: Box) -> int:
    return (box[2] - box[0]) * (box[3] - box[1])

# SPDX-License-Identifier: Apache-2.0
"""Where a patient user would click next."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]
Click = tuple[float, float, int]
"""x, y in pixels and 1 (on the object) or 0 (not on it)."""


def innermost(mask: Bool) -> tuple[float, float, float]:
    """x, y of the pixel farthest from the mask's edge and its distance; the image's border is an
    edge. Distance 0 for an empty mask."""
    distance: npt.NDArray[Any] = np.asarray(
        cv2.distanceTransform(np.pad(mask.astype(np.uint8), 1), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
    )
    row, column = np.unravel_index(int(np.argmax(distance)), distance.shape)
    return float(column - 1), float(row - 1), float(distance[row, column])


def next_click(truth: Bool, answer: Bool | None) -> Click | None:
    """The first click (answer None): the object's innermost pixel. Later ones: the innermost pixel
    of what is missed or of what is too much, whichever lies deeper. None where nothing is wrong.

    Source: Kirillov et al. 2023 (SAM, section 7.1 and appendix A); Sofiiuk et al. 2022 (RITM),
    section 4. ValueError for an empty object.
    """
    if not truth.any():
        raise ValueError("an object without pixels cannot be clicked")
    if answer is None:
        x, y, _ = innermost(truth)
        return x, y, 1
    missed, extra = innermost(truth & ~answer), innermost(answer & ~truth)
    if missed[2] == 0 and extra[2] == 0:
        return None
    return (*missed[:2], 1) if missed[2] >= extra[2] else (*extra[:2], 0)

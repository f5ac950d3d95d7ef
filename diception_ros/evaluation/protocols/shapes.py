# SPDX-License-Identifier: Apache-2.0
"""Answers are compared pixel by pixel."""

from __future__ import annotations

from typing import Any

import numpy.typing as npt


def same_shape(found: npt.NDArray[Any], truth: npt.NDArray[Any]) -> None:
    """ValueError unless both have one."""
    if found.shape != truth.shape:
        raise ValueError(
            f"expected the shape of the ground truth {truth.shape}, found {found.shape}: "
            "resize the answer to the input image first"
        )

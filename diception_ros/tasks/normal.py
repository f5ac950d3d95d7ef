# SPDX-License-Identifier: Apache-2.0
"""Normals as colours (n + 1) / 2 with x left, y up, z towards the viewer: a floor is green.

That is StableNormal's frame, which the network was trained with; results are in the camera's
optical frame (x right, y down, z forward), its exact negative.
"""

from __future__ import annotations

import numpy as np

from diception_ros.tasks.types import Float, Normals, Task

SHORTEST = 1e-3
"""Length below which a vector has no direction; a level of 8-bit grey off the middle is 8e-3."""
FACING = np.array([0, 0, -1], np.float32)
"""Given where the colours say nothing: a surface that faces the camera."""


def encode(target: Normals, rng: np.random.Generator | None = None) -> Float:
    """Unit vectors (H, W, 3), optical frame -> colours. Unknown (NaN) vectors face the camera."""
    vectors = target.vectors
    unknown = ~np.isfinite(vectors[..., 0] + vectors[..., 1] + vectors[..., 2])
    if unknown.any():
        vectors = vectors.copy()
        vectors[unknown] = FACING
    return (0.5 - 0.5 * vectors).astype(np.float32)


def decode(colours: Float) -> Normals:
    """Colours -> unit vectors, optical frame; grey, which has no direction, faces the camera."""
    # Channel by channel: numpy is slow where the last axis is three.
    x, y, z = (1 - 2 * colours[..., axis].astype(np.float32) for axis in range(3))
    length = np.sqrt(x * x + y * y + z * z)
    unknown = ~(length > SHORTEST)  # NaN, too
    scale: Float = (1 / np.where(unknown, 1, length)).astype(np.float32)
    vectors = np.stack([x * scale, y * scale, z * scale], axis=-1)
    vectors[unknown] = FACING
    return Normals(vectors)


TASK = Task("normal", "[[image2normal]]", encode, decode, Normals)

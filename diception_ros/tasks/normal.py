# SPDX-License-Identifier: Apache-2.0
"""Normals as colours (n + 1) / 2 with x left, y up, z towards the viewer: a floor is green.

That is StableNormal's frame, which the network was trained with; results are in the camera's
optical frame (x right, y down, z forward), its exact negative.
"""

from __future__ import annotations

import numpy as np

from diception_ros.tasks.types import Float, Normals, Task

FACING = np.array([0, 0, -1], np.float32)
"""Given where the colours say nothing: a surface that faces the camera."""


def encode(target: Normals, rng: np.random.Generator | None = None) -> Float:
    """Unit vectors (H, W, 3), optical frame -> colours. Unknown (NaN) vectors face the camera."""
    known = np.isfinite(target.vectors).all(axis=-1, keepdims=True)
    vectors = np.where(known, target.vectors, FACING)
    return (0.5 - 0.5 * vectors).astype(np.float32)


def decode(colours: Float) -> Normals:
    """Colours -> unit vectors, optical frame; grey, which has no direction, faces the camera."""
    vectors = 1 - 2 * colours.astype(np.float32)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    vectors = np.where(length > 1e-3, vectors / np.maximum(length, 1e-3), FACING)
    vectors /= np.linalg.norm(vectors, axis=-1, keepdims=True)
    return Normals(vectors.astype(np.float32))


TASK = Task("normal", "[[image2normal]]", encode, decode, Normals)

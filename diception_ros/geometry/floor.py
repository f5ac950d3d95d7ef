# SPDX-License-Identifier: Apache-2.0
"""Metres from the floor: its plane found in relative geometry, by a camera of known height."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from diception_ros.geometry.camera import Float, Intrinsics
from diception_ros.geometry.scale import INLIER, ScaleFit, consensus, known_pairs, refined, refused

SHALLOWEST = 0.05
"""Floor rays less than this below the horizon (unit height per length) are not used: a small error
of the pitch moves their depth by metres."""
HYPOTHESES = 600
LEAST_PIXELS = 200
LEAST_FLOOR = 0.1
"""Share of the pixels below the horizon that must show floor, each counted by how well it agrees:
errors of chance are spread evenly, with a median of INLIER."""
BELOW = 0.3
"""What a pixel under the floor counts against a hypothesis; one that agrees counts nothing, one
above it (a thing on the floor) 0.06: nothing lies under a floor, but much lies on it."""
MOST_BELOW = 0.15
DEEP = 0.12
"""A pixel is under the floor from this relative error of 1/z on."""


def floor_depth(camera: Intrinsics, height: float, pitch: float, roll: float) -> Float:
    """Depth (H, W) in metres that a flat floor would have in each pixel, NaN at and above the
    horizon, for an optical centre `height` metres above it that looks down by `pitch` and is rolled
    about its viewing axis by `roll` (rad)."""
    # "Down" in the optical frame (x right, y down, z forward) of a camera pitched down, rolled.
    down = np.array([np.sin(roll) * np.cos(pitch), np.cos(roll) * np.cos(pitch), np.sin(pitch)])
    drop = camera.rays() @ down.astype(np.float32)  # metres of descent per metre of depth
    with np.errstate(divide="ignore"):
        return np.where(drop > SHALLOWEST, height / drop, np.nan).astype(np.float32)


def fit_floor(
    disparity: Float, floor: Float, *, rng: np.random.Generator | None = None
) -> ScaleFit:
    """disparity (H, W) in 0..1 and the depth that the floor would have (`floor_depth`) -> the fit.

    A plane is a linear function of the pixel in disparity and in 1/z alike, so the floor is where
    the two are proportional up to a shift. Of all such planes (table tops, too) the floor is the
    one with nothing under it. inliers: the share of pixels below the horizon that show floor, which
    is the confidence in having found it. ValueError if the sizes differ.
    """
    rng = rng or np.random.default_rng(0)
    d, inverse, coverage = known_pairs(disparity, floor, rng)
    if len(d) < LEAST_PIXELS:
        return refused(coverage, f"{len(d)} pixels lie below the horizon, {LEAST_PIXELS} needed")
    best = consensus(d, inverse, rng, HYPOTHESES, BELOW)
    if best is None:
        return refused(coverage, "the disparity is the same at every pixel below the horizon")
    fit = refined(d, inverse, best, coverage)
    under = float((fit.scale * d + fit.shift < (1 - DEEP) * inverse).mean())
    reason = fit.reason
    if not reason and fit.inliers * (1 - fit.residual / INLIER) < LEAST_FLOOR:
        reason = f"only {fit.inliers:.0%} of the view below the horizon looks like floor"
    elif not reason and under > MOST_BELOW:
        reason = f"{under:.0%} of the view below the horizon would lie under the floor"
    return replace(fit, valid=not reason, reason=reason)

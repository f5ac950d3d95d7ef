# SPDX-License-Identifier: Apache-2.0
"""Relative disparity to metres: a robust fit of 1/z = scale * disparity + shift."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from diception_ros.geometry.camera import Float
from diception_ros.tasks.types import Disparity, MetricDepth

SAMPLES = 4000
"""Most reference pixels looked at: enough for 1%, and bounds the time."""
HYPOTHESES = 200
INLIER = 0.06
"""Relative error of 1/z under which a reference pixel supports a hypothesis (3 sigma at 2%)."""
LEAST_PIXELS = 30
LEAST_INLIERS = 0.4
STILL = 2.0
"""A fit that differs from the last by less than this many of its own standard errors may well be
the same: it is smoothed in full."""


@dataclass(frozen=True)
class ScaleFit:
    """1/z [1/m] = scale * disparity + shift. residual: median relative error of the inliers.
    coverage: share of pixels that have a reference; inliers: share of those that agree.
    valid, and otherwise the reason. span: least and greatest disparity of the inliers; error:
    standard error of the fitted 1/z at the end of the span, relative."""

    scale: float
    shift: float
    residual: float
    coverage: float
    inliers: float
    valid: bool
    reason: str = ""
    span: tuple[float, float] = (0.0, 1.0)
    error: float = 0.0


def fit_disparity(
    disparity: Float,
    reference: Float,
    *,
    min_coverage: float = 1e-3,
    rng: np.random.Generator | None = None,
) -> ScaleFit:
    """disparity (H, W) in 0..1, reference (H, W) metres along Z, not positive or NaN = unknown.

    RANSAC over pairs of pixels (Fischler and Bolles 1981), scored by truncated relative error, then
    least squares on the inliers, reweighted by Huber's function. Stands up to 40% outliers.
    ValueError if the sizes differ.
    """
    rng = rng or np.random.default_rng(0)
    d, inverse, coverage = known_pairs(disparity, reference, rng)
    needed = max(LEAST_PIXELS, round(min_coverage * disparity.size))
    if coverage * disparity.size < needed:
        count = round(coverage * disparity.size)
        return refused(coverage, f"{count} reference pixels, at least {needed} are needed")
    best = consensus(d, inverse, rng)
    if best is None:
        return refused(coverage, "the disparity is the same at every reference pixel")
    fit = refined(d, inverse, best, coverage)
    if fit.inliers < LEAST_INLIERS:
        return replace(
            fit,
            valid=False,
            reason=f"only {fit.inliers:.0%} of the reference agrees, at least "
            f"{LEAST_INLIERS:.0%} must",
        )
    return fit


def known_pairs(
    disparity: Float, reference: Float, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64], float]:
    """Disparity and 1/z (N,) of at most SAMPLES pixels where both are known, and the share of such
    pixels. ValueError if the sizes differ."""
    if disparity.shape != reference.shape:
        raise ValueError(
            f"reference is {reference.shape[::-1]}, disparity {disparity.shape[::-1]}: "
            "resize the reference to the image first"
        )
    rows = np.flatnonzero(np.isfinite(reference) & (reference > 0) & np.isfinite(disparity))
    coverage = len(rows) / disparity.size
    if len(rows) > SAMPLES:
        rows = rng.choice(rows, SAMPLES, replace=False)
    d = disparity.ravel()[rows].astype(np.float64)
    return d, 1.0 / reference.ravel()[rows].astype(np.float64), coverage


def refined(
    d: npt.NDArray[np.float64],
    inverse: npt.NDArray[np.float64],
    start: tuple[float, float],
    coverage: float,
) -> ScaleFit:
    """The least-squares fit near a start, with its figures; not valid if scale is not positive."""
    scale, shift, inside = refine(d, inverse, *start)
    if not inside.any():
        return refused(coverage, "nothing of the reference agrees")
    relative = np.abs(scale * d[inside] + shift - inverse[inside]) / inverse[inside]
    residual = float(np.median(relative))
    span = float(d[inside].min()), float(d[inside].max())
    # 1.48 medians are a standard deviation; a fitted line is least sure at its farther end.
    farthest = np.abs(np.array(span) - d[inside].mean()).max() / max(float(d[inside].std()), 1e-9)
    error = 1.48 * residual * np.sqrt((1 + farthest**2) / inside.sum())
    reason = ""
    if scale <= 0:
        reason = f"scale {scale:.3g} is not positive: disparity and reference contradict each other"
    share = float(inside.mean())
    return ScaleFit(scale, shift, residual, coverage, share, not reason, reason, span, float(error))


def smooth_fit(old: ScaleFit, new: ScaleFit, share: float) -> ScaleFit:
    """The new fit with `share` (0..1) of the old one in it, as far as both can be the same.

    Relative disparity is normalised per image, so the true scale moves with the scene: where the
    fits differ by more than their noise, the new one counts, in full from some STILL errors on.
    """
    ends = np.array(new.span)
    after = new.scale * ends + new.shift
    change = np.abs(old.scale * ends + old.shift - after) / np.maximum(np.abs(after), 1e-9)
    noise = STILL * max(new.error, 1e-6)
    share *= min(1.0, (noise / max(float(change.max()), 1e-12)) ** 2)
    return replace(
        new,
        scale=share * old.scale + (1 - share) * new.scale,
        shift=share * old.shift + (1 - share) * new.shift,
    )


def relative_error(disparity: Float, fit: ScaleFit) -> Float:
    """Expected relative error (H, W) of the metres: the residual, growing with the distance from
    the disparities that the fit has seen, as a line's error does."""
    low, high = np.float32(fit.span[0]), np.float32(fit.span[1])
    outside = np.clip(disparity, low, high)
    np.abs(np.subtract(disparity, outside, out=outside), out=outside)
    outside *= np.float32(2 * fit.residual / max(high - low, 1e-6))
    outside += np.float32(fit.residual)
    return outside


def refused(coverage: float, reason: str) -> ScaleFit:
    return ScaleFit(0.0, 0.0, float("inf"), coverage, 0.0, False, reason)


def consensus(
    d: npt.NDArray[np.float64],
    inverse: npt.NDArray[np.float64],
    rng: np.random.Generator,
    hypotheses: int = HYPOTHESES,
    beyond: float = INLIER,
) -> tuple[float, float] | None:
    """The best of many lines through two pixels; None if the disparities do not differ. beyond:
    the most that a pixel counts against a line that puts it farther away than its reference."""
    a, b = rng.integers(0, len(d), (2, hypotheses * 3))
    apart = np.abs(d[a] - d[b]) > 0.02 * max(float(np.ptp(d)), 1e-9)
    a, b = a[apart][:hypotheses], b[apart][:hypotheses]
    if not len(a) or np.ptp(d) < 1e-6:
        return None
    scales = (inverse[a] - inverse[b]) / (d[a] - d[b])
    shifts = inverse[a] - scales * d[a]
    subset = rng.choice(len(d), min(len(d), 800), replace=False)
    errors = (scales[:, None] * d[subset] + shifts[:, None]) / inverse[subset] - 1
    cost = np.clip(errors, -beyond, INLIER, out=errors)
    cost = np.abs(cost, out=cost).sum(axis=1)
    best = int(cost.argmin())
    return float(scales[best]), float(shifts[best])


def refine(
    d: npt.NDArray[np.float64], inverse: npt.NDArray[np.float64], scale: float, shift: float
) -> tuple[float, float, npt.NDArray[np.bool_]]:
    """Reweighted least squares from a start: relative errors, Huber weights, outliers left out."""
    inside = np.zeros(len(d), bool)
    for _ in range(6):
        error = np.abs(scale * d + shift - inverse) / inverse
        inside = error < 2 * INLIER
        if inside.sum() < 2:
            break
        huber = np.minimum(1.0, INLIER / 2 / np.maximum(error[inside], 1e-12))
        weight = np.sqrt(huber) / inverse[inside]
        design = np.stack([d[inside], np.ones(int(inside.sum()))], axis=1) * weight[:, None]
        scale, shift = np.linalg.lstsq(design, inverse[inside] * weight, rcond=None)[0]
    return float(scale), float(shift), inside


def apply_scale(
    disparity: Disparity | Float,
    fit: ScaleFit | tuple[float, float],
    min_m: float = 0.1,
    max_m: float = 100.0,
) -> MetricDepth:
    """Disparity (H, W) -> metres along Z; NaN where 1/z is not positive or the depth lies outside
    min_m..max_m. ValueError for a fit that is not valid."""
    if isinstance(fit, ScaleFit):
        if not fit.valid:
            raise ValueError(f"the scale fit is not valid: {fit.reason}")
        scale, shift, residual = fit.scale, fit.shift, fit.residual
    else:
        (scale, shift), residual = fit, 0.0
    values = disparity.values if isinstance(disparity, Disparity) else disparity
    # Few passes over the pixels, all in place: memory is what this takes its time for.
    meters = np.multiply(values, np.float32(scale), dtype=np.float32)
    meters += np.float32(shift)
    valid = meters >= np.float32(1 / max_m)  # false for NaN
    valid &= meters <= np.float32(1 / min_m)
    with np.errstate(divide="ignore"):
        np.reciprocal(meters, out=meters)
    np.copyto(meters, np.nan, where=~valid)
    return MetricDepth(meters, valid, residual)

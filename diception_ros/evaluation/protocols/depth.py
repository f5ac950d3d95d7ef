# SPDX-License-Identifier: Apache-2.0
"""Depth: nine error measures and the three protocols under which they may be quoted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.protocols.shapes import same_shape

Array = npt.NDArray[Any]
Double = npt.NDArray[np.float64]
Bool = npt.NDArray[np.bool_]

METRIC = "metric"
AFFINE_DISPARITY = "affine disparity"
AFFINE_DEPTH = "affine depth"
MIN_DISPARITY = 1e-3
"""1/m; aligned disparity is not let below it, that is nothing is farther than a kilometre."""
SMALLEST_M = 1e-6
"""m; the least depth that a logarithm is taken of, where a preset has no lower limit of its own."""

PROTOCOLS = {
    "disparity": (AFFINE_DISPARITY,),
    "depth": (AFFINE_DEPTH,),
    "metric": (METRIC, AFFINE_DISPARITY, AFFINE_DEPTH),
}
"""What an answer is -> the protocols that may judge it. Metres can also be judged for their shape
alone; a relative disparity says nothing about metres, nor can a depth that is affine in metres be
made of it."""


@dataclass(frozen=True)
class DepthErrors:
    """abs_rel: mean |z - g| / g; sq_rel: mean (z - g)^2 / g, metres; rmse: metres; rmse_log: of
    natural logarithms; log10: mean |log10 z - log10 g|; delta1-3: share with max(z / g, g / z)
    under 1.25, 1.25^2, 1.25^3; silog: `silog`, in hundredths.
    """

    abs_rel: float
    sq_rel: float
    rmse: float
    rmse_log: float
    log10: float
    delta1: float
    delta2: float
    delta3: float
    silog: float


def depth_errors(found: Array, truth: Array, valid: Bool | None = None) -> DepthErrors:
    """The errors of depth in metres against the truth, any equal shapes, nothing fitted or clipped.

    valid: which pixels count, by default all. Every counted value must be finite and positive.
    Formulas: Eigen et al. 2014 (NIPS), section 4; log10: Saxena et al. 2008 (PAMI); sq_rel divides
    by g as Eigen's and monodepth's evaluation do (KITTI's development kit divides by g^2).
    ValueError for shapes that differ, no pixel, or a value that is not positive.
    """
    z, g = _counted(found, truth, valid)
    difference, ratio = z - g, np.maximum(z / g, g / z)
    logs = np.log(z) - np.log(g)
    delta1, delta2, delta3 = (float((ratio < 1.25**power).mean()) for power in (1, 2, 3))
    return DepthErrors(
        abs_rel=float((np.abs(difference) / g).mean()),
        sq_rel=float((difference**2 / g).mean()),
        rmse=float(np.sqrt((difference**2).mean())),
        rmse_log=float(np.sqrt((logs**2).mean())),
        log10=float(np.abs(np.log10(z) - np.log10(g)).mean()),
        delta1=delta1,
        delta2=delta2,
        delta3=delta3,
        silog=silog(z, g),
    )


def silog(found: Array, truth: Array, valid: Bool | None = None) -> float:
    """Scale-invariant logarithmic error of the KITTI benchmark: 100 sqrt(mean d^2 - (mean d)^2),
    d = ln z - ln g. Source: KITTI depth development kit (Uhrig et al. 2017). As `depth_errors`.
    """
    return 100 * float(np.sqrt(max(silog_eigen(found, truth, valid, weight=1.0), 0.0)))


def silog_eigen(
    found: Array, truth: Array, valid: Bool | None = None, *, weight: float = 1.0
) -> float:
    """mean d^2 - weight (mean d)^2, d = ln z - ln g: Eigen et al. 2014, equations 1 to 3. weight 1
    is their scale-invariant error, 0.5 their training loss. ValueError as `depth_errors`.
    """
    z, g = _counted(found, truth, valid)
    d = np.log(z) - np.log(g)
    return float((d**2).mean() - weight * d.mean() ** 2)


def fit_line(source: Array, target: Array) -> tuple[float, float]:
    """scale, shift that minimise sum (scale * source + shift - target)^2; flat arrays."""
    design = np.stack([source, np.ones_like(source)], axis=1).astype(np.float64)
    (scale, shift), *_ = np.linalg.lstsq(design, target.astype(np.float64), rcond=None)
    return float(scale), float(shift)


def align_disparity(disparity: Array, truth_m: Array, valid: Bool) -> Double:
    """Affine-invariant disparity (H, W), near = large -> metres (H, W).

    Least squares of scale * d + shift against 1 / truth over the valid pixels, clipped from below
    at MIN_DISPARITY, inverted. Source: Ranftl et al. 2020 (MiDaS, section 5), as DICEPTION
    (arXiv 2502.17157) evaluates. ValueError under two valid pixels.
    """
    at = _at_least_two(valid)
    scale, shift = fit_line(disparity[at], 1.0 / truth_m[at].astype(np.float64))
    inverse: Double = 1.0 / np.maximum(scale * disparity.astype(np.float64) + shift, MIN_DISPARITY)
    return inverse


def align_depth(depth: Array, truth_m: Array, valid: Bool) -> Double:
    """Affine-invariant depth (H, W), far = large -> metres (H, W): least squares of scale * z +
    shift against the truth over the valid pixels. Source: Ke et al. 2024 (Marigold, section 4.2).
    ValueError under two valid pixels.
    """
    at = _at_least_two(valid)
    scale, shift = fit_line(depth[at], truth_m[at])
    aligned: Double = scale * depth.astype(np.float64) + shift
    return aligned


def to_metres(answer: Array, kind: str, protocol: str, truth_m: Array, valid: Bool) -> Double:
    """What the protocol makes of an answer (H, W): metres (H, W), not clipped yet.

    kind: a key of PROTOCOLS. valid: where truth and answer are known; nothing else is looked at by
    a fit. ValueError for a protocol that cannot judge this kind.
    """
    if kind not in PROTOCOLS:
        raise ValueError(f"depth answers are {', '.join(PROTOCOLS)}, got '{kind}'")
    if protocol not in PROTOCOLS[kind]:
        raise ValueError(
            f"protocol '{protocol}' cannot judge an answer of kind '{kind}': expected "
            f"{', '.join(PROTOCOLS[kind])}"
        )
    if protocol == METRIC:
        return answer.astype(np.float64)
    if protocol == AFFINE_DEPTH:
        return align_depth(answer, truth_m, valid)
    if kind == "metric":
        inverse = np.zeros(answer.shape, np.float64)
        np.divide(1.0, answer, out=inverse, where=np.nan_to_num(answer) > 0)
        return align_disparity(inverse, truth_m, valid)
    return align_disparity(answer, truth_m, valid)


def _at_least_two(valid: Bool) -> Bool:
    if int(valid.sum()) < 2:
        raise ValueError(f"a scale and a shift need two valid pixels, found {int(valid.sum())}")
    return valid


def _counted(found: Array, truth: Array, valid: Bool | None) -> tuple[Double, Double]:
    same_shape(found, truth)
    at = np.ones(truth.shape, np.bool_) if valid is None else valid
    z, g = found[at].astype(np.float64), truth[at].astype(np.float64)
    if not z.size:
        raise ValueError("no valid pixel: depth must be in metres, NaN or 0 where unknown")
    if not (np.isfinite(z) & np.isfinite(g) & (z > 0) & (g > 0)).all():
        raise ValueError("expected finite depths over 0 at every valid pixel: narrow the mask")
    return z, g

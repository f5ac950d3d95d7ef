# SPDX-License-Identifier: Apache-2.0
"""The metric fit: near the optimum under noise and outliers, and honest when it cannot be made."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from diception_ros.geometry import ScaleFit, apply_scale, fit_disparity, smooth_fit
from diception_ros.tasks import disparity_from_depth
from diception_ros.training.scenes import make_frame, sequence

SHAPE = (480, 640)


def room(seed):
    """Depth of a slanted floor and some boxes, metres."""
    rng = np.random.default_rng(seed)
    rows, columns = np.mgrid[0 : SHAPE[0], 0 : SHAPE[1]] / SHAPE[0]
    depth = 1.2 + 3.5 * (1 - rows) + 0.4 * columns * rng.uniform(-1, 1)
    for _ in range(6):
        top, left = rng.integers(0, 300), rng.integers(0, 450)
        depth[top : top + 150, left : left + 150] = rng.uniform(0.8, 4)
    return depth.astype(np.float32)


def sparse(depth, rng, share, outliers, sigma=0.02):
    """A reference at `share` of the pixels, with relative noise; some are nonsense."""
    reference = np.full(depth.shape, np.nan, np.float32)
    chosen = rng.random(depth.shape) < share
    reference[chosen] = depth[chosen] * rng.normal(1, sigma, chosen.sum())
    wrong = chosen & (rng.random(depth.shape) < outliers)
    reference[wrong] = rng.uniform(0.3, 8, wrong.sum())
    return reference


@pytest.mark.parametrize("seed", range(10))
@pytest.mark.parametrize("outliers", [0.0, 0.3, 0.4])
def test_near_the_least_squares_optimum_on_clean_data(seed, outliers):
    rng = np.random.default_rng(100 + seed)
    depth = room(seed)
    disparity = disparity_from_depth(depth).values
    design = np.stack([disparity.ravel(), np.ones(disparity.size)], axis=1)
    scale, shift = np.linalg.lstsq(design, 1 / depth.ravel(), rcond=None)[0]
    fit = fit_disparity(disparity, sparse(depth, rng, 0.01, outliers))
    assert fit.valid, fit.reason
    assert fit.scale == pytest.approx(scale, rel=0.02)
    assert fit.shift == pytest.approx(shift, rel=0.02)
    assert fit.coverage == pytest.approx(0.01, rel=0.2)
    assert fit.inliers > 0.55
    assert fit.residual < 0.03


def test_same_input_same_fit():
    depth = room(0)
    reference = sparse(depth, np.random.default_rng(0), 0.05, 0.3)
    fits = [fit_disparity(disparity_from_depth(depth).values, reference) for _ in range(2)]
    assert fits[0] == fits[1]


@pytest.mark.parametrize(
    ("reference", "reason"),
    [
        (np.full(SHAPE, np.nan, np.float32), "0 reference pixels, at least 307 are needed"),
        (np.zeros(SHAPE, np.float32), "0 reference pixels"),
        (np.random.default_rng(0).uniform(0.3, 80, SHAPE).astype(np.float32), "agrees"),
    ],
)
def test_bad_references_are_not_valid_and_say_why(reference, reason):
    fit = fit_disparity(disparity_from_depth(room(0)).values, reference)
    assert not fit.valid
    assert reason in fit.reason
    with pytest.raises(ValueError, match="the scale fit is not valid"):
        apply_scale(room(0), fit)


def test_flat_disparity_is_not_valid():
    fit = fit_disparity(np.full(SHAPE, 0.5, np.float32), room(0))
    assert not fit.valid
    assert "the same at every reference pixel" in fit.reason


def test_inverted_disparity_is_not_valid():
    depth = room(0)
    fit = fit_disparity(1 - disparity_from_depth(depth).values, depth)
    assert not fit.valid
    assert "is not positive" in fit.reason


def test_sizes_must_agree():
    with pytest.raises(ValueError, match="resize the reference to the image first"):
        fit_disparity(np.zeros((4, 4), np.float32), np.ones((2, 4), np.float32))


def test_metres_by_hand():
    disparity = np.array([[1.0, 0.5, 0.0]], np.float32)
    metric = apply_scale(disparity, (0.8, 0.2), min_m=0.5, max_m=4.0)
    np.testing.assert_allclose(metric.meters, [[1.0, 1 / 0.6, np.nan]], rtol=1e-6)
    np.testing.assert_array_equal(metric.valid, [[True, True, False]])


def test_behind_infinity_is_unknown_never_zero():
    metric = apply_scale(np.array([[0.1, 1.0]], np.float32), (1.0, -0.5))
    assert np.isnan(metric.meters[0, 0])
    assert metric.meters[0, 1] == pytest.approx(2.0)
    good = ScaleFit(1.0, -0.5, 0.01, 1.0, 1.0, True)
    assert apply_scale(np.array([[1.0]], np.float32), good).residual == 0.01


@pytest.mark.parametrize("seed", range(4))
def test_near_the_optimum_on_rendered_scenes(seed):
    """1% of the pixels, sigma 2%, 30% outliers."""
    depth = make_frame(seed, 144, 192).depth
    disparity = disparity_from_depth(depth).values
    known = np.isfinite(depth)
    design = np.stack([disparity[known], np.ones(known.sum())], axis=1)
    scale, shift = np.linalg.lstsq(design, 1 / depth[known], rcond=None)[0]
    fit = fit_disparity(disparity, sparse(depth, np.random.default_rng(seed), 0.01, 0.3))
    print(f"scale off by {fit.scale / scale - 1:+.2%}, shift by {(fit.shift - shift):+.4f} / m")
    assert fit.valid
    assert fit.scale == pytest.approx(scale, rel=0.02)
    assert fit.shift == pytest.approx(shift, rel=0.02, abs=0.002)


def test_the_scale_is_steady_over_300_frames_of_a_moving_camera():
    """Each frame is normalised for itself and has its own noisy reference. The ratio of metres to
    the truth must not jitter, and smoothing must not lag behind the normalisation."""
    views = [frame.depth for frame, _ in sequence(3, 30, 96, 128)]
    for smoothing in (0.0, 0.8):
        rng, fit, ratios = np.random.default_rng(0), None, []
        for number in range(300):
            depth = views[number % len(views)]
            disparity = disparity_from_depth(depth).values
            new = fit_disparity(disparity, sparse(depth, rng, 0.01, 0.3))
            assert new.valid
            fit = new if fit is None else smooth_fit(fit, new, smoothing)
            ratios.append(np.nanmedian(apply_scale(disparity, fit).meters / depth))
        print(f"smoothing {smoothing}: mean {np.mean(ratios):.4f}, jitter {np.std(ratios):.2%}")
        assert np.std(ratios) < 0.01
        assert np.mean(ratios) == pytest.approx(1, abs=0.01)


def test_smoothing_is_for_noise_not_for_changes():
    old = ScaleFit(1.0, 0.2, 0.01, 1.0, 1.0, True, span=(0.1, 0.9), error=0.002)
    near = smooth_fit(old, replace(old, scale=1.004), 0.75)
    assert near.scale == pytest.approx(1.001)
    far = smooth_fit(old, replace(old, scale=2.0), 0.75)
    assert far.scale == pytest.approx(2.0, rel=0.001)

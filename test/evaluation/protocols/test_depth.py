# SPDX-License-Identifier: Apache-2.0
"""Depth errors against values worked out by hand and by others, and what each crop keeps."""

import math

import numpy as np
import pytest

from diception_ros.evaluation.protocols.depth import (
    AFFINE_DEPTH,
    AFFINE_DISPARITY,
    METRIC,
    align_depth,
    align_disparity,
    depth_errors,
    silog,
    silog_eigen,
    to_metres,
)
from diception_ros.evaluation.protocols.presets import PRESETS, find_preset

FOUND = np.array([1.0, 2.0, 4.0, 10.0])
TRUTH = np.array([1.0, 1.0, 5.0, 6.0])
"""Errors 0, 1, -1, 4; ratios 1, 2, 1.25, 5/3: worked out by hand below."""


def test_errors_by_hand():
    errors = depth_errors(FOUND, TRUTH)
    assert errors.abs_rel == pytest.approx((0 + 1 + 1 / 5 + 4 / 6) / 4, abs=1e-12)
    assert errors.sq_rel == pytest.approx((0 + 1 + 1 / 5 + 16 / 6) / 4, abs=1e-12)
    assert errors.rmse == pytest.approx(math.sqrt(18 / 4), abs=1e-12)
    logs = [0.0, math.log(2), math.log(0.8), math.log(5 / 3)]
    assert errors.rmse_log == pytest.approx(math.sqrt(sum(d * d for d in logs) / 4), abs=1e-12)
    assert errors.log10 == pytest.approx(sum(map(abs, logs)) / 4 / math.log(10), abs=1e-12)
    # 1.25 itself is not under 1.25; 5/3 lies between 1.25^2 and 1.25^3, 2 above both.
    assert (errors.delta1, errors.delta2, errors.delta3) == (0.25, 0.5, 0.75)
    mean = sum(logs) / 4
    variance = sum(d * d for d in logs) / 4 - mean**2
    assert errors.silog == pytest.approx(100 * math.sqrt(variance), abs=1e-9)


def test_the_variants_of_silog():
    logs = np.log(FOUND) - np.log(TRUTH)
    assert silog(FOUND, TRUTH) == pytest.approx(100 * np.std(logs), abs=1e-9)
    assert silog_eigen(FOUND, TRUTH) == pytest.approx(np.var(logs), abs=1e-12)
    half = np.mean(logs**2) - 0.5 * np.mean(logs) ** 2
    assert silog_eigen(FOUND, TRUTH, weight=0.5) == pytest.approx(half, abs=1e-12)
    assert silog(3 * TRUTH, TRUTH) == pytest.approx(0, abs=1e-5)  # whatever the scale


def test_errors_agree_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    rng = np.random.default_rng(0)
    truth, found = rng.uniform(0.5, 10, (2, 30, 40)).astype(np.float32)
    valid = rng.random((30, 40)) < 0.7
    errors = depth_errors(found, truth, valid)
    z, g = found[valid].astype(np.float64), truth[valid].astype(np.float64)
    assert errors.abs_rel == pytest.approx(metrics.mean_absolute_percentage_error(g, z), abs=1e-9)
    assert errors.rmse**2 == pytest.approx(metrics.mean_squared_error(g, z), abs=1e-9)
    assert errors.rmse_log**2 == pytest.approx(
        metrics.mean_squared_error(np.log(g), np.log(z)), abs=1e-9
    )
    assert errors.log10 == pytest.approx(
        metrics.mean_absolute_error(np.log10(g), np.log10(z)), abs=1e-9
    )


def test_values_that_no_logarithm_can_be_taken_of():
    with pytest.raises(ValueError, match="finite depths over 0 at every valid pixel"):
        depth_errors(np.array([0.0, 1.0]), np.array([1.0, 1.0]))
    with pytest.raises(ValueError, match="no valid pixel: depth must be in metres"):
        depth_errors(FOUND, TRUTH, np.zeros(4, bool))
    with pytest.raises(ValueError, match=r"shape of the ground truth \(4,\), found \(3,\)"):
        depth_errors(FOUND[:3], TRUTH)


def test_affine_fits_undo_what_they_may():
    rng = np.random.default_rng(1)
    truth = rng.uniform(1, 8, (12, 16))
    valid = rng.random(truth.shape) < 0.5
    disparity = (1 / truth - 0.02) / 3
    np.testing.assert_allclose(align_disparity(disparity, truth, valid), truth, rtol=1e-9)
    np.testing.assert_allclose(align_depth((truth - 5) / 0.3, truth, valid), truth, rtol=1e-9)


def test_fits_see_only_valid_pixels_and_far_is_not_infinite():
    truth = np.array([[1.0, 2.0, 4.0, 100.0]])
    valid = np.array([[True, True, True, False]])
    disparity = np.array([[1.0, 0.5, 0.25, -1.0]])
    aligned = align_disparity(disparity, truth, valid)
    np.testing.assert_allclose(aligned, [[1, 2, 4, 1000]], rtol=1e-9)  # clipped at 1e-3 per metre
    with pytest.raises(ValueError, match="two valid pixels, found 1"):
        align_depth(truth, truth, np.array([[True, False, False, False]]))


def test_protocols_are_not_mixed():
    truth = np.array([[1.0, 2.0, 3.0]])
    valid = np.ones((1, 3), bool)
    for protocol in (METRIC, AFFINE_DISPARITY, AFFINE_DEPTH):
        np.testing.assert_allclose(to_metres(truth, "metric", protocol, truth, valid), truth)
    assert to_metres(2 * truth, "metric", METRIC, truth, valid)[0, 2] == 6  # nothing is fitted
    with pytest.raises(ValueError, match="'metric' cannot judge an answer of kind 'disparity'"):
        to_metres(truth, "disparity", METRIC, truth, valid)
    with pytest.raises(ValueError, match="depth answers are disparity, depth, metric, got 'z'"):
        to_metres(truth, "z", METRIC, truth, valid)


@pytest.mark.parametrize(
    ("name", "size", "rows", "columns"),
    [
        ("nyu-eigen", (480, 640), (45, 470), (41, 600)),
        ("kitti-garg", (375, 1242), (153, 370), (44, 1196)),
        ("kitti-eigen", (375, 1242), (124, 341), (44, 1196)),
        ("kitti-benchmark-eigen", (352, 1216), (117, 320), (43, 1171)),
        ("scannet", (480, 640), (0, 479), (0, 639)),
    ],
)
def test_crops(name, size, rows, columns):
    """First and last row and column, from the published shares by hand."""
    at = np.nonzero(find_preset(name).valid(np.full(size, 5.0)))
    assert (at[0].min(), at[0].max()) == rows
    assert (at[1].min(), at[1].max()) == columns


def test_the_benchmark_crop_lies_at_the_bottom():
    shown = PRESETS["kitti-benchmark-eigen"].shown
    assert shown(375, 1242) == (23, 375, 13, 1229)
    with pytest.raises(ValueError, match="crop is 1216x352, the image 100x50"):
        shown(50, 100)


def test_limits_are_strict_and_answers_are_clipped():
    preset = find_preset("diode")
    truth = np.array([[0.6, 0.61, 349.0, 350.0, np.nan, np.inf, 0.0]])
    np.testing.assert_array_equal(preset.valid(truth), [[0, 1, 1, 0, 0, 0, 0]])
    np.testing.assert_array_equal(preset.clip(np.array([0.1, 1.0, 900.0])), [0.6, 1, 350])
    with pytest.raises(ValueError, match="unknown preset 'nyuv3': expected one of plain, nyu"):
        find_preset("nyuv3")

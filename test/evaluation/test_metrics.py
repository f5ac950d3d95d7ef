# SPDX-License-Identifier: Apache-2.0
"""Each metric against values worked out by hand."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from diception_ros.evaluation import metrics


def ramp() -> np.ndarray:
    return np.linspace(1.0, 4.0, 20, dtype=np.float32).reshape(4, 5)


@given(scale=st.floats(0.05, 3.0), shift=st.floats(-0.5, 0.5))
def test_affine_protocol_forgives_scale_and_shift_of_disparity(scale, shift):
    truth = ramp()
    scores = metrics.depth_affine((1 / truth * scale + shift).astype(np.float32), truth)
    assert scores.abs_rel < 1e-3
    assert scores.delta1 == 1.0
    assert scores.protocol == metrics.AFFINE


def test_affine_protocol_aligns_disparity_not_depth():
    # Depth itself as "disparity" is monotone but wrong; hand-solved normal equations say how wrong.
    truth = np.array([[1.0, 2.0, 4.0]], np.float32)
    disparity = np.array([[3.0, 2.0, 0.0]], np.float32)
    slope, offset = np.polyfit([3.0, 2.0, 0.0], [1.0, 0.5, 0.25], 1)
    z = 1 / (slope * np.array([3.0, 2.0, 0.0]) + offset)
    expected = np.mean(np.abs(z - [1, 2, 4]) / [1, 2, 4])
    assert metrics.depth_affine(disparity, truth).abs_rel == pytest.approx(expected, rel=1e-6)


def test_affine_protocol_clips_negative_disparity_to_the_far_end():
    truth = np.array([[1.0, 1.0, 1.0, 100.0]], np.float32)
    disparity = np.array([[1.0, 1.2, 0.8, -3.0]], np.float32)
    scores = metrics.depth_affine(disparity, truth, max_m=10.0)
    assert np.isfinite(scores.abs_rel)
    assert scores.rmse <= 90.0 + 1.0


def test_metric_protocol_forgives_nothing():
    truth = ramp()
    scores = metrics.depth_metric(truth * 1.2, truth)
    assert scores.abs_rel == pytest.approx(0.2, rel=1e-5)
    assert scores.delta1 == 1.0
    assert metrics.depth_metric(truth * 1.3, truth).delta1 == 0.0
    assert scores.protocol == metrics.METRIC


def test_metric_protocol_counts_unknown_pixels_as_missing_coverage():
    truth = ramp()
    meters = truth.copy()
    meters[0] = np.nan
    scores = metrics.depth_metric(meters, truth)
    assert scores.coverage == pytest.approx(0.75)
    assert scores.abs_rel == 0.0
    unknown = metrics.depth_metric(np.full_like(truth, np.nan), truth)
    assert unknown.coverage == 0.0
    assert math.isnan(unknown.abs_rel)


def test_invalid_truth_is_left_out():
    truth = ramp()
    found = truth.copy()
    truth[0, 0], truth[0, 1] = np.nan, 0.0
    found[0, :2] = 50.0
    assert metrics.depth_metric(found, truth).abs_rel == 0.0


def test_depth_without_valid_truth_says_what_is_expected():
    with pytest.raises(ValueError, match="0 valid pixels, at least 2 expected: depth must be in m"):
        metrics.depth_affine(ramp(), np.zeros((4, 5), np.float32))


def test_shapes_must_agree():
    with pytest.raises(ValueError, match=r"expected the shape .*\(4, 5\), found \(2, 2\)"):
        metrics.depth_metric(np.ones((2, 2), np.float32), ramp())


def test_normals_by_known_angles():
    truth = np.zeros((1, 4, 3), np.float32)
    truth[..., 2] = -1.0
    degrees = np.radians([0.0, 10.0, 20.0, 90.0])
    found = np.stack([np.sin(degrees), np.zeros(4), -np.cos(degrees)], -1)[None].astype(np.float32)
    scores = metrics.normals(found, truth)
    assert scores.mean == pytest.approx(30.0, abs=0.01)
    assert scores.median == pytest.approx(15.0, abs=0.01)
    assert (scores.within_11, scores.within_22, scores.within_30) == (0.5, 0.75, 0.75)


def test_normals_leave_out_what_has_no_truth():
    truth = np.zeros((1, 2, 3), np.float32)
    truth[0, 0] = (0, 0, -1)
    assert metrics.normals(np.flip(truth, 1) * 0 + truth[:, :1], truth).mean == 0.0
    with pytest.raises(ValueError, match="no pixel of the ground truth holds a unit vector"):
        metrics.normals(truth, np.zeros_like(truth))


def test_mask_iou():
    a = np.array([[1, 1, 0, 0]], bool)
    assert metrics.mask_iou(a, np.array([[0, 1, 1, 0]], bool)) == pytest.approx(1 / 3)
    assert metrics.mask_iou(a & False, a & False) == 1.0
    assert metrics.mask_iou(a, a & False) == 0.0


def test_mean_best_iou_ignores_names_and_background():
    truth = np.array([[1, 1, 2, 2, 0, 0]])
    assert metrics.mean_best_iou(np.array([[9, 9, 4, 4, 0, 0]]), truth) == 1.0
    # One segment over both: IoU 2/4 each; background never counts as an answer.
    assert metrics.mean_best_iou(np.array([[3, 3, 3, 3, 0, 0]]), truth) == pytest.approx(0.5)
    assert metrics.mean_best_iou(np.zeros((1, 6), int), truth) == 0.0
    assert math.isnan(metrics.mean_best_iou(truth, np.zeros_like(truth)))


def test_mean_best_iou_leaves_out_small_instances():
    truth = np.array([[1, 1, 1, 2]])
    assert metrics.mean_best_iou(np.array([[1, 1, 1, 0]]), truth, min_area=2) == 1.0


def test_semantic_miou_is_the_mean_over_true_classes():
    truth = np.array([[0, 0, 1, 1, 255]])
    found = np.array([[0, 1, 1, 1, 1]])
    # Class 0: 1/2; class 1: 2/3 where the ignored pixel does not count.
    assert metrics.semantic_miou(found, truth, ignore=255) == pytest.approx((1 / 2 + 2 / 3) / 2)


def test_keypoint_recall_matches_one_to_one():
    truth = np.array([[10, 10], [20, 20], [90, 90]], np.float32)
    box = (0.0, 0.0, 100.0, 50.0)
    one = np.array([[15, 15]], np.float32)
    assert metrics.keypoint_recall(one, truth, box, within=0.1) == pytest.approx(1 / 3)
    two = np.array([[11, 10], [20, 21]], np.float32)
    assert metrics.keypoint_recall(two, truth, box, within=0.05) == pytest.approx(2 / 3)
    assert metrics.keypoint_recall(np.zeros((0, 2), np.float32), truth, box) == 0.0
    assert math.isnan(metrics.keypoint_recall(one, np.zeros((0, 2), np.float32), box))


def test_keypoint_recall_does_not_let_a_greedy_pair_block_another():
    # The middle point serves either end; the left one only the left end.
    truth = np.array([[0, 0], [8, 0]], np.float32)
    points = np.array([[4, 0], [-3, 0]], np.float32)
    assert metrics.keypoint_recall(points, truth, (0, 0, 50, 50), within=0.1) == 1.0

# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from diception_ros.evaluation.protocols.masks import (
    PanopticCounts,
    best_ious,
    confusion,
    intersections_and_unions,
    mask_iou,
    miou,
    panoptic,
)


def test_confusion_and_miou_by_hand():
    truth = np.array([[0, 0, 1, 1], [2, 2, 2, 9]])
    found = np.array([[0, 1, 1, 1], [2, 2, 0, 0]])
    matrix = confusion(found, truth, 3, ignore=9)
    np.testing.assert_array_equal(matrix, [[1, 1, 0], [0, 2, 0], [1, 0, 2]])
    hit, union = intersections_and_unions(matrix)
    np.testing.assert_array_equal(hit, [1, 2, 2])
    np.testing.assert_array_equal(union, [3, 3, 3])
    assert miou(matrix) == pytest.approx((1 / 3 + 2 / 3 + 2 / 3) / 3)
    with pytest.raises(ValueError, match=r"classes in 0\.\.1, found others"):
        confusion(found, truth, 2)


def test_miou_agrees_with_scikit_learn():
    metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed")
    truth, found = np.random.default_rng(0).integers(0, 5, (2, 40, 30))
    matrix = confusion(found, truth, 5)
    np.testing.assert_array_equal(matrix, metrics.confusion_matrix(truth.ravel(), found.ravel()))
    mean = metrics.jaccard_score(truth.ravel(), found.ravel(), average="macro")
    assert miou(matrix) == pytest.approx(mean, abs=1e-12)
    one = mask_iou(found == 1, truth == 1)
    assert one == pytest.approx(metrics.jaccard_score(truth.ravel() == 1, found.ravel() == 1))


def image(*rows):
    return np.array([[int(c) for c in row] for row in rows])


def test_panoptic_quality_by_hand():
    truth = image("11110000", "11112222", "00002222")
    found = image("33330000", "33304444", "00005555")
    # 3 matches 1 with 7/8; 4 and 5 have 4/8 each of 2, which is not over one half.
    counts = panoptic(found, truth)[1]
    assert counts == PanopticCounts(iou=7 / 8, tp=1, fp=2, fn=1)
    assert counts.pq == pytest.approx((7 / 8) / 2.5)
    assert counts.sq * counts.rq == pytest.approx(counts.pq)


def test_void_and_crowds_are_forgiven():
    truth = image("11000022", "11000022")
    # 3: on 1 and as much void, which the union leaves out; 4: all void; 5: on the crowd.
    found = image("33334055", "33334055")
    counts = panoptic(found, truth, crowds=[2])[1]
    assert counts == PanopticCounts(iou=1.0, tp=1)
    without = panoptic(found, truth)[1]
    assert without == PanopticCounts(iou=2.0, tp=2)


def test_categories_must_agree():
    truth, found = image("1122"), image("1122")
    counts = panoptic(found, truth, {1: 7, 2: 8}, {1: 7, 2: 7})
    assert counts[7] == PanopticCounts(iou=1.0, tp=1, fn=1)
    assert counts[8] == PanopticCounts(fp=1)


def test_nothing_is_no_quality():
    assert np.isnan(PanopticCounts().pq)
    assert panoptic(image("00"), image("00")) == {}


def test_best_overlap_of_masks_that_overlap():
    ids = image("1122", "1100")
    whole = np.ones((2, 4), bool)
    np.testing.assert_allclose(best_ious(ids, [ids == 1, whole]), [1.0, 0.5])
    np.testing.assert_allclose(best_ious(np.zeros((2, 4), int), [whole]), [0.0])


def test_ids_may_be_of_any_size_and_sign():
    ids = image("1122", "1100")
    names = np.array([-1, 2**40, 255 << 16])
    masks = [ids == 1, ids == 2, ids == 0]
    np.testing.assert_allclose(best_ious(names[ids], masks), [1.0, 1.0, 0.0])
    assert panoptic(names[ids], ids)[1] == PanopticCounts(iou=2.0, tp=2)

# SPDX-License-Identifier: Apache-2.0
import math

import numpy as np
import pytest

from diception_ros.evaluation.protocols.keypoints import (
    COCO_SIGMAS,
    matched,
    oks,
    pck_untyped,
)

BOX = (0.0, 0.0, 10.0, 20.0)


def test_untyped_points_are_matched_one_to_one():
    truth = np.array([[0.0, 0.0], [1.0, 0.0], [9.0, 9.0]])
    found = np.array([[0.5, 0.0], [9.0, 9.5]])
    assert matched(found, truth, 1.0) == 2  # the first answer cannot serve two joints
    assert pck_untyped(found, truth, BOX, alpha=0.05) == pytest.approx(2 / 3)
    assert pck_untyped(found, truth, BOX, alpha=0.02) == 0
    assert math.isnan(pck_untyped(found, truth[:0], BOX, alpha=0.1))
    assert pck_untyped(found[:0], truth, BOX, alpha=0.1) == 0


def test_oks_by_hand():
    truth = np.zeros((17, 2))
    found = np.full((17, 2), 3.0)
    visible = np.zeros(17, bool)
    visible[[0, 5]] = True  # nose, left shoulder: sigmas 0.026 and 0.079
    expected = sum(math.exp(-18 / (2 * 400 * (2 * s) ** 2)) for s in (0.026, 0.079)) / 2
    assert oks(found, truth, visible, 400.0) == pytest.approx(expected, abs=1e-12)
    assert oks(truth, truth, visible, 400.0) == 1
    with pytest.raises(ValueError, match="as many points, truths, flags and sigmas, found 16"):
        oks(found[:16], truth, visible, 400.0)


def test_a_joint_that_was_not_found_is_a_missed_one():
    truth, found = np.arange(34, dtype=float).reshape(17, 2), np.full((17, 2), np.nan)
    assert pck_untyped(found, truth, BOX, alpha=0.2) == 0
    assert oks(found, truth, np.ones(17, bool), 400.0) == 0
    found[3] = truth[3]
    assert pck_untyped(found, truth, BOX, alpha=0.05) == pytest.approx(1 / 17)
    assert oks(found, truth, np.ones(17, bool), 400.0) == pytest.approx(1 / 17)


def test_oks_agrees_with_pycocotools():
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    rng = np.random.default_rng(0)
    truth, found = rng.uniform(0, 100, (17, 2)), rng.uniform(0, 100, (17, 2))
    visible = rng.integers(0, 3, 17)
    frame = {"images": [{"id": 1}], "categories": [{"id": 1}]}
    shared = {"image_id": 1, "category_id": 1, "area": 5000.0, "bbox": [0, 0, 100, 100]}
    sets = []
    for points, flags in ((truth, visible), (found, np.ones(17))):
        rows = np.column_stack([points, flags]).ravel().tolist()
        entry = {**shared, "id": 1, "keypoints": rows, "num_keypoints": 17, "score": 1.0}
        one = COCO()
        one.dataset = {**frame, "annotations": [{**entry, "iscrowd": 0}]}
        one.createIndex()
        sets.append(one)
    judged = COCOeval(*sets, "keypoints")
    judged.evaluate()
    np.testing.assert_allclose(COCO_SIGMAS, judged.params.kpt_oks_sigmas)
    reference = judged.computeOks(1, 1)[0, 0]
    assert oks(found, truth, visible > 0, 5000.0) == pytest.approx(reference, abs=1e-9)

# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from diception_ros.evaluation.material import DemoFrame
from diception_ros.evaluation.scores import Score, score_frame, summarize, timing


def scored(answers, categories=(), **truth):
    frame = DemoFrame("x", np.zeros((4, 5, 3), np.uint8), "test", **truth)
    return {(s.output, s.metric): s.value for s in score_frame(frame, answers, categories)}


def test_only_what_has_truth_and_answer_is_scored():
    depth = np.linspace(1, 3, 20, dtype=np.float32).reshape(4, 5)
    assert scored({"depth": 1 / depth}) == {}
    assert scored({}, depth_m=depth) == {}
    both = scored({"depth": 1 / depth, "metric depth": depth * 1.1}, depth_m=depth)
    assert both[("depth", "delta1, affine disparity aligned")] == 1.0
    assert both[("metric depth", "AbsRel, metres")] == pytest.approx(0.1, rel=1e-4)


def test_a_point_mask_is_scored_by_what_is_set():
    mask = np.zeros((4, 5), bool)
    mask[:2] = True
    answers = {"point": np.where(mask, 255, 0).astype(np.uint8)}
    assert scored(answers, point_mask=mask) == {("point", "IoU"): 1.0}


def test_classes_are_compared_under_the_ids_of_the_node():
    truth = np.array([[0, 1, 2]], np.uint8)  # nothing, a bed, a chair
    names = ("bed", "chair")
    # The node was asked for (person, chair): the bed counts as background.
    answers = {"semantic": np.array([[0, 0, 2]], np.uint8)}
    found = scored(answers, ("person", "chair"), classes=truth, class_names=names)
    assert found == {("semantic", "mIoU"): 1.0}
    swapped = scored(answers, ("chair", "person"), classes=truth, class_names=names)
    assert swapped[("semantic", "mIoU")] == pytest.approx(0.5)


def test_groups_are_never_averaged_together():
    scores = [
        Score("depth", "AbsRel", "rendered", 0.1),
        Score("depth", "AbsRel", "photographs", 0.5),
        Score("depth", "AbsRel", "rendered", 0.3),
        Score("depth", "AbsRel", "rendered", float("nan")),
    ]
    rendered, photographs = summarize(scores)
    assert (rendered.value, rendered.frames) == (pytest.approx(0.2), 2)
    assert (photographs.value, photographs.frames) == (0.5, 1)


def test_rate_counts_the_fixed_rate_phase_only():
    ms = 1_000_000
    arrivals = [(0, 10 * ms), (100, 100 + 20 * ms), (200, 200 + 30 * ms)]
    found = timing("depth", arrivals, phase=[100, 200, 300], seconds=4.0)
    assert (found.messages, found.rate, found.p50) == (2, 0.5, 20.0)
    assert found.p95 == pytest.approx(29.0)

# SPDX-License-Identifier: Apache-2.0
"""Figures against their definitions, intervals against theory, and when two runs differ."""

import numpy as np
import pytest

from diception_ros.evaluation.figures import (
    BETTER,
    EVEN,
    HIGHER,
    WORSE,
    Draws,
    Figure,
    Metric,
    Tally,
    compare,
)
from diception_ros.evaluation.results import (
    Results,
    Skipped,
    compare_results,
    read_results,
    write_results,
)

ERROR = Metric("depth", "metric", "abs_rel")
SHARE = Metric("semantic", "classes", "mIoU", "", HIGHER)


def mean_of(values, metric=ERROR):
    tally = Tally()
    for i, value in enumerate(values):
        tally.add(metric, f"{i:04d}", value)
    (figure,) = tally.figures()
    return figure


def test_a_mean_over_frames_and_its_interval():
    values = np.random.default_rng(0).normal(5, 2, 400)
    found = mean_of(values).estimate(Draws())
    assert found.value == pytest.approx(values.mean(), abs=1e-12)
    assert found.frames == 400
    # The percentile interval of a mean is near its normal one.
    half = 1.96 * values.std() / 20
    assert found.low == pytest.approx(values.mean() - half, abs=0.03)
    assert found.high == pytest.approx(values.mean() + half, abs=0.03)


def test_intervals_hold_the_truth_as_often_as_they_say():
    rng, draws = np.random.default_rng(1), Draws(number=400)
    held = 0
    for _ in range(200):
        found = mean_of(rng.exponential(1.0, 60)).estimate(draws)
        held += found.low <= 1 <= found.high
    assert 178 <= held <= 198  # 95% of 200, a little less for skewed values and 60 frames


def test_classes_are_ratios_of_sums_then_a_mean():
    tally = Tally()
    tally.add(SHARE, "a", 1, 2, "cup")
    tally.add(SHARE, "b", 3, 4, "cup")
    tally.add(SHARE, "b", 1, 4, "chair")
    (figure,) = tally.figures()
    assert figure.estimate(Draws()).value == pytest.approx((4 / 6 + 1 / 4) / 2)


def test_a_root_is_taken_after_the_mean():
    metric = Metric("normal", "pooled", "rmse", root=True)
    tally = Tally()
    tally.add(metric, "a", 4 * 10, 10)
    tally.add(metric, "b", 16 * 30, 30)
    (figure,) = tally.figures()
    assert figure.estimate(Draws()).value == pytest.approx(13**0.5)


def test_what_is_unknown_is_left_out():
    tally = Tally()
    tally.add(ERROR, "a", float("nan"))
    tally.add(ERROR, "b", 1.0, 0.0)
    assert tally.figures() == []


def test_groups_are_drawn_whole():
    values = np.repeat([1.0, 2.0, 3.0, 4.0], 25)
    groups = {f"{i:04d}": f"scene {i // 25}" for i in range(100)}
    single, grouped = (mean_of(values).estimate(draws) for draws in (Draws(), Draws(groups)))
    assert grouped.value == single.value
    assert grouped.high - grouped.low > 3 * (single.high - single.low)
    frames = sorted(groups)
    (counts,) = Draws(groups).sums(frames, np.repeat(np.eye(4), 25, axis=0))
    assert (counts % 25 == 0).all()
    assert (counts.sum(axis=1) == 100).all()


def test_one_unit_has_no_interval_and_shows_no_difference():
    """Drawn from itself it is always the same; that says nothing of the next one."""
    one = Draws(dict.fromkeys((f"{i:04d}" for i in range(3)), "the only scene"))
    this, other = mean_of([1.0, 2.0, 3.0]), mean_of([1.1, 2.1, 3.1])
    found = this.estimate(one)
    assert (found.value, one.units(this.parts)) == (2.0, 1)
    assert np.isnan([found.low, found.high]).all()
    assert compare(this, other, one).verdict == EVEN
    assert compare(this, other, Draws()).verdict == BETTER
    assert list(one.resamples(sorted(this.parts))) == []


def test_resamples_are_those_of_the_sums():
    groups = {f"{i:04d}": f"scene {i // 5}" for i in range(20)}
    frames, draws = sorted(groups), Draws(groups, number=50)
    (counts,) = draws.sums(frames, np.eye(20))
    drawn = [np.bincount(rows, minlength=20) for rows in draws.resamples(frames)]
    np.testing.assert_array_equal(drawn, counts)


@pytest.mark.parametrize(("shift", "verdict"), [(-0.05, BETTER), (0.05, WORSE), (0.0, EVEN)])
def test_pairs_show_what_single_intervals_hide(shift, verdict):
    """Frames differ far more than runs do; only pairs can tell the runs apart."""
    rng = np.random.default_rng(2)
    frames = rng.uniform(0, 1, 100)
    this = mean_of(frames + shift + rng.normal(0, 0.03, 100))
    other = mean_of(frames + rng.normal(0, 0.03, 100))
    found = compare(this, other, Draws())
    assert found.verdict == verdict
    assert found.difference == pytest.approx(shift, abs=0.02)
    assert found.low < found.difference < found.high
    alone = this.estimate(Draws()), other.estimate(Draws())
    assert alone[0].low < alone[1].value < alone[0].high  # apart they look alike


def test_only_frames_that_both_have_are_compared():
    this = mean_of([1.0, 2.0, 9.0])
    other = mean_of([1.0, 1.0])
    found = compare(this, other, Draws())
    assert (found.frames, found.this, found.other) == (2, 1.5, 1.0)
    elsewhere = Figure(ERROR, {"x": {"": (1.0, 1.0)}})
    assert compare(this, elsewhere, Draws()) is None


def test_different_metrics_are_never_compared():
    other = Metric("depth", "affine disparity", "abs_rel")
    with pytest.raises(ValueError, match="cannot be compared with"):
        compare(mean_of([1.0]), mean_of([1.0], other), Draws())
    one, another = (Results({}, {}, [mean_of([1.0], m)]) for m in (ERROR, other))
    differences, alone = compare_results(one, another)
    assert differences == []
    assert alone == ["depth abs_rel (metric)", "depth abs_rel (affine disparity)"]


def test_replicates_pair_only_on_the_same_frames():
    frames = {"a": {}, "b": {}}
    one = Figure(SHARE, frames, 0.5, (0.4, 0.5, 0.6))
    other = Figure(SHARE, frames, 0.3, (0.2, 0.3, 0.4))
    found = compare(one, other, Draws())
    assert (found.difference, found.verdict) == (pytest.approx(0.2), BETTER)
    assert compare(one, Figure(SHARE, {"a": {}}, 0.3, (0.2, 0.3, 0.4)), Draws()) is None
    assert one.estimate(Draws()).low == pytest.approx(0.405)


def test_replicates_pair_only_where_frames_were_drawn_alike():
    frames = {name: {} for name in "abcd"}
    one, other = Figure(SHARE, frames, 0.5, (0.4, 0.6)), Figure(SHARE, frames, 0.4, (0.3, 0.5))
    scenes = Draws({"a": "s", "b": "s", "e": "t"})
    here = Results({}, {}, [one, mean_of([1.0])], scenes)
    elsewhere = Draws({**scenes.groups, "e": "of no matter: no frame of these"})
    for draws, paired in (
        (scenes, True),
        (elsewhere, True),
        (Draws(), False),
        (Draws(scenes.groups, seed=1), False),
    ):
        differences, alone = compare_results(here, Results({}, {}, [other, mean_of([1.0])], draws))
        assert len(differences) == 1 + paired
        assert alone == ([] if paired else ["semantic mIoU (classes)"])


def test_masks_of_other_categories_are_not_compared():
    def asked(categories):
        return Results({"categories": categories}, {}, [mean_of([0.5], SHARE), mean_of([1.0])])

    assert compare_results(asked("chair"), asked("chair"))[1] == []
    differences, alone = compare_results(asked("chair"), asked("chair, person"))
    assert [one.metric for one in differences] == [ERROR]
    assert alone == ["semantic mIoU (classes)"]


def test_better_has_two_values():
    with pytest.raises(ValueError, match="better is 'lower' or 'higher', got 'more'"):
        Metric("a", "b", "c", better="more")


def test_results_come_back_from_their_json(tmp_path):
    figures = [mean_of([1.0, 2.0]), Figure(SHARE, {"a": {}}, 0.5, (0.5, float("nan")))]
    skipped = [Skipped("broken", "no such file")]
    results = Results(
        {"source": tmp_path}, {"name": "b"}, figures, Draws({"0000": "s"}), skipped, {}, ["n"]
    )
    write_results(tmp_path / "results.json", results)
    back = read_results(tmp_path)
    assert back.figures[0] == figures[0]
    assert back.figures[1].value == 0.5
    assert np.isnan(back.figures[1].replicates[1])
    assert (back.skipped, back.draws, back.notes) == (skipped, results.draws, ["n"])
    same, alone = compare_results(results, back)
    assert alone == []
    assert all(one.verdict == EVEN and one.difference == 0 for one in same)


def test_replicates_of_single_frames_are_not_paired_with_those_of_units(tmp_path):
    frames = {"a": {}, "b": {}}
    this = Results({"source": tmp_path}, {}, [Figure(SHARE, frames, 0.5, (0.4, 0.5, 0.6))])
    write_results(tmp_path / "results.json", this)
    assert compare_results(this, read_results(tmp_path))[1] == []
    text = (tmp_path / "results.json").read_text()
    (tmp_path / "results.json").write_text(text.replace('"drawn"', '"before"'))
    assert compare_results(this, read_results(tmp_path))[1] == ["semantic mIoU (classes)"]


def test_what_is_no_results_file_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"results\.json: cannot be read, expected the results"):
        read_results(tmp_path)
    file = tmp_path / "results.json"
    for text in ("{}", "[1]", "no json", '{"format": "other"}'):
        file.write_text(text)
        with pytest.raises(ValueError, match="not the results of 'diception evaluate'"):
            read_results(tmp_path)

# SPDX-License-Identifier: Apache-2.0
"""The way from colours to figures, without any network: perfect, blind and trivial answers."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from diception_ros.tasks import TASKS
from diception_ros.training.measure.baselines import (
    FACING,
    FLOOR,
    MEAN,
    SLIC_SEGMENTS,
    baselines,
    constant,
)
from diception_ros.training.measure.questions import Question, ask, exchange, innermost, possible
from diception_ros.training.measure.report import TARGETS, shares_kept, table_markdown
from diception_ros.training.measure.rows import Rows, measure, row, task_rows
from diception_ros.training.measure.scores import Answered
from diception_ros.training.scenes import CATEGORIES, Frame
from diception_ros.training.targets import colours_of

SIZE = 64
SLIC = f"SLIC, {SLIC_SEGMENTS} segments"


def made_frame(rng: np.random.Generator) -> Frame:
    """A floor under a wall, a chair, a ball and somebody, each at a place of its own."""
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    horizon = SIZE // 2
    inverse = np.where(rows > horizon, 0.2 + 0.02 * (rows - horizon), 0.2)
    normals = np.where((rows > horizon)[..., None], np.float32([0, -1, 0]), np.float32([0, 0, -1]))
    instances, categories = np.zeros((2, SIZE, SIZE), np.uint16)
    places = {"chair": (20, 16), "sports ball": (16, 48), "person": (46, 44)}
    for i, (name, centre) in enumerate(places.items(), start=1):
        row, column = np.array(centre) + rng.integers(-3, 4, 2)
        here = (abs(rows - row) < 14) & (abs(columns - column) < 7 + i)
        instances[here], categories[here] = i, CATEGORIES.index(name)
        inverse[here] = rng.uniform(0.3, 0.9)
        normals[here] = (0, 0, -1)
    x, y = column + np.arange(13) % 3 * 6 - 6, row + np.arange(13) // 3 * 6 - 12
    keypoints = ((3, np.stack([x, y], axis=1).astype(np.float32), np.ones(13, bool)),)
    rgb = (40 * categories[..., None] + rng.integers(0, 9, (SIZE, SIZE, 3))).astype(np.uint8)
    depth = (1 / inverse).astype(np.float32)
    return Frame(
        rgb, depth, normals.astype(np.float32), instances, categories, (60,) * 4, keypoints
    )


@pytest.fixture(scope="module")
def frames() -> list[Frame]:
    return [made_frame(np.random.default_rng(seed)) for seed in range(6)]


@pytest.fixture(scope="module")
def other() -> list[Frame]:
    return [made_frame(np.random.default_rng(seed)) for seed in range(100, 112)]


def answered(task: str, colours: np.ndarray) -> Answered:
    return Answered(colours, TASKS[task].decode(colours))


def seeing(frames: list[Frame]):
    """Somebody who recognises the image and answers with the truth of that image."""

    def answers(questions: Sequence[Question], steps: int) -> list[Answered]:
        found = []
        for question in questions:
            frame = next(frame for frame in frames if frame.rgb is question.image)
            found.append(answered(question.task, replace(question, frame=frame).colours()))
        return found

    return answers


def rows_of(task: str, frames: list[Frame], other: list[Frame], answers=None) -> Rows:
    questions = ask(task, frames, np.random.default_rng(0))
    answers = answers or seeing(frames)
    return task_rows(questions, frames, baselines(task, other), answers)


@pytest.mark.parametrize(
    ("task", "metric", "least"),
    [
        ("depth", "delta1", 0.999),
        ("normal", "within_11", 0.999),
        ("entity", "best_iou", 0.95),
        ("semantic", "miou", 0.95),
        ("point", "iou", 0.95),
        ("pose", "recall", 0.999),
        ("pose", "precision", 0.999),
    ],
)
def test_the_truth_scores_best_and_another_scenes_truth_does_not(
    frames: list[Frame], other: list[Frame], task: str, metric: str, least: float
) -> None:
    rows = rows_of(task, frames, other)
    assert rows["network"][metric] >= least
    assert rows["network"] == pytest.approx(rows["true colours"])
    assert rows["exchanged"][metric] < rows["network"][metric] - 0.02
    for name, scores in rows.items():
        assert scores[metric] <= rows["network"][metric] + 1e-9, name


@pytest.mark.parametrize("task", ["depth", "normal", "entity", "pose"])
def test_the_mean_of_the_training_colours_is_the_mean_target(
    frames: list[Frame], other: list[Frame], task: str
) -> None:
    mean = np.mean([colours_of(frame, task) for frame in other], axis=0).astype(np.float32)
    rows = rows_of(
        task, frames, other, lambda questions, _: [answered(task, mean)] * len(questions)
    )
    assert rows["network"] == rows[MEAN] == rows["exchanged"]
    assert shares_kept({task: rows}) == {task: {}}


def test_mean_masks_are_those_of_the_category_and_of_the_click(
    frames: list[Frame], other: list[Frame]
) -> None:
    semantic = baselines("semantic", other)[MEAN]
    question = next(q for q in possible("semantic", frames[0]) if q.category == "chair")
    chairs = np.mean([frame.instances == 1 for frame in other], axis=0)
    answer = semantic(question)
    assert answer[chairs == 1].all() and not answer[chairs == 0].any()
    assert not semantic(replace(question, category="couch")).any()
    point = baselines("point", other)[MEAN]
    at = [
        point(replace(possible("point", frames[0])[0], click=place))
        for place in ((30, 20), (33, 26))
    ]
    np.testing.assert_array_equal(at[0][:-3, :-6], at[1][3:, 6:])
    assert at[0][30, 20] and at[0].sum() < SIZE**2 / 2


def test_baselines_of_depth_and_normals_know_what_they_may(
    frames: list[Frame], other: list[Frame]
) -> None:
    question = Question("depth", frames[0], frames[0].rgb)
    rows, columns = np.mgrid[0:SIZE, 0:SIZE]
    plane = replace(frames[0], depth=(1 / (0.1 + 0.01 * rows + 0.02 * columns)).astype(np.float32))
    found = baselines("depth", other)["best plane"](replace(question, frame=plane))
    np.testing.assert_allclose(found, 1 / plane.depth, rtol=1e-4)
    assert np.ptp(constant(question)) == 0
    table = rows_of("normal", frames, other)
    wall = np.mean([(frame.normals[..., 2] == -1).mean() for frame in frames])
    assert table[FACING]["within_11"] == pytest.approx(wall)
    assert table[FLOOR]["within_11"] > table[FACING]["within_11"]


def test_whole_image_and_superpixels_are_scored_by_hand(
    frames: list[Frame], other: list[Frame]
) -> None:
    given = baselines("point", other)
    question = possible("point", frames[0])[0]
    assert question.mask.mean() == pytest.approx(
        row([question], [given["whole image"](question)])["iou"]
    )
    segment = given[SLIC](question)
    assert segment[question.click] and 0 < segment.mean() < 0.2
    entities = Question("entity", frames[0], frames[0].rgb)
    areas = np.bincount(frames[0].instances.ravel())[1:] / SIZE**2
    whole = row([entities], [baselines("entity", other)["whole image"](entities)])
    assert whole["best_iou"] == pytest.approx(areas.mean())
    assert len(np.unique(baselines("entity", other)[SLIC](entities))) > SLIC_SEGMENTS / 4


def test_baselines_need_training_scenes_and_a_known_task(other: list[Frame]) -> None:
    with pytest.raises(ValueError, match="needs training scenes, found none"):
        baselines("depth", [])
    with pytest.raises(ValueError, match="no baselines for the task 'flow', expected one of depth"):
        baselines("flow", other)


def test_a_click_is_the_pixel_farthest_from_the_edge() -> None:
    mask = np.zeros((20, 30), bool)
    mask[4:11, 3:20] = True
    row, column = innermost(mask)
    assert row == 7 and 6 <= column <= 16
    corner = np.zeros((20, 30), bool)
    corner[:9, :9] = True
    assert innermost(corner) == (4, 4)


def test_exchanged_questions_show_another_frame_and_ask_the_same(frames: list[Frame]) -> None:
    questions = [question for frame in frames[:2] for question in possible("point", frame)]
    others = exchange(questions, frames)
    for question, other in zip(questions, others, strict=True):
        assert other.image is frames[1 if question.frame is frames[0] else 0].rgb
        assert other.click == question.click and other.frame is question.frame
    (alone,) = exchange([Question("depth", frames[2], frames[2].rgb)], frames)
    assert alone.image is frames[3].rgb


def test_keypoints_of_nobody_have_no_precision(frames: list[Frame]) -> None:
    question = Question("pose", frames[0], frames[0].rgb)
    scores = row([question], [np.zeros((0, 2), np.float32)])
    assert scores == {"recall": 0.0, "precision": 0.0, "found_per_true": 0.0}
    points = frames[0].keypoints[0][1]
    twice = row([question], [np.concatenate([points, points + 30])])
    assert twice == {"recall": 1.0, "precision": 0.5, "found_per_true": 2.0}


def test_what_a_frame_does_not_show_is_not_asked(frames: list[Frame]) -> None:
    nothing = np.zeros((SIZE, SIZE), np.uint16)
    unknown = np.full((SIZE, SIZE), np.nan, np.float32)
    vectors = np.full((SIZE, SIZE, 3), np.nan, np.float32)
    empty = Frame(frames[0].rgb, unknown, vectors, nothing, nothing, (60,) * 4, ())
    assert not any(possible(task, empty) for task in TASKS)
    assert all(possible(task, frames[0]) for task in TASKS)
    assert measure({"depth": []}, [empty], {}, seeing([])) == {}


def test_long_runs_answer_fewer_questions_and_say_so(
    frames: list[Frame], other: list[Frame]
) -> None:
    asked: list[tuple[int, int]] = []

    def answers(questions: Sequence[Question], steps: int) -> list[Answered]:
        asked.append((len(questions), steps))
        return seeing(frames)(questions, steps)

    questions = ask("depth", frames, np.random.default_rng(0))
    given = baselines("depth", other)
    rows = task_rows(questions, frames, given, answers, steps=(1, 4, 28), many=2)
    assert asked == [(6, 1), (6, 1), (6, 4), (2, 28)]
    assert list(rows)[-3:] == ["network", "network, 4 steps", "network, 28 steps, first 2"]


def test_the_table_ticks_what_meets_its_target() -> None:
    table = {
        "depth": {
            "constant": {"delta1": 0.3, "abs_rel": 0.4},
            "mean target": {"delta1": 0.5, "abs_rel": 0.25},
            "true colours": {"delta1": 1.0, "abs_rel": 0.0},
            "exchanged": {"delta1": 0.52, "abs_rel": 0.15},
            "network": {"delta1": 0.91, "abs_rel": 0.13},
            "network, 28 steps, first 100": {"delta1": 0.89, "abs_rel": 0.12},
        }
    }
    lines = table_markdown(table).splitlines()
    assert lines[0] == (
        "| task | metric | target | network | network, 28 steps, first 100 | exchanged "
        "| mean target | other baselines | true colours |"
    )
    assert lines[2] == (
        "| depth | δ1 | ≥ 0.9 | 0.910 ✓ | 0.890 ✗ | 0.520 ✓ | 0.500 | constant 0.300 | 1.000 |"
    )
    assert lines[3] == (
        "| depth | AbsRel | ≤ 0.12 | 0.130 ✗ | 0.120 ✓ | 0.150 ✗ | 0.250 | constant 0.400 | 0.000 |"
    )
    kept = shares_kept(table)["depth"]
    assert kept == pytest.approx({"delta1": 0.02 / 0.41, "abs_rel": 0.10 / 0.12})
    assert "✓" not in table_markdown(table, {}).splitlines()[2].split("|")[4]
    assert set(TARGETS) == set(TASKS)


def test_categories_weigh_the_same_however_often_they_are_asked(frames: list[Frame]) -> None:
    chair, ball, person = possible("semantic", frames[0])
    questions = [chair, chair, chair, person]
    right, wrong = chair.mask, np.zeros((SIZE, SIZE), bool)
    scores = row(questions, [right, right, right, wrong])
    assert scores == {"iou": 0.75, "miou": 0.5}
    assert ball.category == "sports ball"

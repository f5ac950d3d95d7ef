# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from diception_ros.tasks import TASKS
from diception_ros.training.pool import mirrored
from diception_ros.training.scenes import CATEGORIES, Frame
from diception_ros.training.targets import (
    AIMED,
    colours_of,
    draw_points,
    innermost,
    make_example,
    prompts,
)

SIZE = 64


@pytest.fixture
def frame() -> Frame:
    """A floor-to-ceiling wall that recedes to the right, two boxes and a person on it."""
    instances = np.zeros((SIZE, SIZE), np.uint16)
    instances[5:25, 5:25], instances[35:60, 30:60] = 1, 2
    categories = np.where(instances == 1, CATEGORIES.index("chair"), 0).astype(np.uint16)
    depth = np.tile(np.linspace(1, 4, SIZE, dtype=np.float32), (SIZE, 1))
    normals = np.tile(np.float32([-0.6, 0, -0.8]), (SIZE, SIZE, 1))
    points = np.float32([[8 + 4 * i, 10 + 3 * i] for i in range(13)])
    visible = np.arange(13) % 2 == 0
    rgb = np.random.default_rng(0).integers(0, 256, (SIZE, SIZE, 3), dtype=np.uint8)
    people = ((2, points, visible),)
    return Frame(rgb, depth, normals, instances, categories, (60.0, 60.0, 31.5, 31.5), people)


def test_depth_and_normals_survive_the_tasks_own_decoders(frame: Frame) -> None:
    disparity = TASKS["depth"].decode(colours_of(frame, "depth")).values
    inverse = 1 / frame.depth
    expected = (inverse - inverse.min()) / np.ptp(inverse)
    np.testing.assert_allclose(disparity, expected, atol=1e-5)
    normals = TASKS["normal"].decode(colours_of(frame, "normal")).vectors
    np.testing.assert_allclose(normals, frame.normals, atol=1e-5)


def test_entities_are_found_again_without_a_palette(frame: Frame) -> None:
    found = TASKS["entity"].decode(colours_of(frame, "entity"))
    assert len(found.instances) == 2
    for truth in (1, 2):
        ids = np.unique(found.ids[frame.instances == truth])
        assert len(ids) == 1 and ids[0] > 0
    assert (found.ids[frame.instances == 0] == 0).mean() > 0.98


def test_entity_colours_do_not_depend_on_the_numbers_of_the_instances(frame: Frame) -> None:
    swapped = np.choose(frame.instances, [0, 2, 1]).astype(np.uint16)
    other = Frame(
        frame.rgb, frame.depth, frame.normals, swapped, frame.categories, (1, 1, 0, 0), ()
    )
    np.testing.assert_array_equal(colours_of(frame, "entity"), colours_of(other, "entity"))


def test_a_category_is_white_and_an_absent_one_black(frame: Frame) -> None:
    chair = colours_of(frame, "semantic", "chair")[..., 0]
    np.testing.assert_array_equal(chair >= 0.5, frame.instances == 1)
    assert colours_of(frame, "semantic", "bed").max() == 0


def test_pose_has_a_disk_on_every_visible_keypoint_and_on_no_other(frame: Frame) -> None:
    found = TASKS["pose"].decode(colours_of(frame, "pose"))
    _, points, visible = frame.keypoints[0]
    away = np.linalg.norm(found.points[:, None] - points[visible], axis=-1)
    assert len(found.points) == visible.sum()
    assert away.min(axis=0).max() < 1.0


def test_points_lie_in_the_mask_that_is_asked_for(frame: Frame) -> None:
    rng = np.random.default_rng(3)
    for _ in range(30):
        example = make_example(frame, "point", rng)
        used = example.points.any(axis=1)
        row, column = (example.points[used] * SIZE).round().astype(int).T
        inside = example.colours[row, column, 0] > 0.4
        np.testing.assert_array_equal(inside, example.labels[used] == 1)


def test_a_mask_without_outside_gets_no_points_outside() -> None:
    points, labels = draw_points(np.ones((4, 4), bool), np.random.default_rng(0))
    assert labels.sum() == (points.any(axis=1) | (labels == 1)).sum()


def test_many_clicks_are_aimed_at_the_middle() -> None:
    mask, rng = np.zeros((32, 32), bool), np.random.default_rng(0)
    mask[4:15, 10:31] = True
    middle = np.float32(innermost(mask)) / 32
    aimed = [np.array_equal(draw_points(mask, rng)[0][0], middle) for _ in range(400)]
    assert AIMED - 0.08 < np.mean(aimed) < AIMED + 0.08


def test_every_prompt_is_a_tasks_own(frame: Frame) -> None:
    rng, known = np.random.default_rng(0), prompts()
    assert known[0] == "" and len(set(known)) == len(known)
    for task in TASKS:
        category = "chair" if TASKS[task].takes_category else ""
        assert make_example(frame, task, rng, category).prompt in known


def test_mirroring_moves_labels_with_the_picture(frame: Frame) -> None:
    other = mirrored(frame)
    np.testing.assert_array_equal(other.rgb[:, ::-1], frame.rgb)
    np.testing.assert_allclose(other.normals[..., 0], 0.6)
    x = [people[0][1][:, 0] for people in (frame.keypoints, other.keypoints)]
    np.testing.assert_allclose(x[0] + x[1], SIZE - 1)
    np.testing.assert_array_equal(mirrored(other).instances, frame.instances)

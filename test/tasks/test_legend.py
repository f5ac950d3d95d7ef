# SPDX-License-Identifier: Apache-2.0
"""Words on pictures: where they are, what they say, and that the rest stays what it was."""

import numpy as np
import pytest

from diception_ros.tasks import Disparity, Instances, Normals
from diception_ros.tasks.legend import add_key, add_names, depth_marks
from diception_ros.tasks.show import classes_picture, colorize, distinct_colours
from diception_ros.tasks.types import Instance

H, W = 240, 320
WHOLE = Instance(1, 1.0, (0, 0, 60, 40), 2400, (30.0, 20.0))


@pytest.fixture
def written(monkeypatch):
    """Every text that is drawn, with its place."""
    texts = []
    monkeypatch.setattr(
        "diception_ros.tasks.legend.cv2.putText",
        lambda picture, text, place, *rest: texts.append((text, place)),
    )
    return texts


def said(written):
    return list(dict.fromkeys(text for text, _ in written))


def test_a_depth_bar_counts_metres_along_inverse_depth():
    marks = depth_marks(np.zeros((H, W, 3), np.uint8), 1.0, 4.0)
    assert [text for _, text in marks] == ["1.0 m", "1.3 m", "2.0 m", "4.0 m"]
    assert [share for share, _ in marks] == pytest.approx([0, 1 / 3, 2 / 3, 1])
    close = depth_marks(np.zeros((H, W, 3), np.uint8), 0.55, 0.64)
    assert [text for _, text in close] == ["0.55 m", "0.58 m", "0.61 m", "0.64 m"]


def test_metres_are_written_beside_the_bar_only_where_there_are_metres(written):
    near = np.linspace(1, 0, H * W, dtype=np.float32).reshape(H, W)
    colorize(Disparity(near))
    assert said(written) == ["near", "far"]
    written.clear()
    colorize(Disparity(near), meters=np.float32(2) + near)
    assert len(said(written)) == 4
    assert all(text.endswith(" m") for text in said(written))
    assert all(x >= 0 and 0 < y < H for _, (x, y) in written)


def test_the_bar_has_the_colours_of_what_it_explains():
    column = np.linspace(1, 0, H, dtype=np.float32)[:, None]
    picture = colorize(Disparity(np.repeat(column, W, axis=1))).astype(int)
    bar, field = picture[20:-20, W - 11], picture[20:-20, W // 2]
    assert np.abs(bar[50:150] - field[50:150]).mean() < 12


def test_instances_carry_their_ids_and_small_ones_do_not(written):
    ids = np.zeros((H, W), np.uint16)
    ids[20:120, 30:130] = 1
    ids[200:204, 200:204] = 2
    found = (
        Instance(1, 1.0, (30, 20, 100, 100), 10_000, (80.0, 70.0)),
        Instance(2, 1.0, (200, 200, 4, 4), 16, (201.0, 201.0)),
    )
    colorize(Instances(ids, found))
    assert said(written) == ["1"]
    written.clear()
    colorize(Instances(ids, found, "chair"))
    assert said(written) == ["1", "chair: 2"]


def test_classes_have_a_key_of_those_seen_in_their_own_colours(written):
    ids = np.zeros((H, W), np.uint8)
    ids[100:110] = 1
    ids[120:220] = 3
    picture = classes_picture(ids, ["chair", "person", "table"])
    assert said(written) == ["table", "chair"]
    colours = distinct_colours(3)
    np.testing.assert_array_equal(picture[170, 200], colours[3])
    np.testing.assert_array_equal(picture[105, 200], colours[1])
    swatches = picture[6:40, 12:18].reshape(-1, 3)
    assert (swatches == colours[3]).all(axis=1).any()
    assert (swatches == colours[1]).all(axis=1).any()


def test_a_class_keeps_its_colour_whatever_else_is_seen():
    few, many = np.zeros((2, H, W), np.uint8)
    few[150:] = many[150:] = 1
    many[100:140] = 2
    names = ["chair", "person"]
    a, b = classes_picture(few, names), classes_picture(many, names)
    np.testing.assert_array_equal(a[160:], b[160:])


def test_a_long_key_is_counted_and_stays_inside(written):
    picture = np.full((H, W, 3), 90, np.uint8)
    add_key(picture, [(f"class {i}", (255, 0, 0)) for i in range(40)])
    assert said(written)[-1].startswith("and ")
    assert max(y for _, (_, y) in written) < H


def test_names_do_not_cover_one_another(written):
    picture = np.zeros((H, W, 3), np.uint8)
    add_names(picture, [("first", (100, 100)), ("second", (102, 101)), ("third", (100, 180))])
    assert said(written) == ["first", "third"]


@pytest.mark.parametrize(("height", "width"), [(H, W), (1300, 170)])
def test_the_ball_shows_a_floor_green_and_a_facing_wall_blue(height, width):
    picture = colorize(Normals(np.tile(np.float32([1, 0, 0]), (height, width, 1))))
    radius = min(height, width) // 11
    row, column = height - 7 - radius, width - 7 - radius
    np.testing.assert_allclose(picture[row, column], [128, 128, 255], atol=8)
    top = picture[row - radius + 1 + radius // 10, column].astype(int)
    assert top[1] > 230  # its upper side has a floor's normal


@pytest.mark.parametrize(
    "result",
    [
        Disparity(np.zeros((40, 60), np.float32)),
        Normals(np.tile(np.float32([0, 0, -1]), (40, 60, 1))),
        Instances(np.ones((40, 60), np.uint16), (WHOLE,), "a"),
    ],
    ids=["disparity", "normals", "instances"],
)
def test_small_pictures_have_no_words(written, result):
    picture = colorize(result)
    assert not written
    assert len(np.unique(picture.reshape(-1, 3), axis=0)) == 1

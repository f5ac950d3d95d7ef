# SPDX-License-Identifier: Apache-2.0
"""A cloud as a picture: what is in front hides what is behind, and all of it is in view."""

import numpy as np
import pytest

from diception_ros.evaluation.cloud_picture import (
    GROUND,
    UNLABELLED,
    cloud_picture,
    label_colours,
)
from diception_ros.evaluation.views import view_of
from diception_ros.tasks.show import distinct_colours

RED, BLUE = (200, 30, 30), (30, 30, 200)


def wall(z, half, colour, count=60):
    """A square that faces the camera at z metres: points and colours."""
    y, x = np.mgrid[-half : half : count * 1j, -half : half : count * 1j].reshape(2, -1)
    points = np.stack([x, y, np.full_like(x, z)], axis=1).astype(np.float32)
    return points, np.tile(np.uint8(colour), (len(points), 1))


def share(picture, colour):
    return (picture == np.uint8(colour)).all(axis=2).mean()


def test_a_wall_is_closed_and_wholly_in_view():
    picture = cloud_picture(*wall(2, 1, RED))
    drawn = (picture == np.uint8(RED)).all(axis=2)
    rows, columns = np.nonzero(drawn)
    assert rows.min() > 0 and rows.max() < picture.shape[0] - 1
    assert columns.min() > 0 and columns.max() < picture.shape[1] - 1
    inner = drawn[np.median(rows).astype(int)]
    assert inner[np.argmax(inner) : -np.argmax(inner[::-1])].all()  # no holes between the points
    assert share(picture, RED) + share(picture, GROUND) == 1


def test_what_is_near_hides_what_is_far_whatever_their_order():
    near, far = wall(2, 0.5, RED), wall(4, 2, BLUE)
    points = [np.concatenate(pair) for pair in zip(near, far, strict=True)]
    first, second = cloud_picture(*points), cloud_picture(*(part[::-1] for part in points))
    np.testing.assert_array_equal(first, second)
    alone = share(cloud_picture(*far), BLUE)
    assert share(first, RED) > 0.03
    assert 0.3 < share(first, BLUE) < alone


def test_the_viewer_stands_to_the_side():
    """Of two walls, one behind the other on the optical axis, the far one moves to one side."""
    points = np.concatenate([wall(2, 0.2, RED)[0], wall(6, 0.2, BLUE)[0]])
    colours = np.repeat(np.uint8([RED, BLUE]), 3600, axis=0)
    picture = cloud_picture(points, colours)
    red, blue = (np.nonzero((picture == np.uint8(c)).all(axis=2)) for c in (RED, BLUE))
    assert red[1].max() < blue[1].min()
    assert red[0].mean() > blue[0].mean()  # and above: far things are higher up


@pytest.mark.parametrize("count", [0, 1, 2])
def test_hardly_any_points_are_a_picture_all_the_same(count):
    points = np.float32([[0, 0, 1], [1, 1, 2]])[:count]
    assert cloud_picture(points, np.full((count, 3), 9, np.uint8), (48, 64)).shape == (48, 64, 3)


def test_what_is_no_class_id_is_no_label(made):
    cloud = made.cloud(0, np.ones((2, 3), np.float32), labels=np.uint32([7, 9]))
    assert view_of("/points", cloud, False).labels.tolist() == [7, 9]
    cloud.fields[-1].datatype = 4  # UINT16, the lower half
    assert view_of("/points", cloud, False).labels.tolist() == [7, 9]
    cloud.fields[-1].datatype = 7  # FLOAT32
    assert view_of("/points", cloud, False).labels is None


def test_labels_may_be_any_number():
    """As SemanticKITTI's, whose upper half is the instance."""
    labels = np.uint32([2**32 - 1, 3 << 16 | 40, 0])
    found = label_colours(labels)
    assert found.shape == (3, 3)
    assert (found[2] == UNLABELLED[0]).sum() >= 1


def test_labels_have_the_colours_of_the_semantic_picture():
    labels, table = np.uint32([0, 2, 1]), distinct_colours(2).astype(float)
    found = label_colours(labels, np.full((3, 3), UNLABELLED[0], np.uint8)).astype(float)
    np.testing.assert_allclose(found[0], UNLABELLED, atol=5)
    for row, label in ((1, 2), (2, 1)):
        assert np.argmax(found[row]) == np.argmax(table[label])
    dark = label_colours(labels, np.zeros((3, 3), np.uint8))
    assert (dark < found).all()  # the points' own brightness stays

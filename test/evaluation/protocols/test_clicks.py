# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from diception_ros.evaluation.protocols.clicks import innermost, next_click


def square(top, left, side, size=24):
    mask = np.zeros((size, size), bool)
    mask[top : top + side, left : left + side] = True
    return mask


def test_the_first_click_is_in_the_middle():
    assert next_click(square(3, 10, 7), None) == (13, 6, 1)


def test_later_clicks_go_where_it_is_wrong_most():
    truth = square(2, 2, 9)
    assert next_click(truth, square(2, 2, 9) & ~square(4, 4, 5)) == (6, 6, 1)
    x, y, label = next_click(truth, truth | square(14, 14, 7))
    assert (x, y, label) == (17, 17, 0)
    assert next_click(truth, truth) is None


def test_the_border_is_an_edge_and_nothing_has_no_middle():
    assert innermost(np.ones((5, 5), bool))[:2] == (2, 2)
    assert innermost(np.zeros((5, 5), bool))[2] == 0
    with pytest.raises(ValueError, match="without pixels cannot be clicked"):
        next_click(np.zeros((5, 5), bool), None)

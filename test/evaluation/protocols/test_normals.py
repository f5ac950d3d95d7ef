# SPDX-License-Identifier: Apache-2.0
import numpy as np
import pytest

from diception_ros.evaluation.protocols.normals import angles, normal_errors, summarize_angles


def tilted(degrees):
    """Unit vectors that lean by so many degrees from the viewing axis, (1, N, 3)."""
    a = np.radians(degrees)
    return np.stack([np.sin(a), np.zeros_like(a), -np.cos(a)], axis=-1)[None]


def test_errors_by_hand():
    lean = np.array([0.0, 6.0, 10.0, 20.0, 25.0, 80.0])
    errors = normal_errors(tilted(lean), tilted(np.zeros(6)))
    assert errors.mean == pytest.approx(141 / 6, abs=1e-6)
    assert errors.median == pytest.approx(15, abs=1e-6)
    squares = 36 + 100 + 400 + 625 + 6400
    assert errors.rmse == pytest.approx((squares / 6) ** 0.5, abs=1e-6)
    shares = (errors.within_5, errors.within_7_5, errors.within_11_25)
    assert shares == (1 / 6, 2 / 6, 3 / 6)
    assert (errors.within_22_5, errors.within_30, errors.pixels) == (4 / 6, 5 / 6, 6)


def test_unknown_truth_is_left_out_and_no_answer_is_a_right_angle_off():
    truth = tilted(np.zeros(4))
    truth[0, 0], truth[0, 1] = np.nan, 0
    found = tilted(np.zeros(4))
    found[0, 2] = np.nan
    errors = normal_errors(found, truth)
    assert (errors.pixels, errors.mean) == (2, 45)


def test_length_does_not_matter():
    np.testing.assert_allclose(angles(3 * tilted(np.array([30.0])), tilted(np.zeros(1))), [[30]])


def test_pooled_images_are_one_image():
    rng = np.random.default_rng(0)
    one, other = rng.uniform(0, 90, 7), rng.uniform(0, 90, 20)
    whole = summarize_angles(np.concatenate([one, other]))
    assert whole.mean == pytest.approx((one.sum() + other.sum()) / 27)


def test_errors_say_what_to_do():
    truth = tilted(np.zeros(2))
    with pytest.raises(ValueError, match="no pixel of the ground truth holds a unit vector"):
        normal_errors(truth, truth, np.zeros((1, 2), bool))
    with pytest.raises(ValueError, match="resize the answer"):
        normal_errors(truth[:, :1], truth)

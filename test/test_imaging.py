# SPDX-License-Identifier: Apache-2.0
"""Canvas: pixels and points there and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from diception_ros.imaging import Canvas


def test_pixel_values_map_to_minus_one_and_one():
    image = np.array([[[0, 127, 255]]], np.uint8).repeat(32, 0).repeat(32, 1)
    pixels = Canvas(32, 32).to_model(image)
    assert pixels.shape == (3, 32, 32)
    np.testing.assert_allclose(pixels[:, 5, 5], [-1, 127 / 127.5 - 1, 1], atol=1e-6)


def test_same_size_round_trip_is_exact():
    image = np.random.default_rng(0).integers(0, 255, (32, 48, 3), np.uint8)
    canvas = Canvas(32, 48)
    back = canvas.from_model((canvas.to_model(image) + 1) / 2, (32, 48))
    np.testing.assert_allclose(back * 255, image, atol=1e-3)


def test_a_ramp_stays_a_ramp_at_the_input_size():
    ramp = torch.linspace(0, 1, 64).expand(3, 64, 64)
    big = Canvas(64, 64).from_model(ramp, (100, 640))
    assert big.shape == (100, 640, 3)
    assert big.dtype == np.float32
    assert (np.diff(big[50, :, 0]) >= -1e-6).all()
    assert big[50, 320, 0] == pytest.approx(0.5, abs=0.01)


@given(st.integers(1, 2000), st.integers(1, 2000), st.data())
def test_points_stay_inside_and_come_back(height, width, data):
    x = data.draw(st.floats(0, width - 1))
    y = data.draw(st.floats(0, height - 1))
    points, _ = Canvas(64, 64).points_to_model([(x, y)], [], (height, width))
    assert 0 <= points.min() <= points.max() < 1
    np.testing.assert_allclose(points[0] * [height, width], [y, x], rtol=1e-5, atol=1e-4)


@pytest.mark.parametrize("point", [(-1, 0), (10, 0), (0, 8), (float("nan"), 0)])
def test_points_outside_are_refused(point):
    with pytest.raises(ValueError, match="lies outside the 10x8 image"):
        Canvas(64, 64).points_to_model([point], [], (8, 10))


def test_more_than_five_points_are_refused():
    with pytest.raises(ValueError, match="at most 5 points, got 6"):
        Canvas(64, 64).points_to_model([(1, 1)] * 6, [], (8, 10))


@pytest.mark.parametrize("size", [(0, 64), (64, 60), (8, 16)])
def test_canvas_must_fit_patches(size):
    with pytest.raises(ValueError, match="positive multiples of 16"):
        Canvas(*size)

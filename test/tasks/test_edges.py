# SPDX-License-Identifier: Apache-2.0
"""Pictures of a small network follow the image's edges."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from diception_ros.evaluation.metrics import mask_iou
from diception_ros.tasks import Refinement
from diception_ros.tasks.decoding import refined
from diception_ros.tasks.edges import (
    FAINT,
    Guide,
    box_mean,
    inverse,
    shrunk,
)


def scene(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """A disk on another colour, both with a little noise, and its mask."""
    height, width = size
    rows, columns = np.mgrid[:height, :width]
    mask = np.hypot(rows - height / 2, columns - width / 2) < height / 3
    image = np.where(mask[..., None], (180, 90, 60), (70, 80, 120)).astype(np.float32)
    image += np.random.default_rng(0).normal(0, 4, image.shape)
    return np.clip(image, 0, 255).astype(np.uint8), mask


def blurred(mask: np.ndarray, shift: int) -> np.ndarray:
    """What a coarse network answers: grey edges, a little beside the true ones."""
    moved = np.roll(mask, shift, axis=1).astype(np.float32)
    soft = cv2.GaussianBlur(moved, (0, 0), mask.shape[0] / 40)
    return np.repeat(soft[..., None], 3, axis=-1)


@pytest.mark.parametrize("size", [(128, 128), (480, 640), (300, 150)])
def test_a_mask_moves_to_the_edge_in_the_image(size: tuple[int, int]) -> None:
    image, mask = scene(size)
    coarse = blurred(mask, shift=max(1, size[0] // 60))
    found = refined(coarse, Guide(image), Refinement(edges=3))
    before, after = (mask_iou(colours[..., 0] >= 0.5, mask) for colours in (coarse, found))
    assert found.shape == coarse.shape and found.dtype == np.float32
    assert found.min() >= 0 and found.max() <= 1
    assert 1 - after < 0.6 * (1 - before)


def test_the_filter_is_the_textbooks() -> None:
    """Windows that the border does not touch, pixel by pixel, by numpy.linalg."""
    rng = np.random.default_rng(1)
    image, score = rng.integers(0, 256, (24, 20, 3), np.uint8), rng.random((24, 20), np.float32)
    radius, pixels = 2, image / 255
    slopes, offsets = np.zeros((24, 20, 3)), np.zeros((24, 20))
    for row in range(radius, 24 - radius):
        for column in range(radius, 20 - radius):
            window = np.s_[row - radius : row + radius + 1, column - radius : column + radius + 1]
            seen, asked = pixels[window].reshape(-1, 3), score[window].ravel()
            spread = np.cov(seen.T, bias=True) + FAINT * np.eye(3)
            common = ((seen - seen.mean(0)) * (asked - asked.mean())[:, None]).mean(0)
            slopes[row, column] = np.linalg.solve(spread, common)
            offsets[row, column] = asked.mean() - slopes[row, column] @ seen.mean(0)
    inside = np.s_[2 * radius : -2 * radius, 2 * radius : -2 * radius]
    slopes, offsets = (
        cv2.blur(values, (2 * radius + 1,) * 2)[inside] for values in (slopes, offsets)
    )
    expected = (slopes * pixels[inside]).sum(-1) + offsets
    found = Guide(image).filtered(score, radius)[inside]
    np.testing.assert_allclose(found, np.clip(expected, 0, 1), atol=1e-4)


def test_without_edges_in_the_image_nothing_moves() -> None:
    flat = np.full((64, 64, 3), 90, np.uint8)
    ramp = np.repeat(np.linspace(0, 1, 64, dtype=np.float32)[None], 64, axis=0)
    found = Guide(flat).filtered(ramp, 3)
    np.testing.assert_allclose(found[:, 8:-8], ramp[:, 8:-8], atol=1e-3)


def test_colours_stay_colours() -> None:
    image, mask = scene((128, 128))
    colours = np.where(mask[..., None], (0.9, 0.2, 0.1), (0.1, 0.3, 0.8)).astype(np.float32)
    found = refined(colours, Guide(image), Refinement(edges=3))
    np.testing.assert_allclose(found[mask].mean(0), (0.9, 0.2, 0.1), atol=0.03)
    np.testing.assert_allclose(found[~mask].mean(0), (0.1, 0.3, 0.8), atol=0.03)


def test_the_pieces() -> None:
    rng = np.random.default_rng(3)
    half = rng.random((4, 5, 3, 3)).astype(np.float32)
    matrices = half @ half.swapaxes(-1, -2) + 0.1 * np.eye(3, dtype=np.float32)
    np.testing.assert_allclose(inverse(matrices), np.linalg.inv(matrices), rtol=2e-3, atol=1e-3)
    values = rng.random((9, 9, 2)).astype(np.float32)
    np.testing.assert_allclose(box_mean(values, 1)[4, 4], values[3:6, 3:6].mean((0, 1)), rtol=1e-5)
    assert shrunk(np.zeros((480, 640, 3), np.uint8)).shape == (128, 171, 3)
    assert shrunk(np.zeros((100, 640), np.float32)).shape == (100, 640)

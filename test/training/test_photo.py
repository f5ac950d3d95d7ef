# SPDX-License-Identifier: Apache-2.0
"""What cameras do to pictures, each effect by what it is known for."""

import cv2
import numpy as np
import pytest

from diception_ros.training.scenes import make_frame
from diception_ros.training.scenes.photo import (
    EFFECTS,
    borders,
    cast,
    exposure,
    harsh,
    jpeg,
    low_resolution,
    motion_blur,
    vignette,
)

SHAPE = (72, 96)


@pytest.fixture(scope="module")
def rgb() -> np.ndarray:
    return make_frame(12, *SHAPE).rgb


def rng_of(seed: int) -> np.random.Generator:
    return np.random.default_rng(seed)


def sharpness(picture: np.ndarray) -> float:
    return float(cv2.Laplacian(picture, cv2.CV_32F).var())


def test_harsh_is_seeded_and_leaves_its_input_alone(rgb: np.ndarray) -> None:
    before = rgb.copy()
    results = [harsh(rgb, rng_of(seed)) for seed in range(30)]
    np.testing.assert_array_equal(rgb, before)
    np.testing.assert_array_equal(results[4], harsh(rgb, rng_of(4)))
    for result in results:
        assert result.shape == rgb.shape and result.dtype == np.uint8
        assert (result != rgb).any()
    assert len({result.tobytes() for result in results}) == 30


@pytest.mark.parametrize("effect", EFFECTS, ids=lambda effect: effect.__name__)
@pytest.mark.parametrize("size", [(16, 16), (3, 200), (90, 61)])
def test_every_effect_keeps_the_shape(effect, size) -> None:
    picture = rng_of(0).integers(0, 256, (*size, 3), np.uint8)
    for seed in range(8):
        result = effect(picture, rng_of(seed))
        assert result.shape == picture.shape and result.dtype == np.uint8
        assert not np.shares_memory(result, picture)


def test_exposure_is_far_off_in_both_ways(rgb: np.ndarray) -> None:
    means = [exposure(rgb, rng_of(seed)).mean() / 255 for seed in range(30)]
    assert min(means) < 0.15 and max(means) > 0.6
    assert not any(0.22 < mean < 0.5 for mean in means)


def test_a_cast_moves_the_channels_apart() -> None:
    grey = np.full((*SHAPE, 3), 100, np.uint8)
    ratios = [cast(grey, rng_of(s)).mean((0, 1)) for s in range(20)]
    assert max(r.max() / r.min() for r in ratios) > 2
    assert all(r.max() / r.min() < 4.2 for r in ratios)


def test_blurs_and_fewer_pixels_take_detail_away(rgb: np.ndarray) -> None:
    for seed in range(10):
        assert sharpness(motion_blur(rgb, rng_of(seed))) < 0.8 * sharpness(rgb)
    for seed in range(10):
        coarse = low_resolution(rgb, rng_of(seed))
        assert (
            np.abs(np.diff(coarse.astype(int), axis=1)).mean()
            < 0.9 * np.abs(np.diff(rgb.astype(int), axis=1)).mean()
        )


def test_motion_blur_is_along_one_direction() -> None:
    dot = np.zeros((41, 61, 3), np.uint8)
    dot[20, 30] = 255
    streak = np.argwhere(motion_blur(dot, rng_of(5))[..., 0] > 10) - [20, 30]
    spread = np.linalg.svd(streak.astype(float), compute_uv=False)
    assert len(streak) >= 3 and spread[1] < 0.45 * spread[0]


def test_a_vignette_darkens_corners_and_not_the_middle() -> None:
    white = np.full((65, 65, 3), 255, np.uint8)
    for seed in range(5):
        dark = vignette(white, rng_of(seed))
        assert dark[32, 32].min() >= 254 and dark[0, 0].max() < 0.62 * 255


def test_jpeg_leaves_its_blocks(rgb: np.ndarray) -> None:
    error = np.abs(jpeg(rgb, rng_of(0)).astype(int) - rgb).mean()
    assert 1 < error < 40


def test_borders_are_black_or_white_and_cover_no_middle(rgb: np.ndarray) -> None:
    tones = set()
    for seed in range(20):
        framed = borders(rgb, rng_of(seed))
        changed = (framed != rgb).any(-1)
        tones |= set(np.unique(framed[changed]).tolist())
        assert not changed[SHAPE[0] // 3 : -SHAPE[0] // 3, SHAPE[1] // 3 : -SHAPE[1] // 3].any()
    assert tones == {0, 255}

# SPDX-License-Identifier: Apache-2.0
"""Instances of an image and of a coarse network's colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from diception_ros.tasks import regions
from diception_ros.tasks.edges import Guide
from diception_ros.tasks.regions import contrast, cut, enlarged, find_instances

SHADES = np.float32([(0, 0, 0), (0.8, 0.3, 0.4), (0.2, 0.5, 0.9)])


def two_disks(size: tuple[int, int]) -> tuple[np.ndarray, np.ndarray]:
    """Ids of a large and of a small disk, and an image of them with a little noise."""
    rows, columns = np.indices(size)
    ids = np.zeros(size, int)
    for number, (x, share) in enumerate([(0.3, 4), (0.75, 8)], start=1):
        ids[np.hypot(rows - size[0] / 2, columns - x * size[1]) < min(size) / share] = number
    image = np.array([(70, 80, 120), (180, 90, 60), (60, 160, 80)])[ids]
    noise = np.random.default_rng(0).normal(0, 4, image.shape)
    return ids, np.clip(image + noise, 0, 255).astype(np.uint8)


@pytest.mark.parametrize("size", [(128, 128), (480, 640), (90, 70)])
def test_instances_are_those_of_the_colours_with_the_images_edges(size: tuple[int, int]) -> None:
    ids, image = two_disks(size)
    moved = np.roll(ids, size[0] // 60, axis=1)
    soft = cv2.GaussianBlur(SHADES[moved], (0, 0), size[0] / 60)
    found = find_instances(soft, Guide(image), 20)
    assert found.ids.shape == size and found.ids.dtype == np.uint16
    assert (found.ids != ids).mean() < 0.03  # the larger has the lower number
    for one in found.instances[:2]:  # what follows are halos
        assert one.area == (found.ids == one.id).sum()
        x, y = one.centroid
        assert found.ids[int(y), int(x)] == one.id
        assert one.score > 0.8


def test_nobody_on_black_and_one_on_a_single_colour() -> None:
    guide = Guide(np.full((40, 60, 3), 99, np.uint8))
    assert not find_instances(np.zeros((40, 60, 3), np.float32), guide, 20).instances
    (only,) = find_instances(np.full((40, 60, 3), 0.5, np.float32), guide, 20).instances
    assert only.area == 40 * 60 and only.score == pytest.approx(1)


def test_what_is_dark_stays_nobodys() -> None:
    ids, image = two_disks((96, 96))
    large = ids == 1
    colours = np.where(large[..., None], SHADES[1], np.float32(0.03))
    found = find_instances(colours, Guide(image), 20)
    assert len(found.instances) == 1
    assert ((found.ids > 0) != large).mean() < 0.02


@pytest.mark.parametrize("size", [(1, 1), (1, 7), (2, 300), (5, 5)])
def test_the_smallest_images_are_answered(size: tuple[int, int]) -> None:
    rng = np.random.default_rng(5)
    image = rng.integers(0, 255, (*size, 3)).astype(np.uint8)
    for colours in (rng.random((*size, 3)).astype(np.float32), np.zeros((*size, 3), np.float32)):
        found = find_instances(colours, Guide(image), 20)
        assert found.ids.shape == size
        assert all(0 <= one.score <= 1 for one in found.instances)


def test_a_mixture_of_its_neighbours_gets_a_low_score_and_noise_lowers_it() -> None:
    labels = np.repeat([[1] * 8 + [2] * 2 + [3] * 8], 12, axis=0).astype(np.int32)
    shades = np.float32([(0, 0, 0), (0.9, 0.1, 0.1), (0.5, 0.45, 0.1), (0.1, 0.8, 0.1)])
    noise = np.random.default_rng(1).normal(0, 1, (*labels.shape, 3))
    few, many = (contrast(labels, shades[labels] + level * noise) for level in (0.02, 0.2))
    assert few[1] > 0.99 and few[3] > 0.99 and few[2] < 0.6
    assert many[1] < few[1] and many[3] < few[3] and many.min() >= 0


def test_the_score_is_the_share_of_variance_between() -> None:
    labels = np.repeat([[1, 1, 2, 2]], 2, axis=0).astype(np.int32)
    colours = np.zeros((2, 4, 3), np.float32)
    colours[:, :, 0] = [0.1, 0.3, 0.7, 0.7]
    between, within = 0.5**2, 0.1**2
    found = contrast(labels, colours)
    np.testing.assert_allclose(found[1:], [between / (between + within), 1], rtol=1e-5)


def test_noise_is_cut_into_no_more_regions_than_are_joined_in_time() -> None:
    image = np.random.default_rng(4).random((128, 128, 3)).astype(np.float32)
    found = cut(np.full_like(image, 0.6), image, 1)
    assert 1 < found.max() + 1 <= regions.MOST


def test_enlarged_borders_are_those_of_the_image() -> None:
    ids, image = two_disks((512, 512))
    small = cv2.resize(ids.astype(np.uint8), (128, 128), interpolation=cv2.INTER_AREA)
    blocks = np.kron(small, np.ones((4, 4), int))
    found = enlarged(small.astype(np.int32), Guide(image))
    assert (found != ids).mean() < 0.4 * (blocks != ids).mean()
    assert set(np.unique(found)) == {0, 1, 2}

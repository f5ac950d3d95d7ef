# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from diception_ros.tasks.merging import BLUR, BORDER, EDGE, join_regions

SIZE = (24, 32)
FLAT = np.full((*SIZE, 3), 0.5, np.float32)


def blocks(side: int) -> np.ndarray:
    rows, columns = np.indices(SIZE)
    return (rows // side) * -(-SIZE[1] // side) + columns // side


def halves(left: float, right: float) -> np.ndarray:
    colours = np.full((*SIZE, 3), left, np.float32)
    colours[:, 16:] = right
    return colours


def test_parts_of_one_colour_are_one_instance() -> None:
    found = join_regions(blocks(4), halves(0.4, 0.8), FLAT)
    assert sorted(np.unique(found)) == [1, 2]
    assert np.ptp(found[:, :16]) == np.ptp(found[:, 16:]) == 0


def test_an_edge_of_the_image_keeps_near_colours_apart() -> None:
    colours = halves(0.4, 0.45)
    assert np.ptp(join_regions(blocks(8), colours, FLAT)) == 0
    edge = halves(0.1, 0.9)
    assert np.ptp(join_regions(blocks(8), colours, edge)) == 1


def test_what_is_dark_is_nobody_and_what_is_dim_along_a_long_border_as_well() -> None:
    colours = np.zeros((*SIZE, 3), np.float32)
    colours[4:12, 4:12] = 0.8
    bright = join_regions(blocks(4), colours, FLAT)
    np.testing.assert_array_equal(bright > 0, colours[..., 0] > 0)
    dim = np.zeros((*SIZE, 3), np.float32)
    dim[4, 4:12] = np.sqrt(2 * BORDER / 3)  # one pixel high: two pixels of border each
    regions = (dim[..., 0] > 0).astype(int)
    assert not join_regions(regions, dim, FLAT).any()
    dim *= 1.2
    assert join_regions(regions, dim, FLAT).any()


def test_nothing_and_a_single_region_are_answered() -> None:
    assert not join_regions(np.zeros(SIZE, int), np.zeros((*SIZE, 3), np.float32), FLAT).any()
    assert (join_regions(np.zeros(SIZE, int), FLAT, FLAT) == 1).all()


def test_two_parts_that_say_where_they_are_together_are_one_instance() -> None:
    colours = halves(0.475, 0.725)  # about the column in the middle of both
    colours[..., 1:] = 0.6, 1.0
    assert np.ptp(join_regions(blocks(8), colours, FLAT)) == 1
    assert np.ptp(join_regions(blocks(8), colours, FLAT, placed=2.0)) == 0


def due(mask: np.ndarray) -> np.ndarray:
    """The colour of an instance's place and size."""
    rows, columns = np.nonzero(mask)
    share = np.sqrt(mask.mean())
    where = [columns.mean() / SIZE[1], rows.mean() / SIZE[0], min(1.6 * share, 1)]
    return 0.2 + 0.8 * np.array(where)


def functional(
    instances: np.ndarray, colours: np.ndarray, image: np.ndarray, placed: float
) -> float:
    """Of Mumford and Shah, and what is off of places, term by term."""
    image = cv2.GaussianBlur(image, (0, 0), BLUR)
    numbers = np.unique(instances)
    total = 0.0
    for number in numbers:
        own = colours[instances == number].astype(np.float64)
        total += np.square(own - own.mean(0)).sum()
        total += placed * len(own) * np.square(own.mean(0) - due(instances == number)).sum()
    for axis in (0, 1):
        border = np.diff(instances, axis=axis) != 0
        change = np.abs(np.diff(image.astype(np.float64), axis=axis)).sum(-1)
        total += BORDER * np.exp(-change / EDGE)[border].sum()
    return total


@pytest.mark.parametrize("placed", [0.0, 0.1])
@pytest.mark.parametrize("seed", range(5))
def test_no_two_neighbours_would_be_better_as_one(seed: int, placed: float) -> None:
    rng = np.random.default_rng(seed)
    image = 0.2 * np.kron(rng.random((6, 8, 3)), np.ones((4, 4, 1))).astype(np.float32)
    shades = rng.uniform(0.3, 0.8, (48, 3)).astype(np.float32)
    colours = shades[blocks(4)] + rng.normal(0, 0.02, (*SIZE, 3)).astype(np.float32)
    found = join_regions(blocks(4), colours, image, placed)
    assert found.min() > 0
    best = functional(found, colours, image, placed)
    assert best < functional(blocks(4), colours, image, placed)
    pairs = {tuple(sorted(p)) for a, b in ((found[1:], found[:-1]), (found[:, 1:], found[:, :-1]))
             for p in zip(a[a != b].tolist(), b[a != b].tolist(), strict=True)}  # fmt: skip
    assert pairs
    for first, second in pairs:
        together = np.where(found == second, first, found)
        assert functional(together, colours, image, placed) >= best - 1e-6

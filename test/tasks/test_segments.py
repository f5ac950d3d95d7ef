# SPDX-License-Identifier: Apache-2.0
"""Instances found in disturbed colour images: noise, JPEG, blur, upsampling, near colours."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

from diception_ros.tasks import TASKS, Instances

SEEDS = range(6)


def scene(rng, count, height=480, width=640):
    """Ids of ellipses and boxes that overlap and touch; those almost hidden are left out."""
    ids = np.zeros((height, width), np.uint16)
    for number in range(1, count + 1):
        mask = np.zeros((height, width), np.uint8)
        x, y = int(rng.integers(0, width)), int(rng.integers(0, height))
        reach = int(rng.uniform(15, 90))
        other = int(reach * rng.uniform(0.4, 1))
        if rng.random() < 0.5:
            angle = float(rng.uniform(0, 180))
            cv2.ellipse(mask, (x, y), (reach, other), angle, 0, 360, 1, -1)
        else:
            cv2.rectangle(mask, (x - other, y - reach), (x + other, y + reach), 1, -1)
        ids[mask > 0] = number
    kept = np.zeros_like(ids)
    for row, number in enumerate((n for n in range(1, count + 1) if (ids == n).sum() >= 150), 1):
        kept[ids == number] = row
    return kept


def f1(found, truth):
    """Instances matched at IoU >= 0.5; above one half a match is unique."""
    table = np.zeros((found.max() + 1, truth.max() + 1))
    np.add.at(table, (found.ravel(), truth.ravel()), 1)
    union = table.sum(1, keepdims=True) + table.sum(0, keepdims=True) - table
    matched = (table / np.maximum(union, 1))[1:, 1:] >= 0.5
    return 2 * matched.sum() / (int(found.max()) + int(truth.max()))


def disturb(colours, kind, rng):
    if kind == "noise":
        colours = colours + rng.normal(0, 12 / 255, colours.shape)
    elif kind == "blur":
        colours = cv2.GaussianBlur(colours, (0, 0), 2.0)
        colours = colours + rng.normal(0, 6 / 255, colours.shape)
    elif kind == "upsampled":
        small = cv2.resize(colours, (192, 144), interpolation=cv2.INTER_AREA)
        colours = cv2.resize(small, (640, 480), interpolation=cv2.INTER_LINEAR)
        colours = colours + rng.normal(0, 4 / 255, colours.shape)
    elif kind == "jpeg":
        data = cv2.imencode(
            ".jpg", (colours * 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 30]
        )
        colours = cv2.imdecode(data[1], cv2.IMREAD_COLOR) / 255
    return np.clip(colours, 0, 1).astype(np.float32)


def mean_f1(kind, count):
    scores = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        ids = scene(rng, count)
        colours = disturb(TASKS["entity"].encode(Instances(ids, ()), rng), kind, rng)
        scores.append(f1(TASKS["entity"].decode(colours).ids, ids))
    return float(np.mean(scores))


@pytest.mark.parametrize("count", [1, 3, 10, 25])
def test_clean_colours(count):
    assert mean_f1("clean", count) >= 0.95


@pytest.mark.parametrize("kind", ["noise", "blur", "upsampled", "jpeg"])
@pytest.mark.parametrize("count", [3, 10, 25])
def test_disturbed_colours(kind, count):
    assert mean_f1(kind, count) >= 0.85


@pytest.mark.parametrize("kind", ["clean", "noise", "jpeg"])
def test_sixty_instances(kind):
    assert mean_f1(kind, 60) >= 0.85


@pytest.mark.parametrize("gap", [30, 45])
def test_touching_instances_of_near_colours_stay_apart(gap):
    ids = np.zeros((480, 640), np.uint16)
    ids[100:300, 100:300], ids[100:300, 300:500] = 1, 2
    colours = np.array([[0, 0, 0], [120, 180, 60], [120, 180 - gap, 60]], np.float32)[ids] / 255
    rng = np.random.default_rng(0)
    for noise in (0, 4, 8):
        noisy = np.clip(colours + rng.normal(0, noise / 255, colours.shape), 0, 1)
        assert f1(TASKS["entity"].decode(noisy.astype(np.float32)).ids, ids) == 1.0


def test_one_thing_behind_another_is_one_instance():
    ids = np.zeros((480, 640), np.uint16)
    ids[200:260, 100:500] = 1
    ids[100:400, 280:320] = 2
    colours = np.array([[0, 0, 0], [0.9, 0.2, 0.2], [0.2, 0.8, 0.9]], np.float32)[ids]
    found = TASKS["entity"].decode(colours)
    assert f1(found.ids, ids) == 1.0
    apart = TASKS["entity"].decode(colours, merge=0)
    assert len(apart.instances) == 3


@pytest.mark.parametrize("size", [(480, 640), (1, 1), (3, 200), (1080, 1920)])
def test_black_holds_nobody(size):
    found = TASKS["entity"].decode(np.zeros((*size, 3), np.float32))
    assert found.ids.shape == size
    assert found.instances == ()


def test_pure_noise_is_survived():
    noise = np.random.default_rng(0).uniform(0, 1, (240, 320, 3)).astype(np.float32)
    assert TASKS["entity"].decode(noise).ids.shape == (240, 320)


def test_instances_come_largest_first():
    areas = [
        i.area
        for i in TASKS["entity"]
        .decode(
            TASKS["entity"].encode(
                Instances(scene(np.random.default_rng(1), 12), ()), np.random.default_rng(1)
            )
        )
        .instances
    ]
    assert areas == sorted(areas, reverse=True)
    assert len(areas) > 5


def as_from_a_small_network(colours, rng):
    """128 x 128, blurred, every colour drifting across the image, noise, a glowing background."""
    small = cv2.resize(colours, (128, 128), interpolation=cv2.INTER_AREA)
    small = cv2.GaussianBlur(small, (0, 0), 1.0)
    drift = rng.normal(0, 8 / 255, (10, 10, 3)).astype(np.float32)
    small += cv2.resize(drift, (128, 128), interpolation=cv2.INTER_CUBIC)
    small = np.clip(small + rng.normal(0, 3 / 255, small.shape), 0, 1).astype(np.float32)
    return cv2.resize(small, colours.shape[1::-1], interpolation=cv2.INTER_LINEAR)


def mosaic(rng, count):
    """Cells that fill the image: every instance touches others, nothing is background."""
    rows, columns = np.mgrid[0:480, 0:640]
    seeds = rng.uniform((0, 0), (480, 640), (count, 2))
    away = [(rows - y) ** 2 + (columns - x) ** 2 for y, x in seeds]
    return (np.argmin(away, axis=0) + 1).astype(np.uint16)


@pytest.mark.parametrize("count", [1, 4, 10, 25])
@pytest.mark.parametrize("draw", [scene, mosaic])
def test_drifting_colours_and_soft_edges(draw, count):
    scores = []
    for seed in SEEDS:
        rng = np.random.default_rng(seed)
        ids = draw(rng, count)
        colours = TASKS["entity"].encode(Instances(ids, ()), rng)
        found = TASKS["entity"].decode(as_from_a_small_network(colours, rng))
        scores.append(f1(found.ids, ids))
    assert np.mean(scores) >= 0.85


def test_edges_are_drawn_at_full_size():
    ids = scene(np.random.default_rng(3), 6)
    colours = TASKS["entity"].encode(Instances(ids, ()), np.random.default_rng(3))
    found = TASKS["entity"].decode(colours)
    assert np.mean((found.ids > 0) == (ids > 0)) > 0.999


def test_small_segments_are_dropped_by_their_share():
    ids = np.zeros((480, 640), np.uint16)
    ids[100:112, 100:112], ids[200:300, 200:300] = 1, 2
    colours = TASKS["entity"].encode(Instances(ids, ()), np.random.default_rng(0))
    assert len(TASKS["entity"].decode(colours).instances) == 2
    assert len(TASKS["entity"].decode(colours, smallest=144.5 / ids.size * 1.2).instances) == 1


def test_white_silhouettes_that_do_not_touch_are_instances():
    ids = np.zeros((480, 640), np.uint16)
    ids[50:200, 50:200], ids[50:200, 300:450], ids[300:400, 100:500] = 1, 2, 3
    colours = TASKS["semantic"].encode(Instances(ids, ()))
    rng = np.random.default_rng(0)
    soft = as_from_a_small_network(0.8 * colours, rng)
    found = TASKS["semantic"].decode(soft)
    assert f1(found.ids, ids) == 1.0
    assert all(instance.score > 0.5 for instance in found.instances)


def test_a_faint_ghost_beside_a_white_silhouette_is_nobody():
    brightness = np.zeros((480, 640), np.float32)
    brightness[100:300, 100:300], brightness[100:300, 400:600] = 0.9, 0.3
    found = TASKS["semantic"].decode(np.repeat(brightness[..., None], 3, axis=-1))
    assert [instance.box for instance in found.instances] == [(100, 100, 200, 200)]
    every = TASKS["semantic"].decode(np.repeat(brightness[..., None], 3, axis=-1), threshold=0.2)
    assert len(every.instances) == 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"background": -1}, "background must not be negative, found -1"),
        ({"merge": float("nan")}, "merge must not be negative, found nan"),
        ({"tolerance": 0.5}, "tolerance must be at least 1 .of 255., found 0.5"),
    ],
)
def test_options_out_of_range_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        TASKS["entity"].decode(np.zeros((8, 8, 3), np.float32), **options)


def test_pictures_of_another_shape_are_refused():
    with pytest.raises(ValueError, match=r"expected colours of shape \(H, W, 3\), found \(8, 8\)"):
        TASKS["entity"].decode(np.zeros((8, 8), np.float32))


@pytest.mark.parametrize("wide", [60, 100, 140, 170])
@pytest.mark.parametrize("colour", [(0.9, 0.3, 0.4), (0.5, 0.5, 0.4)])
def test_a_colour_that_fades_to_black_is_one_instance(wide, colour):
    """Wide: pixels from the edge of the core to black. A small network paints such halos."""
    rows, columns = np.mgrid[0:480, 0:640]
    share = np.clip(1 - (np.hypot(rows - 240, columns - 320) - 60) / wide, 0, 1)
    colours = (share[..., None] * np.float32(colour)).astype(np.float32)
    found = TASKS["entity"].decode(colours)
    assert len(found.instances) == 1
    assert found.instances[0].centroid == pytest.approx((320, 240), abs=3)

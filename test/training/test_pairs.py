# SPDX-License-Identifier: Apache-2.0
"""Folders of pairs: what is read, what is skipped, what is refused."""

from __future__ import annotations

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from diception_ros.model.random_bundle import make_random_model
from diception_ros.training.adapt import new_task
from diception_ros.training.pairs import encode_pairs, read_pairs, take
from diception_ros.training.scoring import score


@pytest.fixture
def folder(tmp_path):
    """Three photographs of noise with a square; one is a JPG."""
    rng = np.random.default_rng(0)
    for part in ("images", "targets"):
        (tmp_path / part).mkdir()
    for number in range(3):
        image = rng.integers(0, 120, (40, 48, 3), np.uint8)
        target = np.zeros((40, 48), np.uint8)
        top, left = rng.integers(4, 20, 2)
        target[top : top + 12, left : left + 12] = 255
        image[target > 0] = 250
        suffix = "jpg" if number == 2 else "png"
        cv2.imwrite(str(tmp_path / "images" / f"{number}.{suffix}"), image)
        cv2.imwrite(str(tmp_path / "targets" / f"{number}.png"), target)
    return tmp_path


def test_pairs_are_read_by_stem(folder):
    found = read_pairs(folder)
    assert [pair.name for pair in found.pairs] == ["0", "1", "2"]
    assert found.skipped == ()
    assert all(pair.image.shape == pair.target.shape == (40, 48, 3) for pair in found.pairs)
    assert (found.pairs[0].image[found.pairs[0].target[..., 0] > 0] == 250).all()


def test_a_missing_partner_is_an_error(folder):
    (folder / "targets" / "1.png").unlink()
    with pytest.raises(ValueError, match="images/1 has no partner in targets/: expected files of"):
        read_pairs(folder)


def test_what_cannot_be_read_is_skipped_with_a_line(folder):
    (folder / "images" / "0.png").write_text("no picture")
    cv2.imwrite(str(folder / "targets" / "1.png"), np.zeros((8, 9), np.uint8))
    found = read_pairs(folder)
    assert [pair.name for pair in found.pairs] == ["2"]
    assert found.skipped[0].startswith(f"skipped {folder / 'images' / '0.png'}: cannot be read")
    assert found.skipped[1] == "skipped 1: the image is 48x40, its target 9x8"


def test_a_mask_that_would_be_read_as_nothing_is_skipped(folder):
    """Class numbers and dark colours, as label tools write them. A JPG's white is not quite 255."""
    numbers, path = np.zeros((40, 48), np.uint8), folder / "targets"
    numbers[5:20, 5:20] = 1
    task = new_task("crack")
    cv2.imwrite(str(path / "0.png"), numbers)
    cv2.imwrite(str(path / "1.png"), np.stack([0 * numbers, 0 * numbers, 255 * numbers], -1))
    (path / "2.png").unlink()
    cv2.imwrite(str(path / "2.jpg"), 254 * numbers)
    found = read_pairs(folder, task)
    assert [pair.name for pair in found.pairs] == ["2"]
    says = "expected white (255) on black, the brightest is"
    assert found.skipped == (
        f"skipped {path / '0.png'}: {says} 1",
        f"skipped {path / '1.png'}: {says} 85",
    )
    assert (found.targets(task)[0][..., 0] == 255 * numbers).mean() > 0.99
    assert len(read_pairs(folder, new_task("tint", "colour")).pairs) == 3
    cv2.imwrite(str(path / "0.png"), 0 * numbers)  # there is nothing, which is an answer
    assert [pair.name for pair in read_pairs(folder, task).pairs] == ["0", "2"]


def test_a_folder_without_pairs_is_an_error(folder, tmp_path_factory):
    with pytest.raises(ValueError, match=r"no folder .*images"):
        read_pairs(tmp_path_factory.mktemp("empty"))
    for file in (folder / "images").iterdir():
        file.write_text("no picture")
    with pytest.raises(ValueError, match=r"none of 3 pairs can be read: skipped .*0\.png"):
        read_pairs(folder)


def test_more_pairs_than_there_are_is_an_error(folder):
    assert [pair.name for pair in read_pairs(folder).first(2).pairs] == ["0", "1"]
    with pytest.raises(ValueError, match="expected at least 4 pairs, found 3"):
        read_pairs(folder).first(4)


@pytest.mark.parametrize(
    ("kind", "levels"),
    [("mask", {0, 255}), ("disparity", {0, 100, 200}), ("colour", {0, 100, 200})],
)
def test_targets_are_drawn_as_their_kind_is(folder, kind, levels):
    target = np.zeros((40, 48, 3), np.uint8)
    target[:10], target[30:] = 100, 200
    cv2.imwrite(str(folder / "targets" / "0.png"), target)
    drawn = read_pairs(folder).targets(new_task("crack", kind))[0]
    assert set(np.unique(drawn)) == levels


def test_latents_come_plain_mirrored_and_varied(folder):
    model, pairs = make_random_model(), read_pairs(folder).first(2)
    data = encode_pairs(model, pairs, new_task("crack"), variants=2, foreground=3.0, seed=0)
    assert data.images.shape == data.targets.shape == (8, 4, 8, 8)
    assert data.weights.shape == (8, 1, 8, 8)
    assert not torch.equal(data.images[0], data.images[2])
    assert not torch.equal(data.targets[0], data.targets[2])
    plain = encode_pairs(model, pairs, new_task("crack"), variants=1, foreground=3.0, seed=0)
    assert torch.equal(data.targets[[0, 1, 4, 5]], plain.targets)
    assert not torch.equal(data.targets[0], data.targets[1])
    assert torch.equal(data.weights[0], data.weights[1].flip(-1))
    assert set(data.weights.unique().tolist()) == {1.0, 4.0}
    some = take(data, torch.tensor([5, 1]))
    assert torch.equal(some.images[1], data.images[1])
    assert some.prompts == ("[[image2crack]]",) * 2
    plain = encode_pairs(model, pairs, new_task("crack", "colour"), 1, 3.0, 0)
    assert set(plain.weights.unique().tolist()) == {1.0}
    several = take(plain, torch.arange(6) % 4)
    assert len(several.images) == len(several.prompts) == 6


def test_latents_come_without_mirror_images_where_these_would_be_false(folder):
    model, pairs = make_random_model(), read_pairs(folder).first(2)
    asked = {"variants": 2, "foreground": 0.0, "seed": 0}
    task = new_task("lean", "colour")
    both = encode_pairs(model, pairs, task, **asked)
    plain = encode_pairs(model, replace(pairs, mirror=False), task, **asked)
    assert len(plain.targets) == len(plain.prompts) == len(plain.points) == 4
    torch.testing.assert_close(plain.targets, both.targets[::2], atol=1e-3, rtol=0)
    torch.testing.assert_close(plain.images, both.images[::2], atol=1e-3, rtol=0)


def test_scores_are_means_over_the_pairs(folder):
    pairs, task = read_pairs(folder), new_task("crack")
    right = [target.astype(np.float32) / 255 for target in pairs.targets(task)]
    black = np.zeros_like(right[0])
    assert score(right, pairs, task) == 1.0
    assert score([right[0], black, black], pairs, task) == pytest.approx(1 / 3)
    other = new_task("tint", "colour")
    exact = [pair.target.astype(np.float32) / 255 for pair in pairs.pairs]
    assert score(exact, pairs, other) == pytest.approx(0, abs=1e-3)
    assert score([colours + 0.25 for colours in exact], pairs, other) == pytest.approx(
        0.25, abs=1e-3
    )

# SPDX-License-Identifier: Apache-2.0
"""`diception scenes`: files that other programs can read."""

import json

import cv2
import numpy as np
import pytest

from diception_ros.cli import run
from diception_ros.training import cache
from diception_ros.training.scenes import sequence, unseen_frame
from diception_ros.training.scenes.novel import make_pair


def read(path):
    return cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)


def test_render_fills_a_folder_and_prints_how_fast(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cache, "SHARD", 2)
    assert run(["scenes", "render", str(tmp_path / "a"), "--count", "2", "--size", "16"]) == 0
    assert "2 frames in" in (printed := capsys.readouterr().out) and "a second" in printed
    assert cache.load(tmp_path / "a" / "000000000.npz")["rgb"].shape == (2, 16, 16, 3)


def test_what_is_there_is_not_mixed_with_other_things(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cache, "SHARD", 2)
    shards = ["scenes", "render", str(tmp_path / "a"), "--count", "2", "--size"]
    assert [run([*shards, size]) for size in ("16", "16", "32")] == [0, 0, 2]
    said = capsys.readouterr()
    assert "0 frames in" in said.out
    assert "2 were there already" in said.out
    assert "000000000.npz holds frames of 16x16, not 32x32" in said.err
    for kind in (["pairs", "--task=handle", "--count=1"], ["sequence", "--frames=1"]):
        assert run(["scenes", kind[0], str(tmp_path / "a"), *kind[1:]]) == 2
        assert "a is not empty: choose another folder" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["folder", "sheet.jpg"])
def test_a_sheet_is_a_png(tmp_path, capsys, name):
    (tmp_path / "folder").mkdir()
    assert run(["scenes", "sheet", str(tmp_path / name), "--count", "1"]) == 2
    assert f"{name}: expected a file name that ends in .png" in capsys.readouterr().err
    assert [one.name for one in tmp_path.iterdir()] == ["folder"]


def test_pairs_are_pictures_and_masks_of_one_name(tmp_path, capsys):
    command = ["scenes", "pairs", str(tmp_path), "--task", "handle", "--count", "2", "--first", "5"]
    assert run([*command, "--size", "64"]) == 0
    assert "2 handle pairs in" in capsys.readouterr().out
    for folder in ("images", "targets"):
        assert sorted(p.name for p in (tmp_path / folder).iterdir()) == ["000005.png", "000006.png"]
    pair = make_pair("handle", 6, 64, 64)
    np.testing.assert_array_equal(read(tmp_path / "images" / "000006.png"), pair.rgb)
    target = read(tmp_path / "targets" / "000006.png")
    np.testing.assert_array_equal(target, np.where(pair.mask[..., None], 255, 0).repeat(3, -1))


def test_an_unknown_task_is_one_line(tmp_path, capsys):
    assert run(["scenes", "pairs", str(tmp_path / "p"), "--task", "crack", "--count", "1"]) == 2
    assert (
        "no task 'crack': choose one of floor-crack, handle, free-floor, support"
        in capsys.readouterr().err
    )
    assert not (tmp_path / "p").exists()


@pytest.mark.parametrize("option", [("--count", "0"), ("--count", "1", "--size", "4")])
def test_numbers_out_of_range_are_refused(tmp_path, capsys, option):
    assert run(["scenes", "pairs", str(tmp_path), "--task", "handle", *option]) == 2
    assert f"Invalid value for '{option[-2]}'" in capsys.readouterr().err


def test_a_sequence_is_images_depth_and_poses(tmp_path, capsys):
    command = ["scenes", "sequence", str(tmp_path), "--seed", "4", "--frames", "2", "--size", "48"]
    assert run(command) == 0
    assert "2 frames in" in capsys.readouterr().out
    about = json.loads((tmp_path / "sequence.json").read_text())
    assert (about["width"], about["height"], about["depth_unit_m"]) == (48, 48, 0.001)
    for entry, (frame, camera) in zip(about["frames"], sequence(4, 2, 48, 48), strict=True):
        np.testing.assert_array_equal(read(tmp_path / entry["rgb"]), frame.rgb)
        depth = cv2.imread(str(tmp_path / entry["depth"]), cv2.IMREAD_UNCHANGED)
        assert depth.dtype == np.uint16
        np.testing.assert_allclose(depth * 0.001, frame.depth, atol=6e-4)
        pose = np.array(entry["camera_to_world"])
        np.testing.assert_array_equal(pose[:3, :3], camera.rotation)
        np.testing.assert_array_equal(pose[:3, 3], camera.position)
        assert list(about["intrinsics"].values()) == list(frame.intrinsics)


def test_a_sheet_shows_every_scene(tmp_path, capsys):
    first = cache.HELD_OUT
    sheets = []
    for count in (1, 2):
        out = tmp_path / f"{count}.png"
        options = ["--first", str(first), "--count", str(count), "--size", "48"]
        assert run(["scenes", "sheet", str(out), *options]) == 0
        sheets.append(read(out))
    assert "2 scenes in" in capsys.readouterr().out
    assert sheets[1].shape[0] > sheets[0].shape[0] + 100  # a row more
    assert sheets[1].shape[1] == sheets[0].shape[1] > 1000
    # The rendered picture itself is on the page: its mean colour, somewhere in the first column.
    wanted = unseen_frame(first, 48, 48).rgb.mean((0, 1))
    blurred = cv2.blur(sheets[0], (160, 160))
    assert np.abs(blurred.astype(float) - wanted).sum(-1).min() < 8

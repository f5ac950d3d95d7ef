# SPDX-License-Identifier: Apache-2.0
"""`diception infer` as a user calls it: exit status, files, one line of error."""

import struct
import zlib

import cv2
import numpy as np
import pytest

from diception_ros.cli import run


def infer(pictures, bundle, out, *more):
    return run(["infer", str(pictures), "--bundle", str(bundle), "--out", str(out), *more])


def one_line(capsys) -> str:
    """The only line on stderr that is not progress."""
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("diception:")]
    assert len(lines) == 1
    return lines[0]


def test_every_task_leaves_a_picture_and_an_array(pictures, bundle, tmp_path, capsys):
    out = tmp_path / "out"
    names = ("depth", "normal", "entity", "semantic", "point", "pose")
    asked = [word for name in names for word in ("--task", name)]
    more = ["--points", "5,6;30,20,0", "--category", "person", "--device", "cpu", "--seed", "3"]
    assert infer(pictures, bundle, out, *asked, *more) == 0
    assert {path.name for path in out.iterdir()} == {
        f"{stem}.{name}.{kind}" for stem in "ab" for name in names for kind in ("png", "npy")
    }
    arrays = {name: np.load(out / f"a.{name}.npy") for name in names}
    assert arrays["depth"].dtype == np.float32
    assert arrays["depth"].shape == (48, 72)
    assert arrays["normal"].shape == (48, 72, 3)
    np.testing.assert_allclose(np.linalg.norm(arrays["normal"], axis=-1), 1, atol=1e-3)
    assert (arrays["entity"].dtype, arrays["semantic"].dtype) == (np.uint16, np.uint16)
    assert (arrays["point"].dtype, arrays["point"].shape) == (np.bool_, (48, 72))
    assert arrays["pose"].shape[1] == 3
    for name in names:
        assert cv2.imread(str(out / f"b.{name}.png")).shape == (48, 72, 3)
    assert "2 of 2 images done" in capsys.readouterr().out


def test_paths_are_said_whole_in_a_narrow_terminal(pictures, bundle, tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    assert infer(pictures / "a.png", bundle, tmp_path / "out", "--task", "depth") == 0
    assert f"loading {bundle} on " in capsys.readouterr().err


def test_the_seed_decides(pictures, bundle, tmp_path):
    found = []
    for i, seed in enumerate(("1", "1", "2")):
        out = tmp_path / str(i)
        assert infer(pictures / "a.png", bundle, out, "--task", "depth", "--seed", seed) == 0
        found.append(np.load(out / "a.depth.npy"))
    np.testing.assert_array_equal(found[0], found[1])
    assert (found[0] != found[2]).any()


def huge():
    """A PNG that claims to have more pixels than OpenCV takes."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 100_000, 100_000, 8, 2, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"no image", "broken.png: not an image"), (huge(), "broken.png: OpenCV cannot read it")],
)
def test_good_images_are_done_beside_a_bad_one(
    pictures, bundle, tmp_path, capsys, content, message
):
    (pictures / "broken.png").write_bytes(content)
    assert infer(pictures, bundle, tmp_path / "out", "--task", "depth") == 2
    assert message in one_line(capsys)
    assert (tmp_path / "out" / "a.depth.npy").is_file()
    assert (tmp_path / "out" / "b.depth.npy").is_file()


def test_a_point_outside_one_image_fails_that_image_only(pictures, bundle, tmp_path, capsys):
    cv2.imwrite(str(pictures / "small.png"), np.zeros((20, 20, 3), np.uint8))
    more = ("--task", "point", "--points", "60,10")
    assert infer(pictures, bundle, tmp_path / "out", *more) == 2
    assert "point (60, 10) lies outside the 20x20 image" in one_line(capsys)
    assert (tmp_path / "out" / "a.point.npy").is_file()


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--task", "depht"], "unknown task 'depht'"),
        (["--task", "semantic"], "task 'semantic' needs --category"),
        (["--task", "semantic", "--category", "forklift"], "diception prompts add"),
        (["--task", "point"], "task 'point' needs --points"),
        (["--task", "point", "--points", "1"], "expected x,y"),
        (["--task", "depth", "--device", "gpu"], "device must be auto, cpu, cuda"),
        (["--task", "depth", "--steps", "0"], "Invalid value for '--steps'"),
        (["--task", "depth", "--stepz", "1"], "No such option: --stepz"),
        ([], "Missing option '--task'"),
    ],
)
def test_user_errors_are_one_line_and_exit_two(more, message, pictures, bundle, tmp_path, capsys):
    assert infer(pictures, bundle, tmp_path / "out", *more) == 2
    assert message in one_line(capsys)


def test_an_absent_bundle_is_named(pictures, tmp_path, capsys):
    assert infer(pictures, tmp_path / "absent", tmp_path / "out", "--task", "depth") == 2
    assert "absent is not a bundle" in one_line(capsys)


def test_debug_shows_where_an_error_was_raised(pictures, bundle, tmp_path):
    with pytest.raises(ValueError, match="unknown task"):
        run(["--debug", "infer", str(pictures), "--task", "x", "--out", str(tmp_path)])


def test_a_file_where_a_folder_is_wanted(pictures, bundle, capsys):
    assert infer(pictures, bundle, pictures / "a.png", "--task", "depth") == 2
    assert one_line(capsys).endswith("a.png: expected a folder, found a file")

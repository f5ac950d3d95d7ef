# SPDX-License-Identifier: Apache-2.0
"""Maps of a rendered room: their points must lie on its geometry."""

import sys
from dataclasses import replace

import numpy as np
import pytest

from diception_ros.cli import run
from diception_ros.evaluation.cloud_files import PCD_ROW, PLY_ROW, CloudWriter
from diception_ros.evaluation.cloud_map import MapSettings, check_near, export_map
from diception_ros.geometry.cloud_filter import Cloud
from diception_ros.training.scenes.shapes import CYLINDER, ELLIPSOID
from diception_ros.training.scenes.world import room


def read_cloud(path):
    """The rows of a file, the header checked against what its readers ask for."""
    head, mark = path.read_bytes(), b"end_header\n" if path.suffix == ".ply" else b"DATA binary\n"
    text, _, data = head.partition(mark)
    words = [line.split() for line in text.decode("ascii").splitlines()]
    if path.suffix == ".ply":
        assert words[0] == ["ply"]
        (count,) = [int(line[2]) for line in words if line[:2] == ["element", "vertex"]]
        rows = np.frombuffer(data, PLY_ROW)
    else:
        (count,) = [int(line[1]) for line in words if line[0] == "POINTS"]
        rows = np.frombuffer(data, PCD_ROW)
    assert len(rows) == count
    return rows


def off_surface(points, solids):
    """Metres, to first order, from each point to the nearest surface of the world."""
    best = np.full(len(points), np.inf)
    for solid in solids:
        local = (points - solid.centre) @ solid.rotation / solid.half
        if solid.kind == ELLIPSOID:
            away = np.abs(np.linalg.norm(local, axis=1) - 1)
        elif solid.kind == CYLINDER:
            side = np.linalg.norm(local[:, :2], axis=1)
            away = np.abs(np.maximum(side, np.abs(local[:, 2])) - 1)
        else:
            away = np.abs(np.abs(local).max(axis=1) - 1)
        best = np.minimum(best, away * solid.half.max())
    return best


def test_points_lie_on_the_room(moving, moving_bag, tmp_path):
    report = export_map(moving_bag(), tmp_path / "map.ply", MapSettings())
    rows = read_cloud(tmp_path / "map.ply")
    known = sum(int(np.isfinite(frame.depth).sum()) for frame, _ in moving)
    assert (report.points, report.images, report.frame) == (known, 4, "map")
    assert report.posed
    assert (report.unposed, report.plain) == (0, 0)
    world = room(np.random.default_rng([7, 1]))
    away = off_surface(rows["xyz"].astype(np.float64), [*world.solids, world.shell])
    assert np.quantile(away, 0.999) < 2e-3
    # The check can fail: with the poses of other moments most points leave the surfaces.
    shifted = rows["xyz"].astype(np.float64) + 0.05
    assert np.median(off_surface(shifted, [*world.solids, world.shell])) > 0.01


def test_points_carry_the_colours_of_their_picture(moving, moving_bag, tmp_path):
    export_map(moving_bag(), tmp_path / "map.ply", MapSettings())
    rows = read_cloud(tmp_path / "map.ply")
    frame = moving[0][0]
    first = frame.rgb[np.isfinite(frame.depth)]
    np.testing.assert_array_equal(rows["rgb"][: len(first)], first)


def test_millimetres_and_pcd_give_the_same_map(moving_bag, tmp_path):
    export_map(moving_bag(), tmp_path / "map.ply", MapSettings())
    export_map(moving_bag(encoding="16UC1", name="mm"), tmp_path / "map.pcd", MapSettings())
    meters, millimetres = read_cloud(tmp_path / "map.ply"), read_cloud(tmp_path / "map.pcd")
    np.testing.assert_allclose(meters["xyz"], millimetres["xyz"], atol=2e-3)
    np.testing.assert_array_equal(meters["rgb"], millimetres["bgr0"][:, 2::-1])


def test_every_and_stride_and_max_depth_leave_points_out(moving_bag, tmp_path):
    bag = moving_bag()
    whole = export_map(bag, tmp_path / "a.ply", MapSettings())
    thin = export_map(bag, tmp_path / "b.ply", MapSettings(every=2, stride=4))
    assert thin.images == 2
    assert thin.points == pytest.approx(whole.points / 32, rel=0.2)
    near = export_map(bag, tmp_path / "c.ply", MapSettings(max_depth=2.5))
    assert 0 < near.points < whole.points


def test_a_map_is_thinned_and_cleaned_by_open3d(moving_bag, tmp_path):
    pytest.importorskip("open3d", reason="needs open3d", exc_type=ImportError)
    settings = MapSettings(voxel=0.1)
    thin = export_map(moving_bag(), tmp_path / "thin.ply", settings)
    rows = read_cloud(tmp_path / "thin.ply")
    cubes = np.floor((rows["xyz"] - rows["xyz"].min(axis=0)) / 0.1)
    assert len(np.unique(cubes, axis=0)) > 0.7 * thin.points  # means, not corners, of the cubes
    clean = export_map(
        moving_bag(name="again"), tmp_path / "c.ply", replace(settings, neighbours=10)
    )
    assert 0.8 * thin.points < clean.points < thin.points


def test_without_tf_the_camera_is_taken_as_still_and_it_is_said(moving_bag, tmp_path, capsys):
    out = tmp_path / "map.ply"
    assert run(["export-cloud", str(moving_bag(leave=["/tf"])), "--out", str(out)]) == 0
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith(f"points of 4 images in {out}, frame 'camera_optical_frame'")
    still = "no TF above 'camera_optical_frame': the camera is taken as still; record /tf and /tf"
    assert said[1].startswith(still)


def test_tf_that_does_not_hold_the_camera_is_none(made, tmp_path, capsys):
    items = [
        ("/d/depth", 5, made.image(5, np.ones((4, 6), np.float32), "32FC1")),
        ("/d/camera_info", 5, made.camera_info(5, (5, 5, 3, 2), 4, 6)),
        ("/tf", 5, made.transform(5, parent="odom", child="base_link")),
    ]
    bag, out = made.bag(tmp_path / "bag", items), tmp_path / "map.ply"
    assert run(["export-cloud", str(bag), "--out", str(out)]) == 0
    assert "no TF above 'camera_optical_frame': the camera is" in capsys.readouterr().out


def test_without_pictures_points_are_grey(moving_bag, tmp_path, capsys):
    out = tmp_path / "map.ply"
    assert run(["export-cloud", str(moving_bag(leave=["/camera/image"])), "--out", str(out)]) == 0
    assert "4 images without a picture of their stamp" in capsys.readouterr().out
    assert (read_cloud(out)["rgb"] == 128).all()


@pytest.mark.parametrize(
    ("topic", "counted"),
    [
        ("/diception/depth/image", "points of 1 images"),
        ("/camera/image", "3 images without a picture"),
    ],
)
def test_damaged_images_are_left_out_with_one_line(
    moving_bag, tmp_path, capsys, caplog, topic, counted
):
    bag = moving_bag(cut=[topic])
    assert run(["export-cloud", str(bag), "--out", str(tmp_path / "map.ply")]) == 0
    assert counted in capsys.readouterr().out
    assert caplog.text.count(f"{topic}: truncated image: ") == 1


@pytest.mark.parametrize(
    ("arguments", "leave", "line"),
    [
        ([], ["/diception/depth/image"], "holds no depth image with a camera_info beside it"),
        ([], ["/diception/depth/camera_info"], "holds no depth image with a camera_info beside it"),
        (["--frame", "moon"], [], "does not connect 'moon' with 'camera_optical_frame'"),
        (
            ["--max-depth", "0.01"],
            [],
            "none of 4 images of /diception/depth/image has a known point",
        ),
        (["--depth", "/absent"], [], "/absent: expected a topic of sensor_msgs/msg/Image"),
        (
            ["--depth", "/camera/image"],
            [],
            "/camera/image has no camera info at /camera/camera_info",
        ),
        (
            ["--depth", "/camera/image", "--camera-info", "/diception/depth/camera_info"],
            [],
            "encoding 'rgb8' is no depth: expected 32FC1 (m) or 16UC1 (mm)",
        ),
    ],
)
def test_what_a_bag_lacks_is_one_line(moving_bag, tmp_path, capsys, arguments, leave, line):
    out = tmp_path / "map.ply"
    assert run(["export-cloud", str(moving_bag(leave=leave)), "--out", str(out), *arguments]) == 2
    assert line in capsys.readouterr().err
    assert not list(tmp_path.glob("map.*"))


def test_a_map_too_far_from_its_frame_is_refused():
    pose = np.eye(4)
    pose[:2, 3] = 448_262.0, 5_411_932.0  # as in UTM
    with pytest.raises(ValueError, match=r"'utm' is 5412 km .* steps of 0.500 m: name a nearer"):
        check_near(pose, "utm")
    check_near(pose / 1000, "map")


def test_absent_bags_and_other_suffixes_are_one_line(moving_bag, tmp_path, capsys):
    assert run(["export-cloud", str(tmp_path / "absent"), "--out", str(tmp_path / "m.ply")]) == 2
    assert "absent cannot be read as a bag" in capsys.readouterr().err
    assert run(["export-cloud", str(moving_bag()), "--out", str(tmp_path / "m.obj")]) == 2
    assert "expected a name that ends in .ply or .pcd" in capsys.readouterr().err


def test_open3d_is_asked_for_before_the_bag_is_read(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(
        ValueError, match="voxel down-sampling needs open3d, which is not installed"
    ):
        export_map(tmp_path / "absent", tmp_path / "map.ply", MapSettings(voxel=0.05))


def test_settings_are_checked():
    with pytest.raises(ValueError, match="stride must be at least 1, found 0"):
        MapSettings(stride=0)
    with pytest.raises(ValueError, match="voxel must not be negative, found -1"):
        MapSettings(voxel=-1)


def test_a_file_that_breaks_off_leaves_nothing(tmp_path):
    def broken():
        with CloudWriter(tmp_path / "a.ply", "map") as writer:
            writer.write(Cloud(np.zeros((2, 3), np.float32)))
            raise RuntimeError

    with pytest.raises(RuntimeError):
        broken()
    assert not list(tmp_path.iterdir())

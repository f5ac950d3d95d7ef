# SPDX-License-Identifier: Apache-2.0
"""Clouds byte by byte, as PCL reads them."""

from __future__ import annotations

import struct
import time

import numpy as np
import pytest
from sensor_msgs.msg import Image, PointCloud2, PointField
from std_msgs.msg import Header

from diception_ros.ros.cloud import cloud_message, read_points, thinned


@pytest.fixture
def open3d():
    return pytest.importorskip("open3d", reason="needs open3d", exc_type=ImportError)


@pytest.fixture
def points():
    rng = np.random.default_rng(0)
    found = rng.uniform(1, 5, (4, 6, 3)).astype(np.float32)
    found[1, 2] = np.nan
    return found


@pytest.fixture
def rgb():
    return np.random.default_rng(1).integers(0, 256, (4, 6, 3), np.uint8)


def test_a_point_is_x_y_z_and_packed_colour(points, rgb):
    header = Header(frame_id="optical")
    cloud = cloud_message(header, points, rgb)
    assert (cloud.height, cloud.width, cloud.point_step, cloud.row_step) == (4, 6, 16, 96)
    assert [(f.name, f.offset, f.datatype) for f in cloud.fields] == [
        ("x", 0, 7),
        ("y", 4, 7),
        ("z", 8, 7),
        ("rgb", 12, 7),
    ]
    assert cloud.header == header
    assert not cloud.is_dense
    assert not cloud.is_bigendian
    at = 2 * cloud.row_step + 3 * cloud.point_step
    raw = bytes(cloud.data[at : at + 16])
    assert struct.unpack("<3f", raw[:12]) == tuple(points[2, 3])
    red, green, blue = (int(part) for part in rgb[2, 3])
    assert struct.unpack("<I", raw[12:])[0] == red << 16 | green << 8 | blue


def test_normals_and_labels_follow(points, rgb):
    normals = np.zeros_like(points)
    normals[..., 2] = -1
    label = np.full((4, 6), 3, np.uint8)
    cloud = cloud_message(Header(), points, rgb, normals, label)
    names = [field.name for field in cloud.fields]
    assert names == ["x", "y", "z", "rgb", "normal_x", "normal_y", "normal_z", "label"]
    assert struct.unpack("<3fI", bytes(cloud.data[16:32])) == (0.0, 0.0, -1.0, 3)


def test_a_thinned_cloud_has_one_row_of_known_points(open3d, rgb):
    """Six cubes of 1 m with four points each, less one unknown."""
    points = np.zeros((4, 6, 3), np.float32)
    points[..., 0] = 0.5 + np.arange(6)
    points[..., 1] = np.arange(4)[:, None] / 10
    points[3, 5] = np.nan
    found, colours = thinned(points, rgb, 1.0)
    assert (found.shape, colours.shape, colours.dtype) == ((1, 6, 3), (1, 6, 3), np.uint8)
    order = np.argsort(found[0, :, 0])
    np.testing.assert_allclose(found[0, order, 0], 0.5 + np.arange(6), atol=1e-5)
    np.testing.assert_allclose(found[0, order, 1], [0.15] * 5 + [0.1], atol=1e-5)
    mean = rgb[:, 0].astype(float).mean(axis=0)
    np.testing.assert_allclose(colours[0, order[0]], mean, atol=0.51)


def test_a_thinned_cloud_is_left_without_outliers(open3d):
    rows, columns = np.mgrid[:30, :40] * np.float32(0.1)
    wall = np.stack([columns, rows, np.full_like(rows, 2)], -1).astype(np.float32)
    wall[5, 7] = 0.7, 0.5, 9.0
    rgb = np.zeros((30, 40, 3), np.uint8)
    assert thinned(wall, rgb, 0.1)[0].max() == 9.0
    assert thinned(wall, rgb, 0.1, outlier_ratio=3.0)[0].max() < 4.0


def test_a_cloud_of_unknown_points_is_thinned_to_none(points, rgb):
    found, colours = thinned(np.full_like(points, np.nan), rgb, 0.1)
    cloud = cloud_message(Header(), found, colours)
    assert (cloud.height, cloud.width, len(cloud.data)) == (1, 0, 0)


def test_points_come_back_without_the_unknown(points, rgb):
    found = read_points(cloud_message(Header(), points, rgb))
    assert np.array_equal(found, points.reshape(-1, 3)[np.isfinite(points[..., 2]).reshape(-1)])


def test_a_cloud_without_float_positions_is_refused():
    field = PointField(name="x", datatype=PointField.FLOAT64, count=1)
    with pytest.raises(ValueError, match=r"expected float32 fields x, y, z; .*x, y, z"):
        read_points(PointCloud2(fields=[field]))


def test_a_truncated_cloud_is_refused(points, rgb):
    cloud = cloud_message(Header(), points, rgb)
    cloud.data = cloud.data[:-1]
    with pytest.raises(ValueError, match="24 points need 384 bytes, got 383"):
        read_points(cloud)


def test_padded_rows_are_refused(points, rgb):
    cloud = cloud_message(Header(), points, rgb)
    cloud.row_step += 4
    with pytest.raises(ValueError, match="padded rows: row_step 100, expected 96"):
        read_points(cloud)


@pytest.mark.parametrize(
    ("values", "fields"),
    [
        ({"cloud__label": True, "semantic__max_rate": 2.0}, ["label"]),
        ({"cloud__normals": True, "normal__max_rate": 2.0}, ["normal_x", "normal_y", "normal_z"]),
    ],
    ids=["label", "normals"],
)
def test_a_cloud_waits_for_the_tasks_of_its_fields(peer, image_of, picture, info, values, fields):
    """One has the fields of the next, whatever the rates; what else is wanted does not wait."""
    assert peer.set(**values) == ""
    peer.hear("~/points", PointCloud2)
    peer.hear("~/disparity_relative/image", Image)
    clouds, others = (peer.received[f"~/{name}"] for name in ("points", "disparity_relative/image"))
    peer.wait(lambda: peer.show(image_of(picture), info) and len(clouds) > 3)
    found = [[field.name for field in cloud.fields] for cloud in clouds]
    assert found == [["x", "y", "z", "rgb", *fields]] * len(clouds)
    assert len(others) > len(clouds)
    assert peer.set(**{name: type(value)(0) for name, value in values.items()}) == ""


def test_a_cloud_comes_though_its_tasks_are_out_of_step(peer, image_of, picture, info):
    """Each was heard from another time on, so that they are never due together."""
    rates = {"normal__max_rate": 2.0, "semantic__max_rate": 2.0}
    assert peer.set(cloud__normals=True, cloud__label=True, **rates) == ""
    for topic in ("~/normals/image", "~/semantic/mask"):
        peer.hear(topic, Image)
        heard = peer.received[topic]
        peer.wait(lambda heard=heard: peer.show(image_of(picture), info) and len(heard) > 0)
        end = time.monotonic() + 0.2
        peer.wait(lambda end=end: peer.show(image_of(picture), info) and time.monotonic() > end)
    peer.hear("~/points", PointCloud2)
    clouds = peer.received["~/points"]
    peer.wait(lambda: peer.show(image_of(picture), info) and len(clouds) > 2)
    assert all(len(cloud.fields) == 8 for cloud in clouds)
    off = dict.fromkeys(rates, 0.0)
    assert peer.set(cloud__normals=False, cloud__label=False, **off) == ""

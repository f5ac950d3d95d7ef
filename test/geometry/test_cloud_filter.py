# SPDX-License-Identifier: Apache-2.0
"""open3d's filters where it is installed, and the line a user reads where it is not."""

import sys

import numpy as np
import pytest

from diception_ros.geometry.cloud_filter import (
    Cloud,
    inliers,
    load_open3d,
    voxel_downsample,
    without_outliers,
)


@pytest.fixture
def open3d():
    return pytest.importorskip("open3d", reason="needs open3d", exc_type=ImportError)


def plane(height=30, width=40):
    """A wall 2 m away, 1 cm between points, with one unknown point and one far off it."""
    rows, columns = np.mgrid[:height, :width] * np.float32(0.01)
    points = np.stack([columns, rows, np.full_like(rows, 2)], -1).astype(np.float32)
    points[0, 0] = np.nan
    points[5, 7] = (0.07, 0.05, 1.0)
    return points


def test_outliers_become_unknown_and_the_cloud_stays_organised(open3d):
    points = plane()
    clean = without_outliers(points, 10, 3.0)
    assert clean.shape == points.shape
    assert clean.dtype == np.float32
    assert np.isnan(clean[5, 7]).all()
    assert np.isnan(clean[0, 0]).all()
    kept = np.isfinite(clean).all(axis=-1)
    assert kept.mean() > 0.97
    np.testing.assert_array_equal(clean[kept], points[kept])


def test_a_cloud_of_unknown_points_has_no_inliers(open3d):
    assert not inliers(np.full((4, 5, 3), np.nan, np.float32)).any()


def test_a_voxel_is_the_mean_of_its_points(open3d):
    points = np.float32([[0, 0, 0], [0.02, 0, 0], [1, 1, 1]])
    colours = np.uint8([[0, 10, 200], [100, 30, 100], [5, 6, 7]])
    thin = voxel_downsample(Cloud(points, colours), 0.5)
    order = np.argsort(thin.points[:, 0])
    np.testing.assert_allclose(thin.points[order], [[0.01, 0, 0], [1, 1, 1]], atol=1e-6)
    np.testing.assert_array_equal(thin.colours[order], [[50, 20, 150], [5, 6, 7]])
    assert voxel_downsample(Cloud(points), 0.5).colours is None


def test_without_open3d_one_line_says_what_to_do(monkeypatch):
    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(
        ValueError, match="outlier removal needs open3d, which is not installed: pip"
    ):
        inliers(plane())
    with pytest.raises(
        ValueError, match="voxel down-sampling needs open3d, which is not installed"
    ):
        voxel_downsample(Cloud(plane().reshape(-1, 3)[1:]), 0.1)


@pytest.mark.parametrize(
    ("source", "line"),
    [
        ("raise ImportError('libusb-1.0.so.0: cannot open')", "does not load: libusb-1.0.so.0"),
        ("raise OSError('libGL.so.1')", "does not load: libGL.so.1"),
        ("import no_such_package_of_open3d", "lacks a package: No module named 'no_such"),
    ],
)
def test_an_open3d_that_does_not_load_is_one_line(tmp_path, monkeypatch, source, line):
    (tmp_path / "open3d.py").write_text(source)
    monkeypatch.delitem(sys.modules, "open3d", raising=False)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ValueError, match=line):
        load_open3d("a test")


def test_settings_without_meaning_are_refused():
    with pytest.raises(ValueError, match="voxel size must be positive, found 0 m"):
        voxel_downsample(Cloud(np.zeros((1, 3), np.float32)), 0)
    with pytest.raises(
        ValueError, match="at least 1 neighbour and a positive ratio, found 0 and 2"
    ):
        inliers(plane(), 0)


def test_a_cloud_checks_its_shapes():
    with pytest.raises(ValueError, match=r"points of shape \(N, 3\), found \(4, 2\)"):
        Cloud(np.zeros((4, 2), np.float32))
    with pytest.raises(ValueError, match=r"4 points but colours of shape \(3, 3\)"):
        Cloud(np.zeros((4, 3), np.float32), np.zeros((3, 3), np.uint8))

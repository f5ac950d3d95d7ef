# SPDX-License-Identifier: Apache-2.0
"""Organised point clouds, in the layout that PCL, Nav2 and RViz read. No ROS here."""

from __future__ import annotations

import sys
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.geometry import strips
from diception_ros.geometry.cloud_filter import Cloud, inliers, voxel_downsample
from diception_ros.ros.content import POINT_CLOUD, POINT_FIELD, Content

FLOAT32, UINT32 = 7, 6
"""sensor_msgs/PointField's constants."""
FIELDS = {"f4": FLOAT32, "u4": UINT32}
NORMALS = ("normal_x", "normal_y", "normal_z")


def cloud_message(
    header: Any,
    points: npt.NDArray[np.float32],
    rgb: npt.NDArray[np.uint8],
    normals: npt.NDArray[np.float32] | None = None,
    label: npt.NDArray[np.uint8] | None = None,
) -> Any:
    """points (H, W, 3) metres with NaN where unknown, rgb (H, W, 3), normals (H, W, 3) unit
    vectors, label (H, W) class ids -> PointCloud2 of the same rows and columns. rgb is 0x00RRGGBB
    in the bits of a float32, PCL's convention."""
    table = cloud_table(points, rgb, normals, label)
    height, width = table.shape
    return Content(
        POINT_CLOUD,
        header=header,
        height=height,
        width=width,
        fields=[_field(name, table.dtype) for name in table.dtype.names or ()],
        is_bigendian=sys.byteorder == "big",
        point_step=table.itemsize,
        row_step=table.itemsize * width,
        data=np.ascontiguousarray(table).reshape(-1).view(np.uint8),
        is_dense=bool(np.isfinite(points[..., 2]).all()),
    )


def thinned(
    points: npt.NDArray[np.float32],
    rgb: npt.NDArray[np.uint8],
    voxel: float,
    outlier_ratio: float | None = None,
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint8]]:
    """Points and rgb (H, W, 3) -> those of one row, (1, N, 3): one point per cube of `voxel`
    metres, none unknown and, with a ratio, no outliers (see `inliers`). ValueError without
    open3d."""
    known = np.isfinite(points).all(axis=-1)
    if not known.any():
        return points[known][None], rgb[known][None]
    cloud = voxel_downsample(Cloud(points[known], rgb[known]), voxel)
    assert cloud.colours is not None
    if outlier_ratio is None:
        return cloud.points[None], cloud.colours[None]
    kept = inliers(cloud.points, ratio=outlier_ratio)
    return cloud.points[kept][None], cloud.colours[kept][None]


def cloud_table(
    points: npt.NDArray[np.float32],
    rgb: npt.NDArray[np.uint8],
    normals: npt.NDArray[np.float32] | None,
    label: npt.NDArray[np.uint8] | None,
) -> npt.NDArray[Any]:
    """The cloud as a structured array (H, W): x y z rgb [normal_x normal_y normal_z] [label]."""
    layout: list[tuple[str, str]] = [(name, "f4") for name in ("x", "y", "z", "rgb")]
    layout += [(name, "f4") for name in NORMALS] if normals is not None else []
    layout += [("label", "u4")] if label is not None else []
    block = np.empty((*points.shape[:2], len(layout)), np.float32)
    # Every field has four bytes, so all are channels of one block of floats. OpenCV moves them in
    # one pass and keeps the bits, whatever they mean as a float.
    order = [place for i in range(len(layout)) for place in (i, i)]
    for rows in strips(len(block) if block.size else 0):  # OpenCV refuses an empty one
        parts = [points[rows], packed_colour(rgb[rows])]
        parts += [normals[rows]] if normals is not None else []
        parts += [label[rows].astype(np.uint32).view(np.float32)] if label is not None else []
        cv2.mixChannels([np.ascontiguousarray(part) for part in parts], [block[rows]], order)
    return block.view(np.dtype(layout))[..., 0]


def packed_colour(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """RGB (H, W, 3) -> 0x00RRGGBB in the bits of a float32 (H, W)."""
    order = cv2.COLOR_RGB2BGRA if sys.byteorder == "little" else cv2.COLOR_RGB2RGBA
    pixels = np.asarray(cv2.cvtColor(np.ascontiguousarray(rgb), order), np.uint8)
    bits: npt.NDArray[np.uint32] = pixels.view(np.uint32)[..., 0]
    if sys.byteorder == "big":
        bits >>= 8
    bits &= 0x00FFFFFF
    return bits.view(np.float32)


def _field(name: str, layout: np.dtype[Any]) -> Any:
    assert layout.fields is not None
    kind, offset = layout.fields[name][:2]
    return Content(POINT_FIELD, name=name, offset=offset, datatype=FIELDS[kind.str[1:]], count=1)


def read_points(message: Any) -> npt.NDArray[np.float32]:
    """PointCloud2 with float32 x, y, z -> (N, 3) float32, only finite points.
    ValueError for a cloud without them or with truncated data."""
    offsets = {field.name: field for field in message.fields}
    wrong = [n for n in "xyz" if n not in offsets or offsets[n].datatype != FLOAT32]
    if wrong:
        raise ValueError(f"expected float32 fields x, y, z; wrong or missing: {', '.join(wrong)}")
    count, step = message.width * message.height, message.point_step
    if message.height > 1 and message.row_step != step * message.width:
        raise ValueError(
            f"padded rows: row_step {message.row_step}, expected {step * message.width}"
        )
    if len(message.data) < count * step:
        raise ValueError(
            f"truncated: {count} points need {count * step} bytes, got {len(message.data)}"
        )
    order = ">f4" if message.is_bigendian else "<f4"
    layout = np.dtype(
        {
            "names": list("xyz"),
            "formats": [order] * 3,
            "offsets": [offsets[name].offset for name in "xyz"],
            "itemsize": step,
        }
    )
    table = np.frombuffer(message.data, layout, count)
    points = np.stack([table[name].astype(np.float32) for name in "xyz"], axis=1)
    return points[np.isfinite(points).all(axis=1)]

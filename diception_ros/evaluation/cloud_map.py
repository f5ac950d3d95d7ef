# SPDX-License-Identifier: Apache-2.0
"""A map of coloured points from a bag's depth images and their poses."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from diception_ros.evaluation.cloud_files import CloudWriter
from diception_ros.evaluation.depth_bags import (
    DepthFrame,
    find_topics,
    read_depth,
    read_transforms,
)
from diception_ros.geometry import depth_to_points
from diception_ros.geometry.cloud_filter import Cloud, inliers, load_open3d, voxel_downsample
from diception_ros.geometry.transforms import Matrix, TransformTree

MERGE = 5_000_000
"""Points that are gathered before they are thinned together."""
FAR = 2**14
"""m, from where on float32 has steps of 2 mm."""


@dataclass(frozen=True)
class MapSettings:
    """depth, camera_info, picture: topics, empty: found in the bag. frame: the map's, empty: the
    top of the TF tree. every: each n-th image; stride: each n-th row and column. max_depth (m),
    voxel (m) and neighbours: 0 is off; ratio: as `inliers` takes it."""

    depth: str = ""
    camera_info: str = ""
    picture: str = ""
    frame: str = ""
    every: int = 1
    stride: int = 1
    max_depth: float = 0.0
    voxel: float = 0.0
    neighbours: int = 0
    ratio: float = 2.0

    def __post_init__(self) -> None:
        for name in ("every", "stride"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        for name in ("max_depth", "voxel", "neighbours"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} must not be negative, found {getattr(self, name):g}")

    @property
    def gathers(self) -> bool:
        """Whether all points are needed at once."""
        return self.voxel > 0 or self.neighbours > 0


@dataclass(frozen=True)
class MapReport:
    """What was written. posed: False where TF has no frame above the camera's and none was
    named, so that the camera is taken as still.
    unposed: images left out because TF did not know their time; plain: images without a picture."""

    points: int
    images: int
    frame: str
    posed: bool
    unposed: int
    plain: int


def export_map(bag: Path, out: Path, settings: MapSettings) -> MapReport:
    """Writes a PLY or PCD file. ValueError for a bag without metric depth, a frame that TF does not
    connect, open3d asked for and absent, or nothing to write."""
    if settings.gathers:
        load_open3d("voxel down-sampling" if settings.voxel else "outlier removal")
    topics = find_topics(bag, settings.depth, settings.camera_info, settings.picture)
    tree = read_transforms(bag, topics)
    frames = read_depth(bag, topics)
    images = unposed = plain = number = 0
    target, gathered = settings.frame, _Gathered(settings)
    first = next(frames, None)
    if first is None:
        raise ValueError(f"{topics.depth} holds no image in {bag}")
    target = target or tree.root(first.frame_id)
    with CloudWriter(out, target) as writer:
        frame: DepthFrame | None = first
        while frame is not None:
            if number % settings.every == 0:
                pose = pose_in(tree, target, frame)
                if pose is None:
                    unposed += 1
                else:
                    check_near(pose, target)
                    images += 1
                    plain += frame.rgb is None
                    gathered.add(points_of(frame, pose, settings), writer)
            number += 1
            frame = next(frames, None)
        if not images:
            raise ValueError(
                f"TF of {bag} does not connect '{target}' with '{first.frame_id}' at the time of "
                f"any of {unposed} images of {topics.depth}: record /tf and /tf_static, or name "
                "another frame"
            )
        gathered.finish(writer)
        count = writer.count
        if not count:
            within = f" within {settings.max_depth:g} m" if settings.max_depth else ""
            raise ValueError(f"none of {images} images of {topics.depth} has a known point{within}")
    posed = bool(settings.frame) or target != first.frame_id
    return MapReport(count, images, target, posed, unposed, plain)


def pose_in(tree: TransformTree, target: str, frame: DepthFrame) -> Matrix | None:
    """Camera to map (4, 4); None where TF does not know it."""
    return tree.pose(target, frame.frame_id, frame.stamp)


def check_near(pose: Matrix, target: str) -> None:
    """ValueError where the float32 of the files has steps of more than 2 mm."""
    away = float(np.abs(pose[:3, 3]).max())
    if away > FAR:
        raise ValueError(
            f"'{target}' is {away / 1000:.0f} km from the camera, where files have steps "
            f"of {np.spacing(np.float32(away)):.3f} m: name a nearer --frame, such as map or odom"
        )


def points_of(frame: DepthFrame, pose: Matrix, settings: MapSettings) -> Cloud:
    """The known points of one image, in the map's frame."""
    cut = slice(None, None, settings.stride)
    points = depth_to_points(frame.depth, frame.camera)[cut, cut]
    known = np.isfinite(points[..., 2])
    if settings.max_depth:
        known &= np.nan_to_num(points[..., 2]) <= settings.max_depth
    placed = points[known].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
    colours = None if frame.rgb is None else frame.rgb[cut, cut][known]
    return Cloud(placed.astype(np.float32), colours)


class _Gathered:
    """Points on their way to the file: at once, or thinned together first."""

    def __init__(self, settings: MapSettings) -> None:
        self._settings = settings
        self._parts: list[Cloud] = []

    def add(self, cloud: Cloud, writer: CloudWriter) -> None:
        if not self._settings.gathers:
            writer.write(cloud)
            return
        self._parts.append(self._thinned(cloud))
        if self._settings.voxel and sum(len(part.points) for part in self._parts) > MERGE:
            self._parts = [self._thinned(merged(self._parts))]

    def finish(self, writer: CloudWriter) -> None:
        if not self._parts:
            return
        whole = self._thinned(merged(self._parts))
        if self._settings.neighbours:
            kept = inliers(whole.points, self._settings.neighbours, self._settings.ratio)
            colours = None if whole.colours is None else whole.colours[kept]
            whole = Cloud(whole.points[kept], colours)
        writer.write(whole)

    def _thinned(self, cloud: Cloud) -> Cloud:
        return voxel_downsample(cloud, self._settings.voxel) if self._settings.voxel else cloud


def merged(parts: list[Cloud]) -> Cloud:
    """One cloud; where only some have colours, the others are grey."""
    points = np.concatenate([part.points for part in parts])
    if all(part.colours is None for part in parts):
        return Cloud(points)
    colours = [
        np.full(part.points.shape, 128, np.uint8) if part.colours is None else part.colours
        for part in parts
    ]
    return Cloud(points, np.concatenate(colours))

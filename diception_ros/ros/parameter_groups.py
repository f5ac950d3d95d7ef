# SPDX-License-Identifier: Apache-2.0
"""The node's parameters by subject: tasks, sizes, scale, cloud, filters. Long because it is one
table, without code."""

from __future__ import annotations

from dataclasses import dataclass, field

from diception_ros.ros.spec import parameter

MAX_SIDE = 8192
SCALE_SOURCES = ("none", "fixed", "reference", "ground_plane")


@dataclass(frozen=True)
class TaskParameters:
    """Of one task; the ROS names begin with the task's name, for example `depth.steps`."""

    steps: int = parameter(0, "Denoising steps; 0 takes the bundle's own figure.", bounds=(0, 100))
    guidance: float = parameter(
        0.0,
        "Classifier-free guidance; 0 takes the bundle's own figure, 1 is off, above 1 costs twice.",
        bounds=(0.0, 20.0),
    )
    max_rate: float = parameter(
        0.0, "Most answers per second; 0 is every frame.", unit="Hz", bounds=(0.0, 1000.0)
    )


@dataclass(frozen=True)
class OutputParameters:
    width: int = parameter(
        0,
        "Width of every output and of the camera info; 0 keeps the input's, or its proportions "
        "where the height is given. Nav2's semantic layer works best near 400.",
        unit="px",
        bounds=(0, MAX_SIDE),
    )
    height: int = parameter(
        0,
        "Height of every output; 0 keeps the input's, or its proportions where the width is given.",
        unit="px",
        bounds=(0, MAX_SIDE),
    )

    def size(self, width: int, height: int) -> tuple[int, int]:
        """(width, height) in pixels of the outputs of an input of this size. One that is given
        alone takes the other along: ros2 param set changes one at a time."""
        if not self.width and not self.height:
            return width, height
        along = round(width * self.height / height), round(height * self.width / width)
        wide, high = (min(max(1, side), MAX_SIDE) for side in along)
        return self.width or wide, self.height or high


@dataclass(frozen=True)
class FixedScale:
    scale: float = parameter(
        1.0,
        "source fixed: 1 / depth = scale * relative disparity + shift.",
        unit="1/m",
        bounds=(0.0, 1e6),
    )
    shift: float = parameter(
        0.0, "source fixed: see scale.fixed.scale.", unit="1/m", bounds=(-1e6, 1e6)
    )


@dataclass(frozen=True)
class ReferenceScale:
    max_age: float = parameter(
        0.2,
        "source reference: largest difference between the stamps of image and reference.",
        unit="s",
        bounds=(0.0, 60.0),
    )
    extrinsics: tuple[float, ...] = parameter(
        (0.0, 0.0, 0.0, 0.0, 0.0, 0.0, 1.0),
        "Pose of the frame of reference/points in the camera's optical frame: x y z qx qy qz qw. "
        "Looked at only when the two frame ids differ.",
        unit="m and quaternion",
    )

    use_tf: bool = parameter(
        False, "source reference: take the extrinsics from TF instead; needs tf2_ros."
    )
    min_coverage: float = parameter(
        0.001,
        "source reference: least share of the image's pixels that must have a reference.",
        bounds=(0.0, 1.0),
    )


@dataclass(frozen=True)
class GroundPlane:
    height: float = parameter(
        0.5,
        "source ground_plane: height of the optical centre over the floor.",
        unit="m",
        bounds=(0.01, 1000.0),
    )
    pitch: float = parameter(
        0.0,
        "source ground_plane: how far the camera looks down from the horizontal.",
        unit="rad",
        bounds=(-1.6, 1.6),
    )
    roll: float = parameter(
        0.0,
        "source ground_plane: rotation of the camera about its viewing axis, clockwise positive.",
        unit="rad",
        bounds=(-3.2, 3.2),
    )
    frame: str = parameter(
        "",
        "source ground_plane: TF frame on the floor with z up, for example base_footprint; then "
        "height, pitch and roll come from TF. Needs tf2_ros.",
    )


@dataclass(frozen=True)
class ScaleParameters:
    """Where metres come from."""

    source: str = parameter(
        "none",
        "Where metres come from; none publishes no metric topic at all.",
        choices=SCALE_SOURCES,
    )
    smoothing: float = parameter(
        0.0,
        "Share of the last fit kept in the new one where both agree within their noise: 0 takes "
        "each fit as it is, 0.9 is slow.",
        bounds=(0.0, 0.99),
    )
    period: float = parameter(
        0.0,
        "Time between two fits; 0 fits every frame. Relative disparity is normalised per image, so "
        "an old fit is only as good as the scene is still.",
        unit="s",
        bounds=(0.0, 3600.0),
    )
    max_residual: float = parameter(
        0.25, "A fit with a larger relative residual is not used.", bounds=(0.0, 10.0)
    )
    hold: float = parameter(
        1.0,
        "How long the last good fit serves when no new one can be made.",
        unit="s",
        bounds=(0.0, 3600.0),
    )
    fixed: FixedScale = field(default_factory=FixedScale)
    reference: ReferenceScale = field(default_factory=ReferenceScale)
    ground_plane: GroundPlane = field(default_factory=GroundPlane)


@dataclass(frozen=True)
class CloudParameters:
    """The filters are open3d's; see geometry/cloud_filter.py."""

    max_rate: float = parameter(
        0.0, "Most clouds per second; 0 is every frame.", unit="Hz", bounds=(0.0, 1000.0)
    )
    decimation: int = parameter(
        1,
        "Every n-th row and column; keep 1 where a consumer wants cloud and mask of equal size.",
        unit="px",
        bounds=(1, 64),
    )
    outliers: bool = parameter(
        False,
        "Lone points, far from their neighbours, become unknown; the cloud keeps its rows and "
        "columns. Needs open3d; time per cloud in frame_report, stage cloud.",
    )
    outlier_ratio: float = parameter(
        2.0,
        "outliers: points whose mean distance to their neighbours exceeds the cloud's mean by so "
        "many standard deviations are left out; less is stricter.",
        bounds=(0.1, 100.0),
    )
    voxel: float = parameter(
        0.0,
        "Edge of a cube that keeps one point, the mean of its points and colours; 0 is off. The "
        "cloud then has no rows and columns (height 1), so not with cloud.normals, cloud.label or "
        "beside a consumer that pairs points and pixels. Needs open3d.",
        unit="m",
        bounds=(0.0, 100.0),
    )
    normals: bool = parameter(False, "Adds normal_x/y/z; needs the task normal.")
    label: bool = parameter(False, "Adds label, the semantic class id; needs the task semantic.")

    @property
    def filters(self) -> tuple[str, ...]:
        """The parameters in force that need open3d."""
        return tuple(name for name in ("outliers", "voxel") if getattr(self, name))


@dataclass(frozen=True)
class FilterParameters:
    """What is kept of an answer."""

    instance_score: float = parameter(
        0.0,
        "Instances below this score are left out; how clearly the model paints them.",
        bounds=(0.0, 1.0),
    )
    instance_area: int = parameter(
        1, "Instances smaller than this are left out.", unit="px", bounds=(1, 1_000_000)
    )
    point_score: float = parameter(
        0.5, "A pixel belongs to the answer to a point prompt from this score.", bounds=(0.0, 1.0)
    )
    keypoint_score: float = parameter(
        0.0, "Keypoints below this score are left out.", bounds=(0.0, 1.0)
    )

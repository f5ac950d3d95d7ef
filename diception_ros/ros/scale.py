# SPDX-License-Identifier: Apache-2.0
"""Where metres come from: given, fitted to a reference, or from the floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.geometry import (
    Intrinsics,
    ScaleFit,
    apply_scale,
    fit_disparity,
    fit_floor,
    floor_depth,
    project,
    relative_error,
    rotation,
    smooth_fit,
    transform,
)
from diception_ros.ros.camera import stamp_ns
from diception_ros.ros.cloud import read_points
from diception_ros.ros.images import to_meters
from diception_ros.ros.parameter_groups import GroundPlane, ScaleParameters
from diception_ros.ros.parameters import NodeParameters
from diception_ros.ros.transforms import FindPose, no_pose
from diception_ros.tasks import MetricDepth

Meters = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Reference:
    """A metric reference: an Image or PointCloud2 and the topic it came from."""

    topic: str
    message: Any


class ScaleTracker:
    """Keeps the last good fit. One per camera, used by the worker thread alone.

    fit: the one that serves now, None without metres. reason: why there is no new one, "" when
    there is; age: of the fit, in seconds.
    """

    def __init__(self, find_pose: FindPose = no_pose) -> None:
        self.fit: ScaleFit | None = None
        self.reason, self.age = "", 0.0
        self._find_pose = find_pose
        self._source = ""
        self._last: tuple[int, ScaleFit] | None = None

    def reset(self) -> None:
        """Forgets the past, for when time jumps."""
        self._last = None

    def state(self) -> dict[str, Any]:
        """The past as plain values, for `restore` in another process."""
        if self._last is None:
            return {"source": self._source}
        stamp, fit = self._last
        return {"source": self._source, "stamp": stamp, "fit": asdict(fit)}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on where `state` was asked."""
        self._source = state["source"]
        self._last = (state["stamp"], ScaleFit(**state["fit"])) if "fit" in state else None

    def metric(
        self,
        disparity: Meters,
        header: Any,
        camera: Intrinsics,
        parameters: NodeParameters,
        reference: Reference | None,
    ) -> MetricDepth | None:
        """Relative disparity (H, W) of one image -> metres along Z, or None with `reason` set."""
        settings, now = parameters.scale, stamp_ns(header)
        # Of what a fit was made with, a change must not wait for the period's end.
        source = repr((settings.source, settings.ground_plane, settings.reference))
        if source != self._source:
            self._source, self._last = source, None
        self.reason = ""
        if settings.source == "fixed" or not 0 <= self._age(now) < settings.period:
            self._refresh(disparity, header, camera, settings, reference)
        self.age = self._age(now)
        serves = 0 <= self.age <= (settings.hold if self.reason else settings.period)
        self.fit = self._last[1] if self._last is not None and serves else None
        if self.fit is None:
            return None
        return apply_scale(disparity, self.fit, parameters.min_depth, parameters.max_depth)

    @property
    def residual(self) -> float:
        """Of the fit that serves, NaN without one."""
        return self.fit.residual if self.fit is not None else float("nan")

    def error(self, disparity: Meters) -> Meters:
        """Expected relative error (H, W) of the metres that were just given."""
        assert self.fit is not None
        return relative_error(disparity, self.fit)

    def values(self) -> dict[str, object]:
        """For the diagnostics."""
        fit = self.fit
        if fit is None:
            return {"scale residual": self.residual}
        return {
            "scale residual": self.residual,
            "scale (1/m)": fit.scale,
            "shift (1/m)": fit.shift,
            "scale inliers": fit.inliers,
            "scale coverage": fit.coverage,
            "scale age (s)": self.age,
            "scale held because": self.reason,
        }

    def _refresh(
        self,
        disparity: Meters,
        header: Any,
        camera: Intrinsics,
        settings: ScaleParameters,
        reference: Reference | None,
    ) -> None:
        """A new fit, or the reason why there is none."""
        try:
            fit = self._fit(disparity, header, camera, settings, reference)
            check_fit(fit, settings.max_residual)
        except ValueError as error:
            self.reason = str(error)
            return
        if self._last is not None and settings.source != "fixed":
            fit = smooth_fit(self._last[1], fit, settings.smoothing)
        self._last = stamp_ns(header), fit

    def _fit(
        self,
        disparity: Meters,
        header: Any,
        camera: Intrinsics,
        settings: ScaleParameters,
        reference: Reference | None,
    ) -> ScaleFit:
        if settings.source == "fixed":
            return fixed_fit(settings.fixed.scale, settings.fixed.shift)
        if settings.source == "ground_plane":
            plane = settings.ground_plane
            if plane.frame:
                plane = plane_below(self._find_pose(plane.frame, header.frame_id, header.stamp))
            return fit_floor(disparity, floor_depth(camera, plane.height, plane.pitch, plane.roll))
        meters = reference_meters(reference, header, camera, settings, self._find_pose)
        return fit_disparity(disparity, meters, min_coverage=settings.reference.min_coverage)

    def _age(self, now_ns: int) -> float:
        """Seconds since the last good fit, infinite without one."""
        return (now_ns - self._last[0]) * 1e-9 if self._last is not None else float("inf")


def fixed_fit(scale: float, shift: float) -> ScaleFit:
    """A fit that was given, not made: no residual."""
    return ScaleFit(
        scale=scale, shift=shift, residual=0.0, coverage=1.0, inliers=1.0, valid=True, reason=""
    )


def check_fit(fit: ScaleFit, max_residual: float) -> None:
    """ValueError with the reason why a fit is no good."""
    if not fit.valid:
        raise ValueError(f"no scale: {fit.reason}")
    if fit.residual > max_residual:
        raise ValueError(
            f"scale fit residual {fit.residual:.3f} is above scale.max_residual {max_residual:g}"
        )


def nearest(references: Sequence[Reference], header: Any) -> Reference | None:
    """The reference whose stamp is nearest to the image's; None without any."""
    stamp = stamp_ns(header)
    return min(
        references,
        key=lambda reference: abs(stamp_ns(reference.message.header) - stamp),
        default=None,
    )


def reference_meters(
    reference: Reference | None,
    header: Any,
    camera: Intrinsics,
    settings: ScaleParameters,
    find_pose: FindPose,
) -> Meters:
    """The reference as depth of the camera's pixels (H, W), NaN = unknown.
    ValueError when it is missing, too old, in another frame or damaged."""
    if reference is None:
        raise ValueError("no reference has come yet on reference/depth or reference/points")
    message, topic = reference.message, reference.topic
    apart = abs(stamp_ns(message.header) - stamp_ns(header)) * 1e-9
    if apart > settings.reference.max_age:
        raise ValueError(
            f"{topic}: the nearest reference is {apart:.3f} s from the image, more than "
            f"scale.reference.max_age {settings.reference.max_age:g} s"
        )
    same_frame = message.header.frame_id == header.frame_id
    if hasattr(message, "encoding"):
        if not same_frame:
            raise ValueError(
                f"{topic} is in frame '{message.header.frame_id}', the image in "
                f"'{header.frame_id}': register it first (depth_image_proc's register node)"
            )
        meters = to_meters(message, topic)
        return np.asarray(
            cv2.resize(meters, (camera.width, camera.height), interpolation=cv2.INTER_NEAREST),
            np.float32,
        )
    try:
        points = read_points(message)
    except ValueError as error:
        raise ValueError(f"{topic}: {error}") from error
    if not same_frame:
        points = transform(points, extrinsics(message.header.frame_id, header, settings, find_pose))
    return project(points, camera)


def extrinsics(
    frame_id: str, header: Any, settings: ScaleParameters, find_pose: FindPose
) -> tuple[float, ...]:
    """Pose of a frame in the camera's. ValueError where it is to come from TF and does not."""
    if settings.reference.use_tf:
        return find_pose(header.frame_id, frame_id, header.stamp)
    return settings.reference.extrinsics


def plane_below(pose: tuple[float, ...]) -> GroundPlane:
    """The floor z = 0 of a frame in which the camera has this pose. ValueError for a camera that is
    not above it."""
    if pose[2] <= 0:
        raise ValueError(
            f"the camera is {pose[2]:.3f} m above scale.ground_plane.frame: expected a frame on "
            "the floor with z up"
        )
    down = rotation(pose[3:]).T @ np.array([0.0, 0.0, -1.0])
    return GroundPlane(
        height=pose[2],
        pitch=float(np.arcsin(np.clip(down[2], -1, 1))),
        roll=float(np.arctan2(down[0], down[1])),
    )

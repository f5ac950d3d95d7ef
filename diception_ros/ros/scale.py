# SPDX-License-Identifier: Apache-2.0
"""Where metres come from: given, fitted to a reference, or from the floor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.geometry import Intrinsics, ScaleFit, apply_scale, fit_disparity
from diception_ros.ros.camera import stamp_ns
from diception_ros.ros.cloud import read_points
from diception_ros.ros.images import to_meters
from diception_ros.ros.parameters import GroundPlane, NodeParameters, ScaleParameters
from diception_ros.tasks import MetricDepth

Meters = npt.NDArray[np.float32]

SHALLOWEST = 0.05
"""Floor rays less than this below the horizon (unit height per length) are not used: a small error
of the pitch moves their depth by metres."""


@dataclass(frozen=True)
class Reference:
    """A metric reference: an Image or PointCloud2 and the topic it came from."""

    topic: str
    message: Any


class ScaleTracker:
    """Keeps the last good fit. One per camera, used by the worker thread alone.

    reason: why there are no metres now, "" when there are.
    """

    def __init__(self) -> None:
        self.reason = ""
        self.residual = float("nan")
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
        fit = self._fit(disparity, header, camera, parameters.scale, reference)
        if fit is None:
            self.residual = float("nan")
            return None
        self.reason, self.residual = "", fit.residual
        return apply_scale(disparity, fit, parameters.min_depth, parameters.max_depth)

    def _fit(
        self,
        disparity: Meters,
        header: Any,
        camera: Intrinsics,
        settings: ScaleParameters,
        reference: Reference | None,
    ) -> ScaleFit | None:
        if settings.source != self._source:
            self._source, self._last = settings.source, None
        if settings.source == "fixed":
            return fixed_fit(settings.fixed.scale, settings.fixed.shift)
        try:
            if settings.source == "reference":
                meters = reference_meters(reference, header, camera, settings)
            else:
                meters = floor_meters(camera, settings.ground_plane)
            fit = fit_disparity(disparity, meters)
            check_fit(fit, settings.max_residual)
        except ValueError as error:
            self.reason = str(error)
            return self._held(stamp_ns(header), settings.hold)
        fit = self._smooth(fit, settings.smoothing)
        self._last = stamp_ns(header), fit
        return fit

    def _held(self, now_ns: int, hold_s: float) -> ScaleFit | None:
        """The last good fit while it may still serve."""
        if self._last is None or not 0 <= now_ns - self._last[0] <= hold_s * 1e9:
            return None
        return self._last[1]

    def _smooth(self, fit: ScaleFit, share: float) -> ScaleFit:
        if self._last is None or share == 0:
            return fit
        old = self._last[1]
        return replace(
            fit,
            scale=share * old.scale + (1 - share) * fit.scale,
            shift=share * old.shift + (1 - share) * fit.shift,
        )


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
    reference: Reference | None, header: Any, camera: Intrinsics, settings: ScaleParameters
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
        points = transform(points, settings.reference.extrinsics)
    return project(points, camera)


def transform(points: Meters, pose: tuple[float, ...]) -> Meters:
    """Points (N, 3) by a pose x y z qx qy qz qw."""
    x, y, z, w = pose[3:]
    rotation = np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )
    return np.asarray(points @ rotation.T + np.array(pose[:3]), np.float32)


def project(points: Meters, camera: Intrinsics) -> Meters:
    """Points (N, 3) in the optical frame -> depth image (H, W), the nearest point of each pixel."""
    depth = np.full((camera.height, camera.width), np.nan, np.float32)
    front = points[points[:, 2] > 0]
    columns = np.rint(camera.fx * front[:, 0] / front[:, 2] + camera.cx)
    rows = np.rint(camera.fy * front[:, 1] / front[:, 2] + camera.cy)
    seen = (columns >= 0) & (columns < camera.width) & (rows >= 0) & (rows < camera.height)
    far_first = np.argsort(-front[seen, 2])  # so that the nearest is written last
    pixels = rows[seen].astype(int)[far_first], columns[seen].astype(int)[far_first]
    depth[pixels] = front[seen, 2][far_first]
    return depth


def floor_meters(camera: Intrinsics, plane: GroundPlane) -> Meters:
    """Depth (H, W) that a flat floor would have in each pixel, NaN at and above the horizon. The
    fit then finds the pixels that really show floor; the others are its outliers."""
    pitch, roll = plane.pitch, plane.roll
    # "Down" in the optical frame (x right, y down, z forward) of a camera pitched down, rolled.
    down = np.array([np.sin(roll) * np.cos(pitch), np.cos(roll) * np.cos(pitch), np.sin(pitch)])
    drop = camera.rays() @ down.astype(np.float32)  # metres of descent per metre of depth
    with np.errstate(divide="ignore"):
        return np.where(drop > SHALLOWEST, plane.height / drop, np.nan).astype(np.float32)

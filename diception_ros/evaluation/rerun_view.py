# SPDX-License-Identifier: Apache-2.0
"""Bags and live topics in Rerun's viewer, where rerun-sdk is installed.

A frame is an entity that is placed by TF, its pinhole lies below it, its images below that, and its
clouds beside: so depth stands in the room where the cloud is.
"""

from __future__ import annotations

import importlib
import logging
from pathlib import Path
from typing import Any

import numpy as np

from diception_ros.evaluation.bags import message_types, read_all
from diception_ros.evaluation.depth_bags import INFO, TF
from diception_ros.evaluation.views import (
    Depth,
    Ids,
    Picture,
    Pixels,
    Points,
    Relative,
    View,
    view_of,
)
from diception_ros.geometry import Intrinsics
from diception_ros.geometry.transforms import TransformTree
from diception_ros.ros.camera import sibling_topic, stamp_ns
from diception_ros.tasks import Disparity
from diception_ros.tasks.show import colorize

logger = logging.getLogger(__name__)

APPLICATION = "diception"
STATIC = "/tf_static"
BEHIND = 10_000_000_000
"""ns of moving transforms that are kept of a running robot, as tf2 keeps them."""


def load_rerun() -> Any:
    """The module rerun. ValueError in one line where it is absent or does not load."""
    try:
        return importlib.import_module("rerun")
    except ModuleNotFoundError as error:
        raise ValueError(
            "Rerun's viewer needs rerun-sdk, which is not installed: pip install rerun-sdk, or use "
            "--html, which needs nothing"
        ) from error
    except (ImportError, OSError) as error:
        raise ValueError(f"rerun-sdk is installed but does not load: {error}") from error


class RerunLog:
    """Logs messages as they come. save: a .rrd file to write instead of opening the viewer. live:
    whether they come without end."""

    def __init__(self, save: Path | None = None, *, live: bool = False) -> None:
        self._rerun = load_rerun()
        self._rerun.init(APPLICATION, spawn=save is None)
        if save is not None:
            self._rerun.save(save)
        self.tree = TransformTree(BEHIND if live else None)
        self.infos: set[str] = set()
        self.counts: dict[str, int] = {}
        self._complained: set[str] = set()

    def handle(self, topic: str, message: Any) -> None:
        """What cannot be shown is named once a topic or frame and left out."""
        if hasattr(message, "transforms"):
            self._learn(topic, message)
            return
        if hasattr(message, "distortion_model"):
            self.infos.add(topic)
        try:
            view = view_of(topic, message, sibling_topic(topic) in self.infos)
        except ValueError as error:
            self._complain(topic, error)
            return
        if view is not None:
            self._log(topic, message.header, view)
            self.counts[topic] = self.counts.get(topic, 0) + 1

    def close(self) -> None:
        """Hands what Rerun still holds to the viewer, or to the file, which is whole then."""
        self._rerun.disconnect()

    def _learn(self, topic: str, message: Any) -> None:
        for item in message.transforms:
            try:
                self.tree.add_stamped(item, always=topic.endswith(STATIC))
            except ValueError as error:
                self._complain(item.child_frame_id, error)

    def _complain(self, name: str, error: ValueError) -> None:
        if name not in self._complained:
            self._complained.add(name)
            logger.warning("%s", error)

    def _log(self, topic: str, header: Any, view: View) -> None:
        rerun, stamp = self._rerun, stamp_ns(header)
        frame = header.frame_id.lstrip("/") or "camera"
        rerun.set_time("stamp", timestamp=np.datetime64(stamp, "ns"))
        base = f"world/{frame}"
        pose = self.tree.pose(self.tree.root(frame), frame, stamp)
        if pose is not None:
            placed = rerun.Transform3D(translation=pose[:3, 3], mat3x3=pose[:3, :3])
            rerun.log(base, placed)
        if isinstance(view, Intrinsics):
            rerun.log(f"{base}/camera", self._pinhole(view))
            return
        inside = "" if isinstance(view, Points) else "/camera"
        rerun.log(f"{base}{inside}/{topic.strip('/')}", self._archetype(view))

    def _pinhole(self, camera: Intrinsics) -> Any:
        return self._rerun.Pinhole(
            resolution=[camera.width, camera.height],
            focal_length=[camera.fx, camera.fy],
            principal_point=[camera.cx, camera.cy],
            camera_xyz=self._rerun.ViewCoordinates.RDF,
        )

    def _archetype(self, view: View) -> Any:
        rerun = self._rerun
        match view:
            case Picture():
                return rerun.Image(view.rgb)
            case Depth():
                return rerun.DepthImage(np.nan_to_num(view.meters), meter=1.0)
            case Relative():
                return rerun.Image(colorize(Disparity(view.values)))
            case Ids():
                return rerun.SegmentationImage(view.ids)
            case Points():
                return rerun.Points3D(view.points, colors=view.colours)
            case Pixels():
                return rerun.Points2D(view.points, colors=[255, 60, 60], radii=3)
        raise AssertionError(f"no archetype for a {type(view).__name__}")


def show_bag(bag: Path, save: Path | None = None) -> dict[str, int]:
    """Logs a whole bag; messages shown per topic. ValueError if it is no bag, shows nothing, or
    rerun-sdk is absent."""
    log = RerunLog(save)
    kinds = message_types(bag)
    log.infos |= {topic for topic, kind in kinds.items() if kind == INFO}
    for topic, message in read_all(bag, {t for t, kind in kinds.items() if kind == TF}):
        log.handle(topic, message)
    for topic, message in read_all(bag, {t for t, kind in kinds.items() if kind != TF}):
        log.handle(topic, message)
    log.close()
    if not log.counts:
        held = ", ".join(kinds) or "nothing"
        raise ValueError(f"{bag} holds no image, cloud or camera info, only {held}")
    return log.counts

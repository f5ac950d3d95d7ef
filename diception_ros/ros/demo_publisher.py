# SPDX-License-Identifier: Apache-2.0
"""A camera for the demo: publishes stored frames, first paced by the answers, then at a fixed rate.

Runs as a process of its own (`python -m diception_ros.ros.demo_publisher`) and reports one JSON
object a line on stdout, so that whoever started it knows the stamp of every frame.
"""

from __future__ import annotations

import argparse
import array
import itertools
import json
import sys
import time
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import rclpy
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.node import Node
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from diception_ros.msg import FrameReport, PointPrompts

FRAME_ID = "camera_optical_frame"
RELIABLE = QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)
FIRST_RETRY = 3.0
"""s after which an unanswered image is shown again."""

LAST_WORDS = 2.0
"""s for the answers to the last images, which are still on their way to the recorder."""

Report = Callable[..., None]


@dataclass(frozen=True)
class View:
    """What a camera and a range sensor would give: rgb (H, W, 3) uint8; intrinsics fx, fy, cx, cy
    in pixels; reference_m (H, W) float32 metres, NaN unknown; points (N, 2) pixels to ask about;
    sequence: one of a moving camera's frames.
    """

    rgb: npt.NDArray[np.uint8]
    intrinsics: npt.NDArray[np.float64] | None
    reference_m: npt.NDArray[np.float32] | None
    points: npt.NDArray[np.float64]
    sequence: bool


@dataclass(frozen=True)
class Topics:
    """Where the publisher speaks and listens."""

    image: str = "/camera/image"
    camera_info: str = "/camera/camera_info"
    reference: str = "/camera/reference_depth"
    point_prompts: str = "/camera/point_prompts"
    frame_report: str = "/diception/frame_report"


class Camera(Node):
    """Publishes a frame's messages under one stamp and remembers which stamps were answered."""

    def __init__(self, topics: Topics) -> None:
        super().__init__("demo_camera")
        self.topics = topics
        self.image = self.create_publisher(Image, topics.image, RELIABLE)
        self.info = self.create_publisher(CameraInfo, topics.camera_info, RELIABLE)
        self.reference = self.create_publisher(Image, topics.reference, RELIABLE)
        # Latched: a node that comes up after the first prompt still gets it.
        latched = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
        self.prompts = self.create_publisher(PointPrompts, topics.point_prompts, latched)
        self.answered: set[int] = set()
        # rclpy.spin_once would add and remove the node at every message.
        self.spinner = SingleThreadedExecutor()
        self.spinner.add_node(self)
        self.create_subscription(FrameReport, topics.frame_report, self._on_report, RELIABLE)

    def _on_report(self, report: Any) -> None:
        self.answered.add(stamp_ns(report.header))

    def show(self, frame: View) -> int:
        """Publishes what accompanies the image first, the image last; the stamp in nanoseconds."""
        stamp = self.get_clock().now()
        header = {"frame_id": FRAME_ID, "stamp": stamp.to_msg()}
        if len(frame.points):
            self.prompts.publish(_stamped(prompts_message(frame), header))
        if frame.reference_m is not None:
            message = image_message(frame.reference_m, "32FC1")
            self.reference.publish(_stamped(message, header))
        self.info.publish(_stamped(info_message(frame), header))
        self.image.publish(_stamped(image_message(frame.rgb, "rgb8"), header))
        return int(stamp.nanoseconds)

    def wait(self, done: Callable[[], bool], seconds: float) -> bool:
        """Spins until done() or the time is over."""
        end = time.monotonic() + seconds
        while not done() and (left := end - time.monotonic()) > 0:
            self.spinner.spin_once(timeout_sec=min(left, 0.1))
        return done()

    def answer(self, stamps: Collection[int], seconds: float) -> int | None:
        """The stamp of the image that is answered within the time, of several."""
        self.wait(lambda: not self.answered.isdisjoint(stamps), seconds)
        return next((stamp for stamp in stamps if stamp in self.answered), None)

    def listeners_are_there(self, recorded: bool) -> bool:
        """Whether the node takes images, and where it is recorded, the recorder hears it."""
        wanted = 2 if recorded else 1
        return (
            self.count_subscribers(self.topics.image) >= wanted
            and self.count_subscribers(self.topics.frame_report) >= wanted
        )


def play_paced(
    camera: Camera, frames: Sequence[View], deadline: float, patience: float, report: Report
) -> None:
    """Every frame once, the next one when the last was answered. TimeoutError for one that is not.

    The first is shown once more beforehand, with `patience` seconds for the node to load: what the
    node says while it starts does not count.
    """
    _show_until_answered(camera, frames[0], FIRST_RETRY, patience)
    slowest = 0.0
    for i, frame in enumerate(frames):
        retry = max(FIRST_RETRY, 5 * slowest)
        stamp, seconds = _show_until_answered(camera, frame, retry, deadline)
        slowest = max(slowest, seconds)
        report(event="frame", phase="paced", frame=i, stamp=stamp)


def _show_until_answered(
    camera: Camera, frame: View, retry: float, patience: float
) -> tuple[int, float]:
    """The stamp that was answered and how long that took. Shown again every `retry` seconds: the
    node listens with best effort, as one does to sensors, so an image may be lost on the way; a
    slow node's answer may be to an earlier one.
    """
    shown: dict[int, float] = {}
    end = time.monotonic() + patience
    while (left := end - time.monotonic()) > 0:
        began = time.monotonic()
        shown[camera.show(frame)] = began
        if (stamp := camera.answer(shown, min(retry, left))) is not None:
            return stamp, time.monotonic() - shown[stamp]
    raise TimeoutError(f"no {camera.topics.frame_report} for an image within {patience:g} s")


def play_at_rate(
    camera: Camera, frames: Sequence[View], rate: float, seconds: float, report: Report
) -> None:
    """The moving camera's frames in turn (all, if none moves) at `rate` Hz for some seconds (for
    ever if infinite), waiting for nothing.
    """
    moving = [i for i, frame in enumerate(frames) if frame.sequence] or range(len(frames))
    began = time.monotonic()
    for i, index in enumerate(itertools.cycle(moving)):
        if i / rate >= seconds:
            break
        camera.wait(lambda: False, began + i / rate - time.monotonic())
        stamp = camera.show(frames[index])
        report(event="frame", phase="rate", frame=index, stamp=stamp)
    camera.wait(lambda: False, LAST_WORDS)


def load_views(folder: Path) -> list[View]:
    """The *.npz files of a folder by name, as `diception demo` writes them: rgb, points, sequence,
    and where known intrinsics and reference_m. ValueError if there is none.
    """
    files = sorted(folder.glob("*.npz"))
    if not files:
        raise ValueError(f"{folder} holds no demo frames (*.npz): make them with 'diception demo'")
    views = []
    for file in files:
        with np.load(file, allow_pickle=False) as stored:
            views.append(
                View(
                    rgb=stored["rgb"],
                    intrinsics=stored.get("intrinsics"),
                    reference_m=stored.get("reference_m"),
                    points=stored["points"].reshape(-1, 2),
                    sequence=bool(stored["sequence"]),
                )
            )
    return views


def image_message(values: npt.NDArray[Any], encoding: str) -> Any:
    """sensor_msgs/Image of an array (H, W[, C]). array.array: assigning bytes would be checked one
    element at a time by the generated setter.
    """
    height, width = values.shape[:2]
    data = array.array("B")
    data.frombytes(np.ascontiguousarray(values).data.cast("B"))
    step = values.dtype.itemsize * (values.size // height)
    return Image(height=height, width=width, encoding=encoding, step=step, data=data)


def info_message(frame: View) -> Any:
    """sensor_msgs/CameraInfo; all zero where nobody knows the camera, which is how ROS says so."""
    height, width = frame.rgb.shape[:2]
    info = CameraInfo(height=height, width=width, distortion_model="plumb_bob")
    if frame.intrinsics is not None:
        fx, fy, cx, cy = frame.intrinsics.tolist()
        info.d = [0.0] * 5
        info.k = [fx, 0.0, cx, 0.0, fy, cy, 0.0, 0.0, 1.0]
        info.r = [1.0, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0, 0.0, 1.0]
        info.p = [fx, 0.0, cx, 0.0, 0.0, fy, cy, 0.0, 0.0, 0.0, 1.0, 0.0]
    return info


def prompts_message(frame: View) -> Any:
    return PointPrompts(x=frame.points[:, 0].tolist(), y=frame.points[:, 1].tolist())


def stamp_ns(header: Any) -> int:
    return int(header.stamp.sec) * 1_000_000_000 + int(header.stamp.nanosec)


def _stamped(message: Any, header: dict[str, Any]) -> Any:
    message.header.frame_id, message.header.stamp = header["frame_id"], header["stamp"]
    return message


def to_stdout(**event: Any) -> None:
    sys.stdout.write(json.dumps(event) + "\n")
    sys.stdout.flush()


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m diception_ros.ros.demo_publisher")
    parser.add_argument("--frames", type=Path, required=True, help="folder of demo frames")
    parser.add_argument("--paced", action="store_true", help="first every frame once, paced")
    parser.add_argument("--recorded", action="store_true", help="wait for a recorder as well")
    parser.add_argument("--deadline", type=float, default=30.0, help="s, for one answer")
    parser.add_argument("--patience", type=float, default=90.0, help="s, for the node to load")
    parser.add_argument("--rate", type=float, default=5.0, help="Hz, of the second phase")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="of the second phase")
    return parser.parse_args(arguments)


def publish(options: argparse.Namespace, report: Report) -> None:
    """What `parse` gave, until it is played or somebody interrupts. ValueError without frames,
    TimeoutError when paced frames are not answered."""
    frames = load_views(options.frames)
    rclpy.init()
    camera: Any = Camera(Topics())  # Any: rclpy has no types
    try:
        if options.paced:
            _play_paced_when_heard(camera, frames, options, report)
        play_at_rate(camera, frames, options.rate, options.seconds, report)
        report(event="done")
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        camera.destroy_node()
        rclpy.try_shutdown()


def _play_paced_when_heard(
    camera: Camera, frames: Sequence[View], options: argparse.Namespace, report: Report
) -> None:
    heard = camera.wait(lambda: camera.listeners_are_there(options.recorded), options.patience)
    if not heard:
        raise TimeoutError(f"nobody subscribed to {camera.topics.image}: is the node running?")
    report(event="ready")
    play_paced(camera, frames, options.deadline, options.patience, report)


def main(arguments: Sequence[str] | None = None) -> int:
    """0 when all went well; 1 and an "error" event otherwise."""
    try:
        publish(parse(arguments), to_stdout)
    except (TimeoutError, ValueError) as error:
        to_stdout(event="error", text=str(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())

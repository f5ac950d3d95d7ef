# SPDX-License-Identifier: Apache-2.0
"""What a run is asked to do, and what of the bags it takes for which purpose."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from diception_ros.evaluation.offline.sources import Bag, Topic
from diception_ros.evaluation.offline.timeline import Topics, Window
from diception_ros.ros.camera import sibling_topic
from diception_ros.ros.parameters import NodeParameters, from_values

IMAGES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/CompressedImage")
CAMERA_INFO = "sensor_msgs/msg/CameraInfo"
REFERENCES = ("sensor_msgs/msg/Image", "sensor_msgs/msg/PointCloud2")
PROMPTS = ("diception_ros/msg/PointPrompts", "geometry_msgs/msg/PointStamped")
NO_CAMERA = re.compile("[Dd]epth|disparity|mask|normals|confidence|image_color")
"""In names of image topics that no camera took, the node's own among them."""
TRANSFORMS = ("/tf", "/tf_static")
LIVE_ONLY = (
    "max_rate",
    "max_age",
    "target_rate",
    "deadline_ms",
    "temporal",
    "compute_always",
    "autostart",
    "batch_wait",
)
"""Parameters that say how to keep up with a camera (a bag waits), or that make an image's answer
start from the last one's (here each can be answered alone, and anew)."""
ASKED = (
    "camera",
    "camera_info",
    "reference",
    "prompts",
    "node",
    "keep_inputs",
    "every",
    "start",
    "stop",
)
"""Fields of a plan that make it another job, beside its settings."""
FORMS = {
    "reference": "reference:/TOPIC",
    "fixed": "fixed:SCALE[,SHIFT]",
    "ground_plane": "ground_plane:HEIGHT[,PITCH[,ROLL]]",
}


@dataclass(frozen=True)
class Slice:
    """Images with first <= number < last (None: to the end) of the bag with this index."""

    bag: int
    first: int = 0
    last: int | None = None


@dataclass(frozen=True)
class Plan:
    """bags: in order. out: the file. node: name below which topics are written. camera "": the only
    one of each bag. every/start/stop: see Window; start and stop in s from the bag's beginning, or
    since 1970 above a billion. batch 0: as many images a pass as fit the device.
    """

    bags: tuple[Path, ...]
    out: Path
    parameters: NodeParameters
    camera: str = ""
    camera_info: str = ""
    reference: str = ""
    prompts: str = ""
    node: str = "/diception"
    keep_inputs: bool = False
    every: int = 1
    start: float | None = None
    stop: float | None = None
    batch: int = 0
    settings: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.out.suffix != ".mcap":
            raise ValueError(f"--out must end in .mcap, got {self.out}")
        if not re.fullmatch(r"(/[A-Za-z_][A-Za-z0-9_]*)+", self.node):
            raise ValueError(f"--node must be a full name like /robot/diception, got '{self.node}'")
        if not 0 <= self.batch <= 256:
            raise ValueError(f"--batch must be within 0 and 256, got {self.batch}")
        for option, seconds in (("from", self.start), ("to", self.stop)):
            if seconds is not None and not math.isfinite(seconds):
                raise ValueError(f"--{option} must be a number of seconds, got {seconds}")
        same = [bag for bag in self.bags if bag.resolve() == self.out.resolve()]
        if same:
            raise ValueError(f"--out {self.out} is one of the bags to read: choose another name")
        if self.parameters.cameras:
            raise ValueError("parameter cameras: give one --camera a run instead")
        Window(self.every)

    @property
    def stateful(self) -> bool:
        """Whether an image's answer depends on those before it: a fit of the scale goes on from the
        last one (smoothing, hold, period)."""
        return self.parameters.scale.source not in ("none", "fixed")

    def window(self, bag: Bag) -> Window:
        """Of this bag, in ns."""
        begin = bag.span[0]

        def absolute(seconds: float | None) -> int | None:
            if seconds is None:
                return None
            ns = round(seconds * 1e9)
            return ns if seconds > 1e9 else begin + ns

        return Window(self.every, absolute(self.start), absolute(self.stop))

    def images(self, bag: Bag) -> int:
        """About how many images of this bag its window holds. ValueError as `topics`."""
        begin, end = bag.span
        window = self.window(bag)
        start = max(begin, begin if window.start is None else window.start)
        stop = min(end, end if window.stop is None else window.stop)
        share = (stop - start) / (end - begin) if end > begin else 1.0
        return round(bag.topics[self.topics(bag).camera].messages * max(0.0, share))

    def topics(self, bag: Bag) -> Topics:
        """ValueError when the bag has not what is asked, naming what it has."""
        found = bag.topics
        camera = self.camera or only_camera(found, bag.path, self.reference)
        check(found, camera, IMAGES, "--camera", bag.path)
        info = self.camera_info or info_of(camera)
        if self.camera_info:
            check(found, info, (CAMERA_INFO,), "--camera-info", bag.path)
        for topic, types, option in (
            (self.reference, REFERENCES, "--scale reference"),
            (self.prompts, PROMPTS, "--prompts"),
        ):
            if topic:
                check(found, topic, types, option, bag.path)
        read = {camera, info, self.reference, self.prompts, *TRANSFORMS} & set(found)
        inputs = frozenset(read) if self.keep_inputs else frozenset()
        return Topics(camera, info, self.reference, self.prompts, inputs)


def info_of(camera: str) -> str:
    """The camera info beside an image topic; /compressed and the like are not part of its name."""
    base = re.sub(r"/(compressed|compressedDepth|theora|zstd)$", "", camera)
    return sibling_topic(base)


def cameras(topics: Mapping[str, Topic]) -> list[str]:
    """Image topics that a camera may have taken, by their names."""
    return [
        one.name
        for one in topics.values()
        if one.msgtype in IMAGES and one.messages and not NO_CAMERA.search(one.name)
    ]


def only_camera(topics: Mapping[str, Topic], path: Path, reference: str = "") -> str:
    """ValueError unless there is exactly one."""
    found = [name for name in cameras(topics) if name != reference]
    raw = [name for name in found if topics[name].msgtype == IMAGES[0]]
    chosen = raw if len(raw) == 1 else found
    if len(chosen) != 1:
        known = f"it has {', '.join(chosen)}" if chosen else "it has no colour image topic"
        raise ValueError(f"{path}: say which --camera; {known}")
    return chosen[0]


def check(
    topics: Mapping[str, Topic], name: str, types: Sequence[str], option: str, path: Path
) -> None:
    """ValueError unless the topic is there with one of these types."""
    if name not in topics:
        fitting = [one.name for one in topics.values() if one.msgtype in types]
        raise ValueError(
            f"{path}: {option} {name} is not in the bag; of that kind it has "
            f"{', '.join(fitting) or 'none'}"
        )
    if topics[name].msgtype not in types:
        raise ValueError(
            f"{path}: {option} {name} is of type {topics[name].msgtype}, expected "
            f"{' or '.join(types)}"
        )


def scale_values(text: str) -> tuple[dict[str, Any], str]:
    """--scale -> parameters of the node, and the reference topic. ValueError with the forms."""
    kind, _, rest = text.partition(":")
    try:
        if kind == "none" and not rest:
            return {"scale.source": "none"}, ""
        if kind == "reference" and rest.startswith("/"):
            return {"scale.source": "reference"}, rest
        numbers = [float(part) for part in rest.split(",")]
        names = {
            "fixed": ("scale.fixed.scale", "scale.fixed.shift"),
            "ground_plane": tuple(f"scale.ground_plane.{n}" for n in ("height", "pitch", "roll")),
        }[kind]
        if len(numbers) > len(names):
            raise ValueError("too many numbers")
    except (KeyError, ValueError) as error:
        forms = ", ".join(["none", *FORMS.values()])
        raise ValueError(f"--scale '{text}': expected one of {forms}") from error
    return {"scale.source": kind, **dict(zip(names, numbers, strict=False))}, ""


def parameter_values(file: Path) -> dict[str, Any]:
    """The parameters of a node's YAML file by ROS name, those of every node section together; what
    concerns only a live camera is left out. ValueError for a file of another form."""
    try:
        tree = yaml.safe_load(file.read_text())
        sections = [node["ros__parameters"] for node in tree.values()]
    except (yaml.YAMLError, UnicodeDecodeError, AttributeError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: expected ROS parameters (NODE: ros__parameters:)") from error
    values = {key: value for section in sections for key, value in _flat(section, "")}
    return {key: value for key, value in values.items() if key.split(".")[-1] not in LIVE_ONLY}


def _flat(tree: Mapping[str, Any], prefix: str) -> list[tuple[str, Any]]:
    found: list[tuple[str, Any]] = []
    for key, value in tree.items():
        name = f"{prefix}{key}"
        found += _flat(value, f"{name}.") if isinstance(value, dict) else [(name, value)]
    return found


def parameters_from(values: Mapping[str, Any]) -> NodeParameters:
    """All outputs, and none that waits for a live camera."""
    return from_values({**values, "compute_always": True})

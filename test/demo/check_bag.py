# SPDX-License-Identifier: Apache-2.0
"""Checks a demo's bag: every promised topic is there and its content is sane.

    ./run python test/demo/check_bag.py demo/bag

Reads the bag by its own message definitions, without ROS. Exits 1 and names what is wrong.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from diception_ros.evaluation.bags import read_messages
from diception_ros.evaluation.demo import PROMISED

NODE = "/diception"
IMAGE = "/camera/image"
ENCODINGS = {
    "depth/image": "32FC1",
    "depth/confidence": "mono8",
    "depth/image_color": "rgb8",
    "disparity_relative/image": "32FC1",
    "normals/image": "32FC3",
    "normals/image_color": "rgb8",
    "entity/mask": "mono16",
    "entity/image_color": "rgb8",
    "semantic/mask": "mono8",
    "semantic/confidence": "mono8",
    "semantic/image_color": "rgb8",
    "point/mask": "mono8",
    "pose/image_color": "rgb8",
}
TYPES = {"32FC1": ("<f4", 1), "32FC3": ("<f4", 3), "mono8": ("u1", 1), "mono16": ("<u2", 1)}
MAY_BE_BLANK = {"semantic/mask", "semantic/confidence", "point/mask", "entity/mask"}
"""Single frames may hold nothing of these."""
MAY_STAY_BLANK = {"semantic/mask", "semantic/confidence", "point/mask"}
"""Weights that find nothing anywhere answer black: said aloud, but no fault of the node."""
UNIFORM = {"depth/confidence", "depth/image"}
"""One residual for the whole frame gives one confidence; unknown depth is NaN everywhere."""


def pixels(message) -> np.ndarray:
    """(H, W) or (H, W, C), as the message says."""
    kind, channels = TYPES.get(message.encoding, ("u1", 3))
    data = np.frombuffer(message.data.tobytes(), kind)
    shape = (message.height, message.width, channels)
    return data.reshape(shape)[..., 0] if channels == 1 else data.reshape(shape)


def check_image(topic: str, message, source) -> list[str]:
    """What is wrong with one image message."""
    wrong = []
    if message.encoding != ENCODINGS[topic]:
        wrong.append(f"encoding {message.encoding}, expected {ENCODINGS[topic]}")
        return wrong
    if (message.width, message.height) != (source.width, source.height):
        wrong.append(f"{message.width}x{message.height}, the input {source.width}x{source.height}")
    values = pixels(message)
    if topic == "depth/image":
        known = values[np.isfinite(values)]
        if known.size and not (known > 0).all():
            wrong.append("depth that is not positive")
    elif topic == "disparity_relative/image" and not (0 <= values.min() <= values.max() <= 1):
        wrong.append("disparity outside 0..1")
    elif topic == "normals/image":
        length = np.linalg.norm(values, axis=-1)
        if not np.allclose(length, 1, atol=1e-3):
            wrong.append("normals that are not of unit length")
    if topic not in MAY_BE_BLANK | UNIFORM and np.ptp(values) == 0:
        wrong.append("the same value everywhere")
    return wrong


def check_cloud(message, source) -> list[str]:
    wrong = []
    if message.height < 2:
        wrong.append("not organised")
    if not {"x", "y", "z", "rgb"} <= {field.name for field in message.fields}:
        wrong.append("no x y z rgb")
    if len(message.data) != message.height * message.row_step:
        wrong.append("data of the wrong length")
    return wrong


def check(bag: Path) -> list[str]:
    """Every fault of the bag, one a line."""
    sources, faults = {}, []
    found = defaultdict(list)
    for item in read_messages(bag):
        if item.topic == IMAGE:
            sources[item.stamp] = item.message
        elif item.topic.startswith(NODE + "/"):
            found[item.topic.removeprefix(NODE + "/")].append(item)
        elif item.topic == "/diagnostics":
            found["/diagnostics"].append(item)
    for topic in (*PROMISED, "/diagnostics"):
        if not found[topic]:
            faults.append(f"{topic}: no message")
    for topic in PROMISED:
        content = 0.0
        for item in found[topic]:
            source = sources.get(item.stamp)
            if source is None:
                faults.append(f"{topic}: a stamp that no input image has")
                continue
            if item.message.header.frame_id != source.header.frame_id:
                faults.append(f"{topic}: frame {item.message.header.frame_id}")
            if topic in ENCODINGS:
                faults += [f"{topic}: {w}" for w in check_image(topic, item.message, source)]
                values = np.nan_to_num(pixels(item.message))
                content = max(content, float(values.max()))
            elif topic == "points":
                faults += [f"{topic}: {w}" for w in check_cloud(item.message, source)]
        blank = topic in ENCODINGS and found[topic] and content == 0
        if blank and topic not in MAY_STAY_BLANK:
            faults.append(f"{topic}: nothing in any of {len(found[topic])} messages")
        remark = "NOTHING FOUND IN ANY: these weights do not answer this task" if blank else ""
        print(f"{topic:28} {len(found[topic]):4} messages {remark}".rstrip())
    instances = sum(len(item.message.instances) for item in found["instances"])
    if not instances:
        faults.append("instances: no instance in any message")
    return sorted(set(faults))


def main() -> int:
    bag = Path(sys.argv[1] if len(sys.argv) > 1 else "demo/bag")
    faults = check(bag)
    for fault in faults:
        print(fault, file=sys.stderr)
    print(f"{bag}: {len(faults)} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())

# SPDX-License-Identifier: Apache-2.0
"""The message types of a bag that explains itself: ROS 2's, this package's own, LabelInfo."""

from __future__ import annotations

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

VISION = {
    "vision_msgs/msg/VisionClass": "uint16 class_id\nstring class_name\n",
    "vision_msgs/msg/LabelInfo": (
        "std_msgs/Header header\nvision_msgs/VisionClass[] class_map\nfloat32 threshold\n"
    ),
}
"""vision_msgs 4, which rosbags does not bring along."""


@cache
def typestore() -> Typestore:
    """The ROS 2 types with those of this package. One for the process: it is only ever read.
    ValueError when this package's .msg files are not installed."""
    store = get_typestore(Stores.ROS2_JAZZY)
    texts = {f"diception_ros/msg/{file.stem}": file.read_text() for file in message_files()}
    types = {}
    for name, text in {**VISION, **texts}.items():
        types.update(get_types_from_msg(text, name))
    store.register(types)
    return store


@cache
def definition(msgtype: str) -> tuple[str, str]:
    """The full text of a type with all it is made of, and its RIHS01 hash."""
    store = typestore()
    return store.generate_msgdef(msgtype, ros_version=2)[0], store.hash_rihs01(msgtype)


def message_files() -> list[Path]:
    """This package's .msg files: beside it in a checkout or a pip install, else below share/."""
    for folder in _folders():
        files = sorted(folder.glob("*.msg"))
        if files:
            return files
    raise ValueError(
        "the .msg files of diception_ros are not installed: expected them in "
        f"{', '.join(str(folder) for folder in _folders())}; install the package again"
    )


def _folders() -> Iterator[Path]:
    package = Path(__file__).parents[2]
    yield package / "definitions"
    yield package.parent / "msg"
    for prefix in filter(None, os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)):
        yield Path(prefix) / "share" / "diception_ros" / "msg"

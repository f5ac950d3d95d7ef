# SPDX-License-Identifier: Apache-2.0
"""config/diception.rviz and config/foxglove.json against the topics that a node really has."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

CONFIG = Path(__file__).parents[2] / "config"
IMAGE, CLOUD = "sensor_msgs/msg/Image", "sensor_msgs/msg/PointCloud2"
RVIZ = {"rviz_default_plugins/Image": IMAGE, "rviz_default_plugins/PointCloud2": CLOUD}


def rviz_displays() -> list[dict[str, Any]]:
    text = yaml.safe_load((CONFIG / "diception.rviz").read_text())
    return list(text["Visualization Manager"]["Displays"])


def foxglove() -> dict[str, Any]:
    return dict(json.loads((CONFIG / "foxglove.json").read_text()))


def foxglove_topics() -> Iterator[tuple[str, str]]:
    """(topic, type) of everything that the layout shows."""
    for name, panel in foxglove()["configById"].items():
        kind = name.partition("!")[0]
        if kind == "Image":
            yield panel["imageMode"]["imageTopic"], IMAGE
            if "calibrationTopic" in panel["imageMode"]:
                yield panel["imageMode"]["calibrationTopic"], "sensor_msgs/msg/CameraInfo"
        elif kind == "3D":
            for topic, settings in panel["topics"].items():
                assert settings["visible"]
                yield topic, CLOUD if topic.endswith("points") else "sensor_msgs/msg/CameraInfo"
        elif kind == "Plot":
            for path in panel["paths"]:
                assert path["enabled"]
                yield path["value"].partition(".")[0], "diception_ros/msg/FrameReport"
        elif kind == "DiagnosticSummary":
            yield panel["topicToRender"], "diagnostic_msgs/msg/DiagnosticArray"


SHOWN = {
    "rviz": [(d["Topic"]["Value"], RVIZ[d["Class"]]) for d in rviz_displays()],
    "foxglove": list(foxglove_topics()),
}


def offered(peer: Any, topic: str) -> list[str]:
    """Types of a topic of the test's node, which lives in /robot with its camera beside it."""
    name = topic if topic == "/diagnostics" else f"/robot{topic}"
    of_publishers = peer.node.get_publishers_info_by_topic(name)
    of_inputs = peer.node.get_subscriptions_info_by_topic(name) if "/camera/" in topic else []
    return [found.topic_type for found in (*of_publishers, *of_inputs)]


@pytest.mark.parametrize("viewer", SHOWN)
def test_what_is_shown_exists_with_that_type(peer, viewer):
    for topic, kind in SHOWN[viewer]:
        found = peer.wait(lambda topic=topic: offered(peer, topic))
        assert set(found) == {kind}, topic


@pytest.mark.parametrize("viewer", SHOWN)
def test_every_colour_twin_is_shown(peer, viewer):
    prefix = "/robot/diception/"
    twins = {
        name.removeprefix("/robot")
        for name, _ in peer.node.get_topic_names_and_types()
        if name.startswith(prefix) and name.endswith("/image_color")
    }
    assert len(twins) >= 5
    assert twins <= {topic for topic, _ in SHOWN[viewer]}


def test_rviz_listens_as_the_node_speaks():
    for display in rviz_displays():
        inputs = display["Topic"]["Value"].startswith("/camera/")
        assert display["Topic"]["Reliability Policy"] == ("Best Effort" if inputs else "Reliable")
        assert display["Topic"]["Durability Policy"] == "Volatile"


def test_the_cloud_is_coloured_by_rgb_and_by_label(peer, image_of, picture, info):
    from sensor_msgs.msg import PointCloud2

    clouds = [d for d in rviz_displays() if d["Class"].endswith("PointCloud2")]
    channels = {d.get("Channel Name", "rgb") for d in clouds}
    panels = foxglove()["configById"].items()
    fields = {
        panel["topics"]["/diception/points"]["colorField"]
        for name, panel in panels
        if name.startswith("3D!")
    }
    assert channels == fields == {"rgb", "label"}
    assert peer.set(cloud__label=True) == ""
    try:
        cloud = peer.ask(
            image_of(picture),
            {"~/points": PointCloud2},
            info,
            until=lambda answers: "label" in {f.name for f in answers["~/points"].fields},
        )["~/points"]
    finally:
        assert peer.set(cloud__label=False) == ""
    assert channels <= {field.name for field in cloud.fields}
    frames = yaml.safe_load((CONFIG / "diception.rviz").read_text())["Visualization Manager"]
    assert frames["Global Options"]["Fixed Frame"] == cloud.header.frame_id
    for name, panel in panels:
        assert not name.startswith("3D!") or panel["followTf"] == cloud.header.frame_id


def leaves(node: Any) -> Iterator[str]:
    if isinstance(node, str):
        yield node
    else:
        assert node["direction"] in ("row", "column")
        for side in ("first", "second"):
            yield from leaves(node[side])


def test_every_panel_of_the_foxglove_layout_is_placed_once():
    layout = foxglove()
    placed = list(leaves(layout["layout"]))
    for name in list(placed):
        for tab in layout["configById"][name].get("tabs", []):
            placed += leaves(tab["layout"])
    assert sorted(placed) == sorted(layout["configById"])

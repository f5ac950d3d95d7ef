# SPDX-License-Identifier: Apache-2.0
"""The recorder's launch file records what later evaluation needs."""

from __future__ import annotations

import ast
from pathlib import Path

import yaml

from diception_ros.ros.outputs import OUTPUTS

ROOT = Path(__file__).parents[3]
LAUNCH = ROOT / "launch" / "record.launch.py"
VALUES = {
    "image": "/cam/image/compressed",
    "reference": "/lidar",
    "node": "/robot/diception",
    "extra": "/tf /tf_static",
    "out": "",
    "qos_overrides": "qos.yaml",
    "preset": "zstd_fast",
    "split_mb": "100",
}


def parts():
    """EXACT and command of the launch file, which itself needs launch_ros to be imported."""
    tree = ast.parse(LAUNCH.read_text())
    names = ("EXACT", "command")
    kept = [
        node
        for node in tree.body
        if getattr(node, "name", None) in names
        or (isinstance(node, ast.Assign) and node.targets[0].id in names)
    ]
    found = {}
    exec(compile(ast.Module(kept, []), LAUNCH.name, "exec"), found)
    return found


def test_the_command_names_camera_info_reference_and_outputs():
    command = parts()["command"](VALUES)
    text = " ".join(command)
    assert "--storage mcap --storage-preset-profile zstd_fast" in text
    assert "--max-bag-size 100000000" in text
    topics = command[command.index("--topics") + 1 :]
    assert topics[:3] == ["/cam/image/compressed", "/cam/camera_info", "/lidar"]
    assert "/robot/diception/depth/image" in topics
    assert topics[-2:] == ["/tf", "/tf_static"]
    bare = parts()["command"]({**VALUES, "node": "", "reference": "", "out": "/data/bag"})
    assert not [word for word in bare if "diception" in word]
    assert bare[bare.index("--output") + 1] == "/data/bag"


def test_only_topics_that_exist_and_no_pictures():
    exact, known = set(parts()["EXACT"]), {output.topic for output in OUTPUTS}
    known |= {"frame_report", "semantic/label_info"}
    assert exact <= known
    assert {name for name in known - exact if "image_color" not in name} == {"points"}


def test_qos_overrides_are_what_rosbag2_reads():
    profiles = yaml.safe_load((ROOT / "config" / "record_qos.yaml").read_text())
    for topic, profile in profiles.items():
        assert topic.startswith("/")
        assert profile["history"] == "keep_last"
        assert profile["reliability"] in ("reliable", "best_effort")
        assert profile["durability"] in ("volatile", "transient_local")
        assert profile["depth"] >= 1
    # To any camera the recorder adapts; best effort would lose whole images of a reliable one.
    assert {profile["durability"] for profile in profiles.values()} == {"transient_local"}

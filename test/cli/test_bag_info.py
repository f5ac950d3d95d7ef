# SPDX-License-Identifier: Apache-2.0
"""`diception bag info`."""

from __future__ import annotations

import re

import numpy as np
import pytest
from recorded import DEPTH, Line, Types, camera_lines, picture, stamp_of, write

from diception_ros.cli import run
from diception_ros.cli.bag_info import duration
from diception_ros.evaluation.offline.info import look
from diception_ros.evaluation.offline.plan import cameras
from diception_ros.evaluation.offline.sources import Topic

IMAGE = "sensor_msgs/msg/Image"


def bag_of(tmp_path):
    types = Types()
    lines = camera_lines(types, 5)
    for number in range(5):
        at = stamp_of(number)
        depth = types.image(at, np.ones((24, 32), np.float32), "32FC1")
        lines.append(Line(DEPTH, IMAGE, at, depth))
        lines.append(Line("/tof", IMAGE, at, types.image(at, np.ones((4, 4), "u2"), "16UC1")))
        shown = types.image(at, picture(number))
        lines.append(Line("/robot/diception/normals/image_color", IMAGE, at, shown))
        lines.append(Line("/rear/image", IMAGE, at, types.image(at, picture(number))))
    return write(tmp_path / "bag", lines)


def test_what_can_serve_as_what(tmp_path):
    found = look(bag_of(tmp_path))
    uses = {one.name: one.use for one in found.topics}
    assert uses == {
        "/cam/camera_info": "",
        "/cam/image": "camera",
        DEPTH: "reference",
        "/rear/image": "camera, without /rear/camera_info: no metres",
        "/robot/diception/normals/image_color": "",
        "/tof": "reference",
    }
    camera = next(one for one in found.topics if one.name == "/cam/image")
    assert (camera.messages, round(camera.hz, 1)) == (5, 9.9)
    assert 2304 * 590 < camera.bytes_per_minute < 2500 * 600


def test_a_nodes_answers_and_what_holds_no_metres_are_no_reference(bundle, tmp_path):
    out = tmp_path / "out.mcap"
    asked = ["--task", "depth", "--task", "entity", "--scale", "fixed:1,0.1"]
    options = ["--camera", "/cam/image", f"--bundle={bundle}", "--device=cpu", "--keep-inputs"]
    assert run(["bag", str(bag_of(tmp_path)), "--out", str(out), *asked, *options]) == 0
    found = {one.name: one for one in look(out).topics}
    assert {name for name, one in found.items() if one.use} == {"/cam/image"}
    assert found["/diception/points"].messages == 5  # clouds in metres, but of its own making


def test_a_disparity_image_is_no_reference(tmp_path):
    types = Types()
    lines = [
        Line(topic, IMAGE, stamp_of(0), types.image(stamp_of(0), np.ones((4, 4), kind), encoding))
        for topic, kind, encoding in (
            ("/stereo/disparity", np.float32, "32FC1"),
            ("/people/mask", np.uint16, "mono16"),
            ("/stereo/depth", np.uint16, "mono16"),
        )
    ]
    uses = {one.name: one.use for one in look(write(tmp_path / "bag", lines)).topics}
    assert uses == {"/stereo/disparity": "", "/people/mask": "", "/stereo/depth": "reference"}


def test_the_table_and_the_cost(bundle, tmp_path, capsys):
    bag = bag_of(tmp_path)
    assert run(["bag", "info", str(bag)]) == 0
    text = capsys.readouterr().out
    assert "/cam/image" in text
    assert "With --task the cost of a run is told" in text
    more = ["--task", "depth", "--camera", "/cam/image", f"--bundle={bundle}", "--device=cpu"]
    assert run(["bag", "info", str(bag), *more]) == 0
    text = " ".join(capsys.readouterr().out.split())
    assert "depth on 5 images take about 00:00:0" in text
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag"]


def told(capsys, path, bundle, *options):
    """Images, and bytes of disk, that the cost is told for."""
    command = ["bag", "info", str(path), "--camera=/cam/image", f"--bundle={bundle}"]
    assert run([*command, "--device=cpu", "--task=depth", *options]) == 0
    text = " ".join(capsys.readouterr().out.split())
    images, size, unit = re.search(r"depth on (\d+) images .* and ([\d.]+) (k?B) of", text).groups()
    return int(images), float(size) * {"B": 1, "kB": 1000}[unit]


def test_the_cost_is_that_of_the_run_with_these_options(bundle, tmp_path, capsys):
    bag = bag_of(tmp_path)
    images, size = told(capsys, bag, bundle)
    assert images == 5
    assert told(capsys, bag, bundle, "--every=2")[0] == 3
    assert told(capsys, bag, bundle, "--to=0.2")[0] == 2
    assert told(capsys, bag, bundle, "--scale=reference:/depth/image")[1] > 1.5 * size
    assert told(capsys, bag, bundle, "--keep-inputs")[1] > size + 5 * 100


def test_one_image_has_a_cost_too(bundle, tmp_path, capsys):
    bag = write(tmp_path / "bag", camera_lines(Types(), 1))
    assert told(capsys, bag, bundle)[0] == 1


@pytest.mark.parametrize(
    ("seconds", "text"), [(0.4, "00:00:00"), (3725, "01:02:05"), (100_000, "27:46:40")]
)
def test_days_are_hours(seconds, text):
    assert duration(seconds) == text


def test_compressed_depth_is_no_camera():
    asked = ["/a/image_raw", "/a/image_raw/compressedDepth"]
    topics = {name: Topic(name, IMAGE, 1) for name in asked}
    assert cameras(topics) == ["/a/image_raw"]


def test_mistakes(tmp_path, capsys):
    assert run(["bag", "info"]) == 2
    assert "name at least one bag" in capsys.readouterr().err
    assert run(["bag", "info", str(tmp_path / "absent")]) == 2
    assert "absent: no such bag" in capsys.readouterr().err
    assert run(["bag", str(tmp_path)]) == 2
    assert "--out is missing" in capsys.readouterr().err

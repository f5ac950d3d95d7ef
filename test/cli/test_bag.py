# SPDX-License-Identifier: Apache-2.0
"""`diception bag` as people and machines call it."""

from __future__ import annotations

import io
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from recorded import CAMERA, Line, Types, camera_lines, messages, picture, read, stamp_of, write
from rich.console import Console

from diception_ros.cli import run
from diception_ros.cli.bag import _Screen
from diception_ros.cli.cluster import with_address

DISPARITY = "/diception/disparity_relative/image"
WITHOUT_ROS = """
import sys
names = "rclpy std_msgs sensor_msgs geometry_msgs diagnostic_msgs diception_ros.msg vision_msgs"
sys.modules.update(dict.fromkeys(names.split()))
from diception_ros.cli import run
sys.exit(run(sys.argv[1:]))
"""


def test_every_task_at_once(bundle, tmp_path, capsys):
    bag = write(tmp_path / "bag", camera_lines(Types(), 2))
    tasks = [
        f"--task={name}" for name in ("depth", "normal", "entity", "semantic", "point", "pose")
    ]
    more = ["--points=10,10", "--scale=fixed:0.5,0.1", "--category=chair", "--device=cpu"]
    out = str(tmp_path / "out.mcap")
    assert run(["bag", str(bag), "--out", out, f"--bundle={bundle}", *tasks, *more]) == 0
    assert "2 of 2 images answered in 00:00:0" in capsys.readouterr().out
    found = messages(tmp_path / "out.mcap")
    assert len(found["/diception/points"]) == 2
    assert len(found["/diception/instances"]) == 4
    (labels,) = found["/diception/semantic/label_info"]
    assert [item.class_name for item in labels.class_map] == ["background", "chair"]
    assert set(np.unique(found["/diception/point/mask"][0].data)) <= {0, 255}


def test_brackets_of_paths_are_no_markup(bundle, tmp_path, capsys):
    shutil.copytree(bundle, path := tmp_path / "small[red]")
    bag = write(tmp_path / "drive", camera_lines(Types(), 1))
    out = ["--out", str(tmp_path / "out.mcap"), "--bundle", str(path), "--device", "cpu"]
    assert run(["bag", str(bag), *out, "--task", "depth"]) == 0
    assert "small[red]" in capsys.readouterr().err
    console = Console(file=io.StringIO(), force_terminal=True, width=100)
    with _Screen(console) as screen:
        screen.progress(Path("drive[red].mcap"), 1, 2)
    assert "drive[red].mcap" in console.file.getvalue()


@pytest.mark.parametrize("option", ["--from", "--to"])
@pytest.mark.parametrize("value", ["nan", "inf"])
def test_a_time_that_is_none_is_one_line(bundle, tmp_path, capsys, option, value):
    bag = write(tmp_path / "bag", camera_lines(Types(), 1))
    out = ["--out", str(tmp_path / "out.mcap"), "--bundle", str(bundle), "--task", "depth"]
    assert run(["bag", str(bag), *out, option, value]) == 2
    said = f"diception: {option} must be a number of seconds, got {value}\n"
    assert capsys.readouterr().err == said


@pytest.mark.parametrize(("cores", "threads"), [(1, 1), (2, 2), (8, 7)])
def test_of_many_cores_one_is_left_to_the_rest(cores, threads, bundle, tmp_path, monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(cores)))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    before, bag = torch.get_num_threads(), write(tmp_path / "bag", camera_lines(Types(), 1))
    try:
        out = ["--out", str(tmp_path / "out.mcap"), "--bundle", str(bundle), "--task", "depth"]
        assert run(["bag", str(bag), *out]) == 0
        assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)


def test_what_is_left_out_is_named_and_in_the_exit_status(bundle, tmp_path, capsys):
    types = Types()
    cut = types.image(stamp_of(2), picture(2), data=np.zeros(9, np.uint8))
    line = Line(CAMERA, "sensor_msgs/msg/Image", stamp_of(2), cut)
    bag = write(tmp_path / "bag", [*camera_lines(types, 2), line])
    out = ["--out", str(tmp_path / "out.mcap"), "--bundle", str(bundle), "--device", "cpu"]
    assert run(["bag", str(bag), *out, "--task", "depth"]) == 3
    text = capsys.readouterr()
    assert "/cam/image at 2023-11-14 22:13:20.200000000: truncated image" in text.err
    assert "2 of 3 images answered" in text.out
    assert (
        "1 x /cam/image: truncated image: NxN 'rgb8' with step N needs N bytes, got N" in text.out
    )


def test_inputs_of_two_types_are_not_copied_into_one_topic(bundle, tmp_path, capsys):
    types, kind = Types(), "sensor_msgs/msg/CompressedImage"
    one = write(tmp_path / "one", camera_lines(types, 1))
    packed = Line(CAMERA, kind, stamp_of(1), types.compressed(stamp_of(1), picture(1)))
    bags = [str(one), str(write(tmp_path / "two", [packed]))]
    command = ["bag", *bags, "--out", str(tmp_path / "out.mcap"), f"--bundle={bundle}"]
    assert run([*command, "--task=depth", "--device=cpu", "--keep-inputs"]) == 2
    assert (
        f"two: {CAMERA} is of type {kind}, in a bag before of sensor_msgs/msg/Image: with "
        "--keep-inputs give each an --out of its own"
    ) in capsys.readouterr().err
    assert run([*command, "--task=depth", "--device=cpu"]) == 0


def test_another_job_is_not_taken_for_done(bundle, tmp_path, capsys):
    bag = write(tmp_path / "bag", camera_lines(Types(), 3))
    out = ["--out", str(tmp_path / "out.mcap"), "--bundle", str(bundle), "--device", "cpu"]
    command = ["bag", str(bag), *out, "--resume", "--task"]
    assert run([*command, "depth"]) == 0
    before = (tmp_path / "out.mcap").read_bytes()
    assert run([*command, "depth"]) == 0
    capsys.readouterr()
    for more in (["normal"], ["depth", "--every", "2"], ["depth", "--from", "0.1"]):
        assert run([*command, *more]) == 2
        assert "out.mcap was written with other settings" in capsys.readouterr().err
    assert (tmp_path / "out.mcap").read_bytes() == before


def test_a_parameter_file_of_the_node(bundle, tmp_path):
    file = tmp_path / "node.yaml"
    file.write_text(
        "/**:\n  ros__parameters:\n    tasks: [normal]\n    max_rate: 1.0\n"
        "    output: {width: 16, height: 12}\n    device: cpu\n"
    )
    bag = write(tmp_path / "bag", camera_lines(Types(), 3))
    out = ["--out", str(tmp_path / "out.mcap"), "--bundle", str(bundle), "--params", str(file)]
    assert run(["bag", str(bag), *out]) == 0
    normals = messages(tmp_path / "out.mcap")["/diception/normals/image"]
    assert [(m.width, m.height) for m in normals] == [(16, 12)] * 3


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--scale", "lidar"], "--scale 'lidar': expected one of none, reference:/TOPIC, fixed:"),
        (["--scale", "fixed:1,2,3"], "--scale 'fixed:1,2,3': expected one of"),
        (["--task", "depht"], "'depht' is unknown, expected some of depth, normal"),
        (["--task", "point"], "task 'point' needs --points"),
        (["--workers", "2"], "--workers, --worker-gpus and --worker-cpus are for --ray"),
        (["--ray", "--worker-gpus", "1.5"], "a share below 1 or a whole number, got 1.5"),
        (["--params", "bundle.yaml"], "expected ROS parameters (NODE: ros__parameters:)"),
    ],
)
def test_mistakes_are_one_line(bundle, tmp_path, capsys, arguments, words):
    bag = write(tmp_path / "bag", camera_lines(Types(), 1))
    arguments = [str(bundle / part) if part == "bundle.yaml" else part for part in arguments]
    out = ["--out", str(tmp_path / "out.mcap"), "--bundle", str(bundle), "--device", "cpu"]
    assert run(["bag", str(bag), *out, *arguments]) == 2
    error = [line for line in capsys.readouterr().err.splitlines() if "diception: " in line]
    assert len(error) == 1
    assert words in error[0]


def test_what_is_missing_is_said_before_a_model_is_loaded(bundle, tmp_path, capsys):
    bag = write(tmp_path / "bag", camera_lines(Types(), 1))
    out = ["--bundle", str(bundle), "--device", "cpu", "--out"]
    (tmp_path / "there.mcap").touch()
    for arguments, words in (
        ([str(tmp_path / "nowhere"), *out, str(tmp_path / "a.mcap")], "no such bag"),
        ([str(bag), "--camera", "/no", *out, str(tmp_path / "a.mcap")], "--camera /no is not in"),
        ([str(bag), *out, str(tmp_path / "there.mcap")], "there.mcap"),
    ):
        assert run(["bag", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert "loading" not in error


def test_a_cluster_that_cannot_be_reached_is_one_line(bundle, tmp_path):
    pytest.importorskip("ray", reason="Ray is not installed")
    bag = write(tmp_path / "bag", camera_lines(Types(), 1))
    out = ["--out", str(tmp_path / "out.mcap"), "--bundle", str(bundle), "--task", "depth"]
    command = [sys.executable, "-m", "diception_ros.cli", "bag", str(bag), *out]
    command += ["--ray", "127.0.0.1:9"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line]
    assert "--ray 127.0.0.1:9: nothing answers there" in line
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag"]


def test_nothing_to_answer_is_said_and_leaves_nothing(bundle, tmp_path, capsys):
    write(tmp_path / "bag", camera_lines(Types(), 2))
    (tmp_path / "folder").mkdir()
    for given, said in (
        (["bag", "--from=1000"], "no bag has anything between --from and --to"),
        (["folder"], "folder cannot be read as a bag: expected metadata.yaml, .mcap or .db3"),
    ):
        out = ["--out", str(tmp_path / "out.mcap"), "--bundle", str(bundle), "--task", "depth"]
        assert run(["bag", str(tmp_path / given[0]), *given[1:], *out]) == 2
        assert said in capsys.readouterr().err
        assert sorted(path.name for path in tmp_path.iterdir()) == ["bag", "folder"]


def test_the_address_of_a_cluster_may_be_left_out():
    for given, meant in (
        (["bag", "a", "--ray"], ["bag", "a", "--ray=local"]),
        (["--ray", "b.mcap"], ["--ray=local", "b.mcap"]),
        (["--ray", "--out", "x"], ["--ray=local", "--out", "x"]),
        (["--ray", "head:6379", "a"], ["--ray", "head:6379", "a"]),
        (["--ray", "ray://10.0.0.1:10001"], ["--ray", "ray://10.0.0.1:10001"]),
        (["--ray", "auto"], ["--ray", "auto"]),
    ):
        assert with_address(given) == meant


def test_killed_in_earnest_without_ros(bundle, tmp_path):
    """kill -9 while it works; then it goes on, and the result is that of one run."""
    bag = write(tmp_path / "bag", camera_lines(Types(), 80))
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "DICEPTION_PART_SECONDS": "0"}

    def arguments(out):
        command = ["bag", str(bag), "--out", str(out), "--task", "depth", "--device", "cpu"]
        return [*command, "--bundle", str(bundle), "--resume"]

    def start(out="out.mcap"):
        command = [sys.executable, "-c", WITHOUT_ROS, *arguments(tmp_path / out)]
        return subprocess.Popen(command, env=environment)

    process = start()
    end = time.monotonic() + 400
    while len(parts := list(tmp_path.glob("out.mcap.parts/0*.mcap"))) < 2:
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "out.mcap").exists()
    assert all(read(part)[DISPARITY] for part in parts)
    assert start().wait(400) == 0
    assert start("straight.mcap").wait(400) == 0
    first, second = read(tmp_path / "out.mcap"), read(tmp_path / "straight.mcap")
    assert first[DISPARITY] == second[DISPARITY]
    assert len(first[DISPARITY]) == len(first["/diception/frame_report"]) == 80

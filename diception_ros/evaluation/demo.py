# SPDX-License-Identifier: Apache-2.0
"""Runs the demo: node, camera and recorder as three processes in a domain of their own.

Nothing of ROS is imported here: the processes are started by module name.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

from diception_ros.evaluation.transport import large_messages

NODE = "diception_ros.ros.node"
PUBLISHER = "diception_ros.ros.demo_publisher"
RECORDER = "diception_ros.ros.demo_recorder"
GRACE = 15.0
"""s a process has to end after SIGINT before it is killed."""

PROMISED = (
    "depth/image",
    "depth/camera_info",
    "depth/confidence",
    "depth/image_color",
    "disparity_relative/image",
    "normals/image",
    "normals/image_color",
    "entity/mask",
    "entity/image_color",
    "semantic/mask",
    "semantic/confidence",
    "semantic/image_color",
    "point/prompts",
    "point/mask",
    "pose/keypoints",
    "pose/image_color",
    "instances",
    "points",
    "frame_report",
)
"""Topics below the node's name that must be in the bag; label_info only where vision_msgs is."""

METRIC = ("depth/image", "depth/camera_info", "depth/confidence", "points")
"""Those that come only when the reference gives a good scale."""

HISTORY = 20
"""Messages that the node keeps for the recorder, instead of the newest two that a robot wants: the
recorder is Python, and a bag with holes measures nothing."""

OnEvent = Callable[[Mapping[str, Any]], None]


class DemoError(RuntimeError):
    """The demo gave no outputs; the message is one line that says which process and why."""


@dataclass(frozen=True)
class DemoPlan:
    """out: folder for frames/, bag/ and logs. parameters: of the node, by ROS name. rate (Hz) and
    seconds of the second phase; deadline (s) for one paced answer, patience (s) for loading.
    """

    out: Path
    parameters: Mapping[str, Any] = field(default_factory=dict)
    rate: float = 5.0
    seconds: float = 8.0
    deadline: float = 30.0
    patience: float = 120.0

    @property
    def frames(self) -> Path:
        return self.out / "frames"

    @property
    def bag(self) -> Path:
        return self.out / "bag"


@dataclass(frozen=True)
class Shown:
    """One published image: its frame's index, its stamp in ns, and the phase "paced" or "rate"."""

    frame: int
    stamp: int
    phase: str


def run_demo(plan: DemoPlan, on_event: OnEvent) -> list[Shown]:
    """Plays plan.frames through the node and records plan.bag (neither bag nor logs may exist).

    DemoError when a process ends early, a frame is not answered, or nothing was recorded.
    """
    environment = {
        **os.environ,
        **large_messages(plan.out),
        # A domain of our own, on this machine only: other robots' nodes neither hear nor disturb.
        "ROS_DOMAIN_ID": str(1 + os.getpid() % 100),
        "ROS_AUTOMATIC_DISCOVERY_RANGE": "LOCALHOST",
        "PYTHONUNBUFFERED": "1",
        # The network's threads share the cores with camera and recorder: while they spin for one
        # another, on two busy cores, one forward takes seconds instead of 0.4 s.
        "OMP_WAIT_POLICY": os.environ.get("OMP_WAIT_POLICY", "PASSIVE"),
    }
    with (
        _interrupted_by(signal.SIGTERM, signal.SIGHUP),
        _process("recorder", [RECORDER, "--out", str(plan.bag)], plan, environment) as recorder,
        _process("node", [NODE, *node_arguments(plan.parameters)], plan, environment) as node,
        _process("camera", [PUBLISHER, *_camera_arguments(plan)], plan, environment) as camera,
    ):
        shown = _follow(camera, [node, recorder], on_event)
    if not (plan.bag / "metadata.yaml").is_file():
        raise DemoError(f"the recorder left no bag: {_last_line(plan.out / 'recorder.log')}")
    return shown


def node_arguments(parameters: Mapping[str, Any]) -> list[str]:
    """--ros-args of the node: name, topics of the demo's camera, parameters."""
    remaps = {
        "__node": "diception",
        "image": "/camera/image",
        "camera_info": "/camera/camera_info",
        "reference/depth": "/camera/reference_depth",
        "point_prompts": "/camera/point_prompts",
    }
    arguments = ["--ros-args"]
    for name, target in remaps.items():
        arguments += ["-r", f"{name}:={target}"]
    deep = {f"qos_overrides./diception/{name}.publisher.depth": HISTORY for name in PROMISED}
    for name, value in {**deep, **parameters}.items():
        arguments += ["-p", f"{name}:={json.dumps(value)}"]
    return arguments


def _camera_arguments(plan: DemoPlan) -> list[str]:
    arguments = ["--frames", str(plan.frames), "--paced", "--recorded"]
    for name in ("deadline", "patience", "rate", "seconds"):
        arguments += [f"--{name}", str(getattr(plan, name))]
    return arguments


@contextmanager
def _interrupted_by(*signals: signal.Signals) -> Iterator[None]:
    """What ends a job or a terminal ends us as Ctrl-C does: the others, in sessions of their own,
    would go on for ever. One that is ignored (nohup) stays so; only a main thread gets any."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in signals}
    heeded = {number: how for number, how in before.items() if how != signal.SIG_IGN}
    for number in heeded:
        signal.signal(number, signal.default_int_handler)
    try:
        yield
    finally:
        for number, how in heeded.items():
            signal.signal(number, how)


@dataclass(frozen=True)
class _Child:
    name: str
    process: subprocess.Popen[str]
    log: Path


@contextmanager
def _process(
    name: str, module: Sequence[str], plan: DemoPlan, environment: Mapping[str, str]
) -> Iterator[_Child]:
    """A Python process; its stderr goes to <out>/<name>.log. Ended by SIGINT, at last killed."""
    log = plan.out / f"{name}.log"
    with log.open("w") as errors:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            env=dict(environment),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE if name == "camera" else errors,
            stderr=errors,
            text=True,
            # Ctrl-C in the terminal must reach us alone: we end the others in order.
            start_new_session=True,
        )
        try:
            yield _Child(name, process, log)
        finally:
            _end(process)


def _end(process: subprocess.Popen[str]) -> None:
    if process.poll() is None:
        process.send_signal(signal.SIGINT)
    try:
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    finally:  # also where Ctrl-C comes once more
        process.kill()
        process.wait()


def _follow(camera: _Child, others: Sequence[_Child], on_event: OnEvent) -> list[Shown]:
    """Passes on the camera's events until it ends. DemoError as soon as anything went wrong."""
    shown: list[Shown] = []
    for event in _events(camera, others):
        on_event(event)
        if event["event"] == "error":
            raise DemoError(f"{event['text']} (see {others[0].log}: {_last_line(others[0].log)})")
        if event["event"] == "frame":
            shown.append(Shown(event["frame"], event["stamp"], event["phase"]))
        if event["event"] == "done":
            return shown
    raise DemoError(f"the camera process ended early: {_last_line(camera.log)}")


def _events(camera: _Child, others: Sequence[_Child]) -> Iterator[Mapping[str, Any]]:
    """The camera's JSON lines. DemoError when one of the other processes is gone: a recorder that
    dies closes its bag, which then looks whole."""
    lines: queue.Queue[str | None] = queue.Queue()
    assert camera.process.stdout is not None
    threading.Thread(target=_pump, args=(camera.process.stdout, lines), daemon=True).start()
    while True:
        line: str | None = ""
        with suppress(queue.Empty):
            line = lines.get(timeout=0.5)
        for child in others:
            if child.process.poll() is not None:
                reason = _last_line(child.log)
                raise DemoError(f"the {child.name} process ended early: {reason}")
        if line is None:
            return
        if line.startswith("{"):
            yield json.loads(line)


def _pump(stream: IO[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _last_line(log: Path) -> str:
    lines = [line.strip() for line in log.read_text(errors="replace").splitlines() if line.strip()]
    return lines[-1] if lines else f"{log} is empty"

# SPDX-License-Identifier: Apache-2.0
"""A real node in a process of its own, and a peer that talks to it over DDS."""

from __future__ import annotations

import importlib.util
import os
import signal
import subprocess
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
DOMAIN = 101 + os.getpid() % 100
NODE = "/robot/diception"
START = 180.0
"""Seconds that a node may take to come up on a busy machine."""
ANSWER = 60.0


def missing() -> str:
    """Why the ROS tests cannot run here, "" if they can."""
    for name, advice in (
        ("rclpy", "source a ROS 2 install or run 'make setup'"),
        ("diception_ros.msg", "run 'make build' and start pytest with ./run"),
    ):
        if importlib.util.find_spec(name) is None:
            return f"needs {name}: {advice}"
    return ""


REASON = missing()
if REASON:
    collect_ignore_glob = ["test_*.py"]
else:
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    import rclpy
    from diagnostic_msgs.msg import DiagnosticArray
    from lifecycle_msgs.srv import ChangeState, GetState
    from rcl_interfaces.srv import GetParameters, SetParametersAtomically
    from rclpy.context import Context
    from rclpy.executors import SingleThreadedExecutor
    from rclpy.parameter import Parameter
    from rclpy.qos import QoSProfile, ReliabilityPolicy
    from sensor_msgs.msg import CameraInfo, CompressedImage, Image

    RELIABLE = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.ros)


def pytest_report_header() -> str:
    return f"ros: {REASON or f'domain {DOMAIN}'}"


class Log:
    """What the node process writes, line by line."""

    def __init__(self, stream: Any) -> None:
        self.lines: list[str] = []
        self._thread = threading.Thread(target=self._pump, args=(stream,), daemon=True)
        self._thread.start()

    def _pump(self, stream: Any) -> None:
        for line in stream:
            self.lines.append(line.rstrip())

    def having(self, *words: str) -> list[str]:
        return [line for line in self.lines if all(word in line for word in words)]


class Peer:
    """The other end of every topic, service and parameter of the node under test."""

    def __init__(self, log: Log, process: Any, name: str = NODE) -> None:
        self.log, self.process, self.name = log, process, name
        self._context = Context()
        rclpy.init(context=self._context, domain_id=DOMAIN)
        self.node = rclpy.create_node("peer", context=self._context)
        self._executor = SingleThreadedExecutor(context=self._context)
        self._executor.add_node(self.node)
        self.received: dict[str, list[Any]] = defaultdict(list)
        self._subscriptions: dict[str, Any] = {}
        self._publishers: dict[str, Any] = {}
        self._clients: dict[str, Any] = {}
        self._stamp = 1_000_000_000
        self.hear("/diagnostics", DiagnosticArray)

    def close(self) -> None:
        self._executor.shutdown()
        self.node.destroy_node()
        rclpy.shutdown(context=self._context)

    def wait(self, done: Callable[[], Any], seconds: float = ANSWER) -> Any:
        """Spins until done() is true, and gives what it gave; fails after the time."""
        end = time.monotonic() + seconds
        while not (found := done()):
            assert self.process.poll() is None, "\n".join(self.log.lines[-30:])
            assert time.monotonic() < end, "nothing within {:g} s; the node said:\n{}".format(
                seconds, "\n".join(self.log.lines[-30:])
            )
            self._executor.spin_once(timeout_sec=0.02)
        return found

    def hear(self, topic: str, kind: Any, qos: Any = None) -> None:
        """Subscribes; messages are in received[topic]. Names below the node begin with ~."""
        self.deafen(topic)
        name = topic.replace("~", self.name)
        store = self.received[topic]
        store.clear()
        self._subscriptions[topic] = self.node.create_subscription(
            kind, name, store.append, qos or RELIABLE
        )

    def deafen(self, *topics: str) -> None:
        for topic in topics:
            if topic in self._subscriptions:
                self.node.destroy_subscription(self._subscriptions.pop(topic))

    def publish(self, topic: str, message: Any, qos: Any = None) -> None:
        if topic not in self._publishers:
            self._publishers[topic] = self.node.create_publisher(
                type(message), topic, qos or RELIABLE
            )
        self._publishers[topic].publish(message)

    def stamp(self, message: Any, frame_id: str = "camera_optical_frame") -> Any:
        """Gives the message a new stamp, 50 ms after the last."""
        self._stamp += 50_000_000
        message.header.frame_id = frame_id
        message.header.stamp.sec, message.header.stamp.nanosec = divmod(self._stamp, 10**9)
        return message

    def rewind(self) -> None:
        self._stamp = 1_000_000_000

    def ask(
        self,
        image: Any,
        topics: dict[str, Any],
        info: Any = None,
        beside: Sequence[tuple[str, Any]] = (),
        until: Callable[[dict[str, Any]], bool] = lambda answers: True,
        seconds: float = ANSWER,
    ) -> dict[str, Any]:
        """Shows the image again and again, each time with a new stamp, until one showing has an
        answer on every topic; info and the other messages go out before it, under its stamp."""
        for topic, kind in topics.items():
            self.hear(topic, kind)
        shown: set[int] = set()
        last = 0.0

        def answered() -> dict[str, Any]:
            nonlocal last
            if time.monotonic() - last > 0.3:
                last = time.monotonic()
                shown.add(self.show(image, info, beside))
            found = {
                topic: {nanoseconds(m.header): m for m in self.received[topic]} for topic in topics
            }
            common = shown.intersection(*(set(messages) for messages in found.values()))
            for stamp in sorted(common, reverse=True):
                answers = {topic: messages[stamp] for topic, messages in found.items()}
                if until(answers):
                    return answers
            return {}

        try:
            return dict(self.wait(answered, seconds))
        finally:
            self.deafen(*topics)

    def show(self, image: Any, info: Any = None, beside: Sequence[tuple[str, Any]] = ()) -> int:
        """Publishes once; the stamp in nanoseconds."""
        self.stamp(image, image.header.frame_id or "camera_optical_frame")
        for topic, message in [("/robot/camera/camera_info", info), *beside]:
            if message is not None:
                if hasattr(message, "header"):
                    message.header = image.header
                self.publish(topic, message)
        compressed = isinstance(image, CompressedImage)
        self.publish("/robot/camera/image" + ("/compressed" if compressed else ""), image)
        return nanoseconds(image.header)

    def call(self, name: str, kind: Any, request: Any) -> Any:
        if name not in self._clients:
            self._clients[name] = self.node.create_client(kind, f"{self.name}/{name}")
        client = self._clients[name]
        self.wait(client.service_is_ready, START)
        future = client.call_async(request)
        self.wait(future.done)
        return future.result()

    def set(self, **values: Any) -> Any:
        """Sets parameters as one; dots in names are double underscores. The result's reason is ""
        when they were taken."""
        parameters = [
            Parameter(name.replace("__", "."), value=value).to_parameter_msg()
            for name, value in values.items()
        ]
        request = SetParametersAtomically.Request(parameters=parameters)
        result = self.call("set_parameters_atomically", SetParametersAtomically, request).result
        assert result.successful == (result.reason == "")
        return result.reason

    def get(self, name: str) -> Any:
        request = GetParameters.Request(names=[name])
        value = self.call("get_parameters", GetParameters, request).values[0]
        return rclpy.parameter.parameter_value_to_python(value)

    def change(self, label: str) -> bool:
        """A lifecycle transition; whether it succeeded."""
        request = ChangeState.Request()
        request.transition.label = label
        return bool(self.call("change_state", ChangeState, request).success)

    def lifecycle(self) -> str:
        return str(self.call("get_state", GetState, GetState.Request()).current_state.label)

    def health(self, camera: str = "") -> tuple[str, dict[str, str]]:
        """The newest diagnostic message of the node or one of its cameras, and its values."""
        name = self.name.lstrip("/") + (f": {camera}" if camera else "")
        for message in reversed(self.received["/diagnostics"]):
            for status in message.status:
                if status.name == name:
                    return status.message, {item.key: item.value for item in status.values}
        return "", {}

    def until_health(
        self, *words: str, seconds: float = ANSWER, camera: str = ""
    ) -> dict[str, str]:
        """Waits for a new diagnostic message with these words; its values."""
        self.received["/diagnostics"].clear()

        def said() -> bool:
            text = self.health(camera)[0]
            return bool(text) and all(word in text for word in words)

        self.wait(said, seconds)
        return self.health(camera)[1]


def nanoseconds(header: Any) -> int:
    return int(header.stamp.sec) * 10**9 + int(header.stamp.nanosec)


@pytest.fixture(scope="session")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights: the plumbing is what these tests are about."""
    from diception_ros.model import make_random_bundle

    return make_random_bundle(tmp_path_factory.mktemp("bundle") / "random")


@contextmanager
def started(
    name: str,
    parameters: Mapping[str, Any],
    remappings: Mapping[str, str],
    health: str = "ready",
) -> Iterator[Peer]:
    """A node process of this full name, up and in this health; ended and checked afterwards."""
    namespace, _, own = name.rpartition("/")
    arguments = ["--ros-args", "-r", f"__ns:={namespace}", "-r", f"__node:={own}"]
    for key, value in remappings.items():
        arguments += ["-r", f"{key}:={value}"]
    for key, value in parameters.items():
        arguments += ["-p", f"{key}:={value}"]
    process = subprocess.Popen(
        [sys.executable, "-m", "diception_ros.ros.node", *arguments],
        env={**os.environ, "ROS_DOMAIN_ID": str(DOMAIN), "PYTHONUNBUFFERED": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    peer = Peer(Log(process.stdout), process, name)
    try:
        peer.until_health(health, seconds=START)
        yield peer
    finally:
        peer.close()
        process.send_signal(signal.SIGINT)
        process.wait(20)
    assert process.returncode == 0, "\n".join(peer.log.lines[-30:])
    assert not peer.log.having("Traceback"), "\n".join(peer.log.lines)


@pytest.fixture(scope="session")
def start_node() -> Callable[..., Any]:
    """`started`, for tests that need a second node."""
    return started


@pytest.fixture(scope="session")
def running(bundle: Path) -> Iterator[Peer]:
    """The node, up and ready, for all tests of the session."""
    parameters = {"bundle": bundle, "device": "cpu", "scale.source": "fixed"}
    with started(NODE, parameters, {"image": "camera/image"}) as peer:
        yield peer


@pytest.fixture
def peer(running: Peer) -> Iterator[Peer]:
    """The peer of a node that is active with the parameters it was started with."""
    yield running
    running.deafen(*[topic for topic in running._subscriptions if topic != "/diagnostics"])


@pytest.fixture
def new_node() -> Iterator[Callable[..., Any]]:
    """Makes a node within this process, in a domain where nobody else is."""
    from diception_ros.ros.node import DiceptionNode

    made = []

    def make(**values: Any) -> Any:
        context = Context()
        rclpy.init(context=context, domain_id=0)
        overrides = [Parameter(name.replace("__", "."), value=v) for name, v in values.items()]
        node = DiceptionNode(context=context, parameter_overrides=overrides)
        made.append((node, context))
        return node

    yield make
    for node, context in made:
        node.destroy_node()
        rclpy.try_shutdown(context=context)


def pattern(height: int = 24, width: int = 32) -> Any:
    """A colourful test image, uint8 (H, W, 3), smooth so that chroma may be halved."""
    import numpy as np

    rows, columns = np.mgrid[:height, :width]
    return np.stack([rows * 255 // height, columns * 255 // width, 128 + 0 * rows], 2).astype(
        np.uint8
    )


@pytest.fixture
def picture() -> Any:
    return pattern()


@pytest.fixture
def image_of() -> Callable[..., Any]:
    """Makes an Image message of an array and an encoding."""

    def make(values: Any, encoding: str = "rgb8", **fields: Any) -> Any:
        height, width = values.shape[:2]
        data = values.tobytes()
        step = len(data) // height
        return Image(
            **{
                "height": height,
                "width": width,
                "encoding": encoding,
                "step": step,
                "data": data,
                **fields,
            }
        )

    return make


@pytest.fixture
def info() -> Any:
    """A camera info for 32 x 24 pixels, fx = fy = 30."""
    return make_info()


def make_info(width: int = 32, height: int = 24, focal: float = 30.0) -> Any:
    cx, cy = (width - 1) / 2, (height - 1) / 2
    return CameraInfo(
        width=width,
        height=height,
        k=[focal, 0.0, cx, 0.0, focal, cy, 0.0, 0.0, 1.0],
        p=[focal, 0.0, cx, 0.0, 0.0, focal, cy, 0.0, 0.0, 0.0, 1.0, 0.0],
    )

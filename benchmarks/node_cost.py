# SPDX-License-Identifier: Apache-2.0
"""What the node itself costs: everything between an image and its outputs but the network.

    ./run python benchmarks/node_cost.py                      # 1280x720, every output subscribed
    ./run python benchmarks/node_cost.py --executor multi --frames 500 --json cost.json
    ./run python benchmarks/node_cost.py --middleware         # the same messages, made only once
    ./run python benchmarks/node_cost.py --size 160x120 --frames 10000   # does the memory grow?

The node runs in a process of its own (fixed_node.py) with an engine that answers at once with fixed
results of all six tasks. An image is published, the last of its outputs awaited, the next
published. Reported: image published -> last output at the subscriber's middleware (wall clock), the
CPU time of the worker's stages and of every output (which a busy machine does not lengthen), and
the memory. Subscribers take serialised messages: what a consumer does with them is not the node's
cost. --middleware tells how much of it is DDS's.
"""

from __future__ import annotations

import argparse
import ctypes
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import rclpy
from geometry_msgs.msg import PointStamped
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import QoSProfile, ReliabilityPolicy
from sensor_msgs.msg import CameraInfo, Image

from diception_ros.evaluation import transport
from diception_ros.ros.messages import image_message
from diception_ros.ros.native import class_of, native
from diception_ros.ros.outputs import OUTPUTS

DOMAIN = 1 + os.getpid() % 100
"""So that two runs on a machine do not hear each other."""
WARM_UP = 10
PATIENCE = 5.0
QOS = QoSProfile(depth=10, reliability=ReliabilityPolicy.RELIABLE)
DATA = [output.topic for output in OUTPUTS if not output.topic.endswith("image_color")]
MESSAGES = {output.topic: 1 for output in OUTPUTS} | {"instances": 2}
"""A frame's, by topic: the instances come once of the entities and once of the classes."""


class Bench:
    """Publishes images, counts what comes back."""

    def __init__(self, size: tuple[int, int]) -> None:
        rclpy.init()
        self.node = rclpy.create_node("bench")
        self.executor = SingleThreadedExecutor()
        self.executor.add_node(self.node)
        width, height = size
        self.images = self.node.create_publisher(Image, "image", QOS)
        self.infos = self.node.create_publisher(CameraInfo, "camera_info", QOS)
        self.clicks = self.node.create_publisher(PointStamped, "point_click", QOS)
        noise = np.random.default_rng(0).integers(0, 255, (height, width, 3), np.uint8)
        self.image = native(image_message(Image().header, noise))
        self.image.header.frame_id = "camera"
        focal = [1.2 * width, 0.0, width / 2, 0.0, 1.2 * width, height / 2, 0.0, 0.0, 1.0]
        self.info = CameraInfo(width=width, height=height, k=focal)
        self.missing: dict[str, int] = {}
        self.bytes: dict[str, int] = {}
        self.received: dict[str, int] = {}
        for output in OUTPUTS:
            self._hear(output.topic, class_of(output.type))

    def _hear(self, topic: str, kind: Any) -> None:
        def received(data: bytes, info: Mapping[str, int]) -> None:
            self.missing[topic] = self.missing.get(topic, 0) - 1
            self.bytes[topic] = len(data)
            self.received[topic] = info["received_timestamp"]

        self.node.create_subscription(kind, f"/diception/{topic}", received, QOS, raw=True)

    def show(self) -> tuple[float, float] | None:
        """Publishes an image; milliseconds until the last of its data and until the last of all
        its outputs, None if one did not come."""
        self.missing = dict(MESSAGES)
        self.image.header.stamp = self.node.get_clock().now().to_msg()
        self.info.header = self.image.header
        self.infos.publish(self.info)
        started = time.time_ns()
        self.images.publish(self.image)
        patience = time.monotonic() + PATIENCE
        while max(self.missing.values()) > 0:
            self.executor.spin_once(timeout_sec=0.1)
            if time.monotonic() > patience:
                return None
        data = max(self.received[topic] for topic in DATA)
        return 1e-6 * (data - started), 1e-6 * (max(self.received.values()) - started)

    def silent(self) -> list[str]:
        """The topics that the last image has not been answered on."""
        return [topic for topic, count in self.missing.items() if count > 0]

    def ask(self, size: tuple[int, int]) -> None:
        click = PointStamped()
        click.point.x, click.point.y = size[0] / 2, size[1] / 2
        self.clicks.publish(click)

    def wait_for_node(self) -> None:
        names = [f"/diception/{output.topic}" for output in OUTPUTS]
        until = time.monotonic() + 120
        while time.monotonic() < until:
            self.executor.spin_once(timeout_sec=0.1)
            inputs = (self.images, self.infos, self.clicks)
            heard = all(publisher.get_subscription_count() for publisher in inputs)
            if heard and all(self.node.count_publishers(name) for name in names):
                return
        raise SystemExit("the node did not come up within 120 s")


def keep_memory() -> None:
    """Lets this process reuse what it frees. By default glibc gives it back, and at 50 MB a frame
    taking it again costs the subscriber more than all the rest."""
    for option, value in ((-3, 1 << 30), (-1, (1 << 31) - 1)):  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD
        ctypes.CDLL(None).mallopt(option, value)


def percentiles(values: list[float]) -> dict[str, float]:
    return {f"p{share}": round(float(np.percentile(values, share)), 2) for share in (50, 95, 99)}


def memory_mib(pid: int) -> float:
    """Resident memory of a process."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (line,) = [line for line in lines if line.startswith("VmRSS")]
    return int(line.split()[1]) / 1024


def end(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    try:
        process.wait(30)
    except subprocess.TimeoutExpired:
        process.kill()
        print("the node did not end within 30 s of a SIGTERM", file=sys.stderr)


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """One run of one executor."""
    size = arguments.size
    costs = folder / "costs.json"
    process = subprocess.Popen(
        [
            sys.executable,
            str(Path(__file__).with_name("fixed_node.py")),
            arguments.executor,
            str(costs),
            str(sum(MESSAGES.values()) if arguments.middleware else 0),
        ],
        stdout=subprocess.DEVNULL,
        stderr=None if arguments.verbose else subprocess.DEVNULL,
    )
    try:
        bench = Bench(size)
        bench.wait_for_node()
        bench.ask(size)
        latencies, memory = [], []
        for number in range(WARM_UP + arguments.frames):
            found = bench.show()
            if number >= WARM_UP:
                latencies.append(found)
                memory.append(memory_mib(process.pid))
            elif found is None and number > 2:  # the first may meet a node that subscribes anew
                raise SystemExit(
                    f"no answer within {PATIENCE:g} s on {', '.join(bench.silent())}: --verbose "
                    "shows what the node says"
                )
    finally:
        end(process)
    rclpy.shutdown()
    answered = [value for value in latencies if value is not None]
    tenth = max(1, len(memory) // 10)
    node = json.loads(costs.read_text())
    return {
        "executor": arguments.executor,
        "middleware_alone": arguments.middleware,
        "size": f"{size[0]}x{size[1]}",
        "frames": arguments.frames,
        "lost": len(latencies) - len(answered),
        "data_latency_ms": percentiles([data for data, _ in answered]),
        "latency_ms": percentiles([last for _, last in answered]),
        "megabytes_a_frame": round(sum(bench.bytes.values()) / 1e6, 1),
        "megabytes": {topic: round(count / 1e6, 2) for topic, count in bench.bytes.items()},
        "node_cpu_ms_a_frame": round(1000 * node["cpu_s"] / (WARM_UP + arguments.frames), 2),
        "stages_cpu_ms": node["stages_ms"],
        "memory_mib": {
            "first tenth": round(float(np.median(memory[:tenth])), 1),
            "last tenth": round(float(np.median(memory[-tenth:])), 1),
        },
        "machine": f"{platform.processor() or platform.machine()}, {os.cpu_count()} CPUs",
        "load_average": os.getloadavg()[0],
        "date": time.strftime("%Y-%m-%d"),
    }


def table(found: Mapping[str, Any]) -> str:
    """The figures for people."""
    data, last = (
        ", ".join(f"{key} {value} ms" for key, value in found[name].items())
        for name in ("data_latency_ms", "latency_ms")
    )
    memory = found["memory_mib"]
    what = "middleware alone" if found["middleware_alone"] else f"{found['executor']} executor"
    head = f"{found['size']}, {what}, {found['frames']} frames"
    cpu = f"{found['megabytes_a_frame']} MB and {found['node_cpu_ms_a_frame']} ms of CPU"
    rows = [
        f"{head}, lost {found['lost']}, load average {found['load_average']:.1f}",
        "image published -> received, without the engine:",
        f"  all data (depth, masks, normals, cloud, instances): {data}",
        f"  pictures for people as well: {last}",
        f"a frame: {cpu} of the node",
        f"memory: {memory['first tenth']} MiB, at the end {memory['last tenth']} MiB",
        "",
        f"{'CPU of the worker thread':45}{'ms':>9}{'MB':>9}",
    ]
    for name, spent in sorted(found["stages_cpu_ms"].items(), key=lambda item: -item[1]):
        size = found["megabytes"].get(name.partition(" ")[2], "")
        rows.append(f"{name:45}{spent:9.2f}{size:>9}")
    return "\n".join(rows)


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--size", default="1280x720", type=lambda s: tuple(map(int, s.split("x"))))
    parser.add_argument("--executor", choices=["single", "multi", "events"], default="single")
    parser.add_argument("--segment", type=int, default=256, help="MiB of DDS's shared memory.")
    parser.add_argument("--json", type=Path, help="File for the figures.")
    parser.add_argument(
        "--middleware", action="store_true", help="The messages made once and published again."
    )
    parser.add_argument("--verbose", action="store_true", help="Show the node's log.")
    return parser.parse_args()


def main() -> None:
    arguments = parse()
    keep_memory()
    os.environ["ROS_DOMAIN_ID"] = str(DOMAIN)
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    with tempfile.TemporaryDirectory() as name:
        profile = Path(name) / "fastdds.xml"
        segment = f"<segment_size>{arguments.segment * 2**20}</segment_size>"
        wanted = transport.PROFILE.replace(
            f"<segment_size>{transport.SEGMENT}</segment_size>", segment
        ).replace(
            f"<maxMessageSize>{transport.MESSAGE}</maxMessageSize>",
            f"<maxMessageSize>{32 * 2**20}</maxMessageSize>",
        )
        profile.write_text(wanted)
        for variable in transport.VARIABLES:
            os.environ.setdefault(variable, str(profile))
        found = measure(arguments, Path(name))
    print(table(found))
    if arguments.json:
        arguments.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""`diception bag` against the engine alone and against a plain loop, in the same run.

    ./run python benchmarks/bag.py --frames 100 --rounds 3      # rates
    ./run python benchmarks/bag.py --memory 10000               # memory over 10,000 images
    ./run python benchmarks/bag.py --workers 1 2                # Ray: two workers against one

Rates: the three take turns, round by round, on the same bag with the same weights; the median of
the rounds counts. CPU seconds tell the same where other programs keep the cores busy. engine:
Engine.run on decoded images, as many at a time as `diception bag` takes. plain: rosbags' reader,
the engine on one image at a time, the same messages, rosbags' writer, all in one thread, as one
would write it at first. Memory: resident set of the process, with a small random network and small
images: it depends on their number and not on what they show. Workers: the same bags on Ray, a
torch thread and a core each, the command's own work included. Its rate counts from the moment when
all workers have begun; what they took to start is said beside it. TMPDIR says where the bags lie.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rosbags.highlevel import AnyReader
from rosbags.image import message_to_cvimage
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer

from diception_ros.engine import Engine
from diception_ros.evaluation.cluster import Cluster
from diception_ros.evaluation.offline.definitions import typestore
from diception_ros.evaluation.offline.distributed import DistributedRun, Job
from diception_ros.evaluation.offline.plan import Plan
from diception_ros.evaluation.offline.run import Run, load, understood
from diception_ros.evaluation.offline.timeline import Problem
from diception_ros.model import make_random_bundle
from diception_ros.ros.answers import Answers, Frame
from diception_ros.ros.outputs import OUTPUTS
from diception_ros.ros.parameters import NodeParameters
from diception_ros.ros.requests import requests_for
from diception_ros.training.scenes import make_frame

IMAGE = "sensor_msgs/msg/Image"
CAMERA = "/camera/image"


def make_bag(path: Path, images: list[Any], count: int) -> Path:
    """`count` images at 30 Hz, those given again and again."""
    store = typestore()
    image, header, stamp = (
        store.types[name] for name in (IMAGE, "std_msgs/msg/Header", "builtin_interfaces/msg/Time")
    )
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        connection = writer.add_connection(CAMERA, IMAGE, typestore=store)
        for number in range(count):
            pixels = images[number % len(images)]
            at = 1_700_000_000_000_000_000 + number * 33_333_333
            height, width = pixels.shape[:2]
            head = header(stamp(at // 10**9, at % 10**9), "camera")
            message = image(head, height, width, "rgb8", 0, width * 3, pixels.reshape(-1))
            writer.write(connection, at, store.serialize_cdr(message, IMAGE))
    return path


def engine_alone(
    engine: Engine, parameters: NodeParameters, images: list[Any], count: int, batch: int
) -> None:
    """Of images that are decoded already; the answers are thrown away."""
    placed = requests_for([engine.tasks[task] for task in parameters.tasks], parameters)
    requests = [item.request for item in placed]
    for number in range(0, count, batch):
        some = [images[i % len(images)] for i in range(number, min(count, number + batch))]
        engine.run(some, [requests] * len(some))


def plain_loop(engine: Engine, parameters: NodeParameters, bag: Path, out: Path) -> None:
    """One thread, one image at a time; what the messages hold is made by the same builders."""
    store, outputs = typestore(), [item for item in OUTPUTS if item.offered(parameters)]
    placed = requests_for([engine.tasks[task] for task in parameters.tasks], parameters)
    writer = Writer(out, version=9, storage_plugin=StoragePlugin.MCAP)
    writer.set_compression(CompressionMode.STORAGE, CompressionFormat.ZSTD)
    with AnyReader([bag]) as reader, writer:
        connections = {
            output.topic: writer.add_connection(
                f"/diception/{output.topic}", output.type, typestore=store
            )
            for output in outputs
        }
        for connection, received, data in reader.messages():
            message = reader.deserialize(data, connection.msgtype)
            rgb = np.array(message_to_cvimage(message, "rgb8"))
            found = engine.infer([rgb], [[item.request for item in placed]])[0]
            results = dict(zip(parameters.tasks, found, strict=True))
            frame = Frame(message.header, rgb, (message.width, message.height))
            answers = Answers(frame, parameters, results)
            for output in outputs:
                for content in output.build(answers):
                    packed = store.serialize_cdr(content, output.type)
                    writer.write(connections[output.topic], received, packed)


def offline(engine: Engine, parameters: NodeParameters, bag: Path, out: Path) -> None:
    run = Run(Plan((bag,), out, parameters), engine, _fail, lambda *_: None)
    run()


def rates(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Images per second of the three, and what they are to one another."""
    engine, parameters = load({"tasks": options.task, "device": options.device}, print)
    height, width = options.size
    images = [make_frame(seed, height, width).rgb for seed in range(8)]
    bag = make_bag(folder / "bag", images, options.frames)
    batch = options.batch or (1 if engine.device_name.startswith("CPU") else 8)
    contenders: dict[str, Callable[[Path], None]] = {
        "engine": lambda _: engine_alone(engine, parameters, images, options.frames, batch),
        "diception bag": lambda out: offline(engine, parameters, bag, out.with_suffix(".mcap")),
        "plain": lambda out: plain_loop(engine, parameters, bag, out),
    }
    engine_alone(engine, parameters, images, 2 * batch, batch)  # warm
    found: dict[str, list[float]] = {name: [] for name in contenders}
    busy: dict[str, list[float]] = {name: [] for name in contenders}
    for number in range(options.rounds):
        for name, call in contenders.items():
            started, used = time.perf_counter(), time.process_time()
            call(folder / f"{name.replace(' ', '_')}{number}")
            found[name].append(options.frames / (time.perf_counter() - started))
            busy[name].append((time.process_time() - used) / options.frames)
            print(f"round {number + 1}: {name} {found[name][-1]:.2f} images/s", flush=True)
    ours = found["diception bag"]
    ratios = {
        name: statistics.median(a / b for a, b in zip(ours, found[name], strict=True))
        for name in ("engine", "plain")
    }
    return {
        "tasks": options.task,
        "size": [width, height],
        "frames": options.frames,
        "device": engine.device_name,
        "images_per_second": {name: statistics.median(values) for name, values in found.items()},
        "cpu_seconds_per_image": {name: statistics.median(all_) for name, all_ in busy.items()},
        "share_of_engine": ratios["engine"],
        "ratio_vs_plain": ratios["plain"],
    }


def memory(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """MiB resident after a fifth of the images, at the end, and at most in between."""
    bundle = make_random_bundle(folder / "random")
    engine, parameters = load({"tasks": options.task, "bundle": str(bundle)}, print)
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, (48, 64, 3), dtype=np.uint8) for _ in range(8)]
    bag = make_bag(folder / "bag", images, options.memory)
    sizes: list[float] = []

    def sample(_: Path, done: int, total: int) -> None:
        if done % max(1, total // 100) == 0:
            sizes.append(resident_mib())

    Run(Plan((bag,), folder / "out.mcap", parameters), engine, _fail, sample)()
    settled = sizes[len(sizes) // 5]
    return {
        "frames": options.memory,
        "mib_after_a_fifth": settled,
        "mib_at_the_end": sizes[-1],
        "growth": max(sizes[len(sizes) // 5 :]) / settled - 1,
    }


def scaling(options: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Images per second of different numbers of workers, by turns, and the ratio of the last to the
    first in each round."""
    values = {"tasks": options.task, "device": options.device, "threads": 1}
    height, width = options.size
    images = [make_frame(seed, height, width).rgb for seed in range(8)]
    bags = tuple(make_bag(folder / f"bag{i}", images, options.frames // 2) for i in range(2))
    found: dict[int, list[dict[str, float]]] = {number: [] for number in options.workers}
    for turn in range(options.rounds):
        for number in options.workers:
            out = folder / f"{turn}_{number}.mcap"
            found[number].append(distributed(values, bags, out, number))
            print(f"round {turn + 1}: {number} workers {found[number][-1]}", flush=True)
    rates = {n: [one["images_per_second"] for one in some] for n, some in found.items()}
    first, last = rates[options.workers[0]], rates[options.workers[-1]]
    return {
        "tasks": options.task,
        "size": [width, height],
        "bags": len(bags),
        "frames": 2 * (options.frames // 2),
        "rounds": {str(number): some for number, some in found.items()},
        "images_per_second": {str(n): statistics.median(some) for n, some in rates.items()},
        "ratio": statistics.median(b / a for a, b in zip(first, last, strict=True)),
    }


def distributed(
    values: dict[str, Any], bags: tuple[Path, ...], out: Path, workers: int
) -> dict[str, float]:
    """One run on this machine's Ray."""
    plan_of, parameters = understood(values)
    job = Job.of(Plan(bags, out, parameters, settings=values), values, plan_of.tasks)
    reached: list[tuple[float, int]] = []

    def note(_: Path, done: int, total: int) -> None:
        if done >= workers * 2 and (not reached or done > reached[-1][1]):
            reached.append((time.perf_counter(), done))

    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:workers])  # of Ray and all that it starts
    try:
        started = time.perf_counter()
        summary = DistributedRun(job, Cluster(workers=workers), _fail, note)()
        ended = time.perf_counter()
    finally:
        os.sched_setaffinity(0, cores)
    (began, done), answered = reached[0], summary.answered
    return {
        "images_per_second": (answered - done) / (ended - began),
        "seconds": ended - started,
        "start_seconds": began - started,
    }


def resident_mib() -> float:
    """Of this process. Linux."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * resource.getpagesize() / 2**20


def cpu_name() -> str:
    """As Linux calls it, with the number of cores."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    names = [line.partition(": ")[2] for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.machine()


def _fail(problem: Problem) -> None:
    raise RuntimeError(f"the benchmark's own bag has a problem: {problem}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--frames", type=int, default=100)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, nargs=2, default=(480, 640), help="height width")
    parser.add_argument("--task", nargs="+", default=["depth", "normal"])
    parser.add_argument("--device", default="auto")
    parser.add_argument("--batch", type=int, default=0)
    parser.add_argument("--memory", type=int, default=0, help="images; 0: measure rates instead")
    parser.add_argument("--workers", type=int, nargs="+", default=[], help="numbers to compare")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure = scaling if options.workers else memory if options.memory else rates
        found = measure(options, Path(folder))
    found |= {"machine": cpu_name(), "torch": torch.__version__}
    print(json.dumps(found, indent=2))
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""The node's side of node_cost.py: the node with an engine that answers at once, or, to know what
the middleware alone costs, its messages made once and published again for every image."""

from __future__ import annotations

import json
import sys
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import rclpy
from rclpy.executors import MultiThreadedExecutor, SingleThreadedExecutor
from rclpy.experimental import EventsExecutor

from diception_ros.engine import Outcome
from diception_ros.ros import session as session_module
from diception_ros.ros.batch import Batch
from diception_ros.ros.native import native
from diception_ros.ros.node import NOTICE, DiceptionNode, note_signals
from diception_ros.ros.outputs import Output
from diception_ros.ros.pipeline import Pipeline
from diception_ros.ros.publishers import Publishers
from diception_ros.tasks import (
    Disparity,
    Instance,
    Instances,
    Keypoints,
    Mask,
    Normals,
    Result,
)


def fixed_results(height: int, width: int) -> dict[str, Result]:
    """Plausible answers: smooth geometry, twenty segments, a person."""
    rows, columns = np.mgrid[:height, :width].astype(np.float32)
    disparity = np.clip(0.2 + 0.7 * rows / height + 0.1 * np.sin(columns / 90), 0, 1)
    vectors = np.zeros((height, width, 3), np.float32)
    vectors[..., 1], vectors[..., 2] = -0.6, -0.8
    tiles = (rows // (height / 4)).astype(np.uint16) * 5 + (columns // (width / 5)).astype(
        np.uint16
    )
    ids = np.where((rows % (height / 4) > 9) & (columns % (width / 5) > 9), tiles + 1, 0)
    ids = ids.astype(np.uint16)
    found = []
    for number in range(1, 21):
        y, x = np.nonzero(ids == number)
        box = int(x.min()), int(y.min()), int(np.ptp(x)) + 1, int(np.ptp(y)) + 1
        found.append(Instance(number, 0.9, box, len(x), (float(x.mean()), float(y.mean()))))
    score = np.clip(1.5 - np.hypot(rows - height / 2, columns - width / 2) / 200, 0, 1)
    joints = np.array([[width / 2, height * (0.2 + 0.04 * i)] for i in range(17)], np.float32)
    return {
        "depth": Disparity(disparity.astype(np.float32)),
        "normal": Normals(vectors),
        "entity": Instances(ids, tuple(found)),
        "semantic": Instances(ids, tuple(found), "chair"),
        "point": Mask(score > 0.5, score.astype(np.float32)),
        "pose": Keypoints(joints, np.full(17, 0.8, np.float32), (height, width)),
    }


class FixedEngine:
    """Looks like an Engine to the node, and answers at once."""

    def __init__(self, tasks: Mapping[str, Any]) -> None:
        self.tasks, self.adapters = dict(tasks), {}
        self.device_name, self.graph_state = "none (fixed results)", "none"
        self.info = SimpleNamespace(name="fixed")
        self._results: dict[tuple[int, ...], dict[str, Result]] = {}

    def begin(self, images: Any, requests: Any, *_: Any) -> Any:
        results = []
        for image, asked in zip(images, requests, strict=True):
            size = image.shape[:2]
            if size not in self._results:
                self._results[size] = fixed_results(*size)
            results.append([self._results[size][request.task] for request in asked])
        outcome = Outcome(
            results=results,
            stages={},
            batch=sum(len(asked) for asked in requests),
            graph=False,
            steps={request.task: 1 for asked in requests for request in asked},
            canvas=images[0].shape[:2],
            spread=[[None] * len(asked) for asked in requests],
        )
        return SimpleNamespace(outcome=lambda: outcome)

    def close(self) -> None:
        pass


EXECUTORS: dict[str, Callable[..., Any]] = {
    "single": SingleThreadedExecutor,
    "multi": lambda: MultiThreadedExecutor(num_threads=2),
    "events": EventsExecutor,
}


class Costs:
    """CPU milliseconds of the worker's thread, by what it did."""

    def __init__(self) -> None:
        # The newest only: 43 headings of 10,000 frames are 14 MB, which would look like the node's.
        self.spent: dict[str, deque[float]] = defaultdict(lambda: deque(maxlen=1000))

    def watch(self, owner: Any, method: str, name: Callable[..., str]) -> None:
        """Times every call of a method; name(*arguments) says under which heading."""
        inner = getattr(owner, method)

        def timed(*arguments: Any, **keywords: Any) -> Any:
            started = time.thread_time()
            try:
                return inner(*arguments, **keywords)
            finally:
                spent = 1000 * (time.thread_time() - started)
                self.spent[name(*arguments)].append(spent)

        setattr(owner, method, timed)

    def medians(self) -> dict[str, float]:
        return {key: round(float(np.median(found)), 3) for key, found in self.spent.items()}


class Replay:
    """Once it has seen a whole frame, every further one is answered with that one's messages."""

    def __init__(self, outputs: int) -> None:
        self._outputs = outputs
        self._kept: list[tuple[Any, Any]] = []
        self._publish, self._handle = Publishers.publish, Batch.handle

    def install(self) -> None:
        Publishers.publish = lambda *arguments: self.publish(*arguments)  # type: ignore[method-assign]
        Batch.handle = lambda *arguments: self.handle(*arguments)  # type: ignore[method-assign]

    def publish(self, publishers: Publishers, output: Output, messages: Sequence[Any]) -> None:
        publisher = publishers._publishers[output.topic]
        self._kept += [(publisher, native(message)) for message in messages]
        self._publish(publishers, output, messages)

    def handle(self, batch: Batch, waiting: Any) -> None:
        if len(self._kept) < self._outputs:
            self._kept.clear()
            self._handle(batch, waiting)
            return
        for publisher, message in self._kept:
            publisher.publish(message)


def serve(executor_name: str, costs_file: Path, replay: int) -> None:
    """Until it is interrupted; writes its costs to a file. replay: messages of a whole frame, which
    are made once and published again and again; 0: every frame is worked on."""
    costs = Costs()
    if replay:
        Replay(replay).install()
    costs.watch(Pipeline, "prepare", lambda *_: "prepare (all before the engine)")
    costs.watch(Pipeline, "finish", lambda *_: "finish (all after the engine)")
    costs.watch(Pipeline, "_with_metric", lambda *_: "scale")
    costs.watch(Pipeline, "_build", lambda _, output, *rest: f"build {output.topic}")
    costs.watch(Publishers, "publish", lambda _, output, *rest: f"publish {output.topic}")
    session_module.loader = lambda parameters, plan: lambda say: FixedEngine(plan.tasks)
    asked = note_signals()  # as the node's own main: rclpy's handlers end ROS under a frame
    rclpy.init(
        args=["--ros-args", "-p", "scale.source:=fixed", "-p", "tasks:=[all]"],
        signal_handler_options=rclpy.SignalHandlerOptions.NO,
    )
    executor, node = EXECUTORS[executor_name](), DiceptionNode()
    executor.add_node(node)
    node.start()
    started = time.process_time()
    while not asked:
        executor.spin_once(timeout_sec=NOTICE)
    found = {"cpu_s": time.process_time() - started, "stages_ms": costs.medians()}
    costs_file.write_text(json.dumps(found))
    node.destroy_node()
    rclpy.try_shutdown()


if __name__ == "__main__":
    serve(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))

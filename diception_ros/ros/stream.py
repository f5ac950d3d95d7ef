# SPDX-License-Identifier: Apache-2.0
"""What belongs to one camera: its topics, its counts, its complaints, its pipeline."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from diception_ros.ros.diagnostics import Complaints, Statistics
from diception_ros.ros.inputs import Incoming, Inputs
from diception_ros.ros.parameters import NodeParameters
from diception_ros.ros.pipeline import Pipeline
from diception_ros.ros.preparation import Context
from diception_ros.ros.publishers import Gate, Publishers
from diception_ros.ros.transforms import FindPose


class Notes:
    """Counts and complaints of one camera; they outlive a cleanup."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.statistics = Statistics()
        self.complain = Complaints(warn)


class Stream:
    """One camera of a session. name "" is the only camera, whose topics have no prefix."""

    def __init__(self, node: Any, name: str, notes: Notes, gate: Gate) -> None:
        self.name, self.notes = name, notes
        self.prefix = f"{name}/" if name else ""
        self.topics_out = Publishers(node, notes.complain, self.prefix)
        self.topics_in: Inputs | None = None
        self.pipeline: Pipeline | None = None
        self._node, self._gate = node, gate

    def subscribe(
        self, parameters: NodeParameters, received: Callable[[str, Incoming], None]
    ) -> None:
        """ValueError for a wrong QoS override. received is called by the executor's thread."""
        self.topics_in = Inputs(
            self._node,
            parameters.image_transport,
            lambda incoming: received(self.name, incoming),
            self.notes.complain,
            self.prefix,
        )

    def unsubscribe(self) -> None:
        if self.topics_in is not None:
            self.topics_in.destroy()
        self.topics_in = self.pipeline = None

    def start(self, engine: Any, find_pose: FindPose, say: Callable[[str], None]) -> Pipeline:
        """The pipeline that works from now on."""
        assert self.topics_in is not None
        context = Context(
            engine=engine,
            inputs=self.topics_in,
            publishers=self.topics_out,
            gate=self._gate,
            statistics=self.notes.statistics,
            complain=self.notes.complain,
            find_pose=find_pose,
            now_ns=lambda: int(self._node.get_clock().now().nanoseconds),
            say=say,
            hint=self.notes.complain,
        )
        self.pipeline = Pipeline(context)
        return self.pipeline

    def failed(self, error: Exception) -> None:
        """Counts a frame that an unexpected error has ended."""
        self.notes.statistics.dropped("failed")
        self.notes.complain(self.topics_out.name("frame_report"), f"a frame failed: {error}")

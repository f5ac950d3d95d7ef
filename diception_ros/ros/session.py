# SPDX-License-Identifier: Apache-2.0
"""Everything that lives between a configure and a cleanup: topics, engine, worker."""

from __future__ import annotations

import logging
import threading
from collections.abc import Sequence
from typing import Any

from diception_ros.ros.diagnostics import Complaints, Statistics
from diception_ros.ros.images import backend
from diception_ros.ros.inputs import Incoming, Inputs
from diception_ros.ros.loading import Loading, Plan, loader, with_adapters
from diception_ros.ros.parameters import NodeParameters
from diception_ros.ros.pipeline import Context, InForce, Pipeline
from diception_ros.ros.publishers import Gate, Publishers
from diception_ros.ros.worker import Worker

logger = logging.getLogger(__name__)


class Session:
    """One configured camera. Called by the executor's thread; `_loaded` by the loading thread.

    What is in force is replaced as a whole and read once per frame, so changes apply between
    frames.
    """

    def __init__(
        self,
        node: Any,
        parameters: NodeParameters,
        plan: Plan,
        statistics: Statistics,
        complain: Complaints,
    ) -> None:
        self.plan = plan
        self._in_force = InForce(parameters, plan.adapters)
        self.pipeline: Pipeline | None = None
        self._node, self._statistics, self._complain = node, statistics, complain
        self._lock = threading.RLock()
        self._gate = Gate()
        self._topics_out = Publishers(node, complain)
        self._topics_out.sync(parameters, plan.tasks)
        self._topics_in: Inputs | None = None
        self._worker: Worker[Incoming] | None = None
        self._last_worker: Worker[Incoming] | None = None
        logger.info("images are converted by %s", backend().name)
        self.loading = Loading(loader(parameters, plan), self._loaded)

    @property
    def active(self) -> bool:
        return self._gate.is_open

    @property
    def settings(self) -> NodeParameters:
        return self._in_force.parameters

    def planned(self, adapters: Sequence[str]) -> Plan:
        """The plan with these adapters. ValueError for one that cannot be, and before there is an
        engine to say so."""
        if self.loading.engine is None:
            raise ValueError("adapters: the model is not loaded yet, try again when it is ready")
        found = with_adapters(self.plan, adapters)
        for adapter in found.adapters.values():
            self.loading.engine.check_adapter(adapter)
        return found

    def apply(self, parameters: NodeParameters) -> None:
        """New parameters, from the next frame on; topics come and go with them."""
        with self._gate.held():
            self._topics_out.sync(parameters, self.plan.tasks)
            self._in_force = InForce(parameters, self.plan.adapters)
            if self.active:
                self._topics_out.publish_labels(parameters)

    def activate(self) -> None:
        """Subscribes, and starts to work as soon as the engine is ready. RuntimeError with the
        cause when it could not be loaded, ValueError for a wrong QoS override."""
        if self.loading.state == "error":
            raise RuntimeError(self.loading.cause)
        with self._lock:
            self._topics_in = Inputs(
                self._node, self.settings.image_transport, self._on_image, self._complain
            )
            self._gate.open()
            self._topics_out.publish_labels(self.settings)
            self._start_work()

    def deactivate(self) -> None:
        """Unsubscribes and stops at once; what a frame in work still gives is not published."""
        with self._lock:
            self._gate.shut()
            if self._worker is not None:
                self._worker.stop()
                self._last_worker = self._worker
            if self._topics_in is not None:
                self._topics_in.destroy()
            self._worker = self._topics_in = self.pipeline = None

    def adapt(self) -> None:
        """Lets the subscriptions follow their publishers' reliability."""
        with self._lock:
            if self._topics_in is not None:
                self._topics_in.adapt()

    def close(self) -> None:
        """Takes the topics back and frees the engine."""
        self.deactivate()
        with self._gate.held():
            self._topics_out.destroy()
        self.loading.abandon()

    def join(self, timeout: float) -> bool:
        """Waits, after `close`, for the load or the frame in work, each at most `timeout` seconds;
        True when all work has ended."""
        worked = self._last_worker is None or self._last_worker.join(timeout)
        return self.loading.join(timeout) and worked

    def _loaded(self) -> None:
        with self._lock:
            if self.active:
                self._start_work()

    def _start_work(self) -> None:
        engine, inputs = self.loading.engine, self._topics_in
        if engine is None or inputs is None or self._worker is not None:
            return
        context = Context(
            engine=engine,
            inputs=inputs,
            publishers=self._topics_out,
            gate=self._gate,
            statistics=self._statistics,
            complain=self._complain,
            in_force=lambda: self._in_force,
            now_ns=lambda: int(self._node.get_clock().now().nanoseconds),
            say=logger.info,
        )
        self.pipeline = Pipeline(context)
        self._worker = Worker(self.pipeline.handle, self._failed, "diception worker")

    def _on_image(self, incoming: Incoming) -> None:
        self._statistics.received()
        worker = self._worker
        if worker is None:
            self._statistics.dropped("loading")
        elif worker.slot.put(incoming):
            self._statistics.dropped("newer frame")

    def _failed(self, error: Exception) -> None:
        self._statistics.dropped("failed")
        self._complain("~/frame_report", f"a frame failed: {error}")

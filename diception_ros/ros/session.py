# SPDX-License-Identifier: Apache-2.0
"""Everything that lives between a configure and a cleanup: topics, engine, worker."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Any

from diception_ros.ros.batch import Batch, InForce
from diception_ros.ros.images import backend
from diception_ros.ros.inputs import Incoming
from diception_ros.ros.loading import Loading, Plan, loader, with_adapters
from diception_ros.ros.parameters import NodeParameters
from diception_ros.ros.publishers import Gate
from diception_ros.ros.stream import Notes, Stream
from diception_ros.ros.transforms import FindPose
from diception_ros.ros.worker import Slots, Worker

logger = logging.getLogger(__name__)


class Session:
    """One engine and its cameras. Called by the executor's thread; `_loaded` by the loading thread.

    What is in force is replaced as a whole and read once per pass, so changes apply between
    frames. notes: by the cameras' names. ValueError for a wrong QoS override.
    """

    def __init__(
        self,
        node: Any,
        parameters: NodeParameters,
        plan: Plan,
        notes: Mapping[str, Notes],
        find_pose: FindPose,
    ) -> None:
        self.plan = plan
        self._in_force = InForce(parameters, plan.adapters)
        self._lock = threading.RLock()
        self._gate = Gate()
        self._find_pose = find_pose
        names = parameters.cameras or ("",)
        self.streams = {name: Stream(node, name, notes[name], self._gate) for name in names}
        try:
            self._sync_topics()
        except Exception:  # nobody else has them yet
            self._destroy_topics()
            raise
        self._slots: Slots[Incoming] | None = None
        self._workers: list[Worker[Any]] = []
        logger.info("images are converted by %s", backend().name)
        self.loading = Loading(loader(parameters, plan), self._loaded)

    @property
    def active(self) -> bool:
        return self._gate.is_open

    @property
    def settings(self) -> NodeParameters:
        return self._in_force.parameters

    def renews(self, adapters: Sequence[str]) -> bool:
        """Whether these are others than those in force, or their files are."""
        return adapters != self.settings.adapters or self.plan.outdated

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
        """New parameters, from the next frame on; topics come and go with them. ValueError for a
        wrong QoS override of a new one."""
        with self._gate.held():
            self._in_force = InForce(parameters, self.plan.adapters)
            self._sync_topics()
            if self.active:
                self._publish_labels()

    def activate(self) -> None:
        """Subscribes, and starts to work as soon as the engine is ready. RuntimeError with the
        cause when it could not be loaded, ValueError for a wrong QoS override."""
        if self.loading.state == "error":
            raise RuntimeError(self.loading.cause)
        with self._lock:
            try:
                for name, stream in self.streams.items():
                    stream.subscribe(self.settings.of_camera(name), self._on_image)
            except Exception:
                self._unsubscribe()
                raise
            self._gate.open()
            self._publish_labels()
            self._start_work()

    def deactivate(self) -> None:
        """Unsubscribes and stops at once; what a frame in work still gives is not published."""
        with self._lock:
            self._gate.shut()
            if self._slots is not None:
                self._slots.close()
            self._slots = None
            self._unsubscribe()

    def adapt(self) -> None:
        """Lets the subscriptions follow their publishers' reliability."""
        with self._lock:
            for stream in self.streams.values():
                if stream.topics_in is not None:
                    stream.topics_in.adapt()

    def close(self) -> None:
        """Takes the topics back and frees the engine."""
        self.deactivate()
        self._destroy_topics()
        self.loading.abandon(self._end_work)

    def join(self, timeout: float) -> bool:
        """Waits, after `close`, for the load and the frames in work, at most `timeout` seconds;
        True when all work has ended."""
        end = time.monotonic() + timeout
        return self._end_work(timeout) and self.loading.join(max(0.0, end - time.monotonic()))

    def _loaded(self) -> None:
        with self._lock:
            if self.active:
                self._start_work()

    def _start_work(self) -> None:
        engine = self.loading.engine
        if engine is None or self._slots is not None:
            return
        pipelines = {
            name: stream.start(engine, self._find_pose, logger.info)
            for name, stream in self.streams.items()
        }
        batch = Batch(engine, pipelines, lambda: self._in_force, self._failed)
        slots: Slots[Incoming] = Slots(tuple(self.streams))
        self._slots = slots
        worker: Worker[Any] = Worker(
            lambda: slots.take(self.settings.cameras_per_pass, self.settings.batch_wait),
            batch.handle,
            self._all_failed,
            "diception worker",
            batch.close,
        )
        # One of before the last deactivation may have a frame in work still.
        self._workers = [one for one in self._workers if not one.join(0)] + [worker]

    def _end_work(self, timeout: float | None = None) -> bool:
        """Waits for the frames in work, at most so many seconds; True when none is left."""
        end = None if timeout is None else time.monotonic() + timeout
        return all(
            worker.join(None if end is None else max(0.0, end - time.monotonic()))
            for worker in self._workers
        )

    def _sync_topics(self) -> None:
        for name, stream in self.streams.items():
            stream.topics_out.sync(self.settings.of_camera(name), self.plan.tasks)

    def _destroy_topics(self) -> None:
        with self._gate.held():
            for stream in self.streams.values():
                stream.topics_out.destroy()

    def _publish_labels(self) -> None:
        for name, stream in self.streams.items():
            stream.topics_out.publish_labels(self.settings.of_camera(name))

    def _unsubscribe(self) -> None:
        for stream in self.streams.values():
            stream.unsubscribe()

    def _on_image(self, camera: str, incoming: Incoming) -> None:
        statistics, slots = self.streams[camera].notes.statistics, self._slots
        statistics.received()
        if slots is None:
            statistics.dropped("loading")
        elif slots.put(camera, incoming):
            statistics.dropped("newer frame")

    def _failed(self, camera: str, error: Exception) -> None:
        self.streams[camera].failed(error)

    def _all_failed(self, error: Exception) -> None:
        for stream in self.streams.values():
            stream.failed(error)

# SPDX-License-Identifier: Apache-2.0
"""The frames of one or several cameras through one pass of the engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from diception_ros.engine import Adapter, Engine, Options, Outcome, Pending
from diception_ros.ros.inputs import Incoming
from diception_ros.ros.parameters import NodeParameters
from diception_ros.ros.pipeline import Pipeline
from diception_ros.ros.preparation import Asked
from diception_ros.ros.worker import Behind

logger = logging.getLogger(__name__)
Failed = Callable[[str, Exception], None]
"""failed(camera, error)."""


@dataclass(frozen=True)
class InForce:
    """What applies to a pass as a whole: the parameters and the adapters they name, by task."""

    parameters: NodeParameters
    adapters: Mapping[str, Adapter]


@dataclass(frozen=True)
class Begun:
    """A pass that the engine works on; error: why it could not begin."""

    asked: Mapping[str, Asked]
    parameters: NodeParameters
    pending: Pending | None = None
    error: Exception | None = None

    def outcome(self) -> Outcome:
        if self.pending is None:
            raise self.error or ValueError("nothing was begun")
        return self.pending.outcome()


class Batch:
    """Used by the worker's thread alone. Whatever goes wrong with one camera's frame is that
    camera's: the others get their answers.

    With `overlap` a pass is ended by a thread of its own while the next one is computed: two are
    in flight at most, and until the first has ended no third is taken, so that the newest wins.
    """

    def __init__(
        self,
        engine: Engine,
        pipelines: Mapping[str, Pipeline],
        in_force: Callable[[], InForce],
        failed: Failed,
    ) -> None:
        self._engine, self._pipelines = engine, pipelines
        self._in_force, self._failed = in_force, failed
        self._behind = Behind(self._end, self._all_failed, "diception publisher")
        self._activation = object()  # what a batch starts from is its own: it serves one activation

    def handle(self, waiting: Sequence[tuple[str, Incoming]]) -> None:
        """Answers one frame of each of these cameras, or counts why not."""
        in_force = self._in_force()
        self._sync_adapters(in_force.adapters)
        asked: dict[str, Asked] = {}
        for camera, incoming in waiting:
            with self._guarded(camera):
                parameters = in_force.parameters.of_camera(camera)
                found = self._pipelines[camera].prepare(incoming, parameters)
                if found is not None:
                    asked[camera] = found
        if not asked:
            return
        begun = self._begin(asked, in_force.parameters)
        if in_force.parameters.overlap:
            self._behind.put(begun)
        else:
            self._behind.wait()
            self._end(begun)

    def close(self) -> None:
        """After the last pass."""
        self._behind.close()

    def _begin(self, asked: Mapping[str, Asked], parameters: NodeParameters) -> Begun:
        images = [one.frame.rgb for one in asked.values()]
        requests = [one.requests for one in asked.values()]
        streams = [(self._activation, camera, one.epoch) for camera, one in asked.items()]
        options = Options(temporal=parameters.temporal, deadline_ms=parameters.deadline_ms or None)
        try:
            pending = self._engine.begin(images, requests, parameters.seed, options, streams)
        except Exception as error:
            return Begun(asked, parameters, error=error)
        return Begun(asked, parameters, pending)

    def _end(self, begun: Begun) -> None:
        """Waits for a pass and publishes what it has found."""
        asked = begun.asked
        try:
            outcome = begun.outcome()
        except Exception as error:
            if len(asked) == 1:
                self._fail(next(iter(asked)), error)
            else:  # whose frame was it? each for itself
                for camera, one in asked.items():
                    self._end(self._begin({camera: one}, begun.parameters))
            return
        for (camera, one), results in zip(asked.items(), outcome.results, strict=True):
            with self._guarded(camera):
                self._pipelines[camera].finish(one, results, outcome)

    @contextmanager
    def _guarded(self, camera: str) -> Iterator[None]:
        try:
            yield
        except Exception as error:  # the robot's node must outlive any single frame
            self._fail(camera, error)

    def _fail(self, camera: str, error: Exception) -> None:
        logger.exception("a frame failed")
        self._failed(camera, error)

    def _all_failed(self, error: Exception) -> None:
        for camera in self._pipelines:
            self._failed(camera, error)

    def _sync_adapters(self, wanted: Mapping[str, Adapter]) -> None:
        """Loads and unloads in the engine, here because nobody waits for it between two frames."""
        for name, adapter in self._engine.adapters.items():
            if adapter is not wanted.get(name):
                self._engine.unload_adapter(name)
        for name, adapter in wanted.items():
            if name not in self._engine.adapters:
                self._engine.load_adapter(adapter)

# SPDX-License-Identifier: Apache-2.0
"""The frames of one or several cameras through one pass of the engine."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from diception_ros.engine import Adapter, Engine, Options
from diception_ros.ros.inputs import Incoming
from diception_ros.ros.parameters import NodeParameters
from diception_ros.ros.pipeline import Asked, Pipeline

logger = logging.getLogger(__name__)
Failed = Callable[[str, Exception], None]
"""failed(camera, error)."""


@dataclass(frozen=True)
class InForce:
    """What applies to a pass as a whole: the parameters and the adapters they name, by task."""

    parameters: NodeParameters
    adapters: Mapping[str, Adapter]


class Batch:
    """Used by the worker's thread alone. Whatever goes wrong with one camera's frame is that
    camera's: the others get their answers."""

    def __init__(
        self,
        engine: Engine,
        pipelines: Mapping[str, Pipeline],
        in_force: Callable[[], InForce],
        failed: Failed,
    ) -> None:
        self._engine, self._pipelines = engine, pipelines
        self._in_force, self._failed = in_force, failed

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
        if asked:
            self._answer(asked, in_force.parameters)

    def _answer(self, asked: Mapping[str, Asked], parameters: NodeParameters) -> None:
        images = [one.frame.rgb for one in asked.values()]
        requests = [one.requests for one in asked.values()]
        streams = [(camera, self._pipelines[camera].epoch) for camera in asked]
        options = Options(temporal=parameters.temporal, deadline_ms=parameters.deadline_ms or None)
        try:
            outcome = self._engine.run(images, requests, parameters.seed, options, streams)
        except Exception as error:
            if len(asked) == 1:
                self._fail(next(iter(asked)), error)
            else:  # whose frame was it? each for itself
                for camera, one in asked.items():
                    self._answer({camera: one}, parameters)
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

    def _sync_adapters(self, wanted: Mapping[str, Adapter]) -> None:
        """Loads and unloads in the engine, here because nobody waits for it between two frames."""
        for name, adapter in self._engine.adapters.items():
            if adapter is not wanted.get(name):
                self._engine.unload_adapter(name)
        for name, adapter in wanted.items():
            if name not in self._engine.adapters:
                self._engine.load_adapter(adapter)

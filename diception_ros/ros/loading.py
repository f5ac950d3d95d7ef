# SPDX-License-Identifier: Apache-2.0
"""Loading the engine beside the node's life, so that no lifecycle service waits for it."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from safetensors import SafetensorError, safe_open

from diception_ros.engine import (
    EMBEDDED_BUNDLE,
    Adapter,
    BundleInfo,
    Engine,
    read_bundle_info,
    task_of,
)
from diception_ros.geometry.cloud_filter import load_open3d
from diception_ros.ros.offer import bundle_path, expanded, resolve
from diception_ros.ros.outputs import OUTPUTS
from diception_ros.ros.parameters import NodeParameters, specs
from diception_ros.tasks import TASKS, Request, Task, load_tasks

logger = logging.getLogger(__name__)
RESERVED = {spec.name.partition(".")[0] for spec in specs(())} | {
    output.topic.partition("/")[0] for output in OUTPUTS
}
"""Names that a task of one's own cannot have: its parameters or topics would collide."""
Load = Callable[[Callable[[str], None]], Engine]
Stamp = tuple[int, int]
ONE_ENGINE = threading.Lock()
"""Held by whoever loads one or frees it: a GPU with room for one may have none for two."""


@dataclass(frozen=True)
class Plan:
    """What a configure found, without reading the bundle's weights. tasks: all, those of the
    adapters last; adapters: by the task that each brings; stamps: of their files, by path."""

    bundle: Path
    info: BundleInfo
    prompts: tuple[str, ...]
    tasks: Mapping[str, Task]
    adapters: Mapping[str, Adapter] = field(default_factory=dict)
    stamps: Mapping[str, Stamp | None] = field(default_factory=dict)

    @property
    def outdated(self) -> bool:
        """Whether an adapter's file has been written again since it was read."""
        return any(stamp_of(path) not in (None, before) for path, before in self.stamps.items())

    @property
    def own_tasks(self) -> dict[str, Task]:
        """Without those of the adapters."""
        return {name: task for name, task in self.tasks.items() if name not in self.adapters}

    def resolve(self, parameters: NodeParameters) -> NodeParameters:
        """See offer.resolve."""
        return resolve(parameters, self.tasks, self.prompts, tuple(self.adapters))


def plan(parameters: NodeParameters) -> Plan:
    """Checks the bundle's files, the task file and the adapters; takes milliseconds.
    ValueError with the cause: a missing or damaged file, no CUDA, a wrong task file."""
    parameters.engine_config().resolve_device()
    bundle = bundle_path(parameters, EMBEDDED_BUNDLE)
    info = read_bundle_info(bundle)
    prompts = read_prompts(bundle / "prompts.safetensors")
    found = with_adapters(Plan(bundle, info, prompts, task_table(parameters)), parameters.adapters)
    clash = [name for name in parameters.cameras if name in RESERVED or name in found.tasks]
    if clash:
        raise ValueError(f"cameras: the name '{clash[0]}' belongs to other parameters or topics")
    return found


def with_adapters(found: Plan, paths: Sequence[str]) -> Plan:
    """The plan with these adapters instead of those it has. ValueError for a file that cannot be
    read or is no adapter, or a task whose name is taken."""
    tasks, adapters, stamps = found.own_tasks, {}, {}
    for path in paths:
        try:
            stamps[path] = stamp_of(path)
            adapter = Adapter.load(expanded(path))
        except OSError as error:
            raise ValueError(f"adapters: {path} cannot be read: {error}") from error
        task = task_of(adapter)
        if task.name in RESERVED or task.name in tasks:
            raise ValueError(f"adapters: {path}: the name '{task.name}' is taken")
        tasks[task.name], adapters[task.name] = task, adapter
    return replace(found, tasks=tasks, adapters=adapters, stamps=stamps)


def stamp_of(path: str) -> Stamp | None:
    """When a file was written, in ns, and its bytes; None where there is none."""
    try:
        found = expanded(path).stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_size


def task_table(parameters: NodeParameters) -> dict[str, Task]:
    """The built-in tasks and those of `task_file`. ValueError with the cause."""
    if not parameters.task_file:
        return dict(TASKS)
    path = expanded(parameters.task_file)
    if not path.is_file():
        raise ValueError(f"task_file: {path} is missing")
    own = load_tasks(path)
    clash = sorted((RESERVED | set(TASKS)) & set(own))
    if clash:
        raise ValueError(f"{path}: the name '{clash[0]}' belongs to other parameters or topics")
    return {**TASKS, **own}


def read_prompts(path: Path) -> tuple[str, ...]:
    """The prompt strings of a bank, from its header alone. ValueError if it is damaged."""
    try:
        with safe_open(path, framework="pt") as file:
            return tuple(json.loads((file.metadata() or {})["prompts"]))
    except (SafetensorError, OSError, KeyError) as error:
        raise ValueError(f"{path} is damaged or no prompt bank: {error}") from error


def warm_requests(parameters: NodeParameters, tasks: Mapping[str, Task]) -> list[Request]:
    """One request per offered task, so that a GPU captures its graphs before the first frame."""
    requests = []
    for name in parameters.tasks:
        category = None
        if tasks[name].takes_category:
            if not parameters.categories:
                continue
            category = parameters.categories[0]
        points = ((0.0, 0.0),) if tasks[name].takes_points else ()
        settings = parameters.of_task(name)
        requests.append(
            Request(
                name,
                points=points,
                category=category,
                steps=settings.steps or None,
                guidance=settings.guidance or None,
            )
        )
    return requests


def loader(parameters: NodeParameters, found: Plan) -> Load:
    """A function that loads the engine as planned."""
    config, adapters = parameters.engine_config(), tuple(found.adapters.values())
    on_gpu = config.resolve_device().type == "cuda"
    warm = warm_requests(parameters, found.tasks) if on_gpu else []

    def load(progress: Callable[[str], None]) -> Engine:
        for name in parameters.cloud.filters:  # not while the first frame waits
            load_open3d(f"cloud.{name}")
        return Engine.load(found.bundle, config, found.own_tasks, progress, warm, adapters)

    return load


def close_after(end_work: Callable[[], object], engine: Engine) -> None:
    with ONE_ENGINE:
        end_work()
        engine.close()


class Loading:
    """One background load. `state` is loading, ready or error; `cause` says what is going on."""

    def __init__(self, load: Load, finished: Callable[[], None]) -> None:
        self.state, self.cause = "loading", "waiting for the engine of before to end"
        self.engine: Engine | None = None
        self._lock = threading.Lock()
        self._abandoned = False
        self._finished = finished
        self._closing: threading.Thread | None = None
        self._thread = threading.Thread(
            target=self._run, args=(load,), name="diception loading", daemon=True
        )
        self._thread.start()

    def abandon(self, end_work: Callable[[], object]) -> None:
        """Frees the engine as soon as it has been loaded and end_work has returned. Does so in the
        background: no lifecycle service may wait for a frame in work, which needs the engine."""
        with self._lock:
            self._abandoned = True
            engine, self.engine = self.engine, None
        if engine is not None:
            self._closing = threading.Thread(
                target=close_after, args=(end_work, engine), name="diception closing", daemon=True
            )
            self._closing.start()

    def join(self, timeout: float) -> bool:
        """Waits for the end of the load and of what frees the engine, in seconds; True when both
        have ended."""
        threads = [thread for thread in (self._thread, self._closing) if thread is not None]
        end = time.monotonic() + timeout
        for thread in threads:
            thread.join(max(0.0, end - time.monotonic()))
        return not any(thread.is_alive() for thread in threads)

    def _run(self, load: Load) -> None:
        with ONE_ENGINE:
            if not self._abandoned:
                self._try(load)
        self._finished()

    def _try(self, load: Load) -> None:
        self.cause = "reading the bundle"
        try:
            engine = load(self._say)
        except Exception as error:  # whatever stops a load is the user's to read, not a trace
            logger.debug("loading failed", exc_info=True)
            self.state, self.cause = "error", f"loading failed: {error}"
            logger.error(self.cause)
        else:
            self._keep(engine)

    def _keep(self, engine: Engine) -> None:
        with self._lock:
            abandoned = self._abandoned
            if not abandoned:
                self.engine = engine
                self.state, self.cause = "ready", ""
        if abandoned:
            engine.close()

    def _say(self, line: str) -> None:
        self.cause = line
        logger.info(line)

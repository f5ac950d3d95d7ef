# SPDX-License-Identifier: Apache-2.0
"""Loading the engine beside the node's life, so that no lifecycle service waits for it."""

from __future__ import annotations

import json
import logging
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError, safe_open

from diception_ros.engine import (
    EMBEDDED_BUNDLE,
    BundleInfo,
    Engine,
    read_bundle_info,
)
from diception_ros.ros.offer import bundle_path
from diception_ros.ros.outputs import OUTPUTS
from diception_ros.ros.parameters import NodeParameters, specs
from diception_ros.tasks import TASKS, Request, Task, load_tasks

logger = logging.getLogger(__name__)
RESERVED = {spec.name.partition(".")[0] for spec in specs(())} | {
    output.topic.partition("/")[0] for output in OUTPUTS
}
"""Names that a task of one's own cannot have: its parameters or topics would collide."""
Load = Callable[[Callable[[str], None]], Engine]


@dataclass(frozen=True)
class Plan:
    """What a configure found, without reading any weights."""

    bundle: Path
    info: BundleInfo
    prompts: tuple[str, ...]
    tasks: Mapping[str, Task]


def plan(parameters: NodeParameters) -> Plan:
    """Checks the bundle's files and the task file; takes milliseconds.
    ValueError with the cause: a missing or damaged file, no CUDA, a wrong task file."""
    parameters.engine_config().resolve_device()
    bundle = bundle_path(parameters, EMBEDDED_BUNDLE)
    info = read_bundle_info(bundle)
    return Plan(bundle, info, read_prompts(bundle / "prompts.safetensors"), task_table(parameters))


def task_table(parameters: NodeParameters) -> dict[str, Task]:
    """The built-in tasks and those of `task_file`. ValueError with the cause."""
    if not parameters.task_file:
        return dict(TASKS)
    path = Path(parameters.task_file).expanduser()
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
    config = parameters.engine_config()
    on_gpu = config.resolve_device().type == "cuda"
    warm = warm_requests(parameters, found.tasks) if on_gpu else []

    def load(progress: Callable[[str], None]) -> Engine:
        return Engine.load(found.bundle, config, found.tasks, progress, warm)

    return load


class Loading:
    """One background load. `state` is loading, ready or error; `cause` says what is going on."""

    def __init__(self, load: Load, finished: Callable[[], None]) -> None:
        self.state, self.cause = "loading", "reading the bundle"
        self.engine: Engine | None = None
        self._lock = threading.Lock()
        self._abandoned = False
        self._finished = finished
        self._thread = threading.Thread(
            target=self._run, args=(load,), name="diception loading", daemon=True
        )
        self._thread.start()

    def abandon(self) -> None:
        """Frees the engine, in the background, now or as soon as it has been loaded."""
        with self._lock:
            self._abandoned = True
            engine, self.engine = self.engine, None
        if engine is not None:
            # A frame in work holds the engine's lock; no lifecycle service may wait for that.
            threading.Thread(target=engine.close, name="diception closing", daemon=True).start()

    def join(self, timeout: float) -> bool:
        """Waits for the end of the load, in seconds; True when it has ended."""
        self._thread.join(timeout)
        return not self._thread.is_alive()

    def _run(self, load: Load) -> None:
        try:
            engine = load(self._say)
        except Exception as error:  # whatever stops a load is the user's to read, not a trace
            logger.debug("loading failed", exc_info=True)
            self.state, self.cause = "error", f"loading failed: {error}"
            logger.error(self.cause)
        else:
            self._keep(engine)
        self._finished()

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

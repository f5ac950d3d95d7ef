# SPDX-License-Identifier: Apache-2.0
"""Engine: several images, several requests each, one shared pass."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from diception_ros.engine.adapters import Adapters, task_of
from diception_ros.engine.asking import Asking
from diception_ros.engine.config import EngineConfig
from diception_ros.engine.deadline import Costs, Plan, choose
from diception_ros.engine.jobs import Clock, Job, Options, Outcome
from diception_ros.engine.naive import Naive
from diception_ros.engine.network import prepare
from diception_ros.engine.passes import Passes
from diception_ros.engine.pending import Pending
from diception_ros.engine.stages import Stages
from diception_ros.engine.transfers import Arrival
from diception_ros.imaging import Canvas
from diception_ros.model import BundleInfo, Diception, make_sd3_sized_model
from diception_ros.model.lora import Adapter
from diception_ros.tasks import TASKS, Request, Result, Task

logger = logging.getLogger(__name__)

Image = npt.NDArray[np.uint8]
Progress = Callable[[str], None]


class Engine:
    """One loaded bundle. All methods may be called from any thread; one call runs at a time.

    Nearly 300 lines with its docstrings: it is the whole of what callers see of the network.
    """

    def __init__(self, model: Diception, config: EngineConfig, tasks: Mapping[str, Task]) -> None:
        self.config = config
        self.info: BundleInfo = model.info
        self.canvas = Canvas(*(config.canvas or model.info.canvas))
        self._model: Diception | None = model
        prepare(model, compiled=config.compile)
        self._stages = Stages(model, config.max_batch, config.graphs, config.compile)
        self._adapters = Adapters(model)
        self._asking = Asking(model, tasks)
        self._passes = Passes(model, self._stages, self._adapters)
        self._costs = Costs()
        self._lock = threading.Lock()
        self.device_name = _device_name(model.device, model.dtype)

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        config: EngineConfig | None = None,
        tasks: Mapping[str, Task] | None = None,
        progress: Progress | None = None,
        warm: Iterable[Request] = (),
        adapters: Iterable[str | Path | Adapter] = (),
    ) -> Engine:
        """Loads a bundle and its adapters and runs the `warm` requests once, so that their graphs
        are captured before the first frame. ValueError for a device that is not there, a damaged
        bundle or an adapter of another one."""
        config, say = config or EngineConfig(), progress or logger.info
        device = config.resolve_device()
        if config.threads is not None:
            torch.set_num_threads(config.threads)
        dtype = config.resolve_dtype(device)
        say(f"loading {bundle} on {device} in {str(dtype).removeprefix('torch.')}")
        engine = cls(
            Diception.load(bundle, device, dtype), config, TASKS if tasks is None else tasks
        )
        for adapter in adapters:
            say(f"adapter for {engine.load_adapter(adapter)}")
        for request in warm:
            say(f"warming up {request.task}")
            blank = np.zeros((engine.canvas.height, engine.canvas.width, 3), np.uint8)
            engine.infer([blank], [[request]])
        say(f"{engine.info.name} ready on {engine.device_name}, {engine.graph_state}")
        return engine

    @classmethod
    def sd3_sized(cls, config: EngineConfig | None = None) -> Engine:
        """SD3-medium's size with random weights made on the device, for measuring speed."""
        config = config or EngineConfig()
        device = config.resolve_device()
        return cls(make_sd3_sized_model(device, config.resolve_dtype(device)), config, TASKS)

    def sharing(self, **changes: Any) -> Engine:
        """Another engine over the same weights, with some settings of the config changed. Not to be
        called at the same time as this one."""
        return Engine(self._loaded(), replace(self.config, **changes), self.tasks)

    def naive(self, compiled: str | None = None) -> Naive:
        """The plain code to measure against, over the same weights and at the same size."""
        return Naive(self._loaded(), self.canvas, compiled)

    @property
    def tasks(self) -> dict[str, Task]:
        """Those that can be asked for, adapters' as well, by name."""
        return self._asking.tasks

    @property
    def device(self) -> torch.device:
        return self._loaded().device

    @property
    def dtype(self) -> torch.dtype:
        return self._loaded().dtype

    @property
    def weight_bytes(self) -> int:
        """Of the transformer and the autoencoder: what one step at least reads."""
        return self.step_bytes + _bytes(self._loaded().vae)

    @property
    def step_bytes(self) -> int:
        """Of the transformer: what every further step at least reads."""
        return _bytes(self._loaded().transformer)

    @property
    def graph_state(self) -> str:
        return self._stages.state

    @property
    def faults(self) -> str:
        """A capture or a compilation that was asked for and failed; empty if none did."""
        return self._stages.faults

    @property
    def prompts(self) -> tuple[str, ...]:
        """Every prompt string of the bundle's bank."""
        return self._loaded().prompts.names

    @property
    def categories(self) -> tuple[str, ...]:
        """Categories that the semantic task can be asked for with this bundle."""
        return self._asking.categories

    @property
    def adapters(self) -> Mapping[str, Adapter]:
        """The loaded adapters by the name of their task."""
        self._loaded()
        return self._adapters.loaded

    def check_adapter(self, adapter: Adapter) -> None:
        """ValueError unless the adapter was trained on this very bundle. Waits for no frame."""
        self._loaded()
        self._adapters.check(adapter)

    def load_adapter(self, adapter: str | Path | Adapter) -> str:
        """Adds the task of an adapter (a file or one that was read); returns the task's name.

        From now on requests for this task run with the adapter's weights and all others with the
        bundle's own, in one call of `infer`, too. ValueError for a file that is no adapter, one
        of another bundle, or a task of that name that is there already.
        """
        if not isinstance(adapter, Adapter):
            adapter = Adapter.load(adapter)
        task = task_of(adapter)
        with self._lock:
            self._loaded()
            if task.name in self.tasks:
                raise ValueError(f"adapter '{task.name}': a task of this name is there already")
            self._adapters.add(adapter)
            self._asking.tasks = {**self.tasks, task.name: task}
        return task.name

    def unload_adapter(self, name: str) -> None:
        """Takes the adapter and its task away. ValueError for a name that is not loaded."""
        with self._lock:
            self._loaded()
            self._adapters.remove(name)
            self._asking.tasks = {k: task for k, task in self.tasks.items() if k != name}

    def set_adapter(self, name: str | None) -> None:
        """Which adapter's weights rest merged between calls, None for the bundle's own.

        No answer depends on it: a request always runs with its own task's weights. It spares an
        engine that is asked for this task alone from merging and restoring in every call.
        ValueError for a name that is not loaded.
        """
        with self._lock:
            self._loaded()
            self._adapters.rest(None if name is None else self._adapters.find(name))

    def infer(
        self,
        images: Sequence[Image],
        requests: Sequence[Sequence[Request]],
        seed: int | None = None,
    ) -> list[list[Result]]:
        """RGB uint8 images (H, W, 3) and per image its requests -> results at each image's size.

        Deterministic for a given seed. ValueError for an unknown task, a missing category, a prompt
        that is not in the bank, or a point outside the image.
        """
        return self.run(images, requests, seed).results

    def run(
        self,
        images: Sequence[Image],
        requests: Sequence[Sequence[Request]],
        seed: int | None = None,
        options: Options | None = None,
        streams: Sequence[Hashable] | None = None,
    ) -> Outcome:
        """As `infer`, with timings and options. The image is encoded once and shared by its
        requests; requests with equal steps, guidance and weights go through the transformer in one
        batch. streams: per image, whose previous latents a temporal start takes (a camera's name; a
        new key starts afresh).
        A deadline counts from when the network is free.
        """
        return self.begin(images, requests, seed, options, streams).outcome()

    def begin(
        self,
        images: Sequence[Image],
        requests: Sequence[Sequence[Request]],
        seed: int | None = None,
        options: Options | None = None,
        streams: Sequence[Hashable] | None = None,
    ) -> Pending:
        """As `run`, but gives what is left to wait for: a GPU's work is queued, a CPU has done the
        network's. The next call may begin before this one's outcome is asked for, so that the
        network works while answers cross, are decoded and are published. ValueError as `run`."""
        options, clock = options or Options(), Clock(self._loaded().device)
        with self._lock, _on(self._loaded().device), torch.inference_mode():
            jobs = self._asking.jobs(images, requests, self._adapters.loaded)
            plan = self._plan(jobs, options)
            first = self.config.seed if seed is None else seed
            samples = self._asking.samples(jobs, plan, options, first, streams)
            captures = self._stages.captures
            generated = Arrival(())
            if jobs:
                generated = self._passes.generate(
                    images, samples, plan.canvas, options.temporal, clock
                )
            graph = self._stages.graphs and not self._stages.failure
            captured = self._stages.captures > captures
        begun = images, requests, jobs, samples, plan, options
        return Pending(*begun, generated, clock, self._costs, graph, captured)

    def close(self) -> None:
        """Frees the model and its graphs; the engine cannot be used afterwards."""
        with self._lock:
            self._model = None
            del self._stages, self._adapters, self._passes
            if torch.cuda.is_available():
                torch.cuda.empty_cache()

    def check(self, request: Request) -> None:
        """ValueError, with what to do, if this engine cannot answer the request."""
        self._loaded()
        self._asking.check(request, self._adapters.loaded)

    def _loaded(self) -> Diception:
        if self._model is None:
            raise ValueError("this engine was closed: load a new one")
        return self._model

    def _plan(self, jobs: Sequence[Job], options: Options) -> Plan:
        if options.deadline_ms is None or not jobs:
            return Plan(self.canvas)
        placed = [job for job in jobs for _ in range(options.samples)]
        return choose(placed, self.canvas, self._costs, options.deadline_ms)


def _bytes(module: torch.nn.Module) -> int:
    return sum(weight.numel() * weight.element_size() for weight in module.parameters())


def _on(device: torch.device) -> AbstractContextManager[object]:
    """Makes a GPU the current one, whose streams are meant wherever none is named."""
    return torch.cuda.device(device) if device.type == "cuda" else nullcontext()


def _device_name(device: torch.device, dtype: torch.dtype) -> str:
    precision = str(dtype).removeprefix("torch.")
    if device.type == "cuda":
        return f"{torch.cuda.get_device_name(device)} ({precision})"
    return f"CPU, {torch.get_num_threads()} threads ({precision})"

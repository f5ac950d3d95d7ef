# SPDX-License-Identifier: Apache-2.0
"""The adapters of one engine: which task each brings, and whose weights are in place."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from diception_ros.model import Diception
from diception_ros.model.lora import Adapter, Merging
from diception_ros.tasks import Task
from diception_ros.tasks.custom import make_task


class Adapters:
    """Not safe for concurrent calls but for `check` and `loaded`: the engine holds its lock."""

    def __init__(self, model: Diception) -> None:
        self._merging = Merging(model)
        self.loaded: Mapping[str, Adapter] = {}
        self.resting: Adapter | None = None
        """What is merged between two calls of the engine."""

    def check(self, adapter: Adapter) -> None:
        """ValueError unless the adapter was trained on this very bundle."""
        self._merging.check(adapter)

    def add(self, adapter: Adapter) -> None:
        self._merging.add(adapter)
        self.loaded = {**self.loaded, adapter.info.task: adapter}

    def remove(self, name: str) -> None:
        """ValueError for a name that is not loaded."""
        adapter = self.find(name)
        if adapter is self.resting:
            self.rest(None)
        self._merging.remove(adapter)
        self.loaded = {key: value for key, value in self.loaded.items() if key != name}

    def find(self, name: str) -> Adapter:
        """ValueError for a name that is not loaded."""
        if name not in self.loaded:
            known = ", ".join(self.loaded) or "none is"
            raise ValueError(f"adapter '{name}' is not loaded: {known}")
        return self.loaded[name]

    def rest(self, adapter: Adapter | None) -> None:
        self._merging.use(adapter)
        self.resting = adapter

    @contextmanager
    def in_turn(self) -> Iterator[Merging]:
        """For a call that merges as it goes; afterwards the weights rest as before."""
        try:
            yield self._merging
        finally:
            self._merging.use(self.resting)


def task_of(adapter: Adapter) -> Task:
    """The task that an adapter brings. ValueError for a name or kind that cannot be."""
    info = adapter.info
    return make_task({"name": info.task, "prompt": info.prompt, "kind": info.kind})

# SPDX-License-Identifier: Apache-2.0
"""Workers that answer items: this process, or Ray's actors on any number of machines.

An actor makes its worker once (an engine is loaded then) and gets one item at a time. One that dies
is replaced and its item done again by whoever is free, so an item must be one that can be done
twice. Results come in the order of the items, whoever was first.
"""

from __future__ import annotations

import contextlib
import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from diception_ros.evaluation.cluster import Cluster, find_ray, fitting, start

Make = Callable[[], Any]
ATTEMPTS = 3
"""Workers that an item may take along before it is given up."""
POLL = 0.5
"""s between two looks at how far the workers are."""


class Workers(Protocol):
    def map(self, method: str, items: Iterable[Any]) -> Iterator[Any]:
        """worker.method(item) for every item, in order."""


class Here:
    """One worker, in this process."""

    def __init__(self, worker: Any) -> None:
        self._worker = worker

    def map(self, method: str, items: Iterable[Any]) -> Iterator[Any]:
        return map(getattr(self._worker, method), items)


@contextmanager
def connected(
    cluster: Cluster, make: Make, watch: Callable[[list[Any]], None] | None = None
) -> Iterator[Pool]:
    """Workers made by `make` on the cluster, ended with the context. watch: is told what the
    workers' method `news` says, twice a second. ValueError without Ray, for an address where
    nothing answers, or when the cluster cannot hold the workers."""
    ray = find_ray()
    ours = not ray.is_initialized()
    if ours:
        start(ray, cluster.address)
    try:
        pool = Pool(ray, make, fitting(cluster, ray.cluster_resources()), watch)
        try:
            yield pool
        finally:
            pool.close()
    finally:
        if ours:
            ray.shutdown()


class _Actor:
    """What runs in a worker's process: one call at a time, and news of it beside."""

    def __init__(self, make: Make, folder: str) -> None:
        with contextlib.suppress(OSError):  # relative names mean the same as at the command
            os.chdir(folder)
        self._make = make
        self._worker: Any = None

    def call(self, method: str, item: Any) -> Any:
        if self._worker is None:
            self._worker = self._make()
        return getattr(self._worker, method)(item)

    def pid(self) -> int:
        return os.getpid()

    def news(self) -> Any:
        return self._worker.news() if self._worker is not None else None


@dataclass
class _Given:
    """An item, its place in the order, and the workers that died of it."""

    number: int
    item: Any
    order: _Order
    deaths: int = 0


class _Order:
    """Items given out at most `ahead` before the first that is not done; results in order."""

    def __init__(self, items: Iterable[Any], ahead: int) -> None:
        self._items, self._ahead = enumerate(items), ahead
        self._again, self._done = deque[_Given](), dict[int, Any]()
        self._given = self._taken = 0
        self._more = True

    @property
    def finished(self) -> bool:
        return not self._more and self._taken == self._given

    def next(self) -> _Given | None:
        """None where there is nothing to do now."""
        if self._again:
            return self._again.popleft()
        if not self._more or self._given - self._taken >= self._ahead:
            return None
        found = next(self._items, None)
        if found is None:
            self._more = False
            return None
        self._given += 1
        return _Given(*found, self)

    def done(self, given: _Given, value: Any) -> None:
        self._done[given.number] = value

    def again(self, given: _Given, cause: Exception) -> None:
        """ValueError when it was tried often enough."""
        given.deaths += 1
        if given.deaths == ATTEMPTS:
            raise ValueError(
                f"{ATTEMPTS} workers died of {given.item}, the last: "
                f"{' '.join(str(cause).split())[:300]}"
            )
        self._again.append(given)

    def ready(self) -> Iterator[Any]:
        while self._taken in self._done:
            self._taken += 1
            yield self._done.pop(self._taken - 1)


class Pool:
    """See `connected`."""

    def __init__(
        self, ray: Any, make: Make, cluster: Cluster, watch: Callable[[list[Any]], None] | None
    ) -> None:
        self._ray, self._watch, self.size = ray, watch, cluster.workers
        folder = str(Path.cwd())
        threads = {"OMP_NUM_THREADS": str(cluster.cpus)}
        kind = ray.remote(_Actor).options(
            num_cpus=cluster.cpus,
            num_gpus=cluster.gpus,
            max_concurrency=2,
            runtime_env={"env_vars": threads},
        )
        self._start: Callable[[], Any] = lambda: kind.remote(make, folder)
        self._failed = 0
        self._idle: list[Any] = []
        self._running: dict[Any, tuple[Any, _Given | None]] = {}
        self._news: dict[Any, Any] = {}
        for _ in range(cluster.workers):
            self._ping(self._start())

    def close(self) -> None:
        for actor in [*self._idle, *(actor for actor, _ in self._running.values())]:
            self._ray.kill(actor)

    def map(self, method: str, items: Iterable[Any], ahead: int = 0) -> Iterator[Any]:
        """worker.method(item) for every item, in order. ahead: items at most that are given out
        before the first of them is done, 0 for four a worker. An error of the worker's is raised
        here; ValueError for an item that took ATTEMPTS workers along."""
        order = _Order(items, ahead or 4 * self.size)
        while not order.finished:
            while self._idle and (given := order.next()) is not None:
                actor = self._idle.pop()
                self._running[actor.call.remote(method, given.item)] = actor, given
            if not order.finished:
                self._collect()
            yield from order.ready()

    def _collect(self) -> None:
        """Waits for whoever is ready first. What an order left behind that was given up goes to
        that order, and nowhere."""
        ready, _ = self._ray.wait(list(self._running), timeout=POLL)
        for ref in ready:
            actor, given = self._running.pop(ref)
            try:
                value = self._ray.get(ref)
            except self._ray.exceptions.RayTaskError as error:
                self._idle.append(actor)
                raise (error.cause or error) from None
            except self._ray.exceptions.RayError as error:  # the worker or its machine is gone
                self._ray.kill(actor)
                self._ping(self._start())
                if given is None:
                    self._not_started(error)
                else:
                    given.order.again(given, error)
            else:
                self._failed = 0
                self._idle.append(actor)
                if given is not None:
                    given.order.done(given, value)
        if self._watch is not None:
            self._watch(self._fresh_news())

    def _not_started(self, cause: Exception) -> None:
        """ValueError when it goes on like that, as where a machine lacks the package."""
        self._failed += 1
        if self._failed >= ATTEMPTS * self.size:
            line = (str(cause).strip().splitlines() or ["no cause is known"])[-1]
            raise ValueError(f"no worker can be started: {line}")

    def _ping(self, actor: Any) -> None:
        """It gets work when it answers: a cluster may have no place for it yet."""
        self._running[actor.pid.remote()] = actor, None

    def _fresh_news(self) -> list[Any]:
        found = []
        for actor, given in self._running.values():
            if given is not None and actor not in self._news:
                self._news[actor] = actor.news.remote()
        ready, _ = (
            self._ray.wait(list(self._news.values()), num_returns=len(self._news), timeout=0)
            if self._news
            else ([], [])
        )
        for actor, ref in list(self._news.items()):
            if ref in ready:
                del self._news[actor]
                try:
                    found.append(self._ray.get(ref))
                except self._ray.exceptions.RayError:
                    continue  # its work tells the same
        return [one for one in found if one is not None]

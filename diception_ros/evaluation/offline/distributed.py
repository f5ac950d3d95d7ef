# SPDX-License-Identifier: Apache-2.0
"""One output made by many workers: bags, and slices of long ones, each a run of its own.

A worker writes its slice into OUT.mcap.parts/00000.parts/ and so on, as a run in one process writes
its parts: a slice whose worker dies goes on after its last part, with whoever takes it next. At the
end all parts are joined in the order of the slices.
"""

from __future__ import annotations

import itertools
import json
import platform
import shutil
import time
from collections import Counter, deque
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from diception_ros.evaluation.cluster import Cluster
from diception_ros.evaluation.offline.channels import channels
from diception_ros.evaluation.offline.joiner import Joiner
from diception_ros.evaluation.offline.mcap import Topic
from diception_ros.evaluation.offline.output import (
    SLICES,
    TABLE,
    Output,
    Position,
    check_settings,
    finished,
    parts_folder,
    parts_in,
    plain,
    table_of,
)
from diception_ros.evaluation.offline.plan import Plan, Slice
from diception_ros.evaluation.offline.run import (
    OnProblem,
    OnProgress,
    Run,
    Summary,
    load,
    summary_of,
    told_when_full,
)
from diception_ros.evaluation.offline.sources import opened
from diception_ros.evaluation.offline.timeline import Problem
from diception_ros.evaluation.workers import Pool, connected
from diception_ros.ros.incoming import Prompts
from diception_ros.tasks import Task

PER_WORKER = 4
"""Slices for each worker where bags are few, so that all end at about the same time."""
MOST = 16
"""Slices of a bag: each reads it from the beginning, which must not become the larger work."""
LEAST = 32
"""Images of a slice."""


@dataclass(frozen=True)
class Job:
    """What every worker is told. values: of the node's parameters, from which it loads its engine;
    topics: all that may be written; places: what it must see; points: see Run."""

    plan: Plan
    values: Mapping[str, Any]
    topics: Sequence[Topic]
    places: Sequence[Path]
    points: Prompts | None = None

    @classmethod
    def of(
        cls,
        plan: Plan,
        values: Mapping[str, Any],
        tasks: Mapping[str, Task],
        points: Prompts | None = None,
    ) -> Job:
        """tasks: all that the bundle answers. ValueError for bags that have not what is asked."""
        bags = tuple(path.resolve() for path in plan.bags)
        plan = replace(plan, bags=bags, out=plan.out.resolve())
        places = [path for path in (*bags, plan.out.parent) if path.exists()]
        return cls(plan, dict(values), channels(plan, tasks), places, points)

    def worker(self) -> _Worker:
        return _Worker(self)


@dataclass(frozen=True)
class _Item:
    """A slice, its place among all, and what was asked."""

    number: int
    part: Slice
    settings: Mapping[str, Any]

    def __str__(self) -> str:
        images = f"images {self.part.first} to {self.part.last or 'the end'}"
        return f"{images} of {self.settings['bags'][self.part.bag]}"


class _Worker:
    """In a process of its own, with its own engine. ValueError when it does not see the files."""

    def __init__(self, job: Job) -> None:
        missing = [path for path in job.places if not path.exists()]
        if missing:
            raise ValueError(
                f"{platform.node()} does not see {missing[0]}: bags and --out must lie where all "
                "machines find them under the same name"
            )
        engine, parameters = load(job.values, lambda line: None)
        plan = replace(job.plan, parameters=parameters)
        self._job, self._problems = job, deque[Problem]()
        self._number = self._images = 0
        self._run = Run(plan, engine, self._problems.append, self._progress, job.points)

    def settings(self, _: Any = None) -> dict[str, Any]:
        return plain(self._run.settings())

    def answer(self, item: _Item) -> tuple[Position, list[Problem]]:
        """With the problems that no news has told. ValueError on another kind of machine: its
        answers would be others."""
        mine = self.settings()["device"]
        if mine != item.settings["device"]:
            raise ValueError(
                f"{platform.node()} answers on '{mine}', others on '{item.settings['device']}', "
                "and not with the same bits: use machines of one kind for one output"
            )
        self._number, self._images = item.number, 0
        out = _slice_file(self._job.plan.out, item.number)
        output = Output(out, self._job.topics, item.settings, resume=True, joins=False)
        position = self._run.slice(item.part, output)
        return position, self._untold()

    def news(self) -> tuple[dict[int, int], list[Problem]]:
        """Images done of the slice in work, and problems not yet told."""
        return {self._number: self._images}, self._untold()

    def _untold(self) -> list[Problem]:
        """Each is told once, though news is asked for while a slice ends."""
        told = []
        with suppress(IndexError):
            while True:
                told.append(self._problems.popleft())
        return told

    def _progress(self, path: Path, done: int, total: int) -> None:
        self._images = done


class DistributedRun:
    """As `Run`, on a cluster."""

    def __init__(
        self, job: Job, cluster: Cluster, on_problem: OnProblem, on_progress: OnProgress
    ) -> None:
        self._job, self._cluster = job, cluster
        self._on_problem, self._on_progress = on_problem, on_progress
        self._slices: Sequence[Slice] = ()
        self._reached: dict[int, int] = {}
        self._sizes: Sequence[int] = ()

    def __call__(self, *, resume: bool = False) -> Summary:
        """As Run's. ValueError as `connected` and the workers raise it, too."""
        plan, started = self._job.plan, time.monotonic()
        complete = finished(plan.out, resume=resume) is not None
        begun = None if complete else _begun(plan, resume=resume)
        with connected(self._cluster, self._job.worker, self._watch) as pool:
            settings = next(pool.map("settings", [None]))
            if (done := finished(plan.out, settings, resume=resume)) is not None:
                return summary_of(done)
            self._sizes = [_images(plan, number) for number in range(len(plan.bags))]
            self._slices = _cut(plan, settings, self._sizes, pool.size, begun)
            joiner = Joiner(plan.out, self._job.topics)
            try:
                positions = self._positions(pool, settings, joiner)
            except BaseException:
                joiner.abandon()
                raise
        busy = sum(one.seconds for one in positions) / pool.size
        whole = _sum(positions, max(busy, time.monotonic() - started))
        with told_when_full(plan.out, lambda: whole.answered):
            joiner.close({TABLE: table_of(settings, whole, complete=True)})
        shutil.rmtree(parts_folder(plan.out), ignore_errors=True)
        return summary_of(whole)

    def _positions(self, pool: Pool, settings: Mapping[str, Any], joiner: Joiner) -> list[Position]:
        items = [_Item(number, part, settings) for number, part in enumerate(self._slices)]
        positions: list[Position] = []
        for position, problems in pool.map("answer", items, ahead=len(items)):
            out = _slice_file(self._job.plan.out, len(positions))
            positions.append(position)
            for part in parts_in(parts_folder(out)):
                joiner.add(part)
            for problem in problems:
                self._on_problem(problem)
            number = len(positions) - 1  # news may come too seldom to tell of it
            done = self._slices[number]
            self._advance({number: self._sizes[done.bag] if done.last is None else done.last})
        return positions

    def _watch(self, news: list[Any]) -> None:
        for reached, problems in news:
            for problem in problems:
                self._on_problem(problem)
            self._advance(reached)

    def _advance(self, reached: Mapping[int, int]) -> None:
        """Tells of progress: images reached of slices by number, in their bags."""
        for number, images in reached.items():
            self._reached[number] = max(images, self._reached.get(number, 0))
        done = sum(
            max(0, images - self._slices[number].first)
            for number, images in self._reached.items()
            if number < len(self._slices)
        )
        total = sum(self._sizes)
        if done:
            self._on_progress(self._job.plan.out, min(done, total), total)


def _slice_file(out: Path, number: int) -> Path:
    """What `Output` is told; only its parts exist."""
    return parts_folder(out) / f"{number:05d}"


def _begun(plan: Plan, *, resume: bool) -> dict[str, Any] | None:
    """Settings and slices of an unfinished run, None without one. ValueError where nobody asked to
    go on with it, or where it is of another kind."""
    folder = parts_folder(plan.out)
    file = folder / SLICES
    if not file.exists() and not parts_in(folder):
        return None
    if not resume:
        raise ValueError(f"{folder} holds an unfinished run: go on with --resume, or remove it")
    if not file.exists():
        raise ValueError(f"{folder} was begun without --ray: go on without it, or remove it")
    content: dict[str, Any] = json.loads(file.read_text())
    return content


def _cut(
    plan: Plan,
    settings: Mapping[str, Any],
    sizes: Sequence[int],
    workers: int,
    begun: Mapping[str, Any] | None,
) -> list[Slice]:
    """The slices, those of a run that was begun where there is one, so that their parts fit."""
    folder = parts_folder(plan.out)
    file = folder / SLICES
    if begun is not None:
        check_settings(folder, begun["settings"], settings)
        return [Slice(**one) for one in begun["slices"]]
    # Whole batches, so that every image is answered in the company that it has in one process.
    unit = plan.every * int(settings["batch"])
    slices = list(_slices(sizes, 1 if plan.stateful else MOST, unit, workers))
    folder.mkdir(parents=True, exist_ok=True)
    content = {"settings": settings, "slices": [asdict(part) for part in slices]}
    unfinished = file.with_suffix(".tmp")
    unfinished.write_text(json.dumps(content))
    unfinished.replace(file)
    return slices


def _slices(sizes: Sequence[int], most: int, unit: int, workers: int) -> Iterable[Slice]:
    """Every bag in slices of about equal size, each a multiple of `unit` images but the last."""
    aim = max(LEAST, sum(sizes) / (PER_WORKER * workers))
    for bag, size in enumerate(sizes):
        pieces = max(1, min(most, round(size / aim)))
        ends = {round(size * piece / pieces / unit) * unit for piece in range(1, pieces)}
        edges = [0, *sorted(ends - {0}), None]
        for first, last in itertools.pairwise(edges):
            yield Slice(bag, first or 0, last)


def _images(plan: Plan, number: int) -> int:
    """About how many images of a bag are asked for; 0 where it cannot be known."""
    try:
        with opened(plan.bags[number]) as bag:
            return plan.images(bag)
    except ValueError:
        return 0


def _sum(positions: Sequence[Position], seconds: float) -> Position:
    problems = Counter[str]()
    for one in positions:
        problems.update(one.problems)
    return Position(
        bag=max(one.bag for one in positions),
        looked=sum(one.looked for one in positions),
        answered=sum(one.answered for one in positions),
        problems=dict(problems),
        seconds=seconds,
    )

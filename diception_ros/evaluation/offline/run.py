# SPDX-License-Identifier: Apache-2.0
"""Bags in, one bag out."""

from __future__ import annotations

import errno
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diception_ros.engine import Engine
from diception_ros.evaluation.offline import mcap
from diception_ros.evaluation.offline.definitions import definition, typestore
from diception_ros.evaluation.offline.frames import (
    LABELS_TOPIC,
    Answer,
    Frames,
    label_info,
    offered,
)
from diception_ros.evaluation.offline.output import Output, Position, finished
from diception_ros.evaluation.offline.plan import Plan, parameters_from
from diception_ros.evaluation.offline.poses import static_poses
from diception_ros.evaluation.offline.sources import Bag, opened
from diception_ros.evaluation.offline.timeline import Problem, Topics, shots
from diception_ros.ros import loading
from diception_ros.ros.incoming import Prompts
from diception_ros.ros.parameters import NodeParameters

FIGURES = re.compile(r"(?<![A-Za-wyz])\d+(\.\d+)?")
"""What differs between causes of one kind; the digits of an encoding's name do not."""
CAUSES = 1000
"""Different causes that are counted apart."""


@dataclass(frozen=True)
class Summary:
    """images: looked at, answered: of them; problems: how often each cause came; seconds: of work,
    over all resumed runs."""

    images: int
    answered: int
    problems: Mapping[str, int]
    seconds: float


class DiskFullError(OSError):
    """The disk is full; what was written before is whole and readable."""


OnProblem = Callable[[Problem], None]
OnProgress = Callable[[Path, int, int], None]
"""on_progress(bag, images done of it, images it has); may count images that are left out."""


class Run:
    """One output. points: what the point task is asked for in every image, where no topic says."""

    def __init__(
        self,
        plan: Plan,
        engine: Engine,
        on_problem: OnProblem,
        on_progress: OnProgress,
        points: Prompts | None = None,
    ) -> None:
        self._plan, self._engine, self._points = plan, engine, points
        self._on_problem, self._on_progress = on_problem, on_progress
        self._problems: Counter[str] = Counter()
        self._looked = self._answered = 0

    def __call__(self, *, resume: bool = False) -> Summary:
        """ValueError for bags that have not what is asked (before anything is written),
        DiskFullError with what was kept."""
        plan = self._plan
        done = finished(plan.out, resume=resume)
        if done is not None:
            return _summary(done)
        passed = self._look()
        output = Output(plan.out, self._channels(passed), self._settings(), resume)
        self._problems.update(output.position.problems)
        self._looked, self._answered = output.position.looked, output.position.answered
        started = time.monotonic() - output.position.seconds
        try:
            for number in range(output.position.bag, len(plan.bags)):
                self._bag(number, output, started)
            output.join()
        except OSError as error:
            if error.errno not in (errno.ENOSPC, errno.EDQUOT):
                raise
            output.abandon()
            raise DiskFullError(
                f"the disk of {plan.out} is full after {output.position.answered} images: the "
                f"parts in {output.folder} are whole; make room and run again with --resume"
            ) from error
        except BaseException:
            self._save(output)
            raise
        return _summary(output.position)

    def _save(self, output: Output) -> None:
        """Ctrl-C and errors keep what was done."""
        output.end_part()

    def _look(self) -> dict[str, mcap.Topic]:
        """Checks every bag before any work; the input topics that may be passed through."""
        passed: dict[str, mcap.Topic] = {}
        readable = 0
        for path in self._plan.bags:
            try:
                with opened(path) as bag:
                    topics = self._plan.topics(bag)
                    self._plan.window(bag)
                    readable += 1
                    for name in sorted(topics.inputs):
                        passed.setdefault(name, _channel(bag, name))
            except ValueError:
                if len(self._plan.bags) == 1:
                    raise
        if not readable:
            raise ValueError("none of the bags can be used: try them one by one to see why")
        return passed

    def _bag(self, number: int, output: Output, started: float) -> None:
        path = self._plan.bags[number]
        skip = output.position.images if output.position.bag == number else 0
        state = output.position.state if skip else {}
        try:
            with opened(path) as bag:
                for note in bag.notes:
                    if not skip:
                        self._report(str(path), 0, note)
                self._answer(number, bag, output, started, skip, state)
        except ValueError as error:
            self._report(str(path), 0, f"the bag is left out: {error}")
        output.advance(
            replace(output.position, bag=number + 1, images=0, problems=dict(self._problems))
        )

    def _answer(
        self,
        number: int,
        bag: Bag,
        output: Output,
        started: float,
        skip: int,
        state: Mapping[str, Any],
    ) -> None:
        topics = self._plan.topics(bag)
        total = bag.topics[topics.camera].messages
        poses = static_poses(bag, self._report if not skip else _silent)
        frames = Frames(self._engine, self._plan.parameters, self._batch(), self._points, poses)
        if state:
            frames.restore(state)
        source = shots(bag, topics, self._plan.window(bag), self._report, max(0, skip - 1))
        for answer in frames.answers(source, primer=skip > 0):
            self._write(output, topics, answer)
            for problem in answer.problems:
                self._report(problem.topic, problem.time, problem.cause)
            self._looked += 1
            self._answered += bool(answer.messages)
            output.advance(
                Position(
                    number,
                    answer.shot.number + 1,
                    self._looked,
                    self._answered,
                    dict(self._problems),
                    answer.state,
                    time.monotonic() - started,
                )
            )
            self._on_progress(bag.path, answer.shot.number + 1, total)

    def _write(self, output: Output, topics: Topics, answer: Answer) -> None:
        shot, node = answer.shot, self._plan.node
        for raw in shot.passed:
            output.write(raw.topic, raw.received, raw.data)
        if output.position == Position() and "semantic" in self._plan.parameters.tasks:
            labels = label_info(self._plan.parameters, shot.received)
            output.write(f"{node}/{LABELS_TOPIC}", shot.received, labels.data)
        for message in answer.messages:
            output.write(f"{node}/{message.topic}", shot.received, message.data)

    def _batch(self) -> int:
        """Images a pass. On a CPU more than one gains nothing and changes the last bits."""
        if self._plan.batch:
            return self._plan.batch
        if not self._engine.device_name.startswith("CPU"):
            return max(1, self._engine.config.max_batch)
        return 1

    def _channels(self, passed: Mapping[str, mcap.Topic]) -> list[mcap.Topic]:
        own = [
            mcap.Topic(
                f"{self._plan.node}/{topic}",
                msgtype,
                *definition(msgtype),
                latched=topic == LABELS_TOPIC,
            )
            for topic, msgtype in offered(self._plan.parameters, self._engine)
        ]
        return own + list(passed.values())

    def _settings(self) -> dict[str, Any]:
        return {
            **self._plan.settings,
            "bags": [str(path) for path in self._plan.bags],
            "device": self._engine.device_name,
            "batch": self._batch(),
        }

    def _report(self, topic: str, received: int, cause: str) -> None:
        kind = f"{topic}: {FIGURES.sub('N', cause)}"
        if kind not in self._problems and len(self._problems) >= CAUSES:
            kind = "other causes"
        self._problems[kind] += 1
        self._on_problem(Problem(topic, received, cause))


def _silent(*_: object) -> None:
    """What was said before the run was stopped."""


def _channel(bag: Bag, name: str) -> mcap.Topic:
    topic = bag.topics[name]
    if topic.msgtype in typestore().types:
        text, digest = definition(topic.msgtype)
    else:
        text, digest = topic.definition, ""
    return mcap.Topic(name, topic.msgtype, text, digest=digest, latched=name == "/tf_static")


def _summary(position: Position) -> Summary:
    return Summary(position.looked, position.answered, dict(position.problems), position.seconds)


def load(
    values: Mapping[str, Any], progress: Callable[[str], None]
) -> tuple[Engine, NodeParameters]:
    """The engine for these parameters of the node, and they in line with its bundle, as the node
    does at configure. ValueError for what the bundle cannot."""
    found = loading.plan(parameters_from(values))
    parameters = found.resolve(parameters_from(values))
    engine = Engine.load(
        found.bundle,
        parameters.engine_config(),
        found.own_tasks,
        progress,
        adapters=tuple(found.adapters.values()),
    )
    return engine, parameters

# SPDX-License-Identifier: Apache-2.0
"""Bags in, one bag out."""

from __future__ import annotations

import errno
import re
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from diception_ros.engine import Engine
from diception_ros.evaluation.offline.channels import channels
from diception_ros.evaluation.offline.frames import LABELS_TOPIC, Answer, Frames, label_info
from diception_ros.evaluation.offline.output import Output, Position, finished, parts_folder
from diception_ros.evaluation.offline.plan import ASKED, Plan, Slice, parameters_from
from diception_ros.evaluation.offline.poses import bag_transforms
from diception_ros.evaluation.offline.sources import Bag, Raw, opened
from diception_ros.evaluation.offline.timeline import Problem, shots
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


@contextmanager
def told_when_full(out: Path, answered: Callable[[], int]) -> Iterator[None]:
    """DiskFullError where the disk ends; other errors as they are."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        raise DiskFullError(
            f"the disk of {out} is full after {answered()} images: the parts in "
            f"{parts_folder(out)} are whole; make room and run again with --resume"
        ) from error


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
        done = finished(plan.out, self.settings(), resume=resume)
        if done is not None:
            return summary_of(done)
        topics = channels(plan, self._engine.tasks)
        output = Output(plan.out, topics, self.settings(), resume)
        slices = [Slice(number) for number in range(len(plan.bags))]
        return summary_of(self._work(slices, output, output.join))

    def slice(self, part: Slice, output: Output) -> Position:
        """One slice of the plan into an output of its own, whose parts are not joined."""
        return self._work([part], output, output.end_part)

    def settings(self) -> dict[str, Any]:
        """What two runs must share for their parts to be parts of one whole."""
        return {
            **self._plan.settings,
            **{name: getattr(self._plan, name) for name in ASKED},
            "bags": [str(path.resolve()) for path in self._plan.bags],
            "device": self._engine.device_name,
            "batch": self.batch,
        }

    @property
    def batch(self) -> int:
        """Images a pass. On a CPU more than one gains nothing and changes the last bits."""
        if self._plan.batch:
            return self._plan.batch
        if not self._engine.device_name.startswith("CPU"):
            return max(1, self._engine.config.max_batch)
        return 1

    def _work(
        self, slices: Sequence[Slice], output: Output, finish: Callable[[], None]
    ) -> Position:
        self._problems = Counter(output.position.problems)
        self._looked, self._answered = output.position.looked, output.position.answered
        started = time.monotonic() - output.position.seconds
        try:
            with told_when_full(output.out, lambda: output.safe.answered):
                for part in slices:
                    if part.bag >= output.position.bag:
                        self._bag(part, output, started)
                finish()
        except DiskFullError:
            output.abandon()
            raise
        except BaseException:
            output.end_part()  # Ctrl-C and errors keep what was done
            raise
        finally:
            output.release()
        return output.position

    def _bag(self, part: Slice, output: Output, started: float) -> None:
        path, resumed = self._plan.bags[part.bag], output.position.bag == part.bag
        first = max(part.first, output.position.images if resumed else 0)
        state = output.position.state if resumed else {}
        try:
            with opened(path) as bag:
                for note in bag.notes if not first else ():
                    self._report(str(path), 0, note)
                report = _silent if first else self._report
                with bag_transforms(bag, report) as poses:
                    frames = Frames(
                        self._engine, self._plan.parameters, self.batch, self._points, poses
                    )
                    if state:
                        frames.restore(state)
                    self._answer(replace(part, first=first), bag, output, started, frames)
        except ValueError as error:
            self._report(str(path), 0, f"the bag is left out: {error}")
        output.advance(
            replace(
                output.position,
                bag=part.bag + 1,
                images=0,
                problems=dict(self._problems),
                state={},  # another bag is another drive: its scale begins anew
            )
        )

    def _answer(
        self, part: Slice, bag: Bag, output: Output, started: float, frames: Frames
    ) -> None:
        topics = self._plan.topics(bag)
        total = self._plan.images(bag)
        frames.info_topic = topics.camera_info
        rest: list[Raw] = []
        window = self._plan.window(bag)
        source = shots(bag, topics, window, self._report, part.first, part.last, rest.extend)
        for number, answer in enumerate(frames.answers(source)):
            if not number and not part.first:
                self._write_labels(output, answer)
            self._write(output, answer)
            for problem in answer.problems:
                self._report(problem.topic, problem.time, problem.cause)
            self._looked += 1
            self._answered += bool(answer.messages)
            position = Position(
                part.bag,
                answer.shot.number + 1,
                self._looked,
                self._answered,
                dict(self._problems),
                answer.state,
                time.monotonic() - started,
            )
            output.advance(position, whole=(number + 1) % self.batch == 0)
            self._on_progress(bag.path, answer.shot.number + 1, total)
        _pass(output, rest)

    def _write_labels(self, output: Output, answer: Answer) -> None:
        """The classes, once a bag, as the node latches them."""
        if "semantic" in self._plan.parameters.tasks:
            labels = label_info(self._plan.parameters, answer.shot.received)
            output.write(f"{self._plan.node}/{LABELS_TOPIC}", answer.shot.received, labels.data)

    def _write(self, output: Output, answer: Answer) -> None:
        _pass(output, answer.shot.passed)
        for message in answer.messages:
            output.write(f"{self._plan.node}/{message.topic}", answer.shot.received, message.data)

    def _report(self, topic: str, received: int, cause: str) -> None:
        kind = f"{topic}: {FIGURES.sub('N', cause)}"
        if kind not in self._problems and len(self._problems) >= CAUSES:
            kind = "other causes"
        self._problems[kind] += 1
        self._on_problem(Problem(topic, received, cause))


def _silent(*_: object) -> None:
    """What was said before the run was stopped."""


def _pass(output: Output, messages: Iterable[Raw]) -> None:
    """Inputs as they were recorded."""
    for raw in messages:
        output.write(raw.topic, raw.received, raw.data)


def summary_of(position: Position) -> Summary:
    return Summary(position.looked, position.answered, dict(position.problems), position.seconds)


def understood(values: Mapping[str, Any]) -> tuple[loading.Plan, NodeParameters]:
    """What these parameters of the node mean, in line with their bundle, as at the node's
    configure; no weights are read. ValueError for what the bundle cannot."""
    found = loading.plan(parameters_from(values))
    return found, found.resolve(parameters_from(values))


def load(
    values: Mapping[str, Any], progress: Callable[[str], None]
) -> tuple[Engine, NodeParameters]:
    """The engine for these parameters of the node, and they as `understood`."""
    found, parameters = understood(values)
    engine = Engine.load(
        found.bundle,
        parameters.engine_config(),
        found.own_tasks,
        progress,
        adapters=tuple(found.adapters.values()),
    )
    return engine, parameters

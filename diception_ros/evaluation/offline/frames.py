# SPDX-License-Identifier: Apache-2.0
"""The node's own pipeline, fed from a bag: shots -> batches -> engine -> messages.

Three threads beside the caller's: one reads and decodes, one prepares, one runs the network. The
caller's decodes answers, finishes and serializes. Queues are short, so memory does not depend on
the bag's length.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from diception_ros.engine import Engine, Outcome, Pending
from diception_ros.evaluation.offline.definitions import typestore
from diception_ros.evaluation.offline.prefetch import ahead
from diception_ros.evaluation.offline.timeline import Problem, Shot
from diception_ros.ros.content import FRAME_REPORT, LABEL_INFO, Content
from diception_ros.ros.incoming import Incoming, Prompts
from diception_ros.ros.outputs import Output, all_outputs
from diception_ros.ros.parameters import NodeParameters
from diception_ros.ros.pipeline import Pipeline
from diception_ros.ros.preparation import Asked, Context, Preparation
from diception_ros.ros.transforms import FindPose, no_pose
from diception_ros.tasks import Result, Task

logger = logging.getLogger(__name__)
REPORT_TOPIC = "frame_report"
LABELS_TOPIC = "semantic/label_info"


@dataclass(frozen=True)
class Message:
    """One serialized message: topic below the node's name."""

    topic: str
    data: bytes | memoryview


@dataclass(frozen=True)
class Answer:
    """All messages of one image, none where it could not be answered, and what was wrong with it.
    state: of the scale after it, see ScaleTracker.state."""

    shot: Shot
    messages: tuple[Message, ...]
    problems: tuple[Problem, ...]
    state: Mapping[str, Any]


@dataclass
class _Step:
    """A shot on its way through the threads. afresh: the scale's past ends before it."""

    shot: Shot
    problems: list[Problem]
    asked: Asked | None = None
    afresh: bool = False
    results: Sequence[Result] = ()
    outcome: Outcome | None = None


def offered(parameters: NodeParameters, tasks: Mapping[str, Task]) -> list[tuple[str, str]]:
    """(topic below the node's name, message type) of everything that is written, in order."""
    outputs = [item for item in all_outputs(tasks) if item.offered(parameters)]
    topics = [(item.topic, item.type) for item in outputs] + [(REPORT_TOPIC, FRAME_REPORT)]
    return topics + ([(LABELS_TOPIC, LABEL_INFO)] if "semantic" in parameters.tasks else [])


class Frames:
    """Answers shots of one camera. batch: images in one pass of the engine. points: what the point
    task is asked where the shot brings no prompts of its own. info_topic: of the camera's info, for
    what is said about it."""

    info_topic = "camera_info"

    def __init__(
        self,
        engine: Engine,
        parameters: NodeParameters,
        batch: int = 1,
        points: Prompts | None = None,
        find_pose: FindPose = no_pose,
    ) -> None:
        self._engine, self._parameters = engine, parameters
        self._batch, self._points, self._find_pose = batch, points, find_pose
        self._outputs = [item for item in all_outputs(engine.tasks) if item.offered(parameters)]
        self._current: _Step | None = None
        self._built: list[Message] = []
        self._finishing: _Step | None = None
        self._prepare = Preparation(self._context(_Inputs(self), self._complain_ahead))
        nothing = SimpleNamespace(references=())
        self._finish = Pipeline(self._context(nothing, self._complain_behind))

    def restore(self, state: Mapping[str, Any]) -> None:
        """Goes on after an Answer with this state."""
        self._finish.scale.restore(state)

    def answers(self, shots: Iterable[Shot]) -> Iterator[Answer]:
        """In the order of the shots; a primer is looked at, not answered."""
        with ExitStack() as threads:

            def thread(items: Iterator[Any], size: int, name: str) -> Iterator[Any]:
                return threads.enter_context(ahead(items, size, name))

            ready = thread(iter(shots), 2 * self._batch, "bag reader")
            asked = thread(self._prepared(ready), 2 * self._batch, "bag decoder")
            begun = thread(self._begun(_batches(asked, self._batch)), 1, "bag engine")
            for steps, pending in begun:
                self._end([step for step in steps if step.asked is not None], pending)
                for step in steps:
                    yield self._answer(step)

    def _prepared(self, shots: Iterator[Shot]) -> Iterator[_Step]:
        for shot in shots:
            step = self._current = _Step(shot, list(shot.problems))
            if shot.message is not None:
                incoming = Incoming(shot.topic, shot.message, time.monotonic())
                before = self._prepare.epoch
                with _guarded(step):
                    step.asked = self._prepare.prepare(incoming, self._parameters)
                # What the preparation notices ends the past of the finishing one.
                step.afresh = self._prepare.epoch != before
            if not shot.primer:
                yield step

    def _begun(
        self, batches: Iterator[list[_Step]]
    ) -> Iterator[tuple[list[_Step], Pending | Exception | None]]:
        for steps in batches:
            yield steps, self._begin([step for step in steps if step.asked is not None])

    def _begin(self, steps: Sequence[_Step]) -> Pending | Exception | None:
        """One pass, or why there is none; None where nothing is asked."""
        asked = [step.asked for step in steps if step.asked is not None]
        images, requests = [one.frame.rgb for one in asked], [one.requests for one in asked]
        try:
            return self._engine.begin(images, requests, self._parameters.seed) if asked else None
        except Exception as error:
            return error

    def _end(self, steps: Sequence[_Step], pending: Pending | Exception | None) -> None:
        """Waits for a pass and decodes it, while the next one is computed; when it fails each frame
        is asked for itself, to find whose fault it was."""
        if pending is None:
            return
        try:
            if isinstance(pending, Exception):
                raise pending
            outcome = pending.outcome()
        except Exception:
            for step in steps if len(steps) > 1 else ():
                self._end([step], self._begin([step]))
            if len(steps) == 1:
                with _guarded(steps[0]):
                    raise
            return
        for step, results in zip(steps, outcome.results, strict=True):
            step.results, step.outcome = results, outcome

    def _answer(self, step: _Step) -> Answer:
        self._finishing, self._built = step, []
        if step.afresh:
            self._finish.scale.reset()
        if step.asked is not None and step.outcome is not None:
            with _guarded(step):
                self._finish.finish(step.asked, step.results, step.outcome)
        state = self._finish.scale.state()
        return Answer(step.shot, tuple(self._built), tuple(step.problems), state)

    def _context(self, inputs: Any, complain: Callable[[str, str], None]) -> Context:
        """The node's, with stand-ins for what it has only over DDS."""
        publishers = SimpleNamespace(
            wanted=lambda _: list(self._outputs),
            publish=self._keep,
            publish_report=lambda content: self._keep_one(REPORT_TOPIC, FRAME_REPORT, content),
            name=lambda topic: f"~/{topic}",
        )
        statistics = SimpleNamespace(
            dropped=lambda cause: None,
            idle=lambda: None,
            answered=lambda *_: None,
            dropped_since_report=lambda: 0,
        )
        parts: dict[str, Any] = {
            "engine": self._engine,
            "inputs": inputs,
            "publishers": publishers,
            "gate": SimpleNamespace(held=_open),
            "statistics": statistics,
            "complain": complain,
            "now_ns": lambda: math.nan,  # no camera waits, so no image has an age
            "say": self._say,
            "find_pose": self._find_pose,
        }
        return Context(**parts)

    def _keep(self, output: Output, contents: Sequence[Any]) -> None:
        for content in contents:
            self._keep_one(output.topic, output.type, content)

    def _keep_one(self, topic: str, msgtype: str, content: Any) -> None:
        self._built.append(Message(topic, typestore().serialize_cdr(content, msgtype)))

    def _say(self, text: str) -> None:
        if "time jumped back" in text:
            self._complain_ahead(self._step.shot.topic, text)

    def _complain_ahead(self, topic: str, cause: str) -> None:
        _complain(self._step, topic, cause)

    def _complain_behind(self, topic: str, cause: str) -> None:
        assert self._finishing is not None
        _complain(self._finishing, topic, cause)

    @property
    def _step(self) -> _Step:
        """The one that is being prepared."""
        assert self._current is not None
        return self._current


class _Inputs:
    """What the node's pipeline finds beside the image: what the shot brings."""

    def __init__(self, frames: Frames) -> None:
        self._frames = frames
        self.camera_infos = SimpleNamespace(find=lambda _: self._shot.info, clear=lambda: None)

    @property
    def info_topic(self) -> str:
        return self._frames.info_topic

    @property
    def _shot(self) -> Shot:
        return self._frames._step.shot

    @property
    def references(self) -> Any:
        return _Kept(self._shot.references)

    @property
    def prompts(self) -> Any:
        return self._shot.prompts or self._frames._points


class _Kept(tuple[Any, ...]):
    """The shot's own references: another time clears nothing of them."""

    def clear(self) -> None:
        """Nothing to do."""


def label_info(parameters: NodeParameters, time_ns: int) -> Message:
    """The class list, as the node latches it."""
    from diception_ros.ros.messages import label_info as content_of

    seconds, rest = divmod(time_ns, 1_000_000_000)
    stamp = Content("builtin_interfaces/msg/Time", sec=seconds, nanosec=rest)
    header = Content("std_msgs/msg/Header", stamp=stamp, frame_id="")
    content = content_of(header, parameters.categories, parameters.filter.instance_score)
    return Message(LABELS_TOPIC, typestore().serialize_cdr(content, LABEL_INFO))


def _complain(step: _Step, topic: str, cause: str) -> None:
    text = " ".join(cause.removeprefix(f"{topic}: ").split())
    step.problems.append(Problem(topic, step.shot.received, text))


@contextmanager
def _guarded(step: _Step) -> Iterator[None]:
    """A frame that fails is said to have failed; the bag goes on."""
    try:
        yield
    except Exception as error:
        logger.debug("a frame failed", exc_info=True)
        _complain(step, step.shot.topic, f"the frame failed: {type(error).__name__}: {error}")


@contextmanager
def _open() -> Iterator[bool]:
    yield True


def _batches(items: Iterator[Any], size: int) -> Iterator[list[Any]]:
    batch: list[Any] = []
    for item in items:
        batch.append(item)
        if len(batch) == size:
            yield batch
            batch = []
    if batch:
        yield batch

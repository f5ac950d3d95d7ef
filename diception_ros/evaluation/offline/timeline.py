# SPDX-License-Identifier: Apache-2.0
"""Images of one camera in the order of the recording, each with what belongs to it."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from diception_ros.evaluation.offline.poses import STATIC
from diception_ros.evaluation.offline.sources import Bag, Raw, Report, decode
from diception_ros.ros.camera import CameraInfos, stamp_ns
from diception_ros.ros.incoming import Prompts, read_prompts
from diception_ros.ros.scale import Reference

LOOK_AHEAD = 200_000_000
"""ns of recording within which what belongs to an image may come after it."""
SECOND = 1_000_000_000
REFERENCES = 16
"""Kept: those of LOOK_AHEAD at 80 Hz."""


@dataclass(frozen=True)
class Topics:
    """What is read. reference, prompts: "" for none. inputs: topics that are passed through."""

    camera: str
    camera_info: str
    reference: str = ""
    prompts: str = ""
    inputs: frozenset[str] = frozenset()

    @property
    def read(self) -> frozenset[str]:
        named = {self.camera, self.camera_info, self.reference, self.prompts} - {""}
        return frozenset(named) | self.inputs


@dataclass(frozen=True)
class Window:
    """Which images are asked: every n-th of those received from start to stop (ns, None: open)."""

    every: int = 1
    start: int | None = None
    stop: int | None = None

    def __post_init__(self) -> None:
        if self.every < 1:
            raise ValueError(f"--every must be at least 1, got {self.every}")
        if self.start is not None and self.stop is not None and self.start >= self.stop:
            raise ValueError("--from must lie before --to")

    @property
    def reading(self) -> tuple[int | None, int | None]:
        """A little more on both sides, for what belongs to the first and last image."""
        start = None if self.start is None else self.start - SECOND
        return start, None if self.stop is None else self.stop + LOOK_AHEAD

    def meets(self, begin: int, end: int) -> bool:
        """Whether a recording of that span has anything in it."""
        return (self.start is None or self.start <= end) and (
            self.stop is None or self.stop > begin
        )

    def holds(self, received: int) -> bool:
        return (self.start is None or received >= self.start) and (
            self.stop is None or received < self.stop
        )


@dataclass(frozen=True)
class Problem:
    """Something that was left out: its topic (or bag), its time in ns (0: none), the cause."""

    topic: str
    time: int
    cause: str


@dataclass(frozen=True)
class Shot:
    """One image, all that is needed to answer it, and the messages to pass through before it.
    number: of the image in the bag, from 0; message None when it could not be read. problems: what
    was left out since the last one. primer: answered elsewhere, only what it changes counts here.
    """

    number: int
    received: int
    topic: str
    message: Any
    info: Any = None
    references: tuple[Reference, ...] = ()
    prompts: Prompts | None = None
    passed: tuple[Raw, ...] = ()
    problems: tuple[Problem, ...] = ()
    primer: bool = False


@dataclass
class _Waiting:
    number: int
    raw: Raw
    message: Any
    prompts: Prompts | None
    passed: tuple[Raw, ...] = ()
    problems: tuple[Problem, ...] = ()
    primer: bool = False


@dataclass
class _Beside:
    """What has come beside the images so far."""

    infos: CameraInfos = field(default_factory=CameraInfos)
    references: deque[Reference] = field(default_factory=lambda: deque(maxlen=REFERENCES))
    prompts: Prompts | None = None

    def forget(self) -> None:
        self.infos.clear()
        self.references.clear()


Rest = Callable[[Iterable[Raw]], None]


def _ignored(*_: object) -> None:
    """Whoever asks for the bag's last images takes it."""


def shots(
    bag: Bag,
    topics: Topics,
    window: Window,
    report: Report,
    first: int = 0,
    last: int | None = None,
    rest: Rest = _ignored,
) -> Iterator[Shot]:
    """The images with first <= number < last (None: to the end), after a primer where there are
    earlier ones: exactly as they come when all are asked for, because all that comes before is read
    as well. An image waits LOOK_AHEAD for its info and reference; one that cannot be read comes
    with message None, so that numbers have no gaps. After the bag's last image report is told what
    is found, and rest what is to be passed through."""
    if last is not None:
        report, rest = _ignored, _ignored
    for shot in _shots(bag, topics, window, report, rest, first):
        if last is not None and shot.number >= last:
            return
        yield shot


def _shots(
    bag: Bag, topics: Topics, window: Window, report: Report, rest: Rest, first: int
) -> Iterator[Shot]:
    beside, waiting, passed, problems = _Beside(), deque[_Waiting](), list[Raw](), list[Problem]()
    primer: _Waiting | None = None

    def keep(topic: str, time: int, cause: str) -> None:
        problems.append(Problem(topic, time, cause))

    start = window.reading[0]
    if start is not None:
        passed += _latched(bag, topics, start, beside, keep)
    number, last_stamp = -1, 0
    for raw in bag.messages(topics.read, keep, *window.reading):
        while waiting and raw.received > waiting[0].raw.received + LOOK_AHEAD:
            yield _complete(waiting.popleft(), beside)
        if raw.topic != topics.camera:
            _store(beside, topics, raw, keep)
            if raw.topic in topics.inputs:
                passed.append(raw)
            continue
        if not window.holds(raw.received):
            continue
        number += 1
        if number % window.every:
            continue
        message = _decode(raw, keep)
        stamp = last_stamp if message is None else stamp_ns(message.header)
        if stamp < last_stamp:  # recorded over a loop: what came before belongs to another time
            yield from _flush(waiting, beside)
            beside.forget()
        last_stamp = stamp
        if number < first:
            if message is not None:
                primer = _Waiting(number, raw, message, beside.prompts, primer=True)
            passed.clear()
            problems.clear()
            continue
        if primer is not None:
            waiting.append(primer)
            primer = None
        if raw.topic in topics.inputs:
            passed.append(raw)
        beyond = tuple(passed), tuple(problems)
        waiting.append(_Waiting(number, raw, message, beside.prompts, *beyond))
        passed.clear()
        problems.clear()
    yield from _flush(waiting, beside)
    for problem in problems:
        report(problem.topic, problem.time, problem.cause)
    if number >= 0:  # what comes beside no image at all belongs to none
        rest(passed)


def _latched(bag: Bag, topics: Topics, before: int, beside: _Beside, report: Report) -> list[Raw]:
    """What was said before a time and still holds: stores the newest camera info and prompts, and
    gives what of them, and of static transforms, is to be passed through at that time. Parts of the
    bag that are damaged are not in the window; a message that should hold and does not is named."""
    found = list(bag.messages(topics.inputs & {STATIC}, _ignored, None, before))
    for topic in (topics.camera_info, topics.prompts):
        found += _newest(bag, topics, topic, before, beside, report)
    return [replace(raw, received=before) for raw in found if raw.topic in topics.inputs]


def _newest(
    bag: Bag, topics: Topics, topic: str, before: int, beside: _Beside, report: Report
) -> list[Raw]:
    """Stores the newest message of a topic that can be understood. Looks back in ever larger steps,
    because to read a long bag from its beginning takes long."""
    begin, step = bag.span[0], SECOND
    while topic and before > begin:
        for raw in reversed(list(bag.messages({topic}, _ignored, before - step, before))):
            if _store(beside, topics, raw, report):
                return [raw]
        before, step = before - step, 16 * step
    return []


def _flush(waiting: deque[_Waiting], beside: _Beside) -> Iterator[Shot]:
    while waiting:
        yield _complete(waiting.popleft(), beside)


def _complete(one: _Waiting, beside: _Beside) -> Shot:
    shot = Shot(
        one.number,
        one.raw.received,
        one.raw.topic,
        one.message,
        passed=one.passed,
        problems=one.problems,
        primer=one.primer,
    )
    if one.message is None:
        return shot
    return replace(
        shot,
        info=beside.infos.find(one.message.header),
        references=_around(beside.references, stamp_ns(one.message.header)),
        prompts=one.prompts,
    )


def _around(references: Iterable[Reference], stamp: int) -> tuple[Reference, ...]:
    """The reference nearest in time, as the node takes it: of equals the first to come."""
    nearest = min(references, key=lambda one: abs(_stamp(one) - stamp), default=None)
    return () if nearest is None else (nearest,)


def _stamp(reference: Reference) -> int:
    return stamp_ns(reference.message.header)


def _store(beside: _Beside, topics: Topics, raw: Raw, report: Report) -> bool:
    """Whether it could be understood."""
    if raw.topic not in (topics.camera_info, topics.reference, topics.prompts):
        return False
    message = _decode(raw, report)
    if message is None:
        return False
    if raw.topic == topics.camera_info:
        beside.infos.add(message)
    elif raw.topic == topics.reference:
        beside.references.append(Reference(raw.topic, message))
    else:
        try:
            beside.prompts = _prompts(message, raw.topic)
        except ValueError as error:
            report(raw.topic, raw.received, str(error))
            return False
    return True


def _prompts(message: Any, topic: str) -> Prompts | None:
    """Of PointPrompts, or of a click (PointStamped), as the node takes them."""
    if hasattr(message, "point"):
        point = (float(message.point.x), float(message.point.y))
        return Prompts(topic, (point,), (1,), header=message.header)
    return read_prompts(message, topic)


def _decode(raw: Raw, report: Report) -> Any:
    try:
        return decode(raw)
    except ValueError as error:
        report(raw.topic, raw.received, str(error))
        return None

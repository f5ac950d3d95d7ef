# SPDX-License-Identifier: Apache-2.0
"""One image from its slot to its outputs. Runs in the worker thread, one frame at a time."""

from __future__ import annotations

import logging
import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.engine import Engine, Outcome
from diception_ros.ros.camera import intrinsics, resized, stamp_ns
from diception_ros.ros.diagnostics import Complaints, Statistics
from diception_ros.ros.images import to_rgb
from diception_ros.ros.inputs import Incoming, Inputs
from diception_ros.ros.messages import frame_report
from diception_ros.ros.outputs import Answers, Frame, Output, needed_tasks
from diception_ros.ros.parameters import NodeParameters
from diception_ros.ros.publishers import Gate, Publishers
from diception_ros.ros.scale import ScaleTracker
from diception_ros.ros.worker import RateLimiter
from diception_ros.tasks import (
    Disparity,
    Instances,
    Keypoints,
    Mask,
    MetricDepth,
    Request,
    Result,
)

logger = logging.getLogger(__name__)
CLOUD = "points"
SPREAD = 0.1
"""Standard deviation of the relative disparity between seeds at which confidence reaches zero."""


@dataclass(frozen=True)
class Context:
    """What a pipeline works with. settings gives the parameters in force; now_ns the node's clock
    (simulated or not) in nanoseconds; say logs for people."""

    engine: Engine
    inputs: Inputs
    publishers: Publishers
    gate: Gate
    statistics: Statistics
    complain: Complaints
    settings: Callable[[], NodeParameters]
    now_ns: Callable[[], int]
    say: Callable[[str], None]


class Pipeline:
    """Handles frames; keeps what lasts from one to the next: rates, the scale, the last stamp."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self.scale = ScaleTracker()
        self._limiters: dict[str, RateLimiter] = defaultdict(RateLimiter)
        self._last_stamp = 0
        self._last_format: tuple[object, ...] = ()

    def handle(self, incoming: Incoming) -> None:
        """Answers one image, or counts why not."""
        context, clock = self._context, Stages(incoming.received)
        parameters = context.settings()
        self._notice_changes(incoming)
        with context.gate.held() as is_open:
            if is_open:
                context.publishers.publish_labels(incoming.message.header, parameters)
            wanted = context.publishers.wanted(parameters) if is_open else []
        if not self._in_time(incoming, parameters):
            return
        try:
            with clock.stage("convert"):
                tasks, wanted = self._due(wanted, parameters)
                frame = self._frame(incoming, wanted, parameters) if tasks else None
        except ValueError as error:
            context.complain(incoming.topic, str(error))
            context.statistics.dropped("bad input")
            return
        if frame is None:
            context.statistics.idle()
            return
        self._answer(frame, tasks, self._possible(wanted, frame), parameters, clock)

    def _answer(
        self,
        frame: Frame,
        tasks: Sequence[str],
        wanted: Sequence[Output],
        parameters: NodeParameters,
        clock: Stages,
    ) -> None:
        context = self._context
        tasks = [task for task in tasks if task in needed_tasks(wanted, parameters)]
        requests, owners = self._requests(tasks, frame, parameters)
        if not requests:
            context.statistics.idle()
            return
        outcome = context.engine.run([frame.rgb], [requests], seed=parameters.seed)
        clock.add(outcome.stages)
        answers = self._answers(frame, owners, outcome.results[0], parameters)
        with clock.stage("scale"):
            answers = self._with_metric(answers, wanted, requests)
        with clock.stage("publish"):
            published = self._publish(answers, wanted)
        if published:
            self._count_rates(tasks, wanted, parameters)
            self._report(answers, tasks, outcome, clock)

    def _notice_changes(self, incoming: Incoming) -> None:
        """Time that jumps back (a bag in a loop) and a new size, encoding or frame id."""
        message, context = incoming.message, self._context
        stamp = stamp_ns(message.header)
        if stamp < self._last_stamp:
            back = (self._last_stamp - stamp) * 1e-9
            context.say(f"{incoming.topic}: time jumped back by {back:.3f} s, starting afresh")
            context.inputs.camera_infos.clear()
            self.scale.reset()
        self._last_stamp = stamp
        kind = getattr(message, "encoding", None) or message.format
        size = (getattr(message, "width", 0), getattr(message, "height", 0))
        found = (size, kind, message.header.frame_id)
        if self._last_format and found != self._last_format:
            context.say(f"{incoming.topic}: images changed from {self._last_format} to {found}")
            self.scale.reset()
        self._last_format = found

    def _in_time(self, incoming: Incoming, parameters: NodeParameters) -> bool:
        """Whether the image is young enough and due; counts it as dropped otherwise."""
        context = self._context
        age = (context.now_ns() - stamp_ns(incoming.message.header)) * 1e-9
        if 0 < parameters.max_age < age:
            context.statistics.dropped("max_age")
            context.complain(
                incoming.topic,
                f"images are {age:.3f} s old, more than max_age {parameters.max_age:g} s; for a "
                "bag play it with --clock and set use_sim_time",
            )
            return False
        if not self._limiters[""].due(parameters.max_rate):
            context.statistics.dropped("max_rate")
            return False
        return True

    def _due(
        self, wanted: Sequence[Output], parameters: NodeParameters
    ) -> tuple[list[str], list[Output]]:
        """The tasks to compute now and the outputs left, by the rates of tasks and cloud."""
        cloud_due = self._limiters[CLOUD].due(parameters.cloud.max_rate)
        left = [output for output in wanted if output.topic != CLOUD or cloud_due]
        tasks = [
            task
            for task in needed_tasks(left, parameters)
            if self._limiters[f"{task}."].due(parameters.of_task(task).max_rate)
            and self._can_ask(task, parameters)
        ]
        return tasks, left

    def _can_ask(self, task: str, parameters: NodeParameters) -> bool:
        kind = self._context.engine.tasks[task]
        if kind.takes_points:
            return self._context.inputs.prompts is not None
        return not kind.takes_category or bool(parameters.categories)

    def _count_rates(
        self, tasks: Sequence[str], wanted: Sequence[Output], parameters: NodeParameters
    ) -> None:
        self._limiters[""].passed(parameters.max_rate)
        for task in tasks:
            self._limiters[f"{task}."].passed(parameters.of_task(task).max_rate)
        if any(output.topic == CLOUD for output in wanted):
            self._limiters[CLOUD].passed(parameters.cloud.max_rate)

    def _frame(
        self, incoming: Incoming, wanted: Sequence[Output], parameters: NodeParameters
    ) -> Frame:
        """The decoded image at the published size, with its camera where metres are wanted."""
        rgb = to_rgb(incoming.message, incoming.topic)
        height, width = rgb.shape[:2]
        size = (parameters.output.width or width, parameters.output.height or height)
        if size != (width, height):
            shrinks = size[0] < width
            how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
            rgb = np.asarray(cv2.resize(rgb, size, interpolation=how), np.uint8)
        frame = Frame(incoming.message.header, rgb, (width, height))
        return self._with_camera(frame) if parameters.metric else frame

    def _with_camera(self, frame: Frame) -> Frame:
        inputs, complain = self._context.inputs, self._context.complain
        info = inputs.camera_infos.find(frame.header)
        if info is None:
            complain(
                inputs.info_topic,
                "no camera info has come, so there are no metric outputs; check that it is "
                "published beside the image",
            )
            return frame
        height, width = frame.rgb.shape[:2]
        try:
            return replace(
                frame,
                camera=intrinsics(info, width, height),
                camera_info=resized(info, frame.header, width, height),
            )
        except ValueError as error:
            complain(inputs.info_topic, f"{error}; there are no metric outputs")
            return frame

    def _possible(self, wanted: Sequence[Output], frame: Frame) -> list[Output]:
        """Without a camera there are no metres: nothing is computed for metric topics alone."""
        return [output for output in wanted if frame.camera is not None or not output.metric]

    def _requests(
        self, tasks: Sequence[str], frame: Frame, parameters: NodeParameters
    ) -> tuple[list[Request], list[tuple[str, int]]]:
        """The requests of one frame, and for each its task and class id (0 without classes)."""
        requests, owners = [], []
        for task in tasks:
            settings = parameters.of_task(task)
            base = Request(task, steps=settings.steps or None, guidance=settings.guidance or None)
            if self._context.engine.tasks[task].takes_category:
                for class_id, category in enumerate(parameters.categories, 1):
                    requests.append(replace(base, category=category))
                    owners.append((task, class_id))
                continue
            if self._context.engine.tasks[task].takes_points:
                pointed = self._pointed(base, frame)
                if pointed is None:
                    continue
                base = pointed
            requests.append(base)
            owners.append((task, 0))
        return requests, owners

    def _pointed(self, base: Request, frame: Frame) -> Request | None:
        """The request with the newest prompts, moved to the published size."""
        prompts = self._context.inputs.prompts
        if prompts is None or (prompts.frame_id and prompts.frame_id != frame.header.frame_id):
            return None
        (width, height), (rows, columns) = frame.input_size, frame.rgb.shape[:2]
        outside = [(x, y) for x, y in prompts.points if not (0 <= x < width and 0 <= y < height)]
        if outside:
            self._context.complain(
                prompts.topic,
                f"point ({outside[0][0]:g}, {outside[0][1]:g}) lies outside the {width}x{height} "
                "image",
            )
            return None
        points = tuple((x * columns / width, y * rows / height) for x, y in prompts.points)
        return replace(base, points=points, labels=prompts.labels)

    def _answers(
        self,
        frame: Frame,
        owners: Sequence[tuple[str, int]],
        results: Sequence[Result],
        parameters: NodeParameters,
    ) -> Answers:
        by_task: dict[str, Result] = {}
        semantic: dict[int, Instances] = {}
        for (task, class_id), result in zip(owners, results, strict=True):
            kept = keep(result, parameters)
            if class_id and isinstance(kept, Instances):
                semantic[class_id] = kept
            else:
                by_task[task] = kept
        return Answers(frame, parameters, by_task, semantic)

    def _with_metric(
        self, answers: Answers, wanted: Sequence[Output], requests: Sequence[Request]
    ) -> Answers:
        """Adds metres, and the confidence where it is asked for."""
        context, frame, parameters = self._context, answers.frame, answers.parameters
        depth = answers.results.get("depth")
        if not parameters.metric or frame.camera is None or not isinstance(depth, Disparity):
            return answers
        metric = self.scale.metric(
            depth.values, frame.header, frame.camera, parameters, context.inputs.reference
        )
        if self.scale.reason:
            context.complain(f"scale.source {parameters.scale.source}", self.scale.reason)
        if metric is None:
            return answers
        confidence = None
        if any(output.topic == "depth/confidence" for output in wanted):
            request = next(request for request in requests if request.task == "depth")
            spread = self._spread(depth, request, frame, parameters)
            confidence = confidence_of(metric, spread, parameters.scale.max_residual)
        return replace(answers, metric=metric, confidence=confidence)

    def _spread(
        self, depth: Disparity, request: Request, frame: Frame, parameters: NodeParameters
    ) -> npt.NDArray[np.float32] | None:
        """Standard deviation (H, W) of the disparity over the seeds asked for; None for one."""
        values = [depth.values]
        for offset in range(1, parameters.confidence_seeds):
            seed = parameters.seed + offset
            found = self._context.engine.infer([frame.rgb], [[request]], seed=seed)[0][0]
            assert isinstance(found, Disparity)
            values.append(found.values)
        return np.std(values, axis=0) if len(values) > 1 else None

    def _publish(self, answers: Answers, wanted: Sequence[Output]) -> bool:
        """Builds the messages, then publishes them together; False if the node was deactivated."""
        context = self._context
        built = [(output, self._build(output, answers)) for output in wanted]
        with context.gate.held() as is_open:
            if is_open:
                for output, messages in built:
                    context.publishers.publish(output, messages)
        return is_open

    def _build(self, output: Output, answers: Answers) -> Sequence[Any]:
        """The output's messages; one that fails is named and leaves the others alone."""
        try:
            return output.build(answers)
        except Exception as error:
            logger.debug("~/%s failed", output.topic, exc_info=True)
            self._context.complain(f"~/{output.topic}", f"{type(error).__name__}: {error}")
            return ()

    def _report(
        self, answers: Answers, tasks: Sequence[str], outcome: Outcome, clock: Stages
    ) -> None:
        context, header = self._context, answers.frame.header
        age_ms = (context.now_ns() - stamp_ns(header)) * 1e-6
        context.statistics.answered(clock.total_ms(), age_ms)
        message = frame_report(
            header,
            tasks,
            clock.durations,
            age_ms=age_ms,
            batch=outcome.batch,
            steps=max(outcome.steps.values(), default=0),
            graph=outcome.graph,
            dropped=context.statistics.dropped_since_report(),
        )
        with context.gate.held() as is_open:
            if is_open:
                context.publishers.publish_report(message)


class Stages:
    """Milliseconds per stage of one frame, from its arrival on."""

    def __init__(self, received: float) -> None:
        self._received = received
        self.durations = {"queue": 1000 * (time.monotonic() - received)}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        started = time.monotonic()
        yield
        self.durations[name] = 1000 * (time.monotonic() - started)

    def add(self, stages: Any) -> None:
        self.durations.update(stages)

    def total_ms(self) -> float:
        """From arrival until now."""
        return 1000 * (time.monotonic() - self._received)


def keep(result: Result, parameters: NodeParameters) -> Result:
    """The result without what the filters leave out."""
    chosen = parameters.filter
    if isinstance(result, Instances):
        return keep_instances(result, chosen.instance_score, chosen.instance_area)
    if isinstance(result, Mask):
        return replace(result, mask=result.score >= chosen.point_score)
    if isinstance(result, Keypoints):
        sure = result.scores >= chosen.keypoint_score
        return Keypoints(result.points[sure], result.scores[sure], result.size)
    return result


def keep_instances(found: Instances, score: float, area: int) -> Instances:
    """Instances of at least this score and area; the others' pixels become 0."""
    kept = tuple(item for item in found.instances if item.score >= score and item.area >= area)
    if len(kept) == len(found.instances):
        return found
    stays = np.zeros(int(found.ids.max(initial=0)) + 1, np.uint16)
    for item in kept:
        stays[item.id] = item.id
    return replace(found, ids=stays[found.ids], instances=kept)


def confidence_of(
    metric: MetricDepth, spread: npt.NDArray[np.float32] | None, max_residual: float
) -> npt.NDArray[np.uint8]:
    """(H, W) uint8: 0 where the depth is unknown, else at least 1, less with the residual of the
    scale fit (0 at max_residual) and with the spread between seeds (0 at SPREAD)."""
    share = 1 - metric.residual / max_residual if max_residual > 0 else 1.0
    sure = np.full(metric.valid.shape, max(0.0, share), np.float32)
    if spread is not None:
        sure *= np.clip(1 - spread / SPREAD, 0, 1)
    levels = np.maximum(1, np.rint(255 * sure))
    return np.where(metric.valid, levels, 0).astype(np.uint8)

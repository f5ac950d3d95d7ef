# SPDX-License-Identifier: Apache-2.0
"""One camera's images before and after the engine."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from diception_ros.engine import Options, Outcome
from diception_ros.ros.answers import Answers, Frame
from diception_ros.ros.camera import stamp_ns
from diception_ros.ros.filters import confidence_of, keep
from diception_ros.ros.incoming import Incoming
from diception_ros.ros.messages import frame_report
from diception_ros.ros.outputs import Output
from diception_ros.ros.parameters import NodeParameters
from diception_ros.ros.preparation import CLOUD, Asked, Context, Preparation
from diception_ros.ros.scale import ScaleTracker, nearest
from diception_ros.ros.stages import Stages
from diception_ros.tasks import Disparity, Instances, Request, Result

logger = logging.getLogger(__name__)
CLOUD_STAGE = "cloud"
PICTURE = "image_color"


class Pipeline:
    """Handles the frames of one camera; keeps its scale from one to the next. One thread may
    prepare the next frame while another one finishes the last. Publishes in that opening of the
    gate in which it was made."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._preparation = Preparation(context)
        self.scale = ScaleTracker(context.find_pose)
        self._finished_epoch = 0
        with context.gate.held() as opening:
            self._opening = opening

    def prepare(self, incoming: Incoming, parameters: NodeParameters) -> Asked | None:
        """What to ask about one image; None, and counted why, when nothing is to be asked."""
        return self._preparation.prepare(incoming, parameters)

    def finish(self, asked: Asked, results: Sequence[Result], outcome: Outcome) -> None:
        """Publishes what the engine has found."""
        clock = asked.clock
        clock.add(outcome.stages)
        if asked.parameters.overlap:
            clock.add_rest("waiting")
        if asked.epoch != self._finished_epoch:  # only now: an earlier frame may have been in work
            self._finished_epoch = asked.epoch
            self.scale.reset()
        if outcome.missed:
            self._context.statistics.missed_deadline()
        answers = self._answers(asked, results)
        with clock.stage("scale"):
            answers = self._with_metric(answers, asked.wanted, asked.requests)
        with clock.stage("publish"):
            published = self._publish(answers, asked.wanted, clock)
        if published:
            self._report(asked, outcome)

    def _answers(self, asked: Asked, results: Sequence[Result]) -> Answers:
        by_task: dict[str, Result] = {}
        semantic: dict[int, Instances] = {}
        for item, result in zip(asked.placed, results, strict=True):
            kept = keep(result, asked.parameters, pointed=bool(item.request.points))
            if item.class_id and isinstance(kept, Instances):
                semantic[item.class_id] = kept
            else:
                by_task[item.request.task] = kept
        return Answers(asked.frame, asked.parameters, by_task, semantic)

    def _with_metric(
        self, answers: Answers, wanted: Sequence[Output], requests: Sequence[Request]
    ) -> Answers:
        """Adds metres, and the confidence where it is asked for."""
        context, frame, parameters = self._context, answers.frame, answers.parameters
        depth = answers.results.get("depth")
        if not parameters.metric or frame.camera is None or not isinstance(depth, Disparity):
            return answers
        references = (*frame.references, *tuple(context.inputs.references))
        metric = self.scale.metric(
            depth.values, frame.header, frame.camera, parameters, nearest(references, frame.header)
        )
        if metric is None:
            context.complain(f"scale.source {parameters.scale.source}", self.scale.reason)
            return answers
        confidence = None
        if any(output.topic == "depth/confidence" for output in wanted):
            request = next(request for request in requests if request.task == "depth")
            spread = self._spread(request, frame, parameters)
            confidence = confidence_of(
                metric, spread, parameters.scale.max_residual, self.scale.error(depth.values)
            )
        return replace(answers, metric=metric, confidence=confidence)

    def _spread(
        self, request: Request, frame: Frame, parameters: NodeParameters
    ) -> npt.NDArray[np.float32] | None:
        """Standard deviation (H, W) of the disparity over the seeds asked for, all in one batch;
        None for one."""
        if parameters.confidence_seeds == 1:
            return None
        # temporal: without it the engine would forget what the next frames start from.
        options = Options(samples=parameters.confidence_seeds, temporal=parameters.temporal)
        engine = self._context.engine
        return engine.run([frame.rgb], [[request]], parameters.seed, options).spread[0][0]

    def _publish(self, answers: Answers, wanted: Sequence[Output], clock: Stages) -> bool:
        """Builds and publishes one output after the other, so that subscribers take the first while
        the next is made; pictures for people after the data that the robot waits for. False if the
        node was deactivated, even if it is active again."""
        context = self._context
        for output in sorted(wanted, key=lambda output: output.topic.endswith(PICTURE)):
            messages = self._build(output, answers, clock)
            with context.gate.held() as opening:
                if opening != self._opening:
                    return False
                context.publishers.publish(output, messages)
        return True

    def _build(self, output: Output, answers: Answers, clock: Stages) -> Sequence[Any]:
        """The output's messages; one that fails is named and leaves the others alone."""
        try:
            if output.topic == CLOUD:  # its filters may cost more than all the rest
                with clock.stage(CLOUD_STAGE):
                    return output.build(answers)
            return output.build(answers)
        except Exception as error:
            topic = self._context.publishers.name(output.topic)
            logger.debug("%s failed", topic, exc_info=True)
            self._context.complain(topic, f"{type(error).__name__}: {error}")
            return ()

    def _report(self, asked: Asked, outcome: Outcome) -> None:
        context, header, clock = self._context, asked.frame.header, asked.clock
        age_ms = (context.now_ns() - stamp_ns(header)) * 1e-6
        context.statistics.answered(clock.total_ms(), age_ms)
        if outcome.batch > len(asked.placed):
            clock.add_rest("other cameras")
        message = frame_report(
            header,
            asked.tasks,
            clock.durations,
            age_ms=age_ms,
            batch=outcome.batch,
            steps=max((outcome.steps[task] for task in asked.tasks), default=0),
            graph=outcome.graph,
            dropped=context.statistics.dropped_since_report(),
        )
        with context.gate.held() as opening:
            if opening == self._opening:
                context.publishers.publish_report(message)

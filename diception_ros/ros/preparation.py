# SPDX-License-Identifier: Apache-2.0
"""One camera's images before the engine: which are due, and what to ask about them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np

from diception_ros.engine import Engine
from diception_ros.ros.answers import Frame
from diception_ros.ros.camera import intrinsics, is_bent, misfit, resized, stamp_ns
from diception_ros.ros.images import to_rgb
from diception_ros.ros.incoming import Incoming, Prompts
from diception_ros.ros.outputs import Output, cloud_rate, cloud_tasks, needed_tasks
from diception_ros.ros.parameters import NodeParameters
from diception_ros.ros.requests import Placed, pointed, requests_for, seen
from diception_ros.ros.stages import Stages
from diception_ros.ros.transforms import FindPose
from diception_ros.ros.worker import RateLimiter
from diception_ros.tasks import Request

if TYPE_CHECKING:  # at run time no ROS is needed here: diception bag works with this, too
    from diception_ros.ros.diagnostics import Complaints, Statistics
    from diception_ros.ros.inputs import Inputs
    from diception_ros.ros.publishers import Gate, Publishers

CLOUD = "points"


@dataclass(frozen=True)
class Context:
    """What a pipeline works with. now_ns gives the node's clock (simulated or not) in nanoseconds;
    say logs for people; hint complains of what is no fault of a frame, of which a bag's answers
    keep no count."""

    engine: Engine
    inputs: Inputs
    publishers: Publishers
    gate: Gate
    statistics: Statistics
    complain: Complaints
    find_pose: FindPose
    now_ns: Callable[[], int]
    say: Callable[[str], None]
    hint: Callable[[str, str], None] = lambda topic, cause: None


@dataclass(frozen=True)
class Asked:
    """A frame with what the engine is asked about it, and for which outputs."""

    frame: Frame
    tasks: tuple[str, ...]
    wanted: tuple[Output, ...]
    placed: tuple[Placed, ...]
    parameters: NodeParameters
    clock: Stages
    epoch: int = 0
    """Of the pipeline when it was asked."""

    @property
    def requests(self) -> list[Request]:
        return [item.request for item in self.placed]


class Preparation:
    """Prepares the frames of one camera; keeps what lasts from one to the next: rates and the last
    stamp. epoch grows when time or the images' kind jumps: what came before is of no use then."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._limiters: dict[str, RateLimiter] = defaultdict(RateLimiter)
        self.epoch = 0
        self._last_stamp = 0
        self._last_format: tuple[object, ...] = ()
        self._lens_named = False
        self._passed_over: Prompts | None = None

    def prepare(self, incoming: Incoming, parameters: NodeParameters) -> Asked | None:
        """What to ask about one image; None, and counted why, when nothing is to be asked."""
        context, clock = self._context, Stages(incoming.received)
        self._notice_jump(incoming)
        with context.gate.held() as is_open:
            wanted = context.publishers.wanted(parameters) if is_open else []
        if not self._in_time(incoming, parameters):
            return None
        try:
            with clock.stage("convert"):
                tasks, wanted = self._due(wanted, parameters)
                frame = self._frame(incoming, parameters) if tasks else None
        except ValueError as error:
            context.complain(incoming.topic, str(error))
            context.statistics.dropped("bad input")
            return None
        asked = self._asked(frame, tasks, wanted, parameters, clock) if frame is not None else None
        if asked is None:
            context.statistics.idle()
            return None
        self._count_rates(asked.tasks, asked.wanted, parameters)
        return asked

    def _asked(
        self,
        frame: Frame,
        tasks: Sequence[str],
        wanted: Sequence[Output],
        parameters: NodeParameters,
        clock: Stages,
    ) -> Asked | None:
        possible = self._possible(wanted, frame)
        needed = needed_tasks(possible, parameters)
        due = tuple(task for task in tasks if task in needed)
        if any(self._context.engine.tasks[task].takes_points for task in due):
            frame = self._with_click(frame)
        placed = tuple(self._requests(due, frame, parameters))
        if not placed:
            return None
        answered = tuple(dict.fromkeys(item.request.task for item in placed))
        return Asked(frame, answered, tuple(possible), placed, parameters, clock, self.epoch)

    def _notice_jump(self, incoming: Incoming) -> None:
        """Time that jumps back, as of a bag in a loop."""
        context, stamp = self._context, stamp_ns(incoming.message.header)
        if stamp < self._last_stamp:
            back = (self._last_stamp - stamp) * 1e-9
            context.say(f"{incoming.topic}: time jumped back by {back:.3f} s, starting afresh")
            context.inputs.camera_infos.clear()
            context.inputs.references.clear()
            self.epoch += 1
        self._last_stamp = stamp

    def _notice_format(self, incoming: Incoming, size: tuple[int, int]) -> None:
        """A new size (width, height), encoding or frame id of a decoded image."""
        message = incoming.message
        kind = getattr(message, "encoding", None) or message.format
        found = (size, kind, message.header.frame_id)
        if self._last_format and found != self._last_format:
            change = f"images changed from {self._last_format} to {found}"
            self._context.say(f"{incoming.topic}: {change}")
            self.epoch += 1
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
        """The tasks to compute now and the outputs left, by the rates of tasks and cloud. A cloud
        takes all its tasks along, so that one has the fields of the next."""
        cloud_due = self._limiters[CLOUD].due(cloud_rate(parameters))
        left = [output for output in wanted if output.topic != CLOUD or cloud_due]
        along = cloud_tasks(parameters) if any(one.topic == CLOUD for one in left) else ()
        tasks = [
            task
            for task in needed_tasks(left, parameters)
            if (task in along or self._limiters[f"{task}."].due(parameters.of_task(task).max_rate))
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
        if "depth" in tasks and any(output.topic == CLOUD for output in wanted):
            self._limiters[CLOUD].passed(cloud_rate(parameters))

    def _frame(self, incoming: Incoming, parameters: NodeParameters) -> Frame:
        """The decoded image at the published size, with its camera where metres are wanted."""
        rgb = to_rgb(incoming.message, incoming.topic)
        height, width = rgb.shape[:2]
        self._notice_format(incoming, (width, height))
        size = parameters.output.size(width, height)
        if size != (width, height):
            how = cv2.INTER_AREA if size[0] < width else cv2.INTER_LINEAR
            rgb = np.asarray(cv2.resize(rgb, size, interpolation=how), np.uint8)
        inputs = self._context.inputs
        references, prompts = tuple(inputs.references), inputs.prompts
        frame = Frame(
            incoming.message.header, rgb, (width, height), references=references, prompts=prompts
        )
        return self._with_camera(frame, incoming.topic) if parameters.metric else frame

    def _with_camera(self, frame: Frame, topic: str) -> Frame:
        inputs, complain = self._context.inputs, self._context.complain
        info = inputs.camera_infos.find(frame.header)
        if info is None:
            complain(
                inputs.info_topic,
                "no camera info has come, so there are no metric outputs; check that it is "
                "published beside the image",
            )
            return frame
        self._check_lens(info, topic)
        if stretched := misfit(info, *frame.input_size):
            self._context.hint(inputs.info_topic, stretched)
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

    def _check_lens(self, info: Any, topic: str) -> None:
        """Once only: a rectified image may have any name, and a robot may do with bent metres."""
        if not self._lens_named and is_bent(info, topic):
            self._lens_named = True
            self._context.hint(
                self._context.inputs.info_topic,
                f"the lens is distorted (D is not 0) and {topic} seems not to be rectified, so "
                "positions are bent; for metres take the image_rect of image_proc",
            )

    def _with_click(self, frame: Frame) -> Frame:
        """A click in space, if there is one, as the pixel where this frame shows it."""
        prompts, context = frame.prompts, self._context
        if prompts is None or prompts.place is None:
            return frame
        info = context.inputs.camera_infos.find(frame.header)
        try:
            found = seen(prompts, frame, info, context.find_pose)
        except ValueError as error:
            context.complain(prompts.topic, str(error))
            return replace(frame, prompts=None)
        if found is None:
            self._left_out(prompts, f"the place is not in view of '{frame.header.frame_id}'")
        return replace(frame, prompts=found)

    def _possible(self, wanted: Sequence[Output], frame: Frame) -> list[Output]:
        """Without a camera there are no metres: nothing is computed for metric topics alone."""
        return [output for output in wanted if frame.camera is not None or not output.metric]

    def _requests(
        self, tasks: Sequence[str], frame: Frame, parameters: NodeParameters
    ) -> list[Placed]:
        known, prompts = self._context.engine.tasks, frame.prompts
        kept = []
        for item in requests_for([known[task] for task in tasks], parameters):
            if not known[item.request.task].takes_points:
                kept.append(item)
            elif prompts is not None and self._is_meant(prompts, frame.header.frame_id):
                try:
                    kept.append(pointed(item, prompts, frame))
                except ValueError as error:
                    self._context.complain(prompts.topic, str(error))
        return kept

    def _is_meant(self, prompts: Prompts, frame_id: str) -> bool:
        """Whether the points are for this camera; on its own topic it is a mistake if not. One that
        serves several cameras, or nodes, says by the frame which of them is meant."""
        if prompts.meant_for(frame_id):
            return True
        own = self._context.publishers.name("").removeprefix("~")  # /front/, / of the only camera
        if own in prompts.topic:
            self._left_out(
                prompts,
                f"the points are for the frame '{prompts.frame_id}', but the images come in "
                f"'{frame_id}': give them that frame_id, or none, where this camera is meant",
            )
        return False

    def _left_out(self, prompts: Prompts, why: str) -> None:
        """A fault, and complained of, unless others take these points: then it is said once."""
        if not prompts.shared:
            self._context.complain(prompts.topic, why)
        elif prompts is not self._passed_over:
            self._passed_over = prompts
            self._context.say(f"{prompts.topic}: {why}")

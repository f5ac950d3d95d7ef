# SPDX-License-Identifier: Apache-2.0
"""The table of topics: what each needs and how its message is made from one frame's answers. No
ROS here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np

from diception_ros.geometry.cloud_filter import without_outliers
from diception_ros.ros.answers import Answers
from diception_ros.ros.cloud import cloud_message, thinned
from diception_ros.ros.content import (
    CAMERA_INFO,
    IMAGE,
    INSTANCE_ARRAY,
    KEYPOINT_ARRAY,
    POINT_CLOUD,
    POINT_PROMPTS,
    Content,
)
from diception_ros.ros.messages import image_message, instance_array, keypoint_array
from diception_ros.ros.parameters import NodeParameters
from diception_ros.tasks import (
    TASKS,
    Colours,
    Disparity,
    Instances,
    Keypoints,
    Mask,
    Normals,
    Task,
)
from diception_ros.tasks.show import classes_picture, colorize

Build = Callable[[Answers], Sequence[Any]]


@dataclass(frozen=True)
class Output:
    """A topic below the node's name. tasks: it needs at least one of these; metric: it exists only
    with a scale source. build gives its messages, none when the frame has nothing for it."""

    topic: str
    type: str
    tasks: tuple[str, ...]
    build: Build
    metric: bool = False

    def offered(self, parameters: NodeParameters) -> bool:
        return any(task in parameters.tasks for task in self.tasks) and (
            parameters.metric or not self.metric
        )


def build_disparity(answers: Answers, task: str = "depth") -> Sequence[Any]:
    result = answers.results.get(task)
    if not isinstance(result, Disparity):
        return ()
    return (image_message(answers.frame.header, result.values.astype(np.float32, copy=False)),)


def build_depth(answers: Answers) -> Sequence[Any]:
    if answers.metric is None:
        return ()
    meters = answers.metric.meters.astype(np.float32, copy=False)
    return (image_message(answers.frame.header, meters),)


def build_camera_info(answers: Answers) -> Sequence[Any]:
    if answers.metric is None or answers.frame.camera_info is None:
        return ()
    return (answers.frame.camera_info,)


def build_confidence(answers: Answers) -> Sequence[Any]:
    if answers.confidence is None:
        return ()
    return (image_message(answers.frame.header, answers.confidence),)


def build_normals(answers: Answers) -> Sequence[Any]:
    result = answers.results.get("normal")
    if not isinstance(result, Normals):
        return ()
    return (image_message(answers.frame.header, result.vectors.astype(np.float32, copy=False)),)


def build_ids(answers: Answers, task: str = "entity") -> Sequence[Any]:
    result = answers.results.get(task)
    if not isinstance(result, Instances):
        return ()
    return (image_message(answers.frame.header, result.ids.astype(np.uint16, copy=False)),)


def build_classes(answers: Answers, which: int) -> Sequence[Any]:
    """which: 0 the class ids, 1 the confidences."""
    if not answers.semantic:
        return ()
    return (image_message(answers.frame.header, answers.classes[which]),)


def build_mask(answers: Answers, task: str = "point") -> Sequence[Any]:
    result = answers.results.get(task)
    if not isinstance(result, Mask):
        return ()
    return (image_message(answers.frame.header, result.mask.astype(np.uint8) * 255),)


def build_prompts(answers: Answers) -> Sequence[Any]:
    """The prompts that the mask answers, under their own header: whoever asked finds the answer."""
    prompts = answers.frame.prompts
    if prompts is None or prompts.header is None or "point" not in answers.results:
        return ()
    points = np.array(prompts.points, np.float32)
    message = Content(
        POINT_PROMPTS,
        header=prompts.header,
        x=points[:, 0],
        y=points[:, 1],
        labels=np.array(prompts.labels, np.uint8),
    )
    return (message,)


def build_keypoints(answers: Answers) -> Sequence[Any]:
    result = answers.results.get("pose")
    if not isinstance(result, Keypoints):
        return ()
    return (keypoint_array(answers.frame.header, result, answers.located),)


def build_instances(answers: Answers) -> Sequence[Any]:
    """One message per task: their ids belong to different images."""
    messages, header = [], answers.frame.header
    entity = answers.results.get("entity")
    if isinstance(entity, Instances):
        messages.append(instance_array(header, "entity", [(-1, entity)], answers.located))
    if answers.semantic:
        found = list(answers.semantic.items())
        messages.append(instance_array(header, "semantic", found, answers.located))
    return messages


def build_points(answers: Answers) -> Sequence[Any]:
    if answers.located is None:
        return ()
    cloud, normals = answers.parameters.cloud, answers.results.get("normal")
    with_normals = cloud.normals and isinstance(normals, Normals)
    every = slice(None, None, cloud.decimation)
    cut = every, every
    points, rgb = answers.located.points[cut], answers.frame.rgb[cut]
    if cloud.voxel:
        ratio = cloud.outlier_ratio if cloud.outliers else None
        points, rgb = thinned(points, rgb, cloud.voxel, ratio)
    elif cloud.outliers:
        points = without_outliers(points, ratio=cloud.outlier_ratio)
    message = cloud_message(
        answers.frame.header,
        points,
        rgb,
        normals.vectors[cut] if with_normals and isinstance(normals, Normals) else None,
        answers.classes[0][cut] if cloud.label and answers.semantic else None,
    )
    return (message,)


def build_colour(answers: Answers, task: str) -> Sequence[Any]:
    result = answers.results.get(task)
    if result is None:
        return ()
    meters = answers.metric.meters if task == "depth" and answers.metric is not None else None
    picture = colorize(result, answers.frame.rgb, meters)
    return (image_message(answers.frame.header, picture),)


def build_class_colour(answers: Answers) -> Sequence[Any]:
    """All classes in one picture, with a key of their names."""
    if not answers.semantic:
        return ()
    names = answers.parameters.categories
    picture = classes_picture(answers.classes[0], names, answers.frame.rgb)
    return (image_message(answers.frame.header, picture),)


def build_picture(answers: Answers, task: str) -> Sequence[Any]:
    """A colour task of one's own, as generated."""
    result = answers.results.get(task)
    if not isinstance(result, Colours):
        return ()
    pixels = np.rint(result.rgb.clip(0, 1) * 255).astype(np.uint8)
    return (image_message(answers.frame.header, pixels),)


OUTPUTS: tuple[Output, ...] = (
    Output("depth/image", IMAGE, ("depth",), build_depth, metric=True),
    Output("depth/camera_info", CAMERA_INFO, ("depth",), build_camera_info, metric=True),
    Output("depth/confidence", IMAGE, ("depth",), build_confidence, metric=True),
    Output("disparity_relative/image", IMAGE, ("depth",), build_disparity),
    Output("depth/image_color", IMAGE, ("depth",), partial(build_colour, task="depth")),
    Output("normals/image", IMAGE, ("normal",), build_normals),
    Output("normals/image_color", IMAGE, ("normal",), partial(build_colour, task="normal")),
    Output("entity/mask", IMAGE, ("entity",), build_ids),
    Output("entity/image_color", IMAGE, ("entity",), partial(build_colour, task="entity")),
    Output("semantic/mask", IMAGE, ("semantic",), partial(build_classes, which=0)),
    Output("semantic/confidence", IMAGE, ("semantic",), partial(build_classes, which=1)),
    Output("semantic/image_color", IMAGE, ("semantic",), build_class_colour),
    Output("point/prompts", POINT_PROMPTS, ("point",), build_prompts),
    Output("point/mask", IMAGE, ("point",), build_mask),
    Output("pose/keypoints", KEYPOINT_ARRAY, ("pose",), build_keypoints),
    Output("pose/image_color", IMAGE, ("pose",), partial(build_colour, task="pose")),
    Output("instances", INSTANCE_ARRAY, ("entity", "semantic"), build_instances),
    Output("points", POINT_CLOUD, ("depth",), build_points, metric=True),
)


def all_outputs(tasks: Mapping[str, Task]) -> tuple[Output, ...]:
    """Every topic, those of the user's own tasks included."""
    extra = [item for name in tasks if name not in TASKS for item in user_outputs(tasks[name])]
    return OUTPUTS + tuple(extra)


def user_outputs(task: Task) -> tuple[Output, ...]:
    """The topics of a task of one's own, by the kind of its result."""
    name, names = task.name, (task.name,)
    if task.result is Colours:
        return (Output(f"{name}/image_color", IMAGE, names, partial(build_picture, task=name)),)
    kinds: dict[type, tuple[str, Build]] = {
        Mask: ("mask", partial(build_mask, task=name)),
        Disparity: ("image", partial(build_disparity, task=name)),
        Instances: ("mask", partial(build_ids, task=name)),
    }
    leaf, build = kinds[task.result]
    colour = Output(f"{name}/image_color", IMAGE, names, partial(build_colour, task=name))
    return (Output(f"{name}/{leaf}", IMAGE, names, build), colour)


def cloud_tasks(parameters: NodeParameters) -> tuple[str, ...]:
    """The tasks whose answers a cloud is made of."""
    beside = (("normal", parameters.cloud.normals), ("semantic", parameters.cloud.label))
    return ("depth", *(task for task, is_asked in beside if is_asked))


def cloud_rate(parameters: NodeParameters) -> float:
    """Clouds a second: the lowest of their own and of their tasks' rates, 0 without any."""
    tasks = (parameters.of_task(task).max_rate for task in cloud_tasks(parameters))
    return min((rate for rate in (parameters.cloud.max_rate, *tasks) if rate > 0), default=0.0)


def needed_tasks(wanted: Sequence[Output], parameters: NodeParameters) -> tuple[str, ...]:
    """The tasks that these topics ask for, in the order of the parameter `tasks`."""
    needed = {task for output in wanted for task in output.tasks}
    topics = {output.topic for output in wanted}
    if "points" in topics:
        needed |= set(cloud_tasks(parameters))
    # Instances and keypoints carry positions where there are metres.
    if parameters.metric and topics & {"instances", "pose/keypoints"}:
        needed.add("depth")
    return tuple(task for task in parameters.tasks if task in needed)

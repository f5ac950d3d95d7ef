# SPDX-License-Identifier: Apache-2.0
"""How well a model answers a new task on pairs it was not adapted to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from diception_ros.evaluation.metrics import mask_iou
from diception_ros.imaging import Canvas
from diception_ros.model import Diception
from diception_ros.model.lora import Adapter, Merging
from diception_ros.tasks import Mask, Task
from diception_ros.tasks.decoding import refined, refinement
from diception_ros.tasks.edges import Guide
from diception_ros.training.pairs import Colours, Pairs, Picture

BATCH = 16


def measured(model: Diception, adapter: Adapter | None, pairs: Pairs, task: Task) -> float:
    """`score` of the model with the adapter's weights merged, as serving does; None without."""
    merging = Merging(model)
    if adapter is not None:
        merging.add(adapter)
    merging.use(adapter)
    try:
        return score(generated(model, pairs.images, task), pairs, task)
    finally:
        merging.use(None)


def generated(model: Diception, images: Sequence[Picture], task: Task) -> list[Colours]:
    """What the task's steps without guidance answer, at the images' own sizes, refined as in
    serving."""
    canvas, answers = Canvas(*model.info.canvas), []
    how = refinement(model.info.refine, task)
    for begin in range(0, len(images), BATCH):
        part = images[begin : begin + BATCH]
        batch = torch.stack([canvas.to_model(image) for image in part])
        found = model.generate(batch, [task.prompt] * len(part), steps=task.steps)
        answers += [
            refined(canvas.from_model(colours, image.shape[:2]), Guide(image), how)
            for colours, image in zip(found, part, strict=True)
        ]
    return answers


def score(answers: Sequence[Colours], pairs: Pairs, task: Task) -> float:
    """Mean over the pairs: of the IoU for masks, else of the absolute error of colours in 0..1."""
    figures = []
    for answer, target in zip(answers, pairs.targets(task), strict=True):
        found = task.decode(answer)
        if isinstance(found, Mask):
            figures.append(mask_iou(found.mask, target[..., 0] > 127))
        else:
            figures.append(float(np.abs(task.encode(found) - target / 255).mean()))
    return float(np.mean(figures))


def metric_of(task: Task) -> str:
    return "mean IoU" if task.result is Mask else "mean absolute error"

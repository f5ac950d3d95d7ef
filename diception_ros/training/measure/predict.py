# SPDX-License-Identifier: Apache-2.0
"""A network's answers to questions, as serving gives them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import torch
from rich.console import Console
from rich.progress import track

from diception_ros.imaging import Canvas
from diception_ros.model import Diception
from diception_ros.tasks import TASKS, Result
from diception_ros.tasks.decoding import decoded, refinement
from diception_ros.tasks.edges import Guide
from diception_ros.training.measure.questions import Float, Question
from diception_ros.training.measure.scores import Answered

CONSOLE = Console(stderr=True)
BATCH = 16


def predict(model: Diception, questions: Sequence[Question], steps: int = 1) -> list[Answered]:
    """The answer to each question, of its frame's size, without guidance; images go through the
    model's canvas, and colours are refined and decoded, as in serving.
    """
    answers: list[Answered] = []
    hidden, label = not CONSOLE.is_terminal, f"{questions[0].task}, steps: {steps}"
    batches = range(0, len(questions), BATCH)
    for begin in track(batches, label, console=CONSOLE, transient=True, disable=hidden):
        answers += predict_batch(model, questions[begin : begin + BATCH], steps)
    return answers


@torch.no_grad()
def predict_batch(model: Diception, batch: Sequence[Question], steps: int) -> list[Answered]:
    canvas = Canvas(*model.info.canvas)
    placed = [clicks(canvas, question, model.info.point_order) for question in batch]
    generated = model.generate(
        torch.stack([canvas.to_model(question.image) for question in batch]),
        [question.prompt for question in batch],
        points=torch.from_numpy(np.stack([points for points, _ in placed])),
        point_labels=torch.from_numpy(np.stack([labels for _, labels in placed])),
        steps=steps,
    )
    pairs = zip(generated, batch, strict=True)
    drawn = [(canvas.from_model(image, question.size), question) for image, question in pairs]
    return [Answered(colours, served(model, colours, question)) for colours, question in drawn]


def served(model: Diception, colours: Float, question: Question) -> Result:
    """What serving makes of the colours."""
    task = TASKS[question.task]
    task = replace(task, refine=refinement(model.info.refine, task))
    return decoded(colours, guide_of(question), task)


def guide_of(question: Question) -> Guide:
    """Of the image that is shown, at the size of the frame: an exchanged one may have another."""
    fitted = cv2.resize(question.image, question.size[::-1], interpolation=cv2.INTER_AREA)
    return Guide(np.asarray(fitted, np.uint8))


def clicks(canvas: Canvas, question: Question, order: Any) -> tuple[Float, Any]:
    row, column = question.click or (0, 0)
    points = [(float(column), float(row))] if question.click is not None else []
    return canvas.points_to_model(points, [1] * len(points), question.size, order)

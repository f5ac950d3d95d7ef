# SPDX-License-Identifier: Apache-2.0
"""How far an answer's picture is from the truth in the terms that its task is judged by.

The velocity's squared error asks for the mean of all likely latents: a disparity off by a scale, or
a mask's grey edge, costs as much as a wrong answer. One step is an ordinary forward pass, so the
task's own error can be followed back through the decoder (Martin Garcia et al. 2024,
arXiv 2409.11355, did so for depth and normals).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch

from diception_ros.tasks import TASKS, Disparity, Keypoints, Mask, Normals, Refinement, Task
from diception_ros.training.guided import guided

Tensor = torch.Tensor
Error = Callable[[Tensor, Tensor, Tensor], Tensor]
NEAR_ZERO = 0.02
"""Disparity, as a share of the image's range, under which its logarithm goes on as a line."""
SKY = 0.002
"""Disparity, as a share of the image's range, under which there is nothing to compare with."""
FEW = 0.002
"""Share of the picture that softens the overlap of masks of a few pixels."""
FEWER = 3e-4
"""The same for disks, which are smaller: with FEW those of unsure place stayed black."""
SHORTEST = 1e-2
"""Length under which a vector's direction is not followed."""


def error_of(task: Task) -> Error | None:
    """The error of the task's answers; None where nothing is better than the squared error. So it
    is for entities: neither absolute colour errors nor errors of pairs of pixels helped them."""
    by_result: dict[object, Error] = {
        Disparity: disparity_error,
        Normals: direction_error,
        Keypoints: disk_error,
        Mask: overlap_error,
    }
    return overlap_error if task.takes_category else by_result.get(task.result)


class PictureError:
    """Errors by the prompts of known tasks. (N, 3, H, W) pictures are in 0..1. refinement: of each
    task's masks in serving, which are then compared as they will be read."""

    def __init__(
        self,
        tasks: Mapping[str, Task] = TASKS,
        refinement: Callable[[Task], Refinement] = lambda task: Refinement(),
    ) -> None:
        known = sorted(tasks.values(), key=lambda task: -len(task.prompt))
        errors = [(task, error_of(task)) for task in known]
        self.tasks = [
            (task.prompt, error, refinement(task).edges if error is overlap_error else 0)
            for task, error in errors
        ]

    def __call__(
        self,
        answers: Tensor,
        truths: Tensor,
        images: Tensor,
        prompts: Sequence[str],
        bases: Tensor,
    ) -> Tensor:
        """(N,), zero for prompts without an error. images: those that are answered about. bases
        (N,): see disparity_error."""
        errors = torch.zeros(len(answers), device=answers.device)
        asked: dict[tuple[Error, int], list[int]] = {}
        for row, given in enumerate(prompts):
            for prompt, error, edges in self.tasks:
                if given.startswith(prompt):
                    if error:
                        asked.setdefault((error, edges), []).append(row)
                    break
        for (error, edges), rows in asked.items():
            at = torch.tensor(rows, device=answers.device)
            shown = answers[at].float()
            shown = guided(shown, images[at].float(), edges) if edges else shown
            errors = errors.index_add(0, at, error(shown, truths[at].float(), bases[at]))
        return errors


def colour_error(answers: Tensor, truths: Tensor, bases: Tensor) -> Tensor:
    """Mean absolute difference of the colours in -1..1, twice where the truth is not black. Its
    minimum is a median: one of two likely colours, where a square's is a third between them."""
    drawn = (truths > 0.1).any(1, keepdim=True).float()
    return (2 * (1 + drawn) * (answers - truths).abs()).mean((1, 2, 3))


def disparity_error(answers: Tensor, truths: Tensor, bases: Tensor) -> Tensor:
    """Mean absolute difference of the logarithms of depth, scale and shift fitted in disparity as
    the benchmark's protocol does, and a twentieth of the colours' error, which keeps the range.

    bases (N,): the farthest pixel's disparity as a share of the image's range of disparities, which
    min-max takes away; NaN where it is not known, and then only the colours count.
    """
    shown, truth = answers.mean(1).flatten(1), truths.mean(1).flatten(1)
    base = bases.nan_to_num(0.0)[:, None]
    known = (truth + base > SKY).float()
    total = known.sum(1, keepdim=True).clamp_min(1)

    def mean(values: Tensor) -> Tensor:
        return (values * known).sum(1, keepdim=True) / total

    away, level = shown - mean(shown), mean(truth)
    scale = mean(away * (truth - level)) / (mean(away.square()) + 1e-6)
    fitted = scale * away + level + base
    logs = mean((logarithm(fitted) - logarithm(truth + base)).abs())[:, 0]
    plain = colour_error(answers, truths, bases)
    return torch.where(bases.isnan(), plain, logs + 0.05 * plain)


def logarithm(values: Tensor) -> Tensor:
    """ln, and below NEAR_ZERO its tangent, so that what is fitted too far has a way back."""
    low = (values - NEAR_ZERO) / NEAR_ZERO
    high = (values.clamp_min(NEAR_ZERO) / NEAR_ZERO).log()
    return torch.where(values < NEAR_ZERO, low, high)


def direction_error(answers: Tensor, truths: Tensor, bases: Tensor) -> Tensor:
    """Mean chord between unit vectors, 2 sin(angle / 2)."""
    found, true = (2 * colours - 1 for colours in (answers, truths))
    length = found.square().sum(1, keepdim=True).clamp_min(SHORTEST**2).sqrt()
    return ((found / length - true).square().sum(1) + 1e-6).sqrt().mean((1, 2))


def overlap_error(answers: Tensor, truths: Tensor, bases: Tensor) -> Tensor:
    """One minus intersection over union of brightness, and half the colours' error, which is all
    there is where nothing is to be found."""
    found, true = (colours.mean(1).clamp(0, 1) for colours in (answers, truths))
    return missed(found, true) + 0.5 * colour_error(answers, truths, bases)


def disk_error(answers: Tensor, truths: Tensor, bases: Tensor) -> Tensor:
    """The same for redness, by which tasks.pose finds its disks. A disk of unsure place is fainter
    than that in a mean picture; here it pays to draw it where it is likeliest."""
    found, true = (
        (colours[:, 0] - colours[:, 1:].amax(1)).clamp(0, 1) for colours in (answers, truths)
    )
    return missed(found, true, FEWER) + 0.5 * colour_error(answers, truths, bases)


def missed(found: Tensor, true: Tensor, share: float = FEW) -> Tensor:
    """One minus intersection over union of grey levels (N, H, W) in 0..1 (Rahman and Wang 2016),
    softened by that share of the picture."""
    found, true = found.flatten(1), true.flatten(1)
    few = share * found.shape[1]
    shared = torch.minimum(found, true).sum(1) + few
    either = torch.maximum(found, true).sum(1) + few
    return 1 - shared / either

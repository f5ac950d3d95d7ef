# SPDX-License-Identifier: Apache-2.0
"""Masks: semantic IoU, panoptic quality and best overlap, in counts that add up over images."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.protocols.shapes import same_shape

Array = npt.NDArray[Any]
Bool = npt.NDArray[np.bool_]
Counts = npt.NDArray[np.int64]


def mask_iou(mask: Bool, truth: Bool) -> float:
    """Intersection over union (Jaccard index) of two (H, W) masks; two empty masks agree: 1."""
    same_shape(mask, truth)
    union = int(np.logical_or(mask, truth).sum())
    return float(np.logical_and(mask, truth).sum() / union) if union else 1.0


def confusion(classes: Array, truth: Array, count: int, *, ignore: int | None = None) -> Counts:
    """(count, count) pixels, rows the truth, columns the answer; both (H, W) in 0..count - 1.
    Pixels whose truth is `ignore` are left out. ValueError for a class outside the range."""
    same_shape(classes, truth)
    counted = np.ones(truth.shape, np.bool_) if ignore is None else truth != ignore
    a, b = truth[counted].astype(np.int64), classes[counted].astype(np.int64)
    if a.size and (min(a.min(), b.min()) < 0 or max(a.max(), b.max()) >= count):
        raise ValueError(f"expected classes in 0..{count - 1}, found others: raise count")
    return np.bincount(a * count + b, minlength=count**2).reshape(count, count)


def intersections_and_unions(matrix: Counts) -> tuple[Counts, Counts]:
    """Per class, of a confusion matrix or a sum of them."""
    hit = np.diagonal(matrix).copy()
    return hit, matrix.sum(axis=0) + matrix.sum(axis=1) - hit


def miou(matrix: Counts) -> float:
    """Mean IoU over the classes that occur in truth or answer, of a confusion matrix summed over
    all images: PASCAL VOC (Everingham et al. 2015, section 4.2.3). NaN without any class."""
    hit, union = intersections_and_unions(matrix)
    return float((hit[union > 0] / union[union > 0]).mean()) if (union > 0).any() else float("nan")


@dataclass(frozen=True)
class PanopticCounts:
    """What one category's panoptic quality adds up from: matched segments and the sum of their
    IoU, unmatched answers, missed truths."""

    iou: float = 0.0
    tp: int = 0
    fp: int = 0
    fn: int = 0

    def __add__(self, other: PanopticCounts) -> PanopticCounts:
        return PanopticCounts(
            self.iou + other.iou, self.tp + other.tp, self.fp + other.fp, self.fn + other.fn
        )

    @property
    def pq(self) -> float:
        """sum IoU / (TP + FP / 2 + FN / 2); NaN where nothing was there and nothing found."""
        size = self.tp + 0.5 * self.fp + 0.5 * self.fn
        return self.iou / size if size else float("nan")

    @property
    def sq(self) -> float:
        """Segmentation quality: mean IoU of the matched; 0 without any."""
        return self.iou / self.tp if self.tp else 0.0

    @property
    def rq(self) -> float:
        """Recognition quality, the F1 score of the segments."""
        size = self.tp + 0.5 * self.fp + 0.5 * self.fn
        return self.tp / size if size else float("nan")


def panoptic(
    ids: Array,
    truth: Array,
    categories: Mapping[int, int] | None = None,
    true_categories: Mapping[int, int] | None = None,
    crowds: Collection[int] = (),
) -> dict[int, PanopticCounts]:
    """One image's counts by category. ids, truth (H, W) whole numbers, 0 = void; answered ids
    below 0 are none, too. categories by id, by default all 1 (class-agnostic); crowds: true ids of
    groups, which are neither matched nor missed. Answers that lie over half in void or their
    category's crowd are no error.

    Source: Kirillov et al. 2019 (CVPR), as panopticapi counts: the union leaves void pixels out.
    """
    same_shape(ids, truth)
    found, named, joint = _overlaps(ids, truth)
    of = categories if categories is not None else {i: 1 for i in found if i > 0}
    true_of = true_categories if true_categories is not None else {i: 1 for i in named if i}
    area, true_area = joint.sum(axis=0), joint.sum(axis=1)
    void = joint[named.index(0)] if 0 in named else np.zeros_like(area)
    counts: dict[int, PanopticCounts] = {}
    matched_found: set[int] = set()
    for row, name in enumerate(named):
        if name == 0 or name in crowds:
            continue
        match = PanopticCounts(fn=1)
        for column in map(int, np.flatnonzero(joint[row])):
            answer = found[column]
            if answer <= 0 or of[answer] != true_of[name]:
                continue
            union = area[column] + true_area[row] - joint[row, column] - void[column]
            iou = float(joint[row, column] / union)
            if iou > 0.5:
                match = PanopticCounts(iou=iou, tp=1)
                matched_found.add(answer)
        counts[true_of[name]] = counts.get(true_of[name], PanopticCounts()) + match
    for place, answer in enumerate(found):
        if answer <= 0 or answer in matched_found:
            continue
        rows = [r for r, n in enumerate(named) if n in crowds and true_of[n] == of[answer]]
        forgiven = void[place] + joint[rows, place].sum()
        if forgiven / area[place] <= 0.5:
            counts[of[answer]] = counts.get(of[answer], PanopticCounts()) + PanopticCounts(fp=1)
    return counts


def best_ious(ids: Array, masks: Sequence[Bool]) -> npt.NDArray[np.float64]:
    """For every true mask (H, W), which may overlap, the best IoU that any found instance has.
    ids (H, W) whole numbers, 0 and below = none. Uijlings et al. 2013 (IJCV), section 5.2."""
    if ids.size and ids.min() >= 0 and ids.max() < ids.size:
        names, place = np.arange(int(ids.max()) + 1), ids.astype(np.int64)
    else:  # as colour codes are; it takes several times as long
        names, place = np.unique(ids, return_inverse=True)
        place = place.reshape(ids.shape)
    areas = np.bincount(place.ravel())
    best = np.zeros(len(masks))
    for i, mask in enumerate(masks):
        same_shape(ids, mask)
        joint = np.bincount(place[mask], minlength=len(areas))
        overlap = joint / np.maximum(areas + int(mask.sum()) - joint, 1)
        best[i] = overlap[names > 0].max(initial=0.0)
    return best


def _overlaps(ids: Array, truth: Array) -> tuple[list[int], list[int], Counts]:
    """Found ids, true ids and (true, found) pixels that they share."""
    found, at_found = np.unique(ids, return_inverse=True)
    named, at_truth = np.unique(truth, return_inverse=True)
    cells = at_truth.ravel() * len(found) + at_found.ravel()
    joint = np.bincount(cells, minlength=len(named) * len(found)).reshape(len(named), len(found))
    return [int(i) for i in found], [int(i) for i in named], joint

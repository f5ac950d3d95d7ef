# SPDX-License-Identifier: Apache-2.0
"""What a sample's truth is to a metric: classes, ids, segments, the objects that are clicked."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import linear_sum_assignment

from diception_ros.evaluation.datasets.sample import Object, Sample
from diception_ros.evaluation.protocols import keypoints
from diception_ros.evaluation.protocols.clicks import Click
from diception_ros.evaluation.protocols.presets import DepthPreset


@dataclass(frozen=True)
class Rules:
    """smallest: px, true objects under it are left out. objects: clicked in each image at most;
    clicks: on each; seed: which objects are drawn. protocols: of depth, empty for all that can
    judge the answers.
    """

    preset: DepthPreset
    protocols: tuple[str, ...] = ()
    smallest: int = 100
    objects: int = 8
    clicks: int = 5
    seed: int = 0


def flatten(objects: Sequence[Object], size: tuple[int, int]) -> np.ndarray:
    """Ids (H, W), the row in objects plus 1, 0 = none; where they overlap the smaller is seen."""
    ids = np.zeros(size, np.int64)
    for number in sorted(range(len(objects)), key=lambda i: -objects[i].pixels):
        ids[objects[number].mask(size)] = number + 1
    return ids


def classes_of(sample: Sample, categories: Sequence[str]) -> np.ndarray | None:
    """True classes (H, W): i + 1 for categories[i], 0 none of them, -1 not judged."""
    if sample.classes is not None:
        table = np.zeros(len(sample.class_names) + 2, np.int64)
        for number, name in enumerate(sample.class_names, start=1):
            table[number] = categories.index(name) + 1 if name in categories else 0
        table[-1] = -1
        found: np.ndarray = table[sample.classes]
        return found
    if sample.objects is None:
        return None
    classes = np.zeros(sample.size, np.int64)
    shown = [one for one in sample.objects if one.category in categories]
    for one in sorted(shown, key=lambda item: -item.pixels):
        classes[one.mask(sample.size)] = categories.index(one.category) + 1
    return classes


def categories_of(sample: Sample) -> tuple[str, ...]:
    """The categories that a sample shows, each once."""
    if sample.classes is not None:
        present = [int(i) for i in np.unique(sample.classes) if i > 0]
        return tuple(sample.class_names[i - 1] for i in present)
    return tuple(dict.fromkeys(one.category for one in sample.objects or () if one.category))


def draw_objects(sample: Sample, rules: Rules) -> list[Object]:
    """Up to rules.objects of the objects that are large enough, the same in every run."""
    large = [one for one in sample.objects or () if not one.crowd and one.pixels >= rules.smallest]
    if len(large) <= rules.objects:
        return large
    digest = sum(map(ord, sample.name))
    rng = np.random.default_rng([rules.seed, digest])
    return [large[i] for i in sorted(rng.choice(len(large), rules.objects, replace=False))]


def object_under(sample: Sample, clicks: Sequence[Click]) -> Object | None:
    """The true object under the first click that is on one, None where there is none, or where
    another click says that it is not meant."""
    objects = [one for one in sample.objects or () if one.pixels and not one.crowd]
    ids = flatten(objects, sample.size)
    under = [int(ids[place]) if (place := _pixel(click, sample)) else 0 for click in clicks]
    meant = next((i for i, (_, _, inside) in zip(under, clicks, strict=True) if i and inside), 0)
    denied = {i for i, (_, _, inside) in zip(under, clicks, strict=True) if not inside}
    return objects[meant - 1] if meant and meant not in denied else None


def _pixel(click: Click, sample: Sample) -> tuple[int, int] | None:
    """Row and column, None outside of the image."""
    row, column = round(click[1]), round(click[0])
    height, width = sample.size
    return (row, column) if 0 <= row < height and 0 <= column < width else None


def typed_oks(answered: np.ndarray, people: Sequence[Object]) -> np.ndarray:
    """OKS of each true person with the answer that is its own, so that their sum is largest; 0
    without one. answered (P, K, 2). ValueError if the joints are not COCO's 17."""
    similarity = np.zeros((len(people), len(answered)))
    for row, person in enumerate(people):
        joints, area = person.keypoints, person.area or float(max(person.pixels, 1))
        for column, points in enumerate(answered):
            similarity[row, column] = keypoints.oks(points, joints[:, :2], joints[:, 2] > 0, area)
    rows, columns = linear_sum_assignment(similarity, maximize=True)
    found = np.zeros(len(people))
    found[rows] = similarity[rows, columns]
    return found


def box_around(joints: np.ndarray) -> keypoints.Box:
    (x, y), (right, bottom) = joints.min(axis=0), joints.max(axis=0)
    return float(x), float(y), float(right - x), float(bottom - y)

# SPDX-License-Identifier: Apache-2.0
"""COCO's average precision and recall of segments and of people's joints, computed by pycocotools
itself."""

from __future__ import annotations

import contextlib
import importlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Bool = npt.NDArray[np.bool_]

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")
"""In the order of COCOeval.summarize: AP and AR over IoU 0.5 to 0.95; small, medium and large are
under 32^2, under 96^2 and over; AR1, AR10, AR100 with so many segments an image."""

KEYPOINT_STATS = ("AP", "AP50", "AP75", "APm", "APl", "AR", "AR50", "AR75", "ARm", "ARl")
"""The same of joints, over OKS 0.5 to 0.95 instead of IoU, with up to 20 people an image."""
FAR = 1e6
"""px; whatever lies there is near no joint."""
JOINTS = 17
"""Of COCO's person."""


@dataclass(frozen=True)
class Segment:
    """A mask as pycocotools keeps it (`encode`), with what COCO's format says of it. category 1 for
    class-agnostic judging; crowd: a group that is neither matched nor missed."""

    counts: dict[str, Any]
    area: float
    box: tuple[float, float, float, float]
    score: float = 1.0
    category: int = 1
    crowd: bool = False

    def entry(self) -> dict[str, Any]:
        """As in COCO's JSON."""
        return {
            "category_id": self.category,
            "segmentation": self.counts,
            "area": self.area,
            "bbox": list(self.box),
            "score": self.score,
            "iscrowd": int(self.crowd),
        }


@dataclass(frozen=True)
class Person:
    """joints (17, 3) x, y, visibility (0 not labelled; of no meaning in an answer). area: of the
    person's segment, px^2; box: x, y, width, height; None for an answer: those of its joints, as
    COCO has it."""

    joints: npt.NDArray[np.float64]
    area: float | None = None
    box: tuple[float, float, float, float] | None = None
    score: float = 1.0
    crowd: bool = False
    category: int = 1

    def __post_init__(self) -> None:
        if self.joints.shape != (JOINTS, 3):
            raise ValueError(f"expected COCO's joints ({JOINTS}, 3), found {self.joints.shape}")

    def entry(self) -> dict[str, Any]:
        """As in COCO's JSON, which knows no joint that was not found: such a one is far away."""
        known: Bool = np.logical_and.reduce(np.isfinite(self.joints), axis=1)
        joints = np.where(known[:, None], self.joints, FAR)
        some = self.joints[known, :2] if known.any() else np.zeros((1, 2))
        (x, y), (right, bottom) = some.min(axis=0), some.max(axis=0)
        box = self.box or (x, y, right - x, bottom - y)
        return {
            "category_id": self.category,
            "keypoints": joints.ravel().tolist(),
            "num_keypoints": int((self.joints[:, 2] > 0).sum()),
            "area": box[2] * box[3] if self.area is None else self.area,
            "bbox": list(box),
            "score": self.score,
            "iscrowd": int(self.crowd),
        }


Some = Sequence[Sequence[Segment | Person]]
"""By image, all of one kind."""


def available() -> bool:
    """Whether pycocotools can be imported."""
    try:
        import pycocotools.mask  # noqa: F401
    except ImportError:
        return False
    return True


def encode(
    mask: Bool, *, score: float = 1.0, category: int = 1, crowd: bool = False, area: float = 0.0
) -> Segment:
    """A mask (H, W). area: as annotated, 0 for the mask's own. ValueError without pycocotools."""
    tools = _import("mask")
    counts = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
    box = tuple(float(value) for value in tools.toBbox(counts))
    own = float(tools.area(counts))
    return Segment(counts, area or own, box, score, category, crowd)  # type: ignore[arg-type]


class Detections:
    """Segments, or people, of some images judged against their truths; images are numbered as
    given."""

    def __init__(self, found: Some, truth: Some, kind: str = "segm") -> None:
        """kind: segm or keypoints. ValueError without pycocotools or for lists of different
        lengths."""
        self.names = KEYPOINT_STATS if kind == "keypoints" else STATS
        if len(found) != len(truth):
            raise ValueError(f"{len(found)} answered images but {len(truth)} with truth")
        self.images = len(truth)
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            self._evaluation = _evaluate(found, truth, kind)
        self._records = list(self._evaluation.evalImgs)

    def stats(self, chosen: npt.NDArray[np.int64] | None = None) -> dict[str, float]:
        """STATS or KEYPOINT_STATS of the chosen images, which may repeat (for a bootstrap); NaN
        where no truth of the kind was there."""
        evaluation = self._evaluation
        rows = np.arange(self.images) if chosen is None else chosen
        blocks = [
            self._records[start : start + self.images]
            for start in range(0, len(self._records), self.images)
        ]
        evaluation.evalImgs = [block[row] for block in blocks for row in rows]
        for parameters in (evaluation.params, evaluation._paramsEval):
            parameters.imgIds = list(range(len(rows)))
        with contextlib.redirect_stdout(io.StringIO()):
            evaluation.accumulate()
            evaluation.summarize()
        values = [float(value) if value >= 0 else float("nan") for value in evaluation.stats]
        return dict(zip(self.names, values, strict=True))


def _evaluate(found: Some, truth: Some, kind: str) -> Any:
    tools, evaluation = _import("coco"), _import("cocoeval")
    names = {one.category for image in (*found, *truth) for one in image} or {1}
    frame = {
        "images": [_image(i, [*truth[i], *found[i]]) for i in range(len(truth))],
        "categories": [{"id": name} for name in sorted(names)],
    }
    sets = []
    for images in (truth, found):
        entries = [
            {"id": number, "image_id": i, "ignore": 0, **one.entry()}
            for number, (i, one) in enumerate(
                ((i, one) for i, image in enumerate(images) for one in image), start=1
            )  # from 1: pycocotools takes a match with id 0 for no match
        ]
        index = tools.COCO()
        index.dataset = {**frame, "annotations": entries}
        index.createIndex()
        sets.append(index)
    judged = evaluation.COCOeval(*sets, kind)
    judged.evaluate()
    return judged


def _image(number: int, shown: Sequence[Segment | Person]) -> dict[str, Any]:
    height, width = next((one.counts["size"] for one in shown if isinstance(one, Segment)), (0, 0))
    return {"id": number, "height": height, "width": width}


def _import(name: str) -> Any:
    try:
        return importlib.import_module(f"pycocotools.{name}")
    except ImportError as error:
        raise ValueError("average precision needs pycocotools: pip install pycocotools") from error

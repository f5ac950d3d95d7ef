# SPDX-License-Identifier: Apache-2.0
"""COCO's average precision and recall of segments, computed by pycocotools itself."""

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
    """Segments of some images judged against their truths; images are numbered as given."""

    def __init__(
        self, found: Sequence[Sequence[Segment]], truth: Sequence[Sequence[Segment]]
    ) -> None:
        """ValueError without pycocotools or for lists of different lengths."""
        if len(found) != len(truth):
            raise ValueError(f"{len(found)} answered images but {len(truth)} with truth")
        self.images = len(truth)
        with contextlib.redirect_stdout(io.StringIO()):  # pycocotools prints its progress
            self._evaluation = _evaluate(found, truth)
        self._records = list(self._evaluation.evalImgs)

    def stats(self, chosen: npt.NDArray[np.int64] | None = None) -> dict[str, float]:
        """STATS of the chosen images, which may repeat (for a bootstrap); NaN where no truth of the
        kind was there."""
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
        return dict(zip(STATS, values, strict=True))


def _evaluate(found: Sequence[Sequence[Segment]], truth: Sequence[Sequence[Segment]]) -> Any:
    tools, evaluation = _import("coco"), _import("cocoeval")
    names = {segment.category for image in (*found, *truth) for segment in image} or {1}
    frame = {
        "images": [_image(i, [*truth[i], *found[i]]) for i in range(len(truth))],
        "categories": [{"id": name} for name in sorted(names)],
    }
    sets = []
    for images in (truth, found):
        entries = [
            _annotation(number, i, segment)
            for number, (i, segment) in enumerate(
                ((i, segment) for i, image in enumerate(images) for segment in image), start=1
            )  # from 1: pycocotools takes a match with id 0 for no match
        ]
        one = tools.COCO()
        one.dataset = {**frame, "annotations": entries}
        one.createIndex()
        sets.append(one)
    judged = evaluation.COCOeval(*sets, "segm")
    judged.evaluate()
    return judged


def _image(number: int, segments: Sequence[Segment]) -> dict[str, Any]:
    height, width = segments[0].counts["size"] if segments else (0, 0)
    return {"id": number, "height": height, "width": width}


def _annotation(number: int, image: int, segment: Segment) -> dict[str, Any]:
    return {
        "id": number,
        "image_id": image,
        "category_id": segment.category,
        "segmentation": segment.counts,
        "area": segment.area,
        "bbox": list(segment.box),
        "score": segment.score,
        "iscrowd": int(segment.crowd),
        "ignore": 0,
    }


def _import(name: str) -> Any:
    try:
        return importlib.import_module(f"pycocotools.{name}")
    except ImportError as error:
        raise ValueError(
            "average precision needs pycocotools: pip install 'diception_ros[evaluate]'"
        ) from error

# SPDX-License-Identifier: Apache-2.0
"""What a recording says of the node itself: latency, rate, drops, stages, flicker and coverage."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.figures import HIGHER, LOWER, Draws, Figure, Metric, Parts, Tally
from diception_ros.evaluation.protocols.masks import mask_iou
from diception_ros.evaluation.protocols.normals import angles

TASK = "system"
RECORDED = "frame reports of the recording"
OFFLINE = "frame reports of diception bag, which no camera waited for: no latency, rate or drops"
BETWEEN = "change between successive frames, motion included"
VALID = "share of all pixels"
NEXT = 0.5
"""s; frames farther apart than this are not compared for flicker."""
PERCENTILES = (50, 95, 99)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class Report:
    """One FrameReport. stamp: of the image, ns; age_ms: of the image when its outputs were
    published, NaN where no camera was there; stages: ms by name; dropped: images since the last
    report."""

    stamp: int
    age_ms: float
    stages: dict[str, float]
    dropped: int
    graph: bool

    @classmethod
    def of(cls, stamp: int, message: Any) -> Report:
        names = [str(name) for name in message.stages]
        stages = dict(zip(names, map(float, message.durations), strict=False))
        return cls(
            stamp, float(message.age_ms), stages, int(message.dropped), bool(message.graph_replayed)
        )


def frame_name(stamp: int) -> str:
    """Seconds and nanoseconds of a stamp, as a frame is called in figures of a recording."""
    return f"{stamp // 10**9}.{stamp % 10**9:09d}"


def report_figures(reports: Sequence[Report], draws: Draws | None = None) -> list[Figure]:
    """Latency (mean and percentiles), rate, drops and stages, of a run offline only the stages;
    none without reports. draws: how frames are drawn for the percentiles' intervals."""
    ordered, tally = _live(reports), Tally()
    protocol = RECORDED if ordered else OFFLINE
    for one in ordered:
        name = frame_name(one.stamp)
        tally.add(Metric(TASK, RECORDED, "latency mean", "ms"), name, one.age_ms)
        tally.add(
            Metric(TASK, RECORDED, "share of images dropped"), name, one.dropped, one.dropped + 1
        )
    for one in sorted(reports, key=lambda one: one.stamp):
        for stage, spent in one.stages.items():
            metric = Metric(TASK, protocol, f"stage {stage}", "ms")
            tally.add(metric, frame_name(one.stamp), spent)
    for before, after in pairwise(ordered):
        seconds = (after.stamp - before.stamp) / 1e9
        rate = Metric(TASK, RECORDED, "rate", "Hz", HIGHER)
        tally.add(rate, frame_name(after.stamp), 1.0, seconds)
    return [*(_percentiles(ordered, draws or Draws()) if ordered else ()), *tally.figures()]


def _live(reports: Sequence[Report]) -> list[Report]:
    """Those of a node that a camera drove, by their stamps."""
    return sorted((one for one in reports if math.isfinite(one.age_ms)), key=lambda one: one.stamp)


def _percentiles(reports: Sequence[Report], draws: Draws) -> list[Figure]:
    """Percentiles of the age; they are no ratios of sums, so they bring their own resamples."""
    ages = np.array([one.age_ms for one in reports])
    names = [frame_name(one.stamp) for one in reports]
    frames: dict[str, Parts] = {name: {} for name in names}
    found = [np.percentile(ages[rows], PERCENTILES) for rows in draws.resamples(names)]
    drawn = np.array(found or [np.full(len(PERCENTILES), math.nan)])
    return [
        Figure(
            Metric(TASK, RECORDED, f"latency p{share}", "ms"),
            frames,
            float(np.percentile(ages, share)),
            tuple(drawn[:, i].tolist()),
        )
        for i, share in enumerate(PERCENTILES)
    ]


def report_curves(reports: Sequence[Report]) -> dict[str, Any]:
    """What the latency plots are drawn from; nothing of a run offline."""
    ordered = _live(reports)
    if not ordered:
        return {}
    first = ordered[0].stamp
    return {
        "latency_ms": [one.age_ms for one in ordered],
        "seconds": [(one.stamp - first) / 1e9 for one in ordered],
        "dropped": [one.dropped for one in ordered],
    }


class Flicker:
    """Compares every output with the one before it."""

    def __init__(self, tally: Tally) -> None:
        self._tally = tally
        self._last: dict[str, tuple[int, Array]] = {}

    def add(self, stamp: int, output: str, values: Array) -> None:
        """output: disparity, depth, normals or point; others are not compared."""
        before = self._last.get(output)
        self._last[output] = (stamp, values)
        if before is None or before[1].shape != values.shape:
            return
        if not 0 < stamp - before[0] <= NEXT * 1e9:
            return
        change = _change(output, before[1], values)
        if change is not None:
            name, unit, value = change
            self._tally.add(Metric(TASK, BETWEEN, name, unit, LOWER), frame_name(stamp), value)


def _change(output: str, before: Array, after: Array) -> tuple[str, str, float] | None:
    if output == "disparity":
        return "flicker of disparity", "", float(np.abs(after - before).mean())
    if output == "normals":
        return "flicker of normals", "°", float(angles(after, before).mean())
    if output == "point":
        return "flicker of point mask, 1 - IoU", "", 1 - mask_iou(after > 0, before > 0)
    if output == "depth":
        both = np.isfinite(before) & np.isfinite(after)
        both &= (np.nan_to_num(before) > 0) & (np.nan_to_num(after) > 0)
        if not both.any():
            return None
        relative = np.abs(after[both] - before[both]) / before[both]
        return "flicker of depth, relative", "", float(relative.mean())
    return None


def add_coverage(tally: Tally, stamp: int, depth: Array) -> None:
    """Share of pixels (H, W) that have metres."""
    metric = Metric(TASK, VALID, "coverage of depth", "", HIGHER)
    valid = np.isfinite(depth) & (np.nan_to_num(depth) > 0)
    tally.add(metric, frame_name(stamp), float(valid.mean()))

# SPDX-License-Identifier: Apache-2.0
"""Figures over many frames with what their uncertainty is computed from, and how two runs differ.

Every figure is a ratio of sums over frames (a mean over frames has denominators of 1), averaged
over classes where it has some. So one bootstrap serves all: frames are drawn with replacement,
sums and ratios formed anew, and the percentiles of the result are the interval (Efron & Tibshirani
1993, chapter 13). Two runs are compared on the frames that both have, drawn together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Double = npt.NDArray[np.float64]
Parts = Mapping[str, tuple[float, float]]
"""Numerator and denominator by class; the class is "" where there are none."""

LOWER, HIGHER = "lower", "higher"
RESAMPLES = 2000
LEVEL = 0.95
FEW = 10
"""Frames under which an interval is a guess: the bootstrap knows only what it has seen."""


@dataclass(frozen=True)
class Metric:
    """What is measured and how; two figures may be compared only if all of this is equal.

    unit: "" for a pure number. better: LOWER or HIGHER. root: the square root of the ratio is the
    figure, as for an RMSE over all pixels.
    """

    task: str
    protocol: str
    name: str
    unit: str = ""
    better: str = LOWER
    root: bool = False

    def __post_init__(self) -> None:
        if self.better not in (LOWER, HIGHER):
            raise ValueError(f"better is '{LOWER}' or '{HIGHER}', got '{self.better}'")


@dataclass(frozen=True)
class Estimate:
    """value with its interval low..high at LEVEL, and over how many frames."""

    value: float
    low: float
    high: float
    frames: int


@dataclass(frozen=True)
class Figure:
    """A metric with its parts by frame. replicates: instead of parts where a figure is no ratio
    (average precision): its value and the values of RESAMPLES_SLOW resamples of `parts`' frames."""

    metric: Metric
    parts: Mapping[str, Parts]
    value: float | None = None
    replicates: tuple[float, ...] = ()

    def estimate(self, draws: Draws) -> Estimate:
        """The figure and its interval."""
        if self.replicates:
            low, high = _interval(np.asarray(self.replicates))
            return Estimate(float(self.value or 0.0), low, high, len(self.parts))
        frames = sorted(self.parts)
        sums = self._sums(frames)
        low, high = _interval(self._values(draws.weights(frames), sums))
        value = float(self._values(np.ones((1, len(frames))), sums)[0])
        return Estimate(value, low, high, len(frames))

    def over(self, frames: Sequence[str], weights: Double) -> Double:
        """The figure under each row of weights (B, len(frames)): (B,)."""
        return self._values(weights, self._sums(frames))

    def _sums(self, frames: Sequence[str]) -> tuple[Double, Double]:
        """Numerators and denominators (frames, classes)."""
        classes = sorted({name for frame in frames for name in self.parts[frame]})
        place = {name: i for i, name in enumerate(classes)}
        both = np.zeros((2, len(frames), len(classes)))
        for row, frame in enumerate(frames):
            for name, pair in self.parts[frame].items():
                both[:, row, place[name]] = pair
        return both[0], both[1]

    def _values(self, weights: Double, sums: tuple[Double, Double]) -> Double:
        above, below = weights @ sums[0], weights @ sums[1]
        ratio = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        present = (below > 0).sum(axis=1)
        mean = np.full(len(weights), np.nan)
        np.divide(ratio.sum(axis=1), present, out=mean, where=present > 0)
        return np.sqrt(mean) if self.metric.root else mean


@dataclass(frozen=True)
class Draws:
    """How frames are drawn. groups: by frame the unit that is drawn whole (a scene, a second of a
    recording); a frame without one is its own. Deterministic: the same frames, the same draws.
    """

    groups: Mapping[str, str] = field(default_factory=dict)
    number: int = RESAMPLES
    seed: int = 0

    def weights(self, frames: Sequence[str]) -> Double:
        """(number, frames): how often each frame was drawn."""
        units = [self.groups.get(frame) or f"frame {frame}" for frame in frames]
        names, place = np.unique(units, return_inverse=True)
        rng = np.random.default_rng(self.seed)
        drawn = rng.multinomial(len(names), np.full(len(names), 1 / len(names)), self.number)
        return drawn[:, place].astype(np.float64)


class Tally:
    """Gathers parts frame by frame."""

    def __init__(self) -> None:
        self._parts: dict[Metric, dict[str, dict[str, tuple[float, float]]]] = defaultdict(dict)

    def add(
        self, metric: Metric, frame: str, value: float, weight: float = 1.0, name: str = ""
    ) -> None:
        """value: the numerator, weight: the denominator; NaN is left out."""
        if np.isfinite(value) and weight > 0:
            self._parts[metric].setdefault(frame, {})[name] = (float(value), float(weight))

    def figures(self) -> list[Figure]:
        return [Figure(metric, parts) for metric, parts in self._parts.items()]


BETTER, WORSE, EVEN = "better", "worse", "no difference shown"


@dataclass(frozen=True)
class Difference:
    """This run minus the other on the frames of both, with its paired interval. verdict: BETTER or
    WORSE where the interval leaves zero out, else EVEN."""

    metric: Metric
    this: float
    other: float
    difference: float
    low: float
    high: float
    frames: int
    verdict: str


def compare(this: Figure, other: Figure, draws: Draws) -> Difference | None:
    """None if they share no frame, or are no ratios and not of the same frames.
    ValueError for two metrics: they are never comparable."""
    if this.metric != other.metric:
        raise ValueError(f"{this.metric} cannot be compared with {other.metric}")
    frames = sorted(this.parts.keys() & other.parts.keys())
    if not frames:
        return None
    if this.replicates or other.replicates:
        whole = this.parts.keys() == other.parts.keys()
        if not whole or len(this.replicates) != len(other.replicates):
            return None
        values = float(this.value or 0.0), float(other.value or 0.0)
        spread = np.asarray(this.replicates) - np.asarray(other.replicates)
    else:
        once, weights = np.ones((1, len(frames))), draws.weights(frames)
        values = float(this.over(frames, once)[0]), float(other.over(frames, once)[0])
        spread = this.over(frames, weights) - other.over(frames, weights)
    low, high = _interval(spread)
    return Difference(
        this.metric,
        *values,
        values[0] - values[1],
        low,
        high,
        len(frames),
        _verdict(this.metric.better, low, high),
    )


def _verdict(better: str, low: float, high: float) -> str:
    if not (low > 0 or high < 0):
        return EVEN
    return BETTER if (low > 0) == (better == HIGHER) else WORSE


def _interval(values: npt.NDArray[Any]) -> tuple[float, float]:
    known = values[np.isfinite(values)]
    if not len(known):
        return float("nan"), float("nan")
    tail = 100 * (1 - LEVEL) / 2
    low, high = np.percentile(known, [tail, 100 - tail])
    return float(low), float(high)

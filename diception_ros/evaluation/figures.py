# SPDX-License-Identifier: Apache-2.0
"""Figures over many frames with what their uncertainty is computed from, and how two runs differ.

Every figure is a ratio of sums over frames (a mean over frames has denominators of 1), averaged
over classes where it has some. So one bootstrap serves all: frames are drawn with replacement,
sums and ratios formed anew, and the percentiles of the result are the interval (Efron & Tibshirani
1993, chapter 13). Two runs are compared on the frames that both have, drawn together.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
import numpy.typing as npt

Double = npt.NDArray[np.float64]
Index = npt.NDArray[np.intp]
Parts = Mapping[str, tuple[float, float]]
"""Numerator and denominator by class; the class is "" where there are none."""

LOWER, HIGHER = "lower", "higher"
RESAMPLES = 2000
LEVEL = 0.95
FEW = 10
"""Units under which an interval is a guess: the bootstrap knows only what it has seen."""


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
    (average precision, percentiles): its value under each resample of the frames.
    """

    metric: Metric
    parts: Mapping[str, Parts]
    value: float | None = None
    replicates: tuple[float, ...] = ()

    def estimate(self, draws: Draws) -> Estimate:
        """The figure and its interval."""
        if self.replicates:
            low, high = _interval(np.asarray(self.replicates))
            return Estimate(float(self.value or 0.0), low, high, len(self.parts))
        value, spread = self.over(sorted(self.parts), draws)
        return Estimate(value, *_interval(spread), len(self.parts))

    def over(self, frames: Sequence[str], draws: Draws) -> tuple[float, Double]:
        """The figure over these frames, and over each draw of them: (number,)."""
        above, below = self._sums(frames)
        value = float(self._values(above.sum(axis=0)[None], below.sum(axis=0)[None])[0])
        return value, self._values(*draws.sums(frames, above, below))

    def _sums(self, frames: Sequence[str]) -> tuple[Double, Double]:
        """Numerators and denominators (frames, classes)."""
        classes = sorted({name for frame in frames for name in self.parts[frame]})
        place = {name: i for i, name in enumerate(classes)}
        both = np.zeros((2, len(frames), len(classes)))
        for row, frame in enumerate(frames):
            for name, pair in self.parts[frame].items():
                both[:, row, place[name]] = pair
        return both[0], both[1]

    def _values(self, above: Double, below: Double) -> Double:
        """Figures (B,) of numerators and denominators (B, classes)."""
        ratio = np.divide(above, below, out=np.zeros_like(above), where=below > 0)
        present = (below > 0).sum(axis=1)
        mean = np.full(len(above), np.nan)
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

    def sums(self, frames: Sequence[str], *parts: Double) -> list[Double]:
        """Sums over each draw of parts (frames, classes): (number, classes) each."""
        place, drawn = self._drawn(frames, self.number)
        found = []
        for part in parts:
            whole = np.zeros((drawn.shape[1], part.shape[1]))
            np.add.at(whole, place, part)
            found.append(drawn @ whole)
        return found

    def resamples(self, frames: Sequence[str], number: int | None = None) -> Iterator[Index]:
        """Rows of frames in each draw, for figures that are no ratios of sums; none where all
        frames are of one unit."""
        place, drawn = self._drawn(frames, number or self.number)
        for counts in drawn if drawn.shape[1] > 1 else ():
            yield np.repeat(np.arange(len(frames)), counts[place].astype(np.intp))

    def same(self, other: Draws, frames: Collection[str]) -> bool:
        """Whether both draw these frames together, so that replicates of both are pairs."""
        return (self.number, self.seed) == (other.number, other.seed) and all(
            self._unit(frame) == other._unit(frame) for frame in frames
        )

    def units(self, frames: Collection[str]) -> int:
        """How many there are to draw from."""
        return len(set(map(self._unit, frames)))

    def _unit(self, frame: str) -> str:
        return self.groups.get(frame) or f"frame {frame}"

    def _drawn(self, frames: Sequence[str], number: int) -> tuple[Index, Double]:
        names, place = np.unique(list(map(self._unit, frames)), return_inverse=True)
        return place, _drawn(len(names), number, self.seed)


@lru_cache(maxsize=2)
def _drawn(units: int, number: int, seed: int) -> Double:
    """(number, units): how often each unit was drawn. Kept, because all figures of a run ask. NaN
    for a single unit, which says nothing of how others would be."""
    if units < 2:
        return np.full((number, units), np.nan)
    rng = np.random.default_rng(seed)
    return rng.multinomial(units, np.full(units, 1 / units), number).astype(np.float64)


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

    def merge(self, other: Tally) -> None:
        """Adds the parts of other frames."""
        for metric, frames in other._parts.items():
            for frame, parts in frames.items():
                self._parts[metric].setdefault(frame, {}).update(parts)

    @property
    def frames(self) -> set[str]:
        """Those of which there is anything."""
        return {frame for parts in self._parts.values() for frame in parts}

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


def compare(
    this: Figure, other: Figure, draws: Draws, others: Draws | None = None
) -> Difference | None:
    """None if they share no frame, or are no ratios and not of the same frames, drawn alike.
    others: how the other run drew, by default as this one. ValueError for two metrics: they are
    never comparable."""
    if this.metric != other.metric:
        raise ValueError(f"{this.metric} cannot be compared with {other.metric}")
    frames = sorted(this.parts.keys() & other.parts.keys())
    if not frames:
        return None
    if this.replicates or other.replicates:
        whole = this.parts.keys() == other.parts.keys() and draws.same(others or draws, frames)
        if not whole or len(this.replicates) != len(other.replicates):
            return None
        values = float(this.value or 0.0), float(other.value or 0.0)
        spread = np.asarray(this.replicates) - np.asarray(other.replicates)
    else:
        (here, drawn), (there, drawn_too) = this.over(frames, draws), other.over(frames, draws)
        values, spread = (here, there), drawn - drawn_too
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

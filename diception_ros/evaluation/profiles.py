# SPDX-License-Identifier: Apache-2.0
"""Where errors are: sums over all pixels of all frames by depth, by image position, by size."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Double = npt.NDArray[np.float64]
GRID = (12, 16)
"""Rows and columns of the image's cells."""
DEPTH_EDGES = np.geomspace(0.1, 200.0, 34)
"""m"""
RATIO_EDGES = np.linspace(1.0, 2.0, 101)
ANGLE_EDGES = np.linspace(0.0, 90.0, 181)
SIZE_EDGES = np.geomspace(1e-4, 1.0, 17)
"""Share of the image's pixels."""


class Binned:
    """Mean of a value by bins of another."""

    def __init__(self, edges: Double) -> None:
        self.edges = edges
        self.sums, self.counts = np.zeros(len(edges) - 1), np.zeros(len(edges) - 1)

    def add(self, at: Array, values: Array) -> None:
        """Flat arrays; what lies outside the edges goes into the first or last bin."""
        place = np.clip(np.searchsorted(self.edges, at, "right") - 1, 0, len(self.sums) - 1)
        self.sums += np.bincount(place, values, len(self.sums))
        self.counts += np.bincount(place, minlength=len(self.counts))

    def merge(self, other: Binned) -> None:
        """Adds what another one of the same edges holds."""
        self.sums += other.sums
        self.counts += other.counts

    def means(self, *, least: float = 0.0) -> Double:
        """NaN where a bin holds no more than the share `least` of all values."""
        enough = self.counts > least * self.counts.sum()
        means = np.full(len(self.sums), np.nan)
        np.divide(self.sums, self.counts, out=means, where=enough & (self.counts > 0))
        return means

    def shares(self) -> Double:
        """Cumulative share of the values under each edge but the first."""
        total = self.counts.sum()
        return np.cumsum(self.counts) / total if total else np.zeros_like(self.counts)


class Places:
    """Mean of a value by cells of the image."""

    def __init__(self) -> None:
        self.sums, self.counts = np.zeros(GRID), np.zeros(GRID)

    def add(self, where: npt.NDArray[np.bool_], values: Array) -> None:
        """where (H, W): the pixels that the flat values belong to."""
        rows, columns = np.nonzero(where)
        cell = (rows * GRID[0] // where.shape[0]) * GRID[1] + columns * GRID[1] // where.shape[1]
        size = GRID[0] * GRID[1]
        self.sums += np.bincount(cell, values, size).reshape(GRID)
        self.counts += np.bincount(cell, minlength=size).reshape(GRID)

    def merge(self, other: Places) -> None:
        """Adds what another one holds."""
        self.sums += other.sums
        self.counts += other.counts

    def means(self) -> Double:
        means = np.full(GRID, np.nan)
        np.divide(self.sums, self.counts, out=means, where=self.counts > 0)
        return means


@dataclass
class Profile:
    """What one task's plots are drawn from; unused ones stay empty."""

    by_depth: Binned = field(default_factory=lambda: Binned(DEPTH_EDGES))
    by_place: Places = field(default_factory=Places)
    ratios: Binned = field(default_factory=lambda: Binned(RATIO_EDGES))
    angles: Binned = field(default_factory=lambda: Binned(ANGLE_EDGES))
    by_size: Binned = field(default_factory=lambda: Binned(SIZE_EDGES))

    def merge(self, other: Profile) -> None:
        """Adds what another one holds."""
        for item in fields(self):
            getattr(self, item.name).merge(getattr(other, item.name))

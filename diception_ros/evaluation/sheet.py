# SPDX-License-Identifier: Apache-2.0
"""One picture of everything: a row per image, a column per answer."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

Rgb = npt.NDArray[np.uint8]

CELL = (2.0, 1.5)
"""Width and height of a picture, inches."""
LABEL = 1.25
HEAD = 1.0
FOOT = 0.35
GAP = 0.06
DPI = 110
INK, MUTED, EMPTY = "#1b1f24", "#6b7280", "#f1f3f5"


@dataclass(frozen=True)
class Row:
    """pictures: RGB uint8 by column; a column that is missing is drawn as an empty cell."""

    title: str
    subtitle: str
    pictures: Mapping[str, Rgb]


def write_sheet(
    path: Path,
    rows: Sequence[Row],
    columns: Sequence[str],
    title: str,
    notes: Sequence[str],
) -> None:
    """Writes the sheet as PNG. notes: lines under the title. ValueError without rows or columns."""
    if not rows or not columns:
        raise ValueError(f"a sheet needs rows and columns, got {len(rows)} and {len(columns)}")
    width = LABEL + len(columns) * (CELL[0] + GAP) + 0.15
    head = HEAD + 0.17 * max(0, len(notes) - 1)
    height = head + len(rows) * (CELL[1] + GAP) + FOOT
    figure = Figure(figsize=(width, height), dpi=DPI, facecolor="white")
    FigureCanvasAgg(figure)
    figure.text(0.15 / width, 1 - 0.34 / height, title, size=16, weight="bold", color=INK)
    for i, note in enumerate(notes):
        figure.text(0.15 / width, 1 - (0.56 + 0.17 * i) / height, note, size=8.5, color=MUTED)
    for j, column in enumerate(columns):
        centre = (LABEL + j * (CELL[0] + GAP) + CELL[0] / 2) / width
        top = 1 - (head - 0.06) / height
        figure.text(centre, top, column, size=10, weight="bold", color=INK, ha="center")
    for i, row in enumerate(rows):
        _draw_row(figure, row, columns, head + i * (CELL[1] + GAP), (width, height))
    figure.savefig(path, dpi=DPI)


def _draw_row(
    figure: Figure,
    row: Row,
    columns: Sequence[str],
    top: float,
    size: tuple[float, float],
) -> None:
    """top: inches from the figure's upper edge."""
    width, height = size
    middle = 1 - (top + CELL[1] / 2) / height
    lines = textwrap.fill(row.subtitle, 18)
    title = textwrap.fill(row.title, 15)
    figure.text(0.15 / width, middle + 0.02 / height, title, size=9, weight="bold", color=INK)
    figure.text(0.15 / width, middle - 0.06 / height, lines, size=7, color=MUTED, va="top")
    for j, column in enumerate(columns):
        left = LABEL + j * (CELL[0] + GAP)
        box = (
            left / width,
            1 - (top + CELL[1]) / height,
            CELL[0] / width,
            CELL[1] / height,
        )
        axes = figure.add_axes(box)
        axes.set_axis_off()
        picture = row.pictures.get(column)
        if picture is None:
            axes.add_patch(Rectangle((0, 0), 1, 1, transform=axes.transAxes, color=EMPTY))
            axes.text(0.5, 0.5, "none", color="#adb5bd", size=8, ha="center", va="center")
        else:
            axes.imshow(fit(picture), aspect="auto", interpolation="antialiased")


def fit(picture: Rgb, aspect: float = CELL[0] / CELL[1]) -> Rgb:
    """The picture with light borders, so that its width / height is `aspect` and nothing is cut."""
    height, width = picture.shape[:2]
    wanted = (max(height, round(width / aspect)), max(width, round(height * aspect)))
    padded = np.full((*wanted, 3), 0xF1, np.uint8)
    y, x = (wanted[0] - height) // 2, (wanted[1] - width) // 2
    padded[y : y + height, x : x + width] = picture
    return padded

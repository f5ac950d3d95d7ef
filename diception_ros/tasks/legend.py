# SPDX-License-Identifier: Apache-2.0
"""Words on pictures: names, keys and colour bars. Small pictures stay as they are."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.tasks.normal import encode as normal_colours
from diception_ros.tasks.types import Float, Normals

Picture = npt.NDArray[np.uint8]
Colour = tuple[int, int, int]

SMALLEST = (100, 160)
"""Height and width in pixels below which words would cover what they explain."""
FONT = cv2.FONT_HERSHEY_SIMPLEX
MARGIN = 6
ROWS = 12
"""Lines of a key; the rest is counted."""


def roomy(picture: Picture) -> bool:
    """Whether words fit."""
    return bool(picture.shape[0] >= SMALLEST[0] and picture.shape[1] >= SMALLEST[1])


def text_scale(picture: Picture) -> float:
    """OpenCV's font scale: letters are about 1/40 of the height, at least 8 pixels."""
    return float(max(0.36, picture.shape[0] / 960))


def text_size(text: str, scale: float) -> tuple[int, int]:
    """(width, height) in pixels."""
    (width, height), _ = cv2.getTextSize(text, FONT, scale, 1)
    return int(width), int(height)


def write(picture: Picture, text: str, at: tuple[int, int], scale: float = 0.4) -> None:
    """White letters with a black rim, drawn in place; at (x, y): their lower left corner."""
    # Moved copies, not a thicker one: OpenCV 5 sets thicker letters wider apart.
    for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)):
        colour = (0, 0, 0) if x or y else (255, 255, 255)
        place = (at[0] + x, at[1] + y)
        cv2.putText(picture, text, place, FONT, scale, colour, 1, cv2.LINE_AA)


def add_bar(
    picture: Picture, marks: Sequence[tuple[float, str]], ramp: Callable[[Float], Picture]
) -> None:
    """A colour bar on the right, drawn in place. marks: (share of the way down, text);
    ramp: 0..1 -> colours, 1 at the top."""
    if not roomy(picture):
        return
    height, width = picture.shape[:2]
    scale = text_scale(picture)
    thick, edge = max(10, round(24 * scale)), max(10, round(24 * scale))
    left, long = width - MARGIN - thick, height - 2 * edge
    bar = np.linspace(1, 0, long, dtype=np.float32)[:, None]
    picture[edge : height - edge, left : left + thick] = ramp(np.repeat(bar, thick, axis=1))
    cv2.rectangle(picture, (left, edge), (left + thick - 1, height - edge - 1), (0, 0, 0), 1)
    for share, text in marks:
        row = edge + round(share * (long - 1))
        cv2.line(picture, (left - 4, row), (left + thick - 1, row), (255, 255, 255), 1)
        wide, tall = text_size(text, scale)
        write(picture, text, (left - 7 - wide, row + tall // 2), scale)


def depth_marks(picture: Picture, near: float, far: float) -> list[tuple[float, str]]:
    """Metres along a bar of inverse depth, near at the top."""
    count = int(np.clip(picture.shape[0] // 60, 2, 7))
    shares = np.linspace(0, 1, count)
    meters = 1 / (1 / near + shares * (1 / far - 1 / near))
    digits = 1 if far - near > 1 else 2
    return [(float(s), f"{m:.{digits}f} m") for s, m in zip(shares, meters, strict=True)]


def add_names(picture: Picture, names: Sequence[tuple[str, tuple[float, float]]]) -> None:
    """Texts centred at pixels (x, y), drawn in place; none touches an earlier one."""
    if not roomy(picture):
        return
    height, width = picture.shape[:2]
    scale, taken = text_scale(picture), np.zeros((height, width), np.bool_)
    for text, (x, y) in names:
        wide, tall = text_size(text, scale)
        left = int(np.clip(x - wide / 2, 2, max(2, width - wide - 2)))
        base = int(np.clip(y + tall / 2, tall + 2, height - 3))
        place = np.s_[base - tall - 2 : base + 3, max(0, left - 2) : left + wide + 2]
        if not taken[place].any():
            taken[place] = True
            write(picture, text, (left, base), scale)


def add_key(picture: Picture, entries: Sequence[tuple[str, Colour]]) -> None:
    """Coloured squares with their names on dark ground in the upper left, drawn in place."""
    if not entries or not roomy(picture):
        return
    scale = text_scale(picture)
    row = round(1.8 * text_size("Ag", scale)[1])
    fits = max(1, min(ROWS, (picture.shape[0] - 2 * MARGIN) // row - 1))
    shown = list(entries[:fits])
    rest = f"and {len(entries) - fits} more" if len(entries) > fits else ""
    texts = [text for text, _ in shown] + ([rest] if rest else [])
    wide = max(text_size(text, scale)[0] for text in texts) + row + 2 * MARGIN
    part = picture[MARGIN : 2 * MARGIN + row * len(texts), MARGIN : MARGIN + wide]
    part[...] = part // 3
    for i, text in enumerate(texts):
        top = MARGIN + MARGIN // 2 + i * row
        if i < len(shown):
            corner = (2 * MARGIN, top + row // 5)
            opposite = (2 * MARGIN + row * 3 // 5, top + row * 4 // 5)
            cv2.rectangle(picture, corner, opposite, shown[i][1], -1)
        write(picture, text, (2 * MARGIN + row, top + round(0.75 * row)), scale)


def add_ball(picture: Picture) -> None:
    """A ball in the lower right, coloured as its own normals would be, drawn in place."""
    if not roomy(picture):
        return
    height, width = picture.shape[:2]
    radius = min(height, width) // 11
    size = 2 * radius + 1
    top, left = height - size - MARGIN, width - size - MARGIN
    colours, inside = ball(radius)
    picture[top : top + size, left : left + size][inside] = colours
    cv2.circle(picture, (left + radius, top + radius), radius, (255, 255, 255), 1, cv2.LINE_AA)


@cache
def ball(radius: int) -> tuple[Picture, npt.NDArray[np.bool_]]:
    """Colours (N, 3) of a ball's pixels, and where they lie in its square."""
    y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1].astype(np.float32) / radius
    inside = x * x + y * y <= 1
    z = -np.sqrt(np.maximum(0, 1 - x * x - y * y))
    colours = normal_colours(Normals(np.stack([x, y, z], axis=-1)))
    return np.rint(colours[inside] * 255).astype(np.uint8), inside

# SPDX-License-Identifier: Apache-2.0
"""The page's frames to look at, pictures inside."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from itertools import groupby

from diception_ros.evaluation.evaluate import Shown
from diception_ros.evaluation.page import inline
from diception_ros.evaluation.pictures import Legend

PICTURE_WIDTH = 480


def frames_html(shown: Sequence[Shown]) -> str:
    """Best, median and worst of each task, with their legends."""
    parts = []
    for task, frames in groupby(shown, key=lambda one: one.task):
        rows = "".join(_picture_row(one) for one in frames)
        parts.append(f"<h2>Frames: {escape(task)}</h2>{rows}")
    return "".join(parts)


def _picture_row(one: Shown) -> str:
    cells = "".join(
        f"<figure><img alt='{escape(caption, quote=True)}' src='{inline(picture, PICTURE_WIDTH)}'>"
        f"<figcaption>{escape(caption)}</figcaption></figure>"
        for caption, picture in one.panels.pictures
    )
    legends = "".join(_legend(legend) for legend in one.panels.legends)
    return (
        f"<div class='frame'><p><b class='rank {one.rank}'>{one.rank}</b> {escape(one.frame)} "
        f"<span class='muted'>{escape(one.value)}</span></p><div class='row'>{cells}</div>"
        f"<div class='legends'>{legends}</div></div>"
    )


def _legend(legend: Legend) -> str:
    title = f"<b>{escape(legend.title)}</b> " if legend.title else ""
    if legend.stops:
        stops = ", ".join(f"rgb{stop}" for stop in legend.stops)
        return (
            f"<span class='legend'>{title}{escape(legend.low)} <i class='bar' style='background:"
            f"linear-gradient(90deg, {stops})'></i> {escape(legend.high)}</span>"
        )
    swatches = " ".join(
        f"<i class='swatch' style='background:rgb{colour}'></i> {escape(meaning)}"
        for colour, meaning in legend.swatches
    )
    return f"<span class='legend'>{title}{swatches}</span>"

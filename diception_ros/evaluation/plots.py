# SPDX-License-Identifier: Apache-2.0
"""Plots as SVG, drawn from the numbers that the JSON holds."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure as Canvas
from matplotlib.ticker import MaxNLocator

from diception_ros.evaluation.figures import Draws, Figure

INK, MUTED, LINE, ACCENT, SECOND = "#1b1f24", "#6b7280", "#e5e7eb", "#2563eb", "#d97706"
SIZE = (4.6, 3.0)
"""Inches."""
STYLE: Any = {
    "svg.fonttype": "none",
    "svg.hashsalt": "diception",
    "font.family": "sans-serif",
    "font.sans-serif": ["system-ui", "Helvetica", "Arial", "DejaVu Sans"],
    "font.size": 9,
    "axes.edgecolor": "#9ca3af",
    "axes.labelcolor": MUTED,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": LINE,
    "grid.linewidth": 0.8,
    "lines.linewidth": 1.8,
}


@dataclass(frozen=True)
class Plot:
    """svg: the whole document. caption: what is seen, in a sentence."""

    title: str
    caption: str
    svg: str


def draw(title: str, caption: str, paint: Callable[[Axes], Any]) -> Plot:
    """paint draws on the axes of an empty plot."""
    with mpl.rc_context(STYLE):
        canvas = Canvas(figsize=SIZE, layout="constrained")
        FigureCanvasSVG(canvas)
        axes = canvas.add_subplot()
        axes.set_axisbelow(True)
        paint(axes)
        written = io.StringIO()
        canvas.savefig(written, format="svg", transparent=True, metadata={"Date": None})
    text = written.getvalue()
    return Plot(title, caption, text[text.index("<svg") :])


def plots_of(curves: Mapping[str, Any], figures: Sequence[Figure], draws: Draws) -> list[Plot]:
    """Every plot that there are numbers for."""
    found: list[Plot] = []
    for name, some in curves.items():
        if "abs_rel_by_depth" in some:
            found += [_by_depth(name, some), _delta(name, some)]
        if "within" in some:
            found.append(_angles(some))
        if "by_place" in some:
            found.append(_place(name, some))
        if "best_iou_by_size" in some:
            found.append(_by_size(some))
        if "latency_ms" in some:
            found += [_latency(some), _over_time(some)]
    clicks = [figure for figure in figures if figure.metric.task == "point"]
    return [*found, _clicks(clicks, draws)] if len(clicks) > 1 else found


def _by_depth(name: str, curves: Mapping[str, Any]) -> Plot:
    edges = np.asarray(curves["depth_m"], float)
    values, pixels = _known(curves["abs_rel_by_depth"]), _known(curves["pixels_by_depth"])

    def paint(axes: Axes) -> None:
        share = pixels / pixels.sum()
        axes.bar(edges[:-1], share / max(share.max(), 1e-12), np.diff(edges), align="edge",
                 color=LINE, transform=axes.get_xaxis_transform())  # fmt: skip
        axes.stairs(values, edges, color=ACCENT, linewidth=1.8, baseline=None)
        axes.set_xscale("log")
        shown = edges[:-1][np.isfinite(values)]
        if len(shown):
            axes.set_xlim(shown[0] * 0.9, shown[-1] * 1.3)
        axes.set_ylim(bottom=0)
        axes.xaxis.set_major_formatter("{x:g}")
        axes.set(xlabel="true depth, m", ylabel="mean |z - g| / g")

    caption = (
        "Relative error by true depth, over all judged pixels; grey: how many pixels there are."
    )
    return draw(f"Error against depth ({name})", caption, paint)


def _delta(name: str, curves: Mapping[str, Any]) -> Plot:
    ratio = _known(curves["ratio"])[:-1]

    def paint(axes: Axes) -> None:
        axes.plot([1.0, *ratio], [0.0, *curves["delta"]], color=ACCENT)
        for power in (1, 2, 3):
            axes.axvline(1.25**power, color=MUTED, linewidth=0.8, linestyle=":")
            axes.text(1.25**power + 0.01, 0.03, f"δ{power}", color=MUTED)
        axes.set(xlim=(1, 2), ylim=(0, 1), xlabel="allowed ratio max(z / g, g / z)")
        axes.set_ylabel("share of pixels")

    caption = "Share of pixels whose depth is right within a ratio; dotted: δ1 to δ3."
    return draw(f"δ curve ({name})", caption, paint)


def _angles(curves: Mapping[str, Any]) -> Plot:
    def paint(axes: Axes) -> None:
        axes.plot([0.0, *curves["degrees"]], [0.0, *curves["within"]], color=ACCENT)
        for limit in (5, 11.25, 22.5, 30):
            axes.axvline(limit, color=MUTED, linewidth=0.8, linestyle=":")
        axes.set(xlim=(0, 90), ylim=(0, 1), xlabel="allowed angle, degrees")
        axes.set_ylabel("share of pixels")

    caption = "Share of pixels within an angle of the truth; dotted: 5, 11.25, 22.5 and 30 degrees."
    return draw("Angular error of normals", caption, paint)


def _place(name: str, curves: Mapping[str, Any]) -> Plot:
    grid = np.ma.masked_invalid(np.array(curves["by_place"], float))
    unit = "degrees" if name == "normal" else "mean |z - g| / g"

    def paint(axes: Axes) -> None:
        axes.grid(visible=False)
        drawn = axes.imshow(grid, cmap="inferno", vmin=0, aspect="auto", extent=(0, 1, 1, 0))
        axes.figure.colorbar(drawn, ax=axes, label=unit)
        axes.set(xlabel="image width", ylabel="image height")

    return draw(f"Error by image position ({name})", "Mean error of each part of the image.", paint)


def _by_size(curves: Mapping[str, Any]) -> Plot:
    edges, values = np.asarray(curves["size"], float), _known(curves["best_iou_by_size"])

    def paint(axes: Axes) -> None:
        axes.stairs(values, edges, color=ACCENT, linewidth=1.8, baseline=None)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(lambda x, _: f"{100 * x:g}%")
        axes.set(ylim=(0, 1), xlabel="object's share of the image", ylabel="mean best IoU")

    return draw("Objects by size", "How well objects are found, by their size.", paint)


def _clicks(figures: Sequence[Figure], draws: Draws) -> Plot:
    estimates = [figure.estimate(draws) for figure in figures]

    def paint(axes: Axes) -> None:
        count = np.arange(1, len(estimates) + 1)
        axes.fill_between(
            count, [one.low for one in estimates], [one.high for one in estimates],
            color=ACCENT, alpha=0.15, linewidth=0,
        )  # fmt: skip
        axes.plot(count, [one.value for one in estimates], "o-", color=ACCENT)
        axes.set_xticks(count)
        axes.set(ylim=(0, 1), xlabel="clicks", ylabel="mIoU")

    caption = (
        "Mean IoU by number of clicks, each where the last answer was wrong most; 95% interval."
    )
    return draw("Point prompts", caption, paint)


def _latency(curves: Mapping[str, Any]) -> Plot:
    values = _known(curves["latency_ms"])

    def paint(axes: Axes) -> None:
        axes.hist(values, bins=min(60, max(10, len(values) // 5)), color=ACCENT)
        for share, colour in ((50, INK), (95, SECOND), (99, "#dc2626")):
            at = np.percentile(values, share)
            axes.axvline(at, color=colour, linewidth=1)
            axes.text(at, 0.98, f" p{share}", color=colour, va="top",
                      transform=axes.get_xaxis_transform())  # fmt: skip
        axes.set(xlabel="age when published, ms", ylabel="frames")

    caption = "Age of each image when its outputs were published, as the frame reports say."
    return draw("Latency", caption, paint)


def _over_time(curves: Mapping[str, Any]) -> Plot:
    seconds = _known(curves["seconds"])

    def paint(axes: Axes) -> None:
        axes.plot(seconds, curves["latency_ms"], ".", color=ACCENT, markersize=3)
        dropped = np.asarray(curves["dropped"], float)
        axes.set_ylim(bottom=0)
        axes.set(xlabel="seconds of the recording", ylabel="age, ms")
        if dropped.any():
            other = axes.twinx()
            other.step(seconds, np.cumsum(dropped), color=SECOND, linewidth=1.2, where="post")
            other.set_ylabel("images dropped so far", color=SECOND)
            other.grid(visible=False)
            other.set_ylim(bottom=0)
            other.yaxis.set_major_locator(MaxNLocator(integer=True))

    return draw("Latency over time", "Each frame's age; orange: images dropped so far.", paint)


def _known(values: Sequence[Any]) -> np.ndarray:
    """Numbers with NaN for None, as JSON has them."""
    return np.array([np.nan if value is None else value for value in values], float)

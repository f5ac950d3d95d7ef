# SPDX-License-Identifier: Apache-2.0
"""Results as one HTML file that needs nothing else: what a reviewer reads."""

from __future__ import annotations

import base64
import math
from collections.abc import Mapping, Sequence
from html import escape
from itertools import groupby
from pathlib import Path
from typing import Any

from diception_ros.evaluation.evaluate import Shown
from diception_ros.evaluation.figures import (
    EVEN,
    FEW,
    HIGHER,
    Difference,
    Draws,
    Estimate,
    Metric,
)
from diception_ros.evaluation.plots import Plot, plots_of
from diception_ros.evaluation.result_frames import frames_html
from diception_ros.evaluation.result_style import PAGE
from diception_ros.evaluation.results import Results

LEADING = {
    "depth": ("abs_rel", "delta1"),
    "normal": ("mean", "within_11_25"),
    "entity": ("mean best IoU", "AP"),
    "semantic": ("mIoU",),
    "point": ("mIoU, 1 click",),
    "pose": ("PCK@0.1",),
    "system": ("latency p50", "rate"),
}
"""Figures of the cards at the top, by task; of depth under every protocol, else the first."""
NAMES = {
    "abs_rel": "AbsRel",
    "sq_rel": "SqRel",
    "rmse": "RMSE",
    "rmse_log": "RMSE log",
    "delta1": "δ1",
    "delta2": "δ2",
    "delta3": "δ3",
    "silog": "SILog",
    "within_5": "within 5°",
    "within_7_5": "within 7.5°",
    "within_11_25": "within 11.25°",
    "within_22_5": "within 22.5°",
    "within_30": "within 30°",
}


def write_result_page(
    path: Path,
    results: Results,
    shown: Sequence[Shown] = (),
    differences: Sequence[Difference] = (),
    against: str = "",
    alone: Sequence[str] = (),
) -> None:
    """Writes the page. differences, against, alone: what --compare found, with which run, and what
    could not be compared."""
    title = f"{results.answers['name']} on {results.subject['source']}"
    estimates = {figure.metric: figure.estimate(results.draws) for figure in results.figures}
    body = [
        _header(title, results),
        _cards(estimates, differences),
        _comparison(differences, against, alone) if against else "",
        "<h2>Figures</h2>",
        _figures(estimates, results.draws),
        _plots(plots_of(results.curves, results.figures, results.draws)),
        frames_html(shown),
        _facts(results),
    ]
    page = PAGE.replace("@title@", escape(title)).replace("@body@", "\n".join(filter(None, body)))
    path.write_text(page, "utf-8", errors="backslashreplace")  # old names are not all UTF-8


def _header(title: str, results: Results) -> str:
    return (
        f"<header><p class='kind'>diception evaluate</p><h1>{escape(title)}</h1>"
        f"<p class='lead'>{escape(_lead(results))}</p></header>"
    )


def name_of(metric: Metric) -> str:
    return NAMES.get(metric.name, metric.name)


def number(value: float, metric: Metric) -> str:
    """Three digits after the point, fewer for large numbers; unknown is a dash."""
    if not math.isfinite(value):
        return "–"
    size = abs(value)
    text = f"{value:.0f}" if size >= 1000 else f"{value:.1f}" if size >= 100 else f"{value:.2f}"
    text = f"{value:.3f}" if size < 10 else text
    if metric.unit in ("", "x100"):
        return text
    return f"{text}{metric.unit}" if metric.unit == "°" else f"{text} {metric.unit}"


def _lead(results: Results) -> str:
    subject, skipped = results.subject, len(results.skipped)
    text = f"{subject['kind']}, {subject['images']} images"
    text += f", {skipped} skipped, wholly or in part" if skipped else ""
    frames = {frame for figure in results.figures for frame in figure.parts}
    grouped = any(results.draws.groups.values())
    unit = {"recording": "second"}.get(subject["kind"], "scene") if grouped else "frame"
    text += f". Intervals: 95%, bootstrap of {results.draws.number} draws, drawn by {unit}."
    units = results.draws.units(frames)
    if units < FEW:
        text += f" With {units} {unit}s an interval is little more than a guess."
    return text


def _cards(estimates: Mapping[Metric, Estimate], differences: Sequence[Difference]) -> str:
    verdicts = {one.metric: one for one in differences}
    cards = []
    for task, names in LEADING.items():
        of_task = [metric for metric in estimates if metric.task == task]
        for name in names:
            found = [metric for metric in of_task if metric.name == name]
            shown = found if task == "depth" else found[:1]
            cards += [_card(one, estimates[one], verdicts.get(one)) for one in shown]
    return f"<section class='cards'>{''.join(cards)}</section>"


def _card(metric: Metric, one: Estimate, difference: Difference | None) -> str:
    verdict = ""
    if difference is not None:
        verdict = f"<p class='verdict {_css(difference.verdict)}'>{difference.verdict}</p>"
    interval = ""
    if math.isfinite(one.low) and one.low != one.high:
        interval = f"<p class='range'>{number(one.low, metric)} to {number(one.high, metric)}</p>"
    return (
        f"<div class='card'><p class='task'>{escape(metric.task)}</p>"
        f"<p class='name'>{escape(name_of(metric))} {_arrow(metric)}</p>"
        f"<p class='value'>{number(one.value, metric)}</p>{interval}"
        f"<p class='protocol'>{escape(metric.protocol)}</p>{verdict}</div>"
    )


def _figures(estimates: Mapping[Metric, Estimate], draws: Draws) -> str:
    """One table per task and protocol, so that no eye runs from one protocol into another."""
    tables = []
    ordered = sorted(estimates, key=lambda m: (list(LEADING).index(m.task), m.protocol))
    for (task, protocol), metrics in groupby(ordered, key=lambda m: (m.task, m.protocol)):
        rows = "".join(_row(metric, estimates[metric]) for metric in metrics)
        tables.append(
            f"<div class='block'><h3>{escape(task)} <span>{escape(protocol)}</span></h3>"
            "<table><tr><th></th><th class='n'>value</th><th>95% interval</th><th></th>"
            f"<th class='n'>frames</th></tr>{rows}</table></div>"
        )
    return f"<section class='blocks'>{''.join(tables)}</section>"


def _row(metric: Metric, one: Estimate) -> str:
    known = math.isfinite(one.low) and one.low != one.high
    text = f"{number(one.low, metric)} – {number(one.high, metric)}" if known else ""
    return (
        f"<tr><td>{escape(name_of(metric))} {_arrow(metric)}</td>"
        f"<td class='n'><b>{number(one.value, metric)}</b></td><td class='r'>{text}</td>"
        f"<td>{_whisker(metric, one) if known else ''}</td><td class='n'>{one.frames}</td></tr>"
    )


def _whisker(metric: Metric, one: Estimate) -> str:
    """The interval on a line from 0 to 1 for a share, else to a little over its end."""
    share = not metric.unit and one.low >= 0 and one.high <= 1
    top = 1.0 if share else max(1.15 * one.high, 1e-12)
    low, high, at = (100 * max(0.0, value) / top for value in (one.low, one.high, one.value))
    return (
        "<svg class='w' viewBox='0 0 100 10' preserveAspectRatio='none'>"
        "<line x1='0' x2='100' y1='5' y2='5' class='axis'/>"
        f"<rect x='{low:.2f}' width='{max(high - low, 0.8):.2f}' y='3' height='4' class='bar'/>"
        f"<rect x='{at - 0.6:.2f}' width='1.2' y='1' height='8' class='dot'/></svg>"
    )


def _comparison(differences: Sequence[Difference], against: str, alone: Sequence[str]) -> str:
    rows = "".join(
        f"<tr><td>{escape(d.metric.task)}</td><td>{escape(name_of(d.metric))} {_arrow(d.metric)}"
        f"<small>{escape(d.metric.protocol)}</small></td>"
        f"<td class='n'>{number(d.this, d.metric)}</td><td class='n'>{number(d.other, d.metric)}"
        f"</td><td class='n'><b>{_signed(d.difference, d.metric)}</b></td>"
        f"<td class='r'>{_signed(d.low, d.metric)} to {_signed(d.high, d.metric)}</td>"
        f"<td class='n'>{d.frames}</td>"
        f"<td><span class='verdict {_css(d.verdict)}'>{d.verdict}</span></td></tr>"
        for d in differences
    )
    shown = sum(one.verdict != EVEN for one in differences)
    note = (
        f"{shown} of {len(differences)} figures differ. Paired: both runs on the same frames, "
        "drawn together. One in twenty figures without any true difference will seem to differ."
    )
    listed = "".join(f"<li>{escape(name)}</li>" for name in alone)
    rest = (
        f"<details><summary>{len(alone)} figures not compared</summary><p>Only one of the runs has "
        "them, or the runs share no frames, drew them otherwise (--by-group) or asked for other "
        f"categories.</p><ul>{listed}</ul></details>"
    )
    head = "".join(
        f"<th class='{css}'>{name}</th>"
        for name, css in (
            ("", ""), ("", ""), ("this", "n"), ("other", "n"), ("difference", "n"),
            ("95% interval", ""), ("frames", "n"), ("", ""),
        )
    )  # fmt: skip
    return (
        f"<h2>Against {escape(against)}</h2><p>{escape(note)}</p>"
        f"<table class='wide'><tr>{head}</tr>{rows}</table>{rest if alone else ''}"
    )


def _signed(value: float, metric: Metric) -> str:
    text = number(abs(value), metric)
    return text if not math.isfinite(value) else f"{'−' if value < 0 else '+'}{text}"


def _plots(plots: Sequence[Plot]) -> str:
    if not plots:
        return ""
    drawn = "".join(
        f"<figure><figcaption><b>{escape(plot.title)}</b></figcaption>"
        f"<img alt='{escape(plot.title, quote=True)}' src='data:image/svg+xml;base64,"
        f"{base64.b64encode(plot.svg.encode()).decode()}'>"
        f"<figcaption>{escape(plot.caption)}</figcaption></figure>"
        for plot in plots
    )
    return f"<h2>Where it is wrong</h2><section class='plots'>{drawn}</section>"


def _facts(results: Results) -> str:
    def table(name: str, facts: Mapping[str, Any]) -> str:
        rows = "".join(
            f"<tr><th>{escape(str(key))}</th><td>{escape(_text(value))}</td></tr>"
            for key, value in facts.items()
        )
        return f"<div class='block'><h3>{name}</h3><table class='facts'>{rows}</table></div>"

    notes = "".join(f"<li>{escape(note)}</li>" for note in results.notes)
    skipped = "".join(
        f"<tr><th>{escape(one.name)}</th><td>{escape(one.cause)}</td></tr>"
        for one in results.skipped[:50]
    )
    more = len(results.skipped) - 50
    rest = f"<p>and {more} more in results.json</p>" if more > 0 else ""
    listed = f"<h3>Skipped</h3><table class='facts'>{skipped}</table>{rest}" if skipped else ""
    return (
        "<h2>How it was measured</h2><section class='blocks'>"
        f"{table('Judged', results.subject)}{table('Answered by', results.answers)}</section>"
        f"<ul class='notes'>{notes}</ul>{listed}"
    )


def _text(value: Any) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def _arrow(metric: Metric) -> str:
    return f"<i class='arrow'>{'↑' if metric.better == HIGHER else '↓'}</i>"


def _css(verdict: str) -> str:
    return "even" if verdict == EVEN else verdict

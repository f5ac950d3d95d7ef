# SPDX-License-Identifier: Apache-2.0
"""A table beside its targets, as text for a README, and whether the network sees its image."""

from __future__ import annotations

from collections.abc import Mapping

from diception_ros.training.measure.baselines import MEAN
from diception_ros.training.measure.rows import EXCHANGED, NETWORK, TRUE, Rows, Table

Targets = Mapping[str, Mapping[str, float]]
TARGETS: Targets = {
    "depth": {"delta1": 0.90, "abs_rel": 0.12},
    "normal": {"mean_deg": 20.0, "within_11": 0.55},
    "entity": {"best_iou": 0.60},
    "semantic": {"miou": 0.60},
    "point": {"iou": 0.60},
    "pose": {"recall": 0.60},
}
"""Of the embedded model on 500 unseen rendered scenes."""
NAMES = {
    "delta1": "δ1",
    "abs_rel": "AbsRel",
    "mean_deg": "mean angle, °",
    "median_deg": "median angle, °",
    "within_11": "within 11.25°",
    "best_iou": "mean best IoU",
    "miou": "mIoU over categories",
    "iou": "mIoU",
    "recall": "keypoint recall at 5% of the box",
    "precision": "keypoint precision",
    "found_per_true": "keypoints found per true one",
}
LOWER = frozenset({"abs_rel", "mean_deg", "median_deg"})
"""Metrics whose small values are good."""
UNJUDGED = frozenset({"found_per_true"})
KEPT = 0.1
"""Share of the gain over the mean target under which an exchanged image counts as seen."""
NOTE = """\
Exchanged: the same question about another scene's image; ✓ where it keeps at most a tenth of what \
the network gains over the mean training target, so that the answer comes from the image. True \
colours: a perfect answer, decoded."""


def table_markdown(table: Table, targets: Targets = TARGETS) -> str:
    """A line for every metric: target, every network row with ✓ or ✗ where there is a target,
    exchanged image, mean target, all other baselines, and what the true colours would score.
    """
    networks = list(dict.fromkeys(name for rows in table.values() for name in network_rows(rows)))
    head = ["task", "metric", "target", *networks, EXCHANGED, MEAN, "other baselines", TRUE]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    kept = shares_kept(table)
    for task, rows in table.items():
        first = rows[network_rows(rows)[0]]
        for metric in first:
            target = targets.get(task, {}).get(metric)
            shown = [judged(rows.get(name, {}).get(metric), metric, target) for name in networks]
            seen = mark(kept[task][metric] <= KEPT) if metric in kept[task] else ""
            rest = {k: v for k, v in rows.items() if k not in (*networks, MEAN, EXCHANGED, TRUE)}
            others = ", ".join(f"{name} {figure(v[metric], metric)}" for name, v in rest.items())
            given = [figure(rows[name][metric], metric) for name in (EXCHANGED, MEAN, TRUE)]
            cells = [task, NAMES[metric], goal(metric, target), *shown]
            cells += [given[0] + seen, given[1], others, given[2]]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join([*lines, "", NOTE])


def network_rows(rows: Rows) -> list[str]:
    return [name for name in rows if name.startswith(NETWORK)]


def met(value: float, metric: str, target: float) -> bool:
    return value <= target if metric in LOWER else value >= target


def judged(value: float | None, metric: str, target: float | None) -> str:
    if value is None:
        return ""
    return figure(value, metric) + (mark(met(value, metric, target)) if target is not None else "")


def mark(good: bool) -> str:
    return " ✓" if good else " ✗"


def goal(metric: str, target: float | None) -> str:
    if target is None:
        return ""
    return f"{'≤' if metric in LOWER else '≥'} {target:g}"


def figure(value: float, metric: str) -> str:
    return f"{value:.1f}" if metric.endswith("_deg") else f"{value:.3f}"


def shares_kept(table: Table) -> dict[str, dict[str, float]]:
    """By task and metric, how much of the network's gain over the mean target is left when the
    image is another scene's: 0 or less for a network that sees its image, 1 for one that does not
    look. Metrics without a gain are left out.
    """
    kept: dict[str, dict[str, float]] = {}
    for task, rows in table.items():
        ours, mean, other = rows[network_rows(rows)[0]], rows[MEAN], rows[EXCHANGED]
        kept[task] = {
            metric: (other[metric] - mean[metric]) / (value - mean[metric])
            for metric, value in ours.items()
            if metric not in UNJUDGED and value != mean[metric] and met(value, metric, mean[metric])
        }
    return kept

# SPDX-License-Identifier: Apache-2.0
"""What a run found, as JSON that a later run can be compared with."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from diception_ros.evaluation.figures import Difference, Draws, Figure, Metric, compare

FILE = "results.json"
FORMAT = "diception evaluation 1"
CATEGORIES = "categories"
"""Of the subject: those that masks were asked for, whose mean is no metric's own matter."""
BY_UNIT = "by unit"
"""How replicates are drawn; those of files without this word were of single frames."""


@dataclass(frozen=True)
class Skipped:
    """A frame that was left out, or some of its tasks, and why."""

    name: str
    cause: str


@dataclass(frozen=True)
class Results:
    """subject: what was judged (source, form, frames, preset, truth); answers: by what (bundle or
    folder, settings, hardware); groups: by frame its scene or second; curves: numbers behind the
    plots; notes: what a reader must know.
    """

    subject: Mapping[str, Any]
    answers: Mapping[str, Any]
    figures: Sequence[Figure]
    draws: Draws = field(default_factory=Draws)
    skipped: Sequence[Skipped] = ()
    curves: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


def write_results(path: Path, results: Results, differences: Sequence[Difference] = ()) -> None:
    """Writes the JSON; NaN becomes null."""
    content = {
        "format": FORMAT,
        "subject": results.subject,
        "answers": results.answers,
        "notes": list(results.notes),
        "interval": {
            "method": "percentile bootstrap over frames, drawn by group where there are groups",
            "level": 0.95,
            "resamples": results.draws.number,
            "seed": results.draws.seed,
        },
        "figures": [_figure(figure, results.draws) for figure in results.figures],
        "differences": [asdict(one) for one in differences],
        "groups": dict(results.draws.groups),
        "skipped": [asdict(one) for one in results.skipped],
        "curves": results.curves,
    }
    path.write_text(json.dumps(_clean(content), indent=1, allow_nan=False) + "\n", "utf-8")


def read_results(path: Path) -> Results:
    """path: the JSON or its folder. ValueError if it is none of ours."""
    file = path / FILE if path.is_dir() else path
    try:
        content = json.loads(file.read_text("utf-8"))
        if content["format"] != FORMAT:
            raise ValueError(f"expected format '{FORMAT}', found '{content['format']}'")
        figures = [_read_figure(entry) for entry in content["figures"]]
        draws = Draws(
            content["groups"], content["interval"]["resamples"], content["interval"]["seed"]
        )
        skipped = [Skipped(**entry) for entry in content["skipped"]]
        curves, notes = content["curves"], content["notes"]
        return Results(
            content["subject"], content["answers"], figures, draws, skipped, curves, notes
        )
    except OSError as error:
        raise ValueError(
            f"{file}: cannot be read, expected the {FILE} of an earlier 'diception evaluate': "
            f"{error.strerror or error}"
        ) from error
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"{file}: not the results of 'diception evaluate': {error!r}") from error


def compare_results(this: Results, other: Results) -> tuple[list[Difference], list[str]]:
    """Paired differences of the metrics that both have, and the names of those that cannot be
    compared: only one has them, they share no frame, were drawn otherwise (see `compare`), or are
    of the masks of other categories. Drawn as this run draws."""
    before = {figure.metric: figure for figure in other.figures}
    alike = this.subject.get(CATEGORIES) == other.subject.get(CATEGORIES)
    differences, alone = [], []
    for figure in this.figures:
        match = before.pop(figure.metric, None)
        found = None
        if match is not None and (alike or figure.metric.task != "semantic"):
            found = compare(figure, match, this.draws, other.draws)
        if found is None:
            alone.append(_name(figure.metric))
        else:
            differences.append(found)
    return differences, alone + [_name(metric) for metric in before]


def _name(metric: Metric) -> str:
    return f"{metric.task} {metric.name} ({metric.protocol})"


def _figure(figure: Figure, draws: Draws) -> dict[str, Any]:
    entry = {**asdict(figure.metric), **asdict(figure.estimate(draws))}
    entry["parts"] = {
        frame: {name: list(pair) for name, pair in parts.items()}
        for frame, parts in figure.parts.items()
    }
    if figure.replicates:
        entry |= {"replicates": list(figure.replicates), "drawn": BY_UNIT}
    return entry


def _read_figure(entry: Mapping[str, Any]) -> Figure:
    names = ("task", "protocol", "name", "unit", "better", "root")
    parts = {
        frame: {name: (float(pair[0]), float(pair[1])) for name, pair in some.items()}
        for frame, some in entry["parts"].items()
    }
    replicates = tuple(
        math.nan if value is None else float(value) for value in entry.get("replicates", ())
    )
    value = float(entry["value"]) if replicates else None
    if replicates and entry.get("drawn") != BY_UNIT:
        replicates = (math.nan,)  # no pairs of those of today
    return Figure(Metric(**{name: entry[name] for name in names}), parts, value, replicates)


def _clean(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if hasattr(value, "tolist"):
        return _clean(value.tolist())
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value

# SPDX-License-Identifier: Apache-2.0
"""A data set through a bundle or against a folder of answers: figures, curves and frames to see."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from diception_ros.evaluation.answers import Answerer
from diception_ros.evaluation.datasets.sample import DataSet
from diception_ros.evaluation.examiner import About, Examiner, Judged, Plan
from diception_ros.evaluation.figures import Draws
from diception_ros.evaluation.judge import Judge
from diception_ros.evaluation.pictures import Panels
from diception_ros.evaluation.profiles import Profile
from diception_ros.evaluation.protocols.average_precision import available
from diception_ros.evaluation.results import CATEGORIES, Results
from diception_ros.evaluation.workers import Here, Workers

RANKS = ("best", "median", "worst")

NO_PRECISION = "AP and AR are missing: they need pycocotools (pip install pycocotools)."

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Shown:
    """A frame to look at. value: of the figure by which frames were ranked."""

    task: str
    rank: str
    frame: str
    value: str
    panels: Panels


def evaluate(
    data: DataSet, answerer: Answerer, plan: Plan, progress: Progress = lambda done, of: None
) -> tuple[Results, list[Shown]]:
    """Judges every image of the data set in this process. See `evaluate_with`."""
    return evaluate_with(data, plan, Here(Examiner(data, answerer, plan)), progress)


def evaluate_with(
    data: DataSet, plan: Plan, examiners: Workers, progress: Progress = lambda done, of: None
) -> tuple[Results, list[Shown]]:
    """Judges every image of the data set; broken ones, and tasks that fail, are skipped and named
    in the results, which do not depend on how many examiners there are. ValueError if none could be
    judged, or if examiners differ in what decides the answers, as the kind of machine.
    """
    (about,) = examiners.map("about", [None])
    judge, gathered, groups = Judge(plan.rules), list[Judged](), dict[str, str]()
    for number, found in enumerate(examiners.map("judge", range(len(data.items))), start=1):
        check_same(about, found)
        if found.judge is not None:
            judge.merge(found.judge)
            groups[found.name] = found.group
        gathered.append(replace(found, judge=None))
        progress(number, len(data.items))
    skipped = [one.skipped for one in gathered if one.skipped]
    draws = Draws(groups if plan.by_group else {})
    figures = judge.figures(draws)
    if not figures:
        cause = f", the first because: {skipped[0].cause}" if skipped else ""
        raise ValueError(f"{data.path}: none of {len(data.items)} images could be judged{cause}")
    asked = {name for one in gathered for name in one.asked}
    results = Results(
        subject_of(data, plan, judge),
        {"name": about.name, **about.settings},
        figures,
        draws,
        skipped,
        {name: curves_of(profile) for name, profile in judge.profiles.items()},
        notes_of(data, plan, asked - about.categories if about.categories else ()),
    )
    return results, ranked(examiners, judge)


def check_same(about: About, found: Judged) -> None:
    """ValueError where answers of another machine, or of another bundle, would be mixed in."""
    for name, value in found.settings.items():
        if value != about.settings.get(name):
            raise ValueError(
                f"workers differ in '{name}': {value!r} and {about.settings.get(name)!r}, and "
                "their answers do, too: use machines of one kind"
            )


def ranked(examiners: Workers, judge: Judge) -> list[Shown]:
    """Best, median and worst frame of each task; answered once more, not kept meanwhile."""
    wanted = [
        (task, rank, name) for task, values in judge.leading.items() for rank, name in ranks(values)
    ]
    panels = examiners.map("panels", [(task, name) for task, _, name in wanted])
    return [
        Shown(task, rank, name, leading_text(task, judge.leading[task][name]), one)
        for (task, rank, name), one in zip(wanted, panels, strict=True)
        if one is not None
    ]


def ranks(values: Mapping[str, float]) -> list[tuple[str, str]]:
    """(rank, frame) of the best, the median and the worst; fewer where there are fewer frames."""
    order = sorted(values, key=lambda name: (values[name], name))
    places = dict.fromkeys((0, len(order) // 2, len(order) - 1))
    names = RANKS if len(places) == 3 else ("best", "worst") if len(places) == 2 else ("only",)
    return [(rank, order[place]) for rank, place in zip(names, places, strict=True)]


def leading_text(task: str, value: float) -> str:
    """The figure that ranks a task's frames, as it is read."""
    match task:
        case "depth":
            return f"AbsRel {value:.3f}"
        case "normal":
            return f"mean error {value:.1f}°"
        case "pose":
            return f"PCK@0.1 {1 - value:.2f}"
    return f"IoU {1 - value:.3f}"


def subject_of(data: DataSet, plan: Plan, judge: Judge) -> dict[str, Any]:
    preset = plan.rules.preset
    found: dict[str, Any] = {
        "kind": "data set",
        "source": data.path.resolve().name,
        "form": data.form,
        "images": len(data.items),
        "tasks": list(plan.tasks),
    }
    if "depth" in judge.leading:
        limits = f"{preset.min_m:g} to {preset.max_m:g} m"
        found["depth preset"] = f"{preset.name}: {limits}; {preset.source}"
    if "semantic" in judge.leading:
        named = ", ".join(sorted(plan.categories))
        found[CATEGORIES] = named or "those that each image shows"
    return found


def notes_of(data: DataSet, plan: Plan, unknown: Collection[str] = ()) -> list[str]:
    """What has to be known to read the figures. unknown: categories without a prompt."""
    notes = []
    if unknown:
        notes.append(
            "Semantic: the bundle has no prompt for these categories, so that they count as found "
            f"nowhere: {', '.join(sorted(unknown))}."
        )
    if "depth" in plan.tasks:
        notes.append(
            "Depth: errors of each image, then the mean over images. An affine protocol fits scale "
            "and shift to the truth of each image; its figures say nothing about metres and must "
            "not be put beside metric ones."
        )
    if "semantic" in plan.tasks and not plan.categories:
        notes.append(
            "Semantic: each image was asked only for categories that it shows, which is easier "
            "than not knowing."
        )
    if "entity" in plan.tasks:
        notes.append(
            "Panoptic quality: unannotated pixels are void; segments mostly in void are no error."
        )
    if {"entity", "pose"} & set(plan.tasks) and not available():
        notes.append(NO_PRECISION)
    return notes


def curves_of(profile: Profile) -> dict[str, Any]:
    """Numbers behind the plots; only those that were filled."""
    found: dict[str, Any] = {}
    if profile.by_depth.counts.any():
        found["depth_m"] = profile.by_depth.edges.tolist()
        found["abs_rel_by_depth"] = profile.by_depth.means(least=1e-4).tolist()
        found["pixels_by_depth"] = profile.by_depth.counts.tolist()
        found["ratio"] = profile.ratios.edges[1:].tolist()
        # The last bin holds all ratios over 2 as well.
        found["delta"] = profile.ratios.shares()[:-1].tolist()
    if profile.angles.counts.any():
        # The last bin holds all angles over 90 degrees as well.
        found["degrees"] = profile.angles.edges[1:-1].tolist()
        found["within"] = profile.angles.shares()[:-1].tolist()
    if profile.by_size.counts.any():
        found["size"] = profile.by_size.edges.tolist()
        found["best_iou_by_size"] = profile.by_size.means().tolist()
        found["objects_by_size"] = profile.by_size.counts.tolist()
    if profile.by_place.counts.any():
        found["by_place"] = profile.by_place.means().tolist()
    return found


def chosen_tasks(asked: Sequence[str], data: DataSet) -> tuple[str, ...]:
    """The tasks to judge: those asked for, or all that the data set has truth for. ValueError for
    one without truth."""
    for task in asked:
        if task not in data.tasks:
            raise ValueError(
                f"{data.path} ({data.form}) has no truth for the task '{task}', only for "
                f"{', '.join(data.tasks)}"
            )
    return tuple(dict.fromkeys(asked)) or data.tasks

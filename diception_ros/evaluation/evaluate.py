# SPDX-License-Identifier: Apache-2.0
"""A data set through a bundle or against a folder of answers: figures, curves and frames to see."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from diception_ros.evaluation.answers import Answerer, Answers
from diception_ros.evaluation.datasets.sample import DataSet, Item, Sample
from diception_ros.evaluation.figures import Draws
from diception_ros.evaluation.judge import Judge
from diception_ros.evaluation.pictures import Panels, draw, draw_point, draw_semantic
from diception_ros.evaluation.profiles import Profile
from diception_ros.evaluation.protocols.average_precision import available
from diception_ros.evaluation.protocols.clicks import Click, next_click
from diception_ros.evaluation.results import Results, Skipped
from diception_ros.evaluation.truths import Rules, categories_of, draw_objects

BROKEN = (ValueError, OSError, KeyError)
"""What a broken file or an answer that does not fit raises; the frame is skipped and counted."""
RANKS = ("best", "median", "worst")

NO_PRECISION = (
    "AP and AR are missing: they need pycocotools (pip install 'diception_ros[evaluate]')."
)

Progress = Callable[[int, int], None]


@dataclass(frozen=True)
class Shown:
    """A frame to look at. value: of the figure by which frames were ranked."""

    task: str
    rank: str
    frame: str
    value: str
    panels: Panels


@dataclass(frozen=True)
class Plan:
    """tasks: what is asked of what the data set has truth for. categories: asked of every image in
    the semantic task; empty for those that the image shows. by_group: frames of a scene are drawn
    together.
    """

    rules: Rules
    tasks: tuple[str, ...]
    categories: tuple[str, ...] = ()
    by_group: bool = False


def evaluate(
    data: DataSet, answerer: Answerer, plan: Plan, progress: Progress = lambda done, of: None
) -> tuple[Results, list[Shown]]:
    """Judges every image of the data set; broken ones are skipped and named in the results.
    ValueError if none could be judged.
    """
    judge, skipped, groups = Judge(plan.rules), [], {}
    asked: set[str] = set()
    for number, item in enumerate(data.items):
        try:
            sample = load(item, plan)
            categories = plan.categories or categories_of(sample)
            asked |= set(categories) if "semantic" in plan.tasks else set()
            judge.judge(sample, answerer.answer(sample, plan.tasks, categories), categories)
            if "point" in plan.tasks and answerer.clicks:
                judge.judge_clicks(sample, lambda c, s=sample: answerer.masks(s, c))  # type: ignore[misc]
        except BROKEN as error:
            skipped.append(Skipped(item.name, " ".join(str(error).split())))
        else:
            groups[item.name] = sample.group
        progress(number + 1, len(data.items))
    figures = judge.figures(plan.rules.seed)
    if not figures:
        cause = f", the first because: {skipped[0].cause}" if skipped else ""
        raise ValueError(f"{data.path}: none of {len(data.items)} images could be judged{cause}")
    results = Results(
        subject_of(data, plan, judge),
        {"name": answerer.name, **answerer.settings},
        figures,
        Draws(groups if plan.by_group else {}),
        skipped,
        {name: curves_of(profile) for name, profile in judge.profiles.items()},
        notes_of(data, plan, asked - answerer.categories if answerer.categories else ()),
    )
    return results, ranked(data, answerer, plan, judge)


def load(item: Item, plan: Plan) -> Sample:
    """The image with its truth, cut to what the preset shows."""
    sample = item.load()
    box = plan.rules.preset.shown
    return sample.cut(box(*sample.size)) if box else sample


def ranked(data: DataSet, answerer: Answerer, plan: Plan, judge: Judge) -> list[Shown]:
    """Best, median and worst frame of each task; answered once more, not kept meanwhile."""
    items, shown = {item.name: item for item in data.items}, []
    for task, values in judge.leading.items():
        for rank, name in ranks(values):
            sample = load(items[name], plan)
            panels = panels_of(task, sample, answerer, plan)
            if panels is not None:
                shown.append(Shown(task, rank, name, leading_text(task, values[name]), panels))
    return shown


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


def panels_of(task: str, sample: Sample, answerer: Answerer, plan: Plan) -> Panels | None:
    if task == "point":
        return _point_panels(sample, answerer, plan)
    categories = plan.categories or categories_of(sample)
    answers: Answers = answerer.answer(sample, [task], categories)
    if task == "semantic":
        assert answers.classes is not None
        return draw_semantic(sample, answers.classes, categories)
    return draw(task, sample, answers, plan.rules.preset)


def _point_panels(sample: Sample, answerer: Answerer, plan: Plan) -> Panels:
    """The largest object that was clicked, once."""
    one = max(draw_objects(sample, plan.rules), key=lambda item: item.pixels)
    click = next_click(one.mask(sample.size), None)
    assert click is not None
    clicks: list[Click] = [click]
    return draw_point(sample, one, answerer.masks(sample, [clicks])[0], clicks)


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
        found["categories"] = ", ".join(plan.categories) or "those that each image shows"
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
        notes += [] if available() else [NO_PRECISION]
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
        found["degrees"] = profile.angles.edges[1:].tolist()
        found["within"] = profile.angles.shares().tolist()
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

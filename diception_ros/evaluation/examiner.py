# SPDX-License-Identifier: Apache-2.0
"""Images of a data set answered and judged one at a time, here or in a worker elsewhere."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from diception_ros.evaluation.answers import Answerer, Answering, Answers
from diception_ros.evaluation.datasets import Opening
from diception_ros.evaluation.datasets.sample import DataSet, Item, Sample
from diception_ros.evaluation.judge import BROKEN, Judge, one_line
from diception_ros.evaluation.pictures import Panels, draw, draw_point, draw_semantic
from diception_ros.evaluation.protocols.clicks import Click, next_click
from diception_ros.evaluation.results import Skipped
from diception_ros.evaluation.truths import Rules, categories_of, draw_objects


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


@dataclass(frozen=True)
class About:
    """Who answers: see Answerer."""

    name: str
    settings: Mapping[str, Any]
    categories: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Judged:
    """One frame: a judge of it alone, None where nothing could be judged, and why it or some of its
    tasks were skipped. settings: of whoever answered."""

    name: str
    judge: Judge | None = None
    skipped: Skipped | None = None
    group: str = ""
    asked: frozenset[str] = frozenset()
    settings: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Exam:
    """What a worker is made from."""

    opening: Opening
    answering: Answering
    plan: Plan

    def examiner(self) -> Examiner:
        """ValueError as the data set's and the answerer's."""
        return Examiner(self.opening(), self.answering(), self.plan)


class Examiner:
    """A data set and who answers for it."""

    def __init__(self, data: DataSet, answerer: Answerer, plan: Plan) -> None:
        self._data, self._answerer, self._plan = data, answerer, plan

    def about(self, _: Any = None) -> About:
        one = self._answerer
        return About(one.name, dict(one.settings), one.categories)

    def judge(self, number: int) -> Judged:
        """Of the image in this place. A broken one, and one of which a task cannot be judged, come
        as skipped; the other tasks are judged."""
        item, plan, answerer = self._data.items[number], self._plan, self._answerer
        judge, asked = Judge(plan.rules), frozenset[str]()
        settings = dict(answerer.settings)
        try:
            sample = load(item, plan)
            categories = plan.categories or categories_of(sample)
            asked = frozenset(categories if "semantic" in plan.tasks else ())
            answers = answerer.answer(sample, plan.tasks, categories)
        except BROKEN as error:
            skipped = skipped_for(item.name, [one_line(error)])
            return Judged(item.name, None, skipped, asked=asked, settings=settings)
        failed = judge.judge(sample, answers, categories)
        if "point" in plan.tasks and answerer.clicks:
            ask = partial(answerer.masks, sample)
            failed += judge.attempt("point", Judge.judge_clicks, sample, ask)
        skipped = skipped_for(item.name, failed)
        return Judged(item.name, judge, skipped, sample.group, asked, settings)

    def panels(self, wanted: tuple[str, str]) -> Panels | None:
        """What a task's answer for a named image looks like; it is answered once more."""
        task, name = wanted
        item = next(item for item in self._data.items if item.name == name)
        sample, plan = load(item, self._plan), self._plan
        if task == "point":
            return self._point_panels(sample)
        categories = plan.categories or categories_of(sample)
        answers: Answers = self._answerer.answer(sample, [task], categories)
        answers = replace(answers, protocols=tuple(answers.judged(plan.rules.protocols)))
        if task == "semantic":
            assert answers.classes is not None
            return draw_semantic(sample, answers.classes, categories)
        return draw(task, sample, answers, plan.rules.preset)

    def _point_panels(self, sample: Sample) -> Panels:
        """The largest object that was clicked, once."""
        one = max(draw_objects(sample, self._plan.rules), key=lambda item: item.pixels)
        click = next_click(one.mask(sample.size), None)
        assert click is not None
        clicks: list[Click] = [click]
        return draw_point(sample, one, self._answerer.masks(sample, [clicks])[0], clicks)


def skipped_for(name: str, causes: Sequence[str]) -> Skipped | None:
    """A frame with all causes, each once; None without any."""
    return Skipped(name, "; ".join(dict.fromkeys(causes))) if causes else None


def load(item: Item, plan: Plan) -> Sample:
    """The image with its truth, cut to what the preset shows."""
    sample = item.load()
    box = plan.rules.preset.shown
    return sample.cut(box(*sample.size)) if box else sample

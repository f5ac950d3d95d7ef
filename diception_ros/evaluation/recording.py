# SPDX-License-Identifier: Apache-2.0
"""A bag judged: what the node published, against a topic or a folder of truth, and how it ran.

Read in the order of recording; a frame is judged when WINDOW newer ones have begun, so that truth
which was recorded a little later is there. A look ahead at when the outputs were recorded says
which truth has to be held until then, so that memory does not grow with the bag.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from diception_ros.evaluation.bags import Recorded, read_messages
from diception_ros.evaluation.datasets.sample import Sample
from diception_ros.evaluation.evaluate import (
    NO_PRECISION,
    Shown,
    curves_of,
    leading_text,
    ranks,
)
from diception_ros.evaluation.examiner import Judged, skipped_for
from diception_ros.evaluation.figures import Draws, Tally
from diception_ros.evaluation.judge import BROKEN, Judge
from diception_ros.evaluation.protocols.average_precision import available
from diception_ros.evaluation.recorded_look import Look
from diception_ros.evaluation.recorded_outputs import Outputs, Published, when_recorded
from diception_ros.evaluation.recorded_plan import REPORT, BagPlan, check_topics
from diception_ros.evaluation.results import CATEGORIES, Results, Skipped
from diception_ros.evaluation.system import (
    Flicker,
    Report,
    add_coverage,
    frame_name,
    report_curves,
    report_figures,
)
from diception_ros.evaluation.truths import Rules
from diception_ros.evaluation.workers import Here, Workers

WINDOW = 30
FLICKER = (
    "Flicker is the change from one frame to the next. It holds what really moved as well: compare "
    "runs on one recording, or look at a camera that stands still."
)


def evaluate_bag(
    bag: Path, plan: BagPlan, examiners: Workers | None = None
) -> tuple[Results, list[Shown]]:
    """Figures of the node's recorded outputs. examiners: made of BagExaminer, by default here; the
    bag is read here in any case. ValueError if the bag cannot be read, holds nothing of the node,
    lacks a topic of truth, or nothing in it can be judged.
    """
    run = _Run(plan, check_topics(bag, plan))
    run.judge_all(bag, examiners or Here(BagExaminer(plan.rules)))
    draws = Draws(run.seconds())
    system = [*report_figures(run.reports, draws), *run.system.figures()]
    figures = [*system, *run.judge.figures(draws)]
    if not figures:
        cause = f": {run.skipped[0].cause}" if run.skipped else ""
        raise ValueError(f"{bag}: nothing could be judged{cause}")
    curves = {name: curves_of(profile) for name, profile in run.judge.profiles.items()}
    if run.reports:
        curves["system"] = report_curves(run.reports)
    results = Results(
        run.subject(bag),
        run.answered_by(),
        figures,
        draws,
        run.skipped,
        curves,
        run.notes(),
    )
    return results, run.ranked(bag)


@dataclass(frozen=True)
class _Frame:
    """An image's truth and what was published about it; or why it has to be left out."""

    sample: Sample | None = None
    published: Published = field(default_factory=Published)
    skipped: Skipped | None = None


class BagExaminer:
    """Judges frames one at a time, here or in a worker elsewhere."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def judge(self, frame: _Frame) -> Judged:
        """What cannot be judged, be it one task, comes as skipped."""
        sample, published = frame.sample, frame.published
        if sample is None:
            return Judged("", skipped=frame.skipped)
        judge, failed = Judge(self._rules), list[str]()
        for answers in published.answers():
            failed += judge.judge(sample, answers, published.categories)
        if published.mask is not None:
            given = sample, published.mask, published.clicks
            failed += judge.attempt("point", Judge.judge_prompted, *given)
        return Judged(sample.name, judge, skipped_for(sample.name, failed))


class _Run:
    def __init__(self, plan: BagPlan, skipped: list[Skipped]) -> None:
        self.plan, self.judge = plan, Judge(plan.rules)
        self.system = Tally()
        self.reports: list[Report] = []
        self.skipped = skipped
        self.judged = 0
        self.categories: set[str] = set()
        self._flicker = Flicker(self.system)
        self._outputs = self._new_outputs()
        self._truths = plan.truths()

    def _new_outputs(self) -> Outputs:
        """Without what cannot be judged."""
        without = {one.name for one in self.skipped}
        return Outputs(self.plan.node, without, self.plan.categories)

    def judge_all(self, bag: Path, examiners: Workers) -> None:
        for found in examiners.map("judge", self._read(bag)):
            if found.judge is not None:
                self.judge.merge(found.judge)
                self.judged += found.skipped is None or bool(found.judge.frames)
            if found.skipped is not None:
                self.skipped.append(found.skipped)

    def _read(self, bag: Path) -> Iterator[_Frame]:
        report = f"{self.plan.node}/{REPORT}"
        if self.plan.topics:
            self._truths.expect(when_recorded(bag, self._outputs.topics))
        for item in read_messages(bag, {*self._outputs.wanted, report, *self._truths.wanted}):
            try:
                if item.topic == report:
                    self.reports.append(Report.of(item.stamp, item.message))
                elif item.topic in self._truths.wanted:
                    self._truths.add(item)
                    self._truths.prune(item.received, self._outputs.waiting)
                else:
                    self._add(item)
            except BROKEN as error:
                yield _left_out(item.stamp, f"{item.topic}: {error}")
            while self._ripe(item.received):
                yield from self._oldest()
        while self._outputs:
            yield from self._oldest()

    def _add(self, item: Recorded) -> None:
        found = self._outputs.add(item, keep=bool(self._truths))
        if found is not None:
            self._flicker.add(item.stamp, *found)
            if found[0] == "depth":
                add_coverage(self.system, item.stamp, found[1])

    def _ripe(self, received: int) -> bool:
        """Whether the oldest image has waited for its outputs, and for a truth if it has none.
        received: how far the recording has been read."""
        if len(self._outputs) <= WINDOW:
            return False
        oldest = self._outputs.oldest
        waited = received - self._outputs.begun(oldest)
        return self._truths.complete(oldest) or waited > self.plan.slop * 1e9

    def _oldest(self) -> Iterator[_Frame]:
        """Nothing where there is no truth of it."""
        stamp = self._outputs.oldest
        try:
            published = self._outputs.take(stamp)
            sample = self._truths.sample(stamp, published.arrays)
        except BROKEN as error:
            yield _left_out(stamp, str(error))
        else:
            if sample is not None:
                self.categories.update(published.categories)
                yield _Frame(sample, published)
                yield from (_left_out(stamp, problem) for problem in published.problems)

    def seconds(self) -> dict[str, str]:
        """By frame the second that it is drawn with."""
        names = {frame_name(one.stamp) for one in self.reports}
        names |= self.system.frames | self.judge.frames
        return {name: f"second {name.split('.')[0]}" for name in names}

    def ranked(self, bag: Path) -> list[Shown]:
        """Best, median and worst frame of each task, from a second look into the bag."""
        wanted = [
            (task, rank, name)
            for task, values in self.judge.leading.items()
            for rank, name in ranks(values)
        ]
        stamps = {name: int(name.replace(".", "")) for _, _, name in wanted}
        look = Look(self._new_outputs(), self.plan.truths(), stamps.values())
        look.read(bag, self.plan.node)
        shown = []
        for task, rank, name in wanted:
            panels = look.panels(task, stamps[name], self.plan.rules.preset)
            if panels is not None:
                text = leading_text(task, self.judge.leading[task][name])
                shown.append(Shown(task, rank, name, text, panels))
        return shown

    def subject(self, bag: Path) -> dict[str, Any]:
        truth = ", ".join(self.plan.topics)
        if self.plan.truth is not None:
            truth = f"folder {self.plan.truth.path.name} ({self.plan.truth.form})"
        preset = self.plan.rules.preset
        images = len({one.stamp for one in self.reports}) or self.judged
        found = {
            "kind": "recording",
            "source": bag.resolve().name,
            "images": images,
            "truth": truth or "none: only how the node ran",
            "judged against it": self.judged,
            "depth preset": f"{preset.name}: {preset.min_m:g} to {preset.max_m:g} m",
        }
        named = {CATEGORIES: ", ".join(sorted(self.categories))} if self.categories else {}
        return found | named

    def answered_by(self) -> dict[str, Any]:
        graphs = sum(one.graph for one in self.reports)
        return {
            "name": self.plan.node,
            "answers": "as recorded",
            "captured graphs": f"{graphs} of {len(self.reports)} frames",
        }

    def notes(self) -> list[str]:
        notes = [
            "Intervals: whole seconds are drawn, because successive frames are alike.",
            FLICKER,
        ]
        if "entity" in self.judge.leading and not available():
            notes.append(NO_PRECISION)
        if not self.reports:
            notes.append("No frame report was recorded: latency, rate and drops are not known.")
        return notes


def _left_out(stamp: int, cause: str) -> _Frame:
    return _Frame(skipped=Skipped(frame_name(stamp), " ".join(cause.split())))

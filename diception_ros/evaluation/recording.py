# SPDX-License-Identifier: Apache-2.0
"""A bag judged: what the node published, against a topic or a folder of truth, and how it ran.

Read once in the order of recording; a frame is judged when WINDOW newer ones have begun, so that
truth which was recorded a little later is there, and memory does not grow with the bag.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy.typing as npt

from diception_ros.evaluation.answers import Answers
from diception_ros.evaluation.bags import answer_array, count_messages, read_messages
from diception_ros.evaluation.datasets.sample import DataSet, Sample
from diception_ros.evaluation.evaluate import (
    NO_PRECISION,
    Shown,
    curves_of,
    leading_text,
    ranks,
)
from diception_ros.evaluation.examiner import BROKEN, Judged
from diception_ros.evaluation.figures import Draws, Tally
from diception_ros.evaluation.judge import Judge
from diception_ros.evaluation.pictures import draw
from diception_ros.evaluation.protocols.average_precision import available
from diception_ros.evaluation.protocols.depth import AFFINE_DISPARITY, METRIC
from diception_ros.evaluation.recorded_truth import Truths, picture_of, stamped_items
from diception_ros.evaluation.results import Results, Skipped
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

OUTPUTS = {
    "disparity": "disparity_relative/image",
    "depth": "depth/image",
    "normals": "normals/image",
    "ids": "entity/mask",
    "point": "point/mask",
    "keypoints": "pose/keypoints",
}
"""Topics below the node's name, by what they hold."""
REPORT = "frame_report"
WINDOW = 30
FLICKER = (
    "Flicker is the change from one frame to the next. It holds what really moved as well: compare "
    "runs on one recording, or look at a camera that stands still."
)

Array = npt.NDArray[Any]


@dataclass(frozen=True)
class BagPlan:
    """node: its name, the outputs' prefix. topics: of truth. truth: a data set whose image names
    are stamps in nanoseconds (or seconds.nanoseconds). slop: s between an image and its truth.
    """

    rules: Rules
    node: str = "/diception"
    topics: tuple[str, ...] = ()
    truth: DataSet | None = None
    slop: float = 0.02

    def __post_init__(self) -> None:
        if not self.slop >= 0:
            raise ValueError(f"slop must be 0 s or more, got {self.slop}")
        for topic in self.topics:
            if topic.endswith("disparity_relative/image"):
                raise ValueError(f"{topic}: a relative disparity is no truth, name a metric depth")

    def truths(self) -> Truths:
        """Empty yet, but for the folder. ValueError for a folder without stamps."""
        items = {} if self.truth is None else stamped_items(self.truth)
        return Truths(self.topics, items, self.slop)


def is_bag(path: Path) -> bool:
    """Whether a path looks like a bag of ROS 1 or 2."""
    if path.is_dir():
        return (path / "metadata.yaml").is_file() or any(path.glob("*.mcap"))
    return path.suffix in (".bag", ".mcap", ".db3")


def evaluate_bag(
    bag: Path, plan: BagPlan, examiners: Workers | None = None
) -> tuple[Results, list[Shown]]:
    """Figures of the node's recorded outputs. examiners: made of BagExaminer, by default here; the
    bag is read here in any case. ValueError if the bag cannot be read, holds nothing of the node,
    lacks a topic of truth, or nothing in it can be judged.
    """
    check_topics(bag, plan)
    run = _Run(plan)
    run.judge_all(bag, examiners or Here(BagExaminer(plan.rules)))
    seed = plan.rules.seed
    system = [*report_figures(run.reports, seed), *run.system.figures()]
    figures = [*system, *run.judge.figures(seed)]
    if not figures:
        cause = f": {run.skipped[0].cause}" if run.skipped else ""
        raise ValueError(f"{bag}: nothing could be judged{cause}")
    names = [name for figure in figures for name in figure.parts]
    groups = {name: f"second {name.split('.')[0]}" for name in names}
    curves = {name: curves_of(profile) for name, profile in run.judge.profiles.items()}
    if run.reports:
        curves["system"] = report_curves(run.reports)
    results = Results(
        run.subject(bag),
        run.answered_by(),
        figures,
        Draws(groups),
        run.skipped,
        curves,
        run.notes(),
    )
    return results, run.ranked(bag)


def check_topics(bag: Path, plan: BagPlan) -> None:
    """ValueError that says which topics there are."""
    counts = count_messages(bag)
    missing = [topic for topic in plan.topics if not counts.get(topic)]
    if missing:
        raise ValueError(f"{bag}: nothing on --against {missing[0]}, only on {', '.join(counts)}")
    wanted = [f"{plan.node}/{topic}" for topic in (*OUTPUTS.values(), REPORT)]
    if not any(counts.get(topic) for topic in wanted):
        raise ValueError(
            f"{bag} holds no output of {plan.node} (as {wanted[0]}): name another --node, or make "
            "the outputs first with 'diception bag'"
        )


@dataclass(frozen=True)
class _Frame:
    """An image's truth and what was published about it; or why it has to be left out."""

    sample: Sample | None = None
    outputs: Mapping[str, Array] = field(default_factory=dict)
    skipped: Skipped | None = None


class BagExaminer:
    """Judges frames one at a time, here or in a worker elsewhere."""

    def __init__(self, rules: Rules) -> None:
        self._rules = rules

    def judge(self, frame: _Frame) -> Judged:
        """What cannot be judged comes as skipped."""
        if frame.sample is None:
            return Judged("", skipped=frame.skipped)
        judge, skipped = Judge(self._rules), None
        try:
            for answers in answers_of(frame.outputs):
                judge.judge(frame.sample, answers)
        except BROKEN as error:
            skipped = Skipped(frame.sample.name, " ".join(str(error).split()))
        return Judged(frame.sample.name, judge, skipped)


class _Run:
    def __init__(self, plan: BagPlan) -> None:
        self.plan, self.judge = plan, Judge(plan.rules)
        self.system = Tally()
        self.reports: list[Report] = []
        self.skipped: list[Skipped] = []
        self.judged = 0
        self._flicker = Flicker(self.system)
        self._frames: dict[int, dict[str, Array]] = {}
        self._truths = plan.truths()

    def judge_all(self, bag: Path, examiners: Workers) -> None:
        for found in examiners.map("judge", self._read(bag)):
            if found.judge is not None:
                self.judge.merge(found.judge)
                self.judged += found.skipped is None
            if found.skipped is not None:
                self.skipped.append(found.skipped)

    def _read(self, bag: Path) -> Iterator[_Frame]:
        topics = {f"{self.plan.node}/{topic}": name for name, topic in OUTPUTS.items()}
        report = f"{self.plan.node}/{REPORT}"
        for item in read_messages(bag, {*topics, report, *self.plan.topics}):
            try:
                if item.topic == report:
                    self.reports.append(Report.of(item.stamp, item.message))
                elif item.topic in self.plan.topics:
                    self._truths.add(item.topic, item.stamp, item.message)
                else:
                    self._add(item.stamp, topics[item.topic], answer_array(item.message))
            except BROKEN as error:
                yield _left_out(item.stamp, f"{item.topic}: {error}")
            while len(self._frames) > WINDOW:
                yield from self._oldest()
        while self._frames:
            yield from self._oldest()

    def _add(self, stamp: int, name: str, values: Array) -> None:
        self._flicker.add(stamp, name, values)
        if name == "depth":
            add_coverage(self.system, stamp, values)
        if self._truths:
            self._frames.setdefault(stamp, {})[name] = values

    def _oldest(self) -> Iterator[_Frame]:
        """Nothing where there is no truth of it."""
        stamp = min(self._frames)
        outputs = self._frames.pop(stamp)
        try:
            sample = self._truths.sample(stamp, outputs)
        except BROKEN as error:
            yield _left_out(stamp, str(error))
        else:
            if sample is not None:
                yield _Frame(sample, outputs)
        self._truths.forget(stamp - 10**9)

    def ranked(self, bag: Path) -> list[Shown]:
        """Best, median and worst frame of each task, from a second look into the bag."""
        wanted = [
            (task, rank, name)
            for task, values in self.judge.leading.items()
            for rank, name in ranks(values)
        ]
        stamps = {name: int(name.replace(".", "")) for _, _, name in wanted}
        again = _Look(self.plan, set(stamps.values()))
        again.read(bag)
        shown = []
        for task, rank, name in wanted:
            sample, outputs = again.frame(stamps[name])
            for answers in answers_of(outputs) if sample is not None else ():
                assert sample is not None
                panels = draw(task, sample, answers, self.plan.rules.preset)
                if panels is not None:
                    text = leading_text(task, self.judge.leading[task][name])
                    shown.append(Shown(task, rank, name, text, panels))
                    break
        return shown

    def subject(self, bag: Path) -> dict[str, Any]:
        truth = ", ".join(self.plan.topics)
        if self.plan.truth is not None:
            truth = f"folder {self.plan.truth.path.name} ({self.plan.truth.form})"
        preset = self.plan.rules.preset
        images = len({one.stamp for one in self.reports}) or self.judged
        return {
            "kind": "recording",
            "source": bag.resolve().name,
            "images": images,
            "truth": truth or "none: only how the node ran",
            "judged against it": self.judged,
            "depth preset": f"{preset.name}: {preset.min_m:g} to {preset.max_m:g} m",
        }

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


class _Look:
    """The outputs, truths and pictures of a few stamps."""

    def __init__(self, plan: BagPlan, stamps: set[int]) -> None:
        self.plan, self.stamps = plan, stamps
        self.outputs: dict[int, dict[str, Array]] = {stamp: {} for stamp in stamps}
        self.pictures: dict[int, Array] = {}
        self.truths = plan.truths()

    def read(self, bag: Path) -> None:
        topics = {f"{self.plan.node}/{topic}": name for name, topic in OUTPUTS.items()}
        slop = round(self.plan.slop * 1e9)
        for item in read_messages(bag):
            try:
                if item.topic in topics and item.stamp in self.stamps:
                    values = answer_array(item.message)
                    self.outputs[item.stamp][topics[item.topic]] = values
                elif item.topic in self.plan.topics:
                    if any(abs(item.stamp - stamp) <= slop for stamp in self.stamps):
                        self.truths.add(item.topic, item.stamp, item.message)
                elif item.stamp in self.stamps and not item.topic.startswith(self.plan.node):
                    picture = picture_of(item.message)
                    if picture is not None:
                        self.pictures.setdefault(item.stamp, picture)
            except BROKEN:
                continue  # named when it was judged

    def frame(self, stamp: int) -> tuple[Sample | None, Mapping[str, Array]]:
        """Truth, with the camera's picture where it fits, and outputs of one stamp."""
        sample, picture = self.truths.sample(stamp, self.outputs[stamp]), self.pictures.get(stamp)
        if sample is not None and picture is not None and picture.shape == sample.rgb.shape:
            sample = replace(sample, rgb=picture)
        return sample, self.outputs[stamp]


def _left_out(stamp: int, cause: str) -> _Frame:
    return _Frame(skipped=Skipped(frame_name(stamp), " ".join(cause.split())))


def answers_of(outputs: Mapping[str, Array]) -> list[Answers]:
    """What was published about one image. Relative disparity and metres are judged apart, each by
    the one protocol that fits it here."""
    found = []
    if "disparity" in outputs:
        found.append(Answers(depth=outputs["disparity"], protocols=(AFFINE_DISPARITY,)))
    if "depth" in outputs:
        found.append(Answers(depth=outputs["depth"], kind="metric", protocols=(METRIC,)))
    others = [outputs.get(name) for name in ("normals", "ids", "keypoints")]
    return [*found, Answers(normals=others[0], ids=others[1], keypoints=others[2])]

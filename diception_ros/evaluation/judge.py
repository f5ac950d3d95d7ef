# SPDX-License-Identifier: Apache-2.0
"""One frame's answers against its truth: what every metric's parts are, task by task."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Any

import numpy as np

from diception_ros.evaluation.answers import Answers
from diception_ros.evaluation.datasets.sample import Bool, Object, Sample
from diception_ros.evaluation.figures import HIGHER, LOWER, Draws, Figure, Metric, Tally
from diception_ros.evaluation.precision import people_of, precision_figures, segments_of
from diception_ros.evaluation.profiles import Profile
from diception_ros.evaluation.protocols import average_precision, keypoints, masks
from diception_ros.evaluation.protocols.clicks import Click, next_click
from diception_ros.evaluation.protocols.depth import PROTOCOLS, DepthErrors, depth_errors, to_metres
from diception_ros.evaluation.protocols.normals import NormalErrors, angles, known, summarize_angles
from diception_ros.evaluation.truths import (
    Rules,
    box_around,
    classes_of,
    draw_objects,
    flatten,
    object_under,
    typed_oks,
)

PCK = (0.05, 0.1, 0.2)
DEPTH_UNITS = {"sq_rel": "m", "rmse": "m", "silog": "x100"}
PER_IMAGE = "mean over images"
POOLED = "all pixels pooled"
BROKEN = (ValueError, OSError, LookupError)
"""What a broken file or an answer that does not fit raises; LookupError is KeyError and, of arrays
of other sizes, IndexError."""

Masks = Callable[[Sequence[Sequence[Click]]], list[Bool]]


class Judge:
    """Gathers figures and profiles over frames. leading: by task, frame and its leading figure
    (lower is better), which says what best, median and worst are."""

    def __init__(self, rules: Rules) -> None:
        self.rules, self.tally = rules, Tally()
        self.profiles: dict[str, Profile] = defaultdict(Profile)
        self.leading: dict[str, dict[str, float]] = defaultdict(dict)
        self._segments: dict[str, tuple[list[average_precision.Segment], ...]] = {}
        self._people: dict[str, tuple[list[average_precision.Person], ...]] = {}

    def judge(self, sample: Sample, answers: Answers, categories: Sequence[str] = ()) -> list[str]:
        """Everything that truth and answers allow, task by task. Returns why tasks could not be
        judged: see `attempt`."""
        failed: list[str] = []
        if sample.depth_m is not None and answers.depth is not None:
            failed += self.attempt("depth", Judge._depth, sample, answers)
        if sample.normals is not None and answers.normals is not None:
            failed += self.attempt("normal", Judge._normals, sample, answers)
        if sample.objects is not None and answers.ids is not None:
            failed += self.attempt("entity", Judge._entities, sample, answers)
        if answers.classes is not None and categories:
            failed += self.attempt("semantic", Judge._semantic, sample, answers, categories)
        if answers.keypoints is not None and sample.objects is not None:
            failed += self.attempt("pose", Judge._pose, sample, answers)
        return failed

    def attempt(self, task: str, judged: Callable[..., None], *given: Any) -> list[str]:
        """One task by a method of this class, as a whole or not at all: what a frame that fails
        halfway would leave behind must not be in the figures. Returns the task and the cause if it
        failed, else nothing."""
        alone = Judge(self.rules)
        try:
            judged(alone, *given)
        except BROKEN as error:
            return [f"{task}: {one_line(error)}"]
        self.merge(alone)
        return []

    def merge(self, other: Judge) -> None:
        """Adds what another one gathered. Of a frame's leading figures the first stays: where both
        are judged, that of disparity and not that of metres."""
        self.tally.merge(other.tally)
        for name, profile in other.profiles.items():
            self.profiles[name].merge(profile)
        for task, values in other.leading.items():
            for frame, value in values.items():
                self.leading[task].setdefault(frame, value)
        self._segments |= other._segments
        self._people |= other._people

    def _depth(self, sample: Sample, answers: Answers) -> None:
        truth, answer, preset = sample.depth_m, answers.depth, self.rules.preset
        assert truth is not None
        assert answer is not None
        valid = preset.valid(truth)
        answered = valid & np.isfinite(answer)
        if answers.kind == "metric":
            answered &= np.nan_to_num(answer) > 0
        if valid.sum() < 2:
            raise ValueError(f"preset '{preset.name}' leaves {int(valid.sum())} valid pixels")
        protocols = answers.judged(self.rules.protocols)
        if not protocols:
            raise ValueError(
                f"no protocol asked for ({', '.join(self.rules.protocols)}) can judge an answer of "
                f"kind '{answers.kind}': expected {', '.join(PROTOCOLS[answers.kind])}"
            )
        for protocol in protocols:
            named = f"{protocol}, preset {preset.name}"
            coverage = Metric("depth", named, "coverage", "", HIGHER)
            self.tally.add(coverage, sample.name, answered.sum() / valid.sum())
            if answered.sum() < 2:
                continue
            metres = preset.clip(to_metres(answer, answers.kind, protocol, truth, answered))
            errors = depth_errors(metres, truth, answered)
            self._depth_rows(sample.name, named, errors)
            self._depth_profile(protocol, metres, truth, answered)
            self.leading["depth"].setdefault(sample.name, errors.abs_rel)

    def _depth_rows(self, frame: str, protocol: str, errors: DepthErrors) -> None:
        for item in fields(errors):
            better = HIGHER if item.name.startswith("delta") else LOWER
            metric = Metric("depth", protocol, item.name, DEPTH_UNITS.get(item.name, ""), better)
            self.tally.add(metric, frame, getattr(errors, item.name))

    def _depth_profile(
        self, protocol: str, metres: np.ndarray, truth: np.ndarray, at: Bool
    ) -> None:
        z, g = metres[at], truth[at].astype(np.float64)
        relative, profile = np.abs(z - g) / g, self.profiles[f"depth, {protocol}"]
        profile.by_depth.add(g, relative)
        profile.by_place.add(at, relative)
        profile.ratios.add(np.maximum(z / g, g / z), relative)

    def _normals(self, sample: Sample, answers: Answers) -> None:
        assert sample.normals is not None
        assert answers.normals is not None
        at = known(sample.normals)
        if not at.any():
            raise ValueError("no pixel of the true normals holds a unit vector")
        angle = angles(answers.normals[at], sample.normals[at])
        errors = summarize_angles(angle)
        self._normal_rows(sample.name, errors)
        profile = self.profiles["normal"]
        profile.angles.add(angle, angle)
        profile.by_place.add(at, angle)
        self.leading["normal"][sample.name] = errors.mean

    def _normal_rows(self, frame: str, errors: NormalErrors) -> None:
        for item in fields(errors):
            if item.name == "pixels":
                continue
            share, value = item.name.startswith("within"), getattr(errors, item.name)
            unit, better = ("", HIGHER) if share else ("°", LOWER)
            self.tally.add(Metric("normal", PER_IMAGE, item.name, unit, better), frame, value)
            if item.name == "median":  # a median of all pixels is no ratio of sums
                continue
            root = item.name == "rmse"
            metric = Metric("normal", POOLED, item.name, unit, better, root)
            part = value**2 if root else value
            self.tally.add(metric, frame, part * errors.pixels, errors.pixels)

    def _entities(self, sample: Sample, answers: Answers) -> None:
        assert answers.ids is not None
        objects = [one for one in sample.objects or () if one.pixels]
        counted = [o for o in objects if not o.crowd and o.pixels >= self.rules.smallest]
        best = masks.best_ious(answers.ids, [one.mask(sample.size) for one in counted])
        protocol = f"class-agnostic, from {self.rules.smallest} px"
        if counted:
            metric = Metric("entity", protocol, "mean best IoU", "", HIGHER)
            self.tally.add(metric, sample.name, best.mean())
            sizes = np.array([one.pixels for one in counted]) / answers.ids.size
            self.profiles["entity"].by_size.add(sizes, best)
            self.leading["entity"][sample.name] = 1 - float(best.mean())
        self._panoptic(sample, answers, objects)
        if average_precision.available():
            self._segments[sample.name] = segments_of(answers, sample, objects)

    def _panoptic(self, sample: Sample, answers: Answers, objects: Sequence[Object]) -> None:
        assert answers.ids is not None
        truth = flatten(objects, sample.size)
        crowds = [i for i, one in enumerate(objects, start=1) if one.crowd]
        counts = masks.panoptic(answers.ids, truth, crowds=crowds).get(1, masks.PanopticCounts())
        size = counts.tp + 0.5 * counts.fp + 0.5 * counts.fn
        for name, above, below in (
            ("PQ", counts.iou, size),
            ("SQ", counts.iou, counts.tp),
            ("RQ", counts.tp, size),
        ):
            metric = Metric("entity", "class-agnostic panoptic", name, "", HIGHER)
            self.tally.add(metric, sample.name, above, below)

    def _semantic(self, sample: Sample, answers: Answers, categories: Sequence[str]) -> None:
        assert answers.classes is not None
        truth = classes_of(sample, categories)
        if truth is None:
            return
        judged = truth >= 0
        matrix = masks.confusion(answers.classes[judged], truth[judged], len(categories) + 1)
        hit, union = masks.intersections_and_unions(matrix)
        metric = Metric("semantic", "classes asked, background left out", "mIoU", "", HIGHER)
        ious = []
        for number, name in enumerate(categories, start=1):
            if sample.class_names and name not in sample.class_names:
                continue  # truth that does not know a class says nothing about it
            self.tally.add(metric, sample.name, hit[number], union[number], name)
            ious += [hit[number] / union[number]] if union[number] else []
        if ious:
            self.leading["semantic"][sample.name] = 1 - float(np.mean(ious))

    def _pose(self, sample: Sample, answers: Answers) -> None:
        assert answers.keypoints is not None
        people = [one for one in sample.objects or () if (one.keypoints[:, 2:] > 0).any()]
        people = [one for one in people if not one.crowd]
        for alpha in PCK:
            values = []
            for person in people:
                joints = person.keypoints[person.keypoints[:, 2] > 0, :2]
                box = person.box if person.pixels else person.bbox or box_around(joints)
                values.append(keypoints.pck_untyped(answers.keypoints, joints, box, alpha=alpha))
            metric = Metric("pose", "joint types not compared", f"PCK@{alpha:g}", "", HIGHER)
            self.tally.add(metric, sample.name, sum(values), len(values))
            if people and alpha == PCK[1]:
                self.leading["pose"][sample.name] = 1 - float(np.mean(values))
        if answers.people is not None and people:
            found = typed_oks(answers.people, people)
            metric = Metric("pose", "COCO joints, best answer of its own", "OKS", "", HIGHER)
            self.tally.add(metric, sample.name, float(found.sum()), len(found))
        if answers.people is not None and average_precision.available():
            self._people[sample.name] = people_of(answers, sample.objects or ())

    def judge_clicks(self, sample: Sample, ask: Masks) -> None:
        """Clicks on up to `rules.objects` objects, each next click where the last answer is wrong
        most. ask: clicks on each of some objects -> their masks (H, W)."""
        chosen = draw_objects(sample, self.rules)
        if not chosen:
            return
        truths = [one.mask(sample.size) for one in chosen]
        placed: list[list[Click]] = [[] for _ in truths]
        answers: list[Bool | None] = [None] * len(truths)
        for number in range(1, self.rules.clicks + 1):
            for i, truth in enumerate(truths):
                click = next_click(truth, answers[i])
                placed[i] += [click] if click else []
            answers = list(ask(placed))
            ious = [
                masks.mask_iou(a, t) for a, t in zip(answers, truths, strict=True) if a is not None
            ]
            protocol = f"up to {self.rules.objects} objects an image, seed {self.rules.seed}"
            metric = Metric(
                "point", protocol, f"mIoU, {number} click{'s'[: number > 1]}", "", HIGHER
            )
            self.tally.add(metric, sample.name, sum(ious), len(ious))
            if number == 1:
                self.leading["point"][sample.name] = 1 - float(np.mean(ious))

    def judge_prompted(self, sample: Sample, mask: Bool, clicks: Sequence[Click]) -> None:
        """A mask (H, W) that somebody's clicks asked for, against the object under them; where
        there is none, that is counted and nothing else."""
        if sample.objects is None:
            return
        one, protocol = object_under(sample, clicks), "recorded prompts"
        share = Metric("point", protocol, "share of prompts on a true object", "", HIGHER)
        self.tally.add(share, sample.name, float(one is not None))
        if one is not None:
            iou = masks.mask_iou(mask, one.mask(sample.size))
            name = f"mIoU, {len(clicks)} click{'s'[: len(clicks) > 1]}"
            self.tally.add(Metric("point", protocol, name, "", HIGHER), sample.name, iou)
            self.leading["point"][sample.name] = 1 - iou

    @property
    def frames(self) -> set[str]:
        """Those of which anything was judged."""
        return {*self.tally.frames, *self._segments, *self._people}

    def figures(self, draws: Draws | None = None) -> list[Figure]:
        """All figures, average precision last. draws: how frames are drawn for its intervals."""
        found, draws = self.tally.figures(), draws or Draws()
        if any(true for _, true in self._segments.values()):
            found += precision_figures(self._segments, "entity", "COCO, class-agnostic", draws)
        if any(true for _, true in self._people.values()):
            found += precision_figures(self._people, "pose", "COCO keypoints, by OKS", draws)
        return found


def one_line(error: BaseException) -> str:
    """What an error says, as causes are listed."""
    return " ".join(str(error).split())

# SPDX-License-Identifier: Apache-2.0
"""Slices of a bag, answered one by one, are the whole: whatever is wrong with the bag."""

from __future__ import annotations

import itertools
from collections import Counter, defaultdict
from pathlib import Path

import numpy as np
import pytest
from recorded import CAMERA, DEPTH, Line, Types, camera_lines, picture, read, stamp_of, write

from diception_ros.engine import Engine, EngineConfig
from diception_ros.evaluation.offline import distributed, output
from diception_ros.evaluation.offline.channels import channels
from diception_ros.evaluation.offline.output import Output, Position, parts_folder, parts_in
from diception_ros.evaluation.offline.plan import Plan, Slice, parameters_from
from diception_ros.evaluation.offline.run import Run
from diception_ros.model import make_random_bundle

IMAGE = "sensor_msgs/msg/Image"
REPORT = "/diception/frame_report"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    bundle = make_random_bundle(tmp_path_factory.mktemp("bundle") / "random")
    return Engine.load(bundle, EngineConfig(device="cpu"), progress=lambda _: None)


def nasty(path):
    """40 images; among them truncated ones, one that is no message, two loops, a new frame id;
    camera infos that stop; prompts long before their images."""
    types = Types()
    lines = camera_lines(types, 40)
    for number in (3, 11, 12):
        cut = types.image(stamp_of(number), picture(number), data=np.zeros(100, np.uint8))
        lines[2 * number] = Line(CAMERA, IMAGE, lines[2 * number].received, cut)
    short = bytes(types.store.serialize_cdr(lines[40].message, IMAGE))[:50]
    lines[40] = Line(CAMERA, IMAGE, lines[40].received, short)
    for number, back in ((16, 2), (29, 28)):  # time jumps back
        image = types.image(stamp_of(back) - 1, picture(number))
        lines[2 * number] = Line(CAMERA, IMAGE, lines[2 * number].received, image)
    for number in range(33, 36):
        lines[2 * number].message.header.frame_id = "other"
    click = types(
        "geometry_msgs/msg/PointStamped",
        types.header(stamp_of(0)),
        types("geometry_msgs/msg/Point", 9.0, 9.0, 0.0),
    )
    broken = bytes(types.store.serialize_cdr(click, "geometry_msgs/msg/PointStamped"))[:20]
    for at, message in ((stamp_of(2), click), (stamp_of(7) + 1, broken), (stamp_of(50), broken)):
        lines.append(Line("/clicked", "geometry_msgs/msg/PointStamped", at, message))
    return write(path, sorted(lines, key=lambda line: line.received))


def run_of(plan, engine, problems):
    return Run(plan, engine, problems.append, lambda *_: None)


@pytest.mark.parametrize(
    ("every", "cuts", "window"),
    [
        (1, range(1, 40), (None, None)),
        (1, (1, 2), (None, None)),
        (1, (12, 13, 17), (None, None)),
        (2, (4, 20), (None, None)),
        (3, (12,), (None, None)),
        (1, (1, 12, 24), (1.25, 3.6055)),
        (1, (4, 20), (1.25, None)),
        (2, (4, 20), (0.25, None)),
    ],
)
def test_slices_put_together_are_the_whole(engine, tmp_path, every, cuts, window):
    bag = nasty(tmp_path / "bag")
    values = {"tasks": ["depth", "point"], "scale.source": "fixed", "categories": ["chair"]}
    more = {"prompts": "/clicked", "keep_inputs": True, "every": every}
    more["start"], more["stop"] = window
    plan = Plan((bag,), tmp_path / "out.mcap", parameters_from(values), **more)
    told, found = [], []
    whole = run_of(plan, engine, told)()
    edges = [0, *cuts, None]
    topics, positions, pieces = channels(plan, engine.tasks), [], defaultdict(list)
    for number, (first, last) in enumerate(itertools.pairwise(edges)):
        output = Output(tmp_path / f"{number}", topics, {}, resume=True)
        positions.append(run_of(plan, engine, found).slice(Slice(0, first, last), output))
        for part in parts_in(parts_folder(output.out)):
            for topic, messages in read(part).items():
                pieces[topic] += messages
    expected = read(plan.out)
    assert len(expected.pop(REPORT)) == len(pieces.pop(REPORT)) == whole.answered
    assert pieces == expected
    assert found == told
    assert len(told) >= 4
    problems = Counter()
    for one in positions:
        problems.update(one.problems)
    assert problems == whole.problems
    assert sum(one.looked for one in positions) == whole.images


def test_a_bag_is_cut_in_whole_batches_and_only_where_that_is_exact():
    def cut(sizes, most=16, unit=1, workers=2):
        return [(s.bag, s.first, s.last) for s in distributed._slices(sizes, most, unit, workers)]

    assert cut([400]) == [(0, 50 * i, 50 * (i + 1) if i < 7 else None) for i in range(8)]
    assert cut([100]) == [(0, 0, 33), (0, 33, 67), (0, 67, None)]  # none below 32 images
    assert cut([100], unit=8) == [(0, 0, 32), (0, 32, 64), (0, 64, None)]
    assert cut([400, 0, 50], most=1) == [(0, 0, None), (1, 0, None), (2, 0, None)]
    assert len(cut([10**6], workers=100)) == 16
    assert cut([500] * 400, workers=2) == [(i, 0, None) for i in range(400)]


def test_which_answers_depend_on_those_before():
    def plan(**values):
        return Plan((), Path("out.mcap"), parameters_from({"tasks": ["depth"], **values}))

    assert not plan().stateful
    assert not plan(**{"scale.source": "fixed"}).stateful
    assert plan(**{"scale.source": "reference"}).stateful
    assert plan(**{"scale.source": "ground_plane"}).stateful


def test_parts_end_with_whole_batches(engine, tmp_path, monkeypatch):
    monkeypatch.setattr(output, "PART_SECONDS", 0.0)
    bag = write(tmp_path / "bag", camera_lines(Types(), 10))
    plan = Plan((bag,), tmp_path / "o.mcap", parameters_from({"tasks": ["depth"]}), batch=4)
    out = Output(tmp_path / "slice", channels(plan, engine.tasks), {}, resume=True)
    position = run_of(plan, engine, []).slice(Slice(0), out)
    counts = [len(read(part).get(REPORT, ())) for part in parts_in(out.folder)]
    assert counts == [4, 4, 2]
    assert position == Position(1, 0, 10, 10, {}, {}, position.seconds)
    assert DEPTH not in read(parts_in(out.folder)[0])

# SPDX-License-Identifier: Apache-2.0
"""What is given up, in which order, to hold a deadline."""

from __future__ import annotations

import time

import numpy as np
import pytest

from diception_ros.engine import Engine, EngineConfig, Options, stages
from diception_ros.engine.deadline import Costs, Plan, choose, work_of
from diception_ros.engine.jobs import Job, Settings
from diception_ros.imaging import Canvas
from diception_ros.model import make_random_bundle
from diception_ros.tasks import TASKS, Request

FULL = Canvas(128, 128)
FOUR = Settings((1.0, 0.75, 0.5, 0.25, 0.0), 1.0)
ONE = Settings((1.0, 0.0), 1.0)


def jobs(count=2, settings=FOUR):
    return [Job(0, slot, Request("depth"), TASKS["depth"], settings) for slot in range(count)]


@pytest.fixture
def costs():
    """Ten milliseconds a transformer row at full size, one for everything else."""
    costs, work = Costs(), work_of(jobs(), Plan(FULL))
    assert work == {"preprocess": 1, "encode": 1, "denoise": 8, "decode": 2, "postprocess": 2}
    for _ in range(2):
        costs.learn(dict.fromkeys(work, 1.0) | {"denoise": 80.0}, work, FULL)
    return costs


@pytest.mark.parametrize(
    ("deadline", "plan"),
    [
        (100.0, Plan(FULL)),  # 84 ms
        (60.0, Plan(FULL, 2)),  # 44 ms
        (30.0, Plan(FULL, 1)),  # 24 ms
        (20.0, Plan(Canvas(96, 96), 1)),  # 24 * 9 / 16 = 13.5 ms
        (8.0, Plan(Canvas(64, 64), 1)),  # 6 ms
        (1.0, Plan(Canvas(64, 64), 1)),  # cannot be held: the cheapest there is
    ],
)
def test_steps_are_given_up_before_size(costs, deadline, plan):
    assert choose(jobs(), FULL, costs, deadline) == plan


def test_guidance_counts_twice():
    guided = Settings(FOUR.sigmas, 2.0)
    assert work_of(jobs(1, guided), Plan(FULL))["denoise"] == 8
    assert work_of(jobs(1, guided), Plan(FULL, 1))["denoise"] == 2


def test_without_a_measurement_nothing_is_given_up():
    assert choose(jobs(), FULL, Costs(), 0.1) == Plan(FULL)


def test_the_first_measurement_does_not_count():
    costs, work = Costs(), {"decode": 1}
    costs.learn({"decode": 5000.0}, work, FULL)
    assert costs.estimate(work, FULL) == 0.0
    costs.learn({"decode": 10.0}, work, FULL)
    assert costs.estimate(work, FULL) == 10.0
    costs.learn({"decode": 20.0}, work, FULL)
    assert costs.estimate(work, FULL) == pytest.approx(12.0)


def driven(slowness, scatter):
    """Plans of a run, and how many of its calls took over 100 ms: four steps take 84 ms, times
    slowness(call), scattered."""
    costs, rng, plans, missed = Costs(), np.random.default_rng(0), [], 0
    for call in range(2000):
        plan = choose(jobs(), FULL, costs, 100.0)
        work, factor = work_of(jobs(), plan), slowness(call) + scatter * rng.standard_normal()
        mean = dict.fromkeys(work, 1.0) | {"denoise": 10.0 * work["denoise"]}
        costs.learn({stage: factor * each for stage, each in mean.items()}, work, FULL)
        missed += factor * sum(mean.values()) > 100
        plans.append(plan)
    return plans, missed


def test_a_capture_gives_nothing_up():
    """The first call of every size and amount takes two seconds more; the others hold 100 ms. One
    request less in the tenth call, one more in the twentieth."""
    costs, met, plans = Costs(), set(), []
    for call in range(40):
        asked = jobs({10: 1, 20: 3}.get(call, 2), ONE)
        plan = choose(asked, FULL, costs, 100.0)
        work = work_of(asked, plan)
        mean = dict.fromkeys(work, 1.0) | {"denoise": 25.0 * work["denoise"]}
        first = (plan, len(asked)) not in met
        met.add((plan, len(asked)))
        costs.learn(mean | {"denoise": mean["denoise"] + 2000.0 * first}, work, plan.canvas)
        plans.append(plan)
    assert set(plans) == {Plan(FULL)}


def test_a_capture_of_an_amount_that_was_met_gives_nothing_up(tmp_path, monkeypatch):
    """A temporal start has sigmas, and so a graph, of its own."""
    bundle = make_random_bundle(tmp_path / "bundle")
    engine = Engine.load(bundle, EngineConfig(device="cpu", graphs=False))
    engine._stages.graphs = True
    monkeypatch.setattr(stages, "capture", lambda function, *_: time.sleep(2) or function)
    image, asked = np.zeros((64, 64, 3), np.uint8), [[Request("depth")]]
    options = Options(temporal=0.2, deadline_ms=1500)
    for _ in range(4):
        found = engine.run([image], asked, options=options, streams=["front"])
        assert found.canvas == (64, 64)


@pytest.mark.parametrize(("scatter", "usual"), [(0.0, Plan(FULL)), (0.15, Plan(FULL, 2))])
def test_a_deadline_is_held_by_99_calls_of_a_hundred_however_they_scatter(scatter, usual):
    """On average the four steps hold it, but where that scatters by 15% one call in seven would
    not."""
    plans, missed = driven(lambda _: 1.0, scatter)
    assert missed <= 20
    assert max(plans, key=plans.count) == usual


def test_what_was_given_up_while_the_machine_was_busy_comes_back():
    plans, _ = driven(lambda call: 2.0 if 100 <= call < 150 else 1.0, 0.01)
    assert plans[149].most_steps is not None
    assert plans[-1] == Plan(FULL)


def test_a_size_that_was_given_up_comes_back():
    """Of one step size is all that there is to give up: a peak of eight calls."""
    costs, plans = Costs(), []
    for call in range(3000):
        plan = choose(jobs(settings=ONE), FULL, costs, 100.0)
        share = plan.canvas.height * plan.canvas.width / (FULL.height * FULL.width)
        work = work_of(jobs(settings=ONE), plan)
        mean = dict.fromkeys(work, 2.0) | {"denoise": 50.0 * share}
        slow = 3.0 if 200 <= call < 208 else 1.0
        costs.learn({stage: slow * each for stage, each in mean.items()}, work, plan.canvas)
        plans.append(plan)
    assert plans[207].canvas != FULL
    assert plans[-1] == Plan(FULL)


def test_the_engine_says_what_it_picked(tmp_path):
    engine = Engine.load(make_random_bundle(tmp_path / "bundle"), EngineConfig(device="cpu"))
    image, asked = np.zeros((64, 64, 3), np.uint8), [[Request("depth", steps=8)]]
    engine.run([image], asked)
    free = engine.run([image], asked)
    assert (free.steps, free.canvas, free.missed) == ({"depth": 8}, (64, 64), False)
    pressed = engine.run([image], asked, options=Options(deadline_ms=1e-3))
    assert (pressed.steps, pressed.canvas, pressed.missed) == ({"depth": 1}, (32, 32), True)
    assert pressed.results[0][0].values.shape == (64, 64)
    calm = engine.run([image], asked, options=Options(deadline_ms=1e6))
    assert (calm.steps, calm.canvas, calm.missed) == ({"depth": 8}, (64, 64), False)

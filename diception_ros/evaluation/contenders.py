# SPDX-License-Identifier: Apache-2.0
"""Who takes part in the benchmark: the engine, and the obvious alternatives to it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import numpy as np

from diception_ros.engine import Engine
from diception_ros.engine.naive import Naive
from diception_ros.evaluation.benchmark_report import COMPILED, NAIVE, OURS, Cell
from diception_ros.evaluation.floor import count_flops
from diception_ros.tasks import Request
from diception_ros.tasks.decoding import decoded
from diception_ros.tasks.edges import Guide

TASK_ORDER = ("depth", "normal", "entity", "point", "semantic", "pose")
FRAME = (480, 640)
"""Height and width of the frames that are asked about."""

Call = Callable[[], object]


def contenders_of(engine: Engine, cell: Cell, compiled: bool) -> dict[str, Call]:
    """All give decoded results at the frames' size."""
    rng = np.random.default_rng(0)
    frames = [rng.integers(0, 255, (*FRAME, 3), np.uint8) for _ in range(cell.cameras)]
    asked = requests_of(engine, cell)
    found: dict[str, Call] = {}
    for name, mode in {NAIVE: None, COMPILED: "reduce-overhead"}.items():
        if mode is None or compiled:
            naive = engine.naive(mode)
            found[name] = lambda naive=naive: [  # type: ignore[misc]
                answer(engine, naive, frame, request) for frame in frames for request in asked
            ]
    found[OURS] = partial(engine.run, frames, [asked] * len(frames))
    return found


def requests_of(engine: Engine, cell: Cell) -> list[Request]:
    made = []
    for task in TASK_ORDER[: cell.tasks]:
        category = engine.categories[0] if engine.tasks[task].takes_category else None
        made.append(Request(task, category=category, steps=cell.steps, guidance=cell.guidance))
    return made


def answer(engine: Engine, naive: Naive, frame: np.ndarray, request: Request) -> object:
    task = engine.tasks[request.task]
    prompt = task.prompt_for(request.category)
    colours = naive(frame, prompt, request.steps or 1, request.guidance or 1.0)
    return decoded(colours, Guide(frame), task)


def eager(engine: Engine, cell: Cell) -> Call:
    """What the engine computes, without graphs, which a counter cannot see into."""
    plain = engine.sharing(graphs=False)
    frame = np.zeros((*FRAME, 3), np.uint8)
    asked = requests_of(engine, cell)
    return lambda: plain.run([frame] * cell.cameras, [asked] * cell.cameras)


def flops_of(engine: Engine, cell: Cell) -> int:
    """Counted at one and at two steps: every further one costs the same."""
    one = count_flops(eager(engine, replace(cell, steps=1)))
    if cell.steps == 1:
        return one
    return one + (cell.steps - 1) * (count_flops(eager(engine, replace(cell, steps=2))) - one)

# SPDX-License-Identifier: Apache-2.0
"""Tables: who answers the questions of a task, and how well."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence

from diception_ros.tasks import TASKS
from diception_ros.training.measure.baselines import Baseline
from diception_ros.training.measure.questions import Question, exchange
from diception_ros.training.measure.scores import Answer, Answered, average, read, score
from diception_ros.training.scenes import Frame

LOG = logging.getLogger(__name__)
Rows = dict[str, dict[str, float]]
"""{who answered: {metric: mean over the questions}}."""
Table = dict[str, Rows]
"""{task: its rows}."""
Answers = Callable[[Sequence[Question], int], Sequence[Answered]]
"""(questions, steps) -> what is answered to each question, of its frame's size."""
NETWORK, EXCHANGED, TRUE = "network", "exchanged", "true colours"
FEW_STEPS = 8


def task_rows(
    questions: list[Question],
    frames: list[Frame],
    baselines: Mapping[str, Baseline],
    answers: Answers,
    steps: Sequence[int] = (1,),
    many: int = 100,
) -> Rows:
    """All rows of one task's questions about `frames`.

    "true colours": what training asks for, decoded: nothing can do better by more than chance.
    "exchanged": the first of `steps` once more, every question asked of another frame's image (the
    prompt and the click stay). steps: one row each; those over FEW_STEPS answer the first `many`
    questions only, and the row says so.
    """
    rows = {
        name: row(questions, [answer(question) for question in questions])
        for name, answer in baselines.items()
    }
    decode = TASKS[questions[0].task].decode
    ideal = [read(question.task, decode(question.colours())) for question in questions]
    rows[TRUE] = row(questions, ideal)
    rows[EXCHANGED] = network_row(questions, exchange(questions, frames), answers, steps[0])
    for count in steps:
        asked = questions[:many] if count > FEW_STEPS else questions
        rows[network_name(count, many)] = network_row(asked, asked, answers, count)
    return rows


def network_name(steps: int, many: int) -> str:
    """The row's name. One step, as served, goes without saying."""
    if steps == 1:
        return NETWORK
    return f"{NETWORK}, {steps} steps" + (f", first {many}" if steps > FEW_STEPS else "")


def network_row(
    questions: list[Question], shown: list[Question], answers: Answers, steps: int
) -> dict[str, float]:
    """What is answered to `shown`, scored as answers to `questions`."""
    task = questions[0].task
    return row(questions, [read(task, answered.result) for answered in answers(shown, steps)])


def row(questions: list[Question], answers: Sequence[Answer]) -> dict[str, float]:
    return average(questions, list(map(score, questions, answers)))


def measure(
    asked: Mapping[str, list[Question]],
    frames: list[Frame],
    baselines: Mapping[str, Mapping[str, Baseline]],
    answers: Answers,
    steps: Sequence[int] = (1,),
    many: int = 100,
) -> Table:
    """The table of every task that has questions; see task_rows. baselines: by task."""
    table: Table = {}
    for task, questions in asked.items():
        if questions:
            table[task] = task_rows(questions, frames, baselines[task], answers, steps, many)
        for name, scores in table.get(task, {}).items():
            figures = "  ".join(f"{key} {value:.3f}" for key, value in scores.items())
            LOG.info("%-9s %-28s %s", task, name, figures)
    return table

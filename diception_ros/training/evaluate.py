# SPDX-License-Identifier: Apache-2.0
"""What a bundle does on rendered scenes it has never seen and on real images, beside baselines that
learn nothing. Writes metrics.json, scenes.png and real.png.

"mean target" is the mean answer over training scenes, the same whatever the image; "exchanged" asks
every question of another scene's image: a network that does not look scores the same there.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from diception_ros.evaluation.material import DemoFrame
from diception_ros.model import Diception
from diception_ros.model.attention import write_out
from diception_ros.model.precision import best_dtype
from diception_ros.model.products import fuse
from diception_ros.tasks import TASKS
from diception_ros.training.measure.baselines import baselines
from diception_ros.training.measure.pictures import draw_real, draw_scenes, scene_rows, stacked
from diception_ros.training.measure.predict import predict, predict_batch
from diception_ros.training.measure.questions import Question, ask, possible
from diception_ros.training.measure.real import as_frame, real_images, rgbd_images
from diception_ros.training.measure.report import TARGETS, shares_kept, table_markdown
from diception_ros.training.measure.rows import Rows, Table, measure, network_row
from diception_ros.training.measure.shards import only_held_out_kinds, read_scenes
from diception_ros.training.measure.timing import hardware, median_ms
from diception_ros.training.pool import Pool
from diception_ros.training.scenes import Frame

__all__ = ["Rows", "Table", "evaluate", "network_scores", "sheet", "table_markdown"]
LOG = logging.getLogger(__name__)
SEEN = 256
"""Training scenes that the means are taken of."""
RENDERED = "unseen scenes"
OBJECTS = ("entity", "point")
PROTOCOL = """\
Depth: scale and shift fitted to each image by least squares in disparity (1 / depth), clipped to \
80 m. Entities: mean over the true instances of the best IoU. Points: one click at the pixel \
farthest from the instance's edge. Semantic: mean over categories of the IoU. Of a rendered scene \
one instance is clicked and one category asked for, both drawn at random; of a real image all. \
Pose: recall at 5% of the longer side of the person's box, no joint types. No guidance, the fixed \
noise of seed 0. Left out: instances under 0.3%, categories under 0.4% of the image. Rows with \
"first N" answer the first N questions only.\
"""


@dataclass(frozen=True)
class Plan:
    """unseen, seen: folders of shards for the scenes and for the means; out: of what is written.
    steps: a row for each; over FEW_STEPS only scenes_many scenes. photographs: also those of
    installed packages. rgbd: also a folder with image/ and depth/. ValueError for numbers under 1.
    """

    unseen: Path
    seen: Path
    out: Path
    scenes: int = 500
    steps: tuple[int, ...] = (1,)
    scenes_many: int = 100
    photographs: bool = False
    rgbd: Path | None = None

    def __post_init__(self) -> None:
        if not self.steps or min(self.scenes, self.scenes_many, *self.steps) < 1:
            raise ValueError(
                f"scenes, steps and scenes_many must be at least 1, got {self.scenes}, "
                f"{list(self.steps)} and {self.scenes_many}"
            )

    def real_images(self) -> dict[str, list[DemoFrame]]:
        """The real images asked for, by the name of their table."""
        real = {"photographs": real_images()} if self.photographs else {}
        return {**real, "rgbd": rgbd_images(self.rgbd)} if self.rgbd else real


def evaluate(
    model: Diception,
    frames: list[Frame],
    other: list[Frame],
    steps: Sequence[int] = (1,),
    many: int = 100,
) -> Table:
    """Every task's table on unseen `frames`. other: training scenes for the means; steps: a row of
    the network for each, long ones on the first `many` scenes.
    """
    given = {task: baselines(task, other) for task in TASKS}
    return measure(questions_of(frames), frames, given, partial(predict, model), steps, many)


def network_scores(model: Diception, frames: list[Frame]) -> dict[str, float]:
    """{"task metric": mean} of one step, without any baseline: what a training run watches."""
    found = {}
    for task, questions in questions_of(frames).items():
        if questions:
            scores = network_row(questions, questions, partial(predict, model), 1)
            found.update({f"{task} {name}": value for name, value in scores.items()})
    return found


def questions_of(frames: list[Frame]) -> dict[str, list[Question]]:
    """One question of every frame for every task it shows, the same in every run."""
    return {task: ask(task, frames, np.random.default_rng(0)) for task in TASKS}


def every_question(frames: list[Frame], tasks: Sequence[str] = tuple(TASKS)) -> dict[str, Any]:
    return {task: [q for frame in frames for q in possible(task, frame)] for task in tasks}


def sheet(model: Diception, pool: Pool, columns: int = 8) -> np.ndarray:
    """Pictures to look at, uint8 (H, W, 3): per task a row of images, of true and of generated
    colours, for the pool's first scenes that show the task.
    """
    frames = [pool.frame(place) for place in pool.frames[: 8 * columns]]
    return stacked(scene_rows(frames, partial(predict, model), columns), columns)


def run(model: Diception, plan: Plan) -> dict[str, Any]:
    """Measures and draws what the plan asks for. Returns what metrics.json holds: on what, how fast
    and the tables by name.
    """
    started, answers = time.monotonic(), partial(predict, model)
    frames, seeds = read_scenes(plan.unseen, plan.scenes, held_out=True)
    other, _ = read_scenes(plan.seen, SEEN, held_out=False)
    real = plan.real_images()
    asked = {RENDERED: (questions_of(frames), frames)}
    for name, images in real.items():
        shown = [as_frame(image) for image in images]
        asked[name] = (every_question(shown), shown)
    needed = {task for questions, _ in asked.values() for task in questions if questions[task]}
    given = {task: baselines(task, other) for task in TASKS if task in needed}
    tables = {
        name: measure(questions, shown, given, answers, plan.steps, plan.scenes_many)
        for name, (questions, shown) in asked.items()
    }
    new = list(map(only_held_out_kinds, frames, seeds))
    if any(frame.instances.any() for frame in new):  # bare rooms have none
        tables["held-out kinds"] = measure(every_question(new, OBJECTS), new, given, answers)
    plan.out.mkdir(parents=True, exist_ok=True)
    draw_scenes(plan.out / "scenes.png", frames, answers)
    if real:
        draw_real(plan.out / "real.png", real, answers)
    alone, depth = partial(predict_batch, model), asked[RENDERED][0]["depth"]
    return {
        "bundle": model.info.name,
        "hardware": hardware(model.device),
        "torch": torch.__version__,
        "precision": str(model.dtype).removeprefix("torch."),
        "protocol": PROTOCOL,
        "scenes": len(frames),
        "median_ms_one_image": {str(n): median_ms(alone, depth, n) for n in plan.steps},
        "images_with_truth": {name: truths(images) for name, images in real.items()},
        "gain_kept_with_exchanged_image": {k: shares_kept(v) for k, v in tables.items()},
        "tables": tables,
        "seconds": round(time.monotonic() - started, 1),
    }


def truths(images: list[DemoFrame]) -> dict[str, list[str]]:
    """By task the names of the images that it is measured on."""
    return {
        task: [image.name for image in images if possible(task, as_frame(image))] for task in TASKS
    }


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--unseen", type=Path, required=True, help="shards of held-out seeds")
    parser.add_argument("--seen", type=Path, required=True, help="training shards, for the means")
    parser.add_argument("--out", type=Path, required=True, help="folder of JSON and sheets")
    parser.add_argument("--scenes", type=int, default=500)
    parser.add_argument("--steps", type=int, nargs="+", default=[1])
    parser.add_argument("--scenes-many", type=int, default=100, help="scenes for over 8 steps")
    parser.add_argument(
        "--real",
        dest="photographs",
        action="store_true",
        help="also photographs of installed wheels",
    )
    parser.add_argument("--rgbd", type=Path, help="folder with image/ and depth/ (16-bit mm)")
    parser.add_argument("--device", default="cpu")
    options = vars(parser.parse_args())
    bundle, device = options.pop("bundle"), torch.device(options.pop("device"))
    plan = Plan(**{**options, "steps": tuple(options["steps"])})
    try:
        model = Diception.load(bundle, device, best_dtype(device))
        if device.type == "cpu":  # as the engine computes
            write_out(model.transformer)
            fuse(model.transformer)
        found = run(model, plan)
    except (ValueError, OSError) as error:
        parser.error(str(error))
    (plan.out / "metrics.json").write_text(json.dumps(found, indent=1) + "\n")
    for name, table in found["tables"].items():
        targets = TARGETS if name == RENDERED else {}
        LOG.info("\n%s\n\n%s", name, table_markdown(table, targets))


if __name__ == "__main__":
    main()

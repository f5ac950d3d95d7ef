# SPDX-License-Identifier: Apache-2.0
"""How many images an adaptation needs: the learning curve, beside two controls.

python -m diception_ros.training.curve BUNDLE --pairs FOLDER --unseen FOLDER --task NAME --out DIR
"""

from __future__ import annotations

import argparse
import json
import logging
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import torch

from diception_ros.imaging import Canvas
from diception_ros.model import Diception
from diception_ros.model.lora import Adapter
from diception_ros.tasks import Task
from diception_ros.training.adapt import Adaptation, adapt, ensure_prompt, new_task
from diception_ros.training.from_scratch import Clock, answers_of, size_of, train_unet
from diception_ros.training.pairs import Pairs, read_pairs
from diception_ros.training.scoring import measured, metric_of, score

LOG = logging.getLogger(__name__)
COUNTS = (10, 25, 50, 100)
OF_ADAPTERS = ("bundle", "rank", "share", "hardware")


def learning_curve(
    model: Diception,
    pairs: Pairs,
    unseen: Pairs,
    task: Task,
    recipe: Adaptation,
    counts: Sequence[int] = COUNTS,
    keep: Callable[[dict[str, Any]], None] = lambda found: None,
) -> dict[str, Any]:
    """Figures on the unseen pairs of the unadapted model, and per count of images of the adapted
    one and of a network of as many parameters that is trained from scratch for the same time.
    keep: is given what is known after every count."""
    pairs.first(max(counts))  # too few are better known now than in hours
    ensure_prompt(model, pairs.first(min(counts)), task)
    before = measured(model, None, unseen, task)
    LOG.info("%s, unadapted: %s %.3f on %d", task.name, metric_of(task), before, len(unseen.pairs))
    found: dict[str, Any] = {
        "task": task.name,
        "metric": metric_of(task),
        "unseen": len(unseen.pairs),
        "unadapted": before,
        "rows": [],
    }
    for count in counts:
        some, clock = pairs.first(count), clock_of(model.device)
        started = clock()
        adapter = adapt(model, some, task, recipe)
        seconds = clock() - started
        row = {
            "images": count,
            "adapted": measured(model, adapter, unseen, task),
            **scratch(model, some, unseen, task, adapter, seconds, recipe.seed),
            "seconds": round(seconds, 1),
            "steps": adapter.info.steps,
        }
        LOG.info("%s", row)
        found["rows"].append(row)
        found |= {name: getattr(adapter.info, name) for name in OF_ADAPTERS}
        keep(found)
    return found


def clock_of(device: torch.device) -> Clock:
    """Seconds: of a CPU those that this process had it, whatever else it did."""
    return time.process_time if device.type == "cpu" else time.monotonic


def scratch(
    model: Diception,
    some: Pairs,
    unseen: Pairs,
    task: Task,
    adapter: Adapter,
    seconds: float,
    seed: int,
) -> dict[str, float]:
    trained = sum(a.numel() + b.numel() for a, b in adapter.pairs.values())
    canvas = Canvas(*model.info.canvas)
    network = train_unet(some, task, canvas, trained, seconds, seed, clock_of(model.device))
    answers = answers_of(network, [pair.image for pair in unseen.pairs], canvas)
    return {
        "from scratch": score(answers, unseen, task),
        "parameters": trained,
        "parameters from scratch": size_of(network),
    }


def draw(found: dict[str, Any], path: Path) -> None:
    """The curve as a picture."""
    rows = sorted(found["rows"], key=lambda row: row["images"])
    counts = [row["images"] for row in rows]
    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    for name, style in (("adapted", "o-"), ("from scratch", "s--")):
        axes.plot(counts, [row[name] for row in rows], style, label=name)
    axes.axhline(found["unadapted"], color="grey", linestyle=":", label="unadapted")
    axes.set_xscale("log")
    axes.set_xticks(counts, [str(count) for count in counts])
    axes.minorticks_off()
    axes.set_ylim(bottom=0)
    axes.set_xlabel("images")
    axes.set_ylabel(f"{found['metric']} on {found['unseen']} unseen images")
    axes.set_title(f"{found['task']}: rank {found['rank']}, {found['share']:.2%} of the parameters")
    axes.grid(alpha=0.3)
    axes.legend()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--pairs", type=Path, required=True, help="images/ and targets/")
    parser.add_argument("--unseen", type=Path, required=True, help="the same, to measure on")
    parser.add_argument("--task", required=True, help="the new task's name")
    parser.add_argument("--kind", default="mask")
    parser.add_argument("--out", type=Path, required=True, help="folder: curve.png, curve.json")
    parser.add_argument("--counts", type=int, nargs="+", default=COUNTS)
    parser.add_argument("--steps", type=int, default=Adaptation.steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    recipe = Adaptation(steps=arguments.steps, seed=arguments.seed)

    def keep(found: dict[str, Any]) -> None:
        (arguments.out / "curve.json").write_text(json.dumps(found, indent=1) + "\n")
        draw(found, arguments.out / "curve.png")

    try:
        task = new_task(arguments.task, arguments.kind)
        given = read_pairs(arguments.pairs, task), read_pairs(arguments.unseen, task)
        model = Diception.load(arguments.bundle, torch.device(arguments.device))
        arguments.out.mkdir(parents=True, exist_ok=True)
        learning_curve(model, *given, task, recipe, arguments.counts, keep)
    except ValueError as error:
        raise SystemExit(f"curve: {error}") from None


if __name__ == "__main__":
    main()

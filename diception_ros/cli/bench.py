# SPDX-License-Identifier: Apache-2.0
"""`diception bench`: how fast this machine is, beside plain diffusers-style code."""

from __future__ import annotations

import json
import time
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from diception_ros.cli.options import Device

if TYPE_CHECKING:
    from diception_ros.evaluation.benchmark_report import Cell, Report, Row

SIZES = (512, 768)
STEPS = (1, 4, 28)
TASKS = (1, 3, 6)
CAMERAS = (1, 2, 4)
SECONDS, QUICK_SECONDS = 600.0, 24.0


def bench(
    bundle: Annotated[
        Path | None, typer.Option(help="Bundle directory; the embedded one if left out.")
    ] = None,
    sd3: Annotated[bool, typer.Option("--sd3", help="SD3-medium's size, random weights.")] = False,
    device: Device = "auto",
    threads: Annotated[int | None, typer.Option(help="CPU threads of torch.")] = None,
    quick: Annotated[bool, typer.Option(help="A few cells, within a minute on 2 cores.")] = False,
    seconds: Annotated[
        float | None, typer.Option(help="Measuring time of all cells (600, with --quick 24).")
    ] = None,
    compiled: Annotated[
        bool | None,
        typer.Option(
            "--compiled/--not-compiled",
            help="Also the plain code under torch.compile (yes, with --quick no).",
        ),
    ] = None,
    compile_ours: Annotated[
        bool, typer.Option("--compile", help="The engine under torch.compile, too.")
    ] = False,
    limit: Annotated[
        float | None, typer.Option(help="Begin no further cell after this many seconds.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option("--json", help="Write all figures here.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Write a picture (PNG) here.")] = None,
) -> None:
    """Measures latency, rate, memory and the distance to the hardware's floor, interleaved with
    plain diffusers-style code in the same run."""
    from rich.console import Console

    from diception_ros.engine import EMBEDDED_BUNDLE, Engine, EngineConfig
    from diception_ros.evaluation import benchmark, floor
    from diception_ros.evaluation.benchmark_report import Report

    console, started = Console(markup=False), time.perf_counter()
    config = EngineConfig(device=device, threads=threads, compile=compile_ours)
    engine = Engine.sd3_sized(config) if sd3 else Engine.load(bundle or EMBEDDED_BUNDLE, config)
    loading = 1000 * (time.perf_counter() - started)
    console.print(f"{engine.info.name} on {engine.device_name}, loaded in {loading:.0f} ms")
    rates = floor.measure_rates(engine.device, engine.dtype)
    console.print(
        f"floor: {rates.flops / 1e12:.3g} TFLOP/s in matrix products, "
        f"{rates.bandwidth / 1e9:.3g} GB/s in copies"
    )
    cells = quick_cells(engine.canvas) if quick else all_cells(engine.canvas, engine.device.type)
    name = f"{engine.info.name} on {engine.device_name}" + ", torch.compile" * compile_ours
    gpu = engine.device.type == "cuda"
    report = Report(name, rates, loading, unmeasured=list(cells), gpu=gpu)

    def of_size(size: tuple[int, int]) -> Any:
        return engine.sharing(canvas=size)  # a new one for every cell, whose memory is its own

    measuring = seconds or (QUICK_SECONDS if quick else SECONDS)
    both = not quick if compiled is None else compiled
    for row in benchmark.run(of_size, cells, rates, measuring, both, limit):
        report.add(row)
        console.print(line(row))
        if json_file is not None:
            write(report, json_file)
    console.print(table(report))
    if report.unmeasured:
        console.print(f"not measured, for lack of time: {len(report.unmeasured)} further cells")
    console.print_json(json.dumps(report.summary()))
    if plot is not None and report.rows:
        draw(report, plot)


def write(report: Report, path: Path) -> None:
    """After every cell, and whole at any time: a run that is cut off leaves what it measured."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    part.write_text(json.dumps(report.as_json(), indent=1) + "\n")
    part.replace(path)


def quick_cells(canvas: Any) -> list[Cell]:
    from diception_ros.evaluation.benchmark_report import Cell

    size = (canvas.height, canvas.width)
    return [Cell(size), Cell(size, tasks=3), Cell(size, steps=4), Cell(size, tasks=3, cameras=2)]


def all_cells(canvas: Any, device: str) -> list[Cell]:
    """On a GPU the sizes 512 and 768; on a CPU, which is hours away from those, the bundle's. Those
    that the targets are set for come first."""
    from diception_ros.evaluation.benchmark_report import Cell

    own = (canvas.height, canvas.width)
    sizes = [(side, side) for side in SIZES if side <= own[0]] if device == "cuda" else []
    sizes = sizes[::-1] or [own]
    largest = sizes[0]
    head = [Cell(largest), Cell(largest, tasks=3), Cell(largest, steps=28, guidance=2.0)]
    head += [Cell(size, tasks=3) for size in sizes[1:]]
    head += [Cell(largest, steps=4), Cell(largest, tasks=6), Cell(largest, tasks=3, cameras=4)]
    combinations = product(sizes, STEPS, (1.0, 2.0), TASKS, CAMERAS)
    return list(dict.fromkeys([*head, *(Cell(*combination) for combination in combinations)]))


def name_of(cell: Cell) -> str:
    tasks = f"{cell.tasks} task" + "s" * (cell.tasks > 1)
    cameras = f", {cell.cameras} cameras" * (cell.cameras > 1)
    guided = f", guidance {cell.guidance:g}" * (cell.guidance > 1)
    steps = f"{cell.steps} step" + "s" * (cell.steps > 1)
    return f"{cell.size[0]}: {steps}{guided}, {tasks}{cameras}"


def line(row: Row) -> str:
    ratios = ", ".join(f"{ratio:.2f}x {name}" for name, ratio in row.ratios.items())
    ours = row.latencies["engine"]
    memory = f"{ours.peak_mib:.0f} MiB, first call {row.start_ms:.0f} ms"
    failed = "".join(f"; {name}: {cause}" for name, cause in row.failed.items())
    return f"{name_of(row.cell)}: {ours.p50:.1f} ms, {ratios}, {memory}{failed}"


def table(report: Report) -> Any:
    from rich import box
    from rich.table import Table

    # What fits 80 columns: a long name takes two lines, so that no figure is cut off.
    made = Table(title=report.engine, box=box.SIMPLE, pad_edge=False, collapse_padding=True)
    made.add_column("milliseconds (p50)")
    for column in ("naive", "compiled", "ours", "Hz", "ratio", "floor"):
        made.add_column(column, justify="right", no_wrap=True)
    for row in sorted(report.rows, key=lambda row: row.cell.size, reverse=True):
        ours, plain = row.latencies["engine"], row.latencies["naive"]
        compiled = row.latencies.get("naive, torch.compile")
        figures = (plain.p50, compiled and compiled.p50, ours.p50, 1000 / ours.p50)
        cells = [rounded(figure) if figure else cannot(row) for figure in figures]
        cells += [f"{row.ratios['naive']:.2f}", f"{100 * row.share_of_floor:.0f}%"]
        made.add_row(name_of(row.cell), *cells)
    return made


def rounded(figure: float) -> str:
    return f"{figure:.1f}" if figure < 100 else f"{figure:.0f}"


def cannot(row: Row) -> str:
    """In the place of a contender's figure."""
    return "cannot run" if "naive, torch.compile" in row.failed else "not run"


def draw(report: Report, path: Path) -> None:
    """Median latencies as bars, one group a cell."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    rows = report.rows
    figure, axes = pyplot.subplots(figsize=(9, 1.2 + 0.5 * len(rows)), layout="constrained")
    names = list(dict.fromkeys(name for row in rows for name in row.latencies))
    for i, name in enumerate(names):
        ran = [place for place, row in enumerate(rows) if name in row.latencies]
        places = [place + 0.8 * i / len(names) for place in ran]
        medians = [rows[place].latencies[name].p50 for place in ran]
        axes.barh(places, medians, 0.8 / len(names), label=name)
        for place, median in zip(places, medians, strict=True):
            axes.text(median, place, f" {median:.0f}", va="center", fontsize=8)
    axes.set_yticks([row + 0.2 for row in range(len(rows))], [name_of(row.cell) for row in rows])
    axes.invert_yaxis()
    axes.set_xlabel("milliseconds for all frames and tasks of the cell (median)")
    axes.set_title(report.engine, fontsize=9)
    axes.legend()
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    pyplot.close(figure)

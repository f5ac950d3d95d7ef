# SPDX-License-Identifier: Apache-2.0
"""`diception infer`: images in, pictures and arrays out, no ROS."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from diception_ros.cli.options import Device, Seed

if TYPE_CHECKING:
    from diception_ros.engine import Engine
    from diception_ros.tasks import Request

SOME_FAILED = 2


def infer(
    images: Annotated[list[Path], typer.Argument(help="Image files or folders of them.")],
    task: Annotated[
        list[str],
        typer.Option(help="depth, normal, entity, semantic, point or pose; repeatable."),
    ],
    out: Annotated[Path, typer.Option(help="Folder for <stem>.<task>.png and .npy.")],
    points: Annotated[
        str,
        typer.Option(help='Pixels for the point task: "x,y;x,y"; "x,y,0" is outside.'),
    ] = "",
    category: Annotated[
        list[str] | None, typer.Option(help="For the semantic task; repeatable.")
    ] = None,
    bundle: Annotated[Path | None, typer.Option(help="Default: the embedded demo model.")] = None,
    tasks_file: Annotated[Path | None, typer.Option(help="YAML with tasks of your own.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Default: the bundle's.")] = None,
    guidance: Annotated[float | None, typer.Option(min=0.0, help="Default: the bundle's.")] = None,
    seed: Seed = 0,
    device: Device = "auto",
) -> int:
    """Run tasks on images. A bad image is named on stderr, the others are still done (exit 2)."""
    from diception_ros.cli.inputs import (
        Settings,
        find_images,
        parse_points,
        requests_for,
    )
    from diception_ros.engine import Engine, EngineConfig
    from diception_ros.model import EMBEDDED_BUNDLE
    from diception_ros.tasks import TASKS, load_tasks

    tasks = {**TASKS, **(load_tasks(tasks_file) if tasks_file else {})}
    pixels, labels = parse_points(points)
    settings = Settings(pixels, labels, tuple(category or ()), steps, guidance)
    requests = requests_for(task, tasks, settings)
    files = find_images(images)
    out.mkdir(parents=True, exist_ok=True)
    console = Console(stderr=True, markup=False)
    engine = Engine.load(
        bundle or EMBEDDED_BUNDLE,
        EngineConfig(device=device, seed=seed),
        tasks,
        progress=lambda line: console.print(line, style="dim", highlight=False, soft_wrap=True),
    )
    for request in requests.values():
        engine.check(request)
    failed = _run(engine, files, requests, out, console)
    print(f"{len(files) - failed} of {len(files)} images done, results in {out}")
    return SOME_FAILED if failed else 0


def _run(
    engine: Engine,
    files: list[Path],
    requests: Mapping[str, Request],
    out: Path,
    console: Console,
) -> int:
    """How many images failed."""
    failed = 0
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("images", total=len(files))
        for file in files:
            try:
                _one(engine, file, requests, out)
            except (ValueError, OSError) as error:
                failed += 1
                print(f"diception: {' '.join(str(error).split())}", file=sys.stderr)
            progress.advance(bar)
    return failed


def _one(engine: Engine, file: Path, requests: Mapping[str, Request], out: Path) -> None:
    import numpy as np

    from diception_ros.cli.inputs import read_image
    from diception_ros.cli.outputs import array_of, write_picture
    from diception_ros.tasks.show import colorize

    image = read_image(file)
    results = engine.infer([image], [list(requests.values())])[0]
    for name, result in zip(requests, results, strict=True):
        np.save(out / f"{file.stem}.{name}.npy", array_of(result))
        write_picture(out / f"{file.stem}.{name}.png", colorize(result, image=image))

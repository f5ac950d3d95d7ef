# SPDX-License-Identifier: Apache-2.0
"""`diception adapt`: a new task from a few pairs of pictures, as a small file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from diception_ros.cli.options import Device, Seed

if TYPE_CHECKING:
    from diception_ros.model import Diception
    from diception_ros.model.lora import Adapter
    from diception_ros.tasks import Task
    from diception_ros.training.pairs import Pairs


def adapt(
    folder: Annotated[
        Path,
        typer.Argument(help="images/ and targets/, files of equal stems; masks white on black."),
    ],
    task: Annotated[str, typer.Option(help="The new task's name; it becomes a topic.")],
    out: Annotated[Path | None, typer.Option(help="Default: <task>.safetensors.")] = None,
    kind: Annotated[str, typer.Option(help="Of the targets: mask, disparity or colour.")] = "mask",
    bundle: Annotated[Path | None, typer.Option(help="Default: the embedded demo model.")] = None,
    prompt: Annotated[str, typer.Option(help="Default: image2<task> in double brackets.")] = "",
    unseen: Annotated[
        Path | None, typer.Option(help="Another such folder, to measure before and after.")
    ] = None,
    rank: Annotated[int | None, typer.Option(min=1, help="Default: the most allowed.")] = None,
    max_share: Annotated[
        float, typer.Option(help="Most trained parameters, in % of the network's.")
    ] = 1.0,
    steps: Annotated[int, typer.Option(min=1, help="Of the training.")] = 600,
    minutes: Annotated[float | None, typer.Option(help="Ends it earlier than the steps.")] = None,
    batch: Annotated[int, typer.Option(min=1, help="Pairs a step.")] = 8,
    rate: Annotated[float | None, typer.Option(help="Default: by the network's size.")] = None,
    mirror: Annotated[
        bool, typer.Option(help="Learn mirror images too: not where left and right mean something.")
    ] = True,
    checkpointing: Annotated[
        bool, typer.Option(help="Less memory, a third slower: for SD3's size on one GPU.")
    ] = False,
    seed: Seed = 0,
    device: Device = "auto",
) -> None:
    """Teach a bundle one more task from some tens of images; the bundle itself stays as it is."""
    import torch

    from diception_ros.cli.outputs import check_writable
    from diception_ros.engine import EMBEDDED_BUNDLE, EngineConfig
    from diception_ros.model import Diception
    from diception_ros.training import adapt as training

    console, path = Console(stderr=True, markup=False), out or Path(f"{task}.safetensors")
    row = training.new_task(task, kind, prompt)
    recipe = training.Adaptation(
        rank=rank,
        max_share=max_share / 100,
        steps=steps,
        minutes=minutes,
        batch=batch,
        rate=rate,
        mirror=mirror,
        checkpointing=checkpointing,
        seed=seed,
    )
    pairs = read(folder, row, console)
    held_out = read(unseen, row, console) if unseen else None
    on = EngineConfig(device=device).resolve_device()
    dtype = torch.bfloat16 if on.type == "cuda" else torch.float32
    model = Diception.load(bundle or EMBEDDED_BUNDLE, on, dtype)
    used, share = training.choose_rank(model, recipe)
    check_writable(path)
    console.print(
        f"{len(pairs.pairs)} pairs; rank {used} trains {share:.2%} of the network's parameters",
        highlight=False,
    )
    with Progress(console=console, transient=True) as progress:
        bar = progress.add_task("encoding the pairs", total=1.0)

        def report(done: float, loss: float) -> None:
            progress.update(bar, completed=done, description=f"loss {loss:.3f}")

        adapter = training.adapt(model, pairs, row, recipe, report)
    adapter = with_metrics(adapter, model, held_out, row) if held_out else adapter
    adapter.save(path)
    info = adapter.info
    print(
        f"{path}: task {task}, {info.steps} steps in {info.seconds / 60:.1f} min on {info.hardware}"
    )
    for name, value in info.metrics.items():
        print(f"{name}: {value:.3g}")


def read(folder: Path, task: Task, console: Console) -> Pairs:
    """The folder's pairs for the task; those that were skipped are named and counted."""
    from diception_ros.training.pairs import read_pairs

    found = read_pairs(folder, task)
    for line in found.skipped:
        console.print(line, highlight=False)
    if found.skipped:
        total = len(found.pairs) + len(found.skipped)
        console.print(f"{len(found.skipped)} of {total} pairs skipped", highlight=False)
    return found


def with_metrics(adapter: Adapter, model: Diception, unseen: Pairs, task: Task) -> Adapter:
    """The adapter with figures from before and after on its card."""
    from diception_ros.training.scoring import measured, metric_of

    name = metric_of(task)
    figures = {
        f"{name} unadapted": measured(model, None, unseen, task),
        name: measured(model, adapter, unseen, task),
        "unseen images": len(unseen.pairs),
    }
    return replace(adapter, info=replace(adapter.info, metrics=figures))

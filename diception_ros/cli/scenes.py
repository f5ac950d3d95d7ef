# SPDX-License-Identifier: Apache-2.0
"""`diception scenes ...`: synthetic scenes with exact ground truth, as files."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import track

First = Annotated[int, typer.Option(min=0, help="First seed; the others follow.")]
Count = Annotated[int, typer.Option(min=1, help="How many.")]
Shards = Annotated[int, typer.Option(min=1, help="How many; rounded up to whole shards.")]
Size = Annotated[int, typer.Option(min=16, help="Height and width in pixels.")]

app = typer.Typer(help="Synthetic scenes with exact ground truth.", no_args_is_help=True)


@app.command()
def render(
    out: Annotated[Path, typer.Argument(help="Folder for shards of 64 frames.")],
    count: Shards,
    first: First = 0,
    size: Size = 128,
) -> None:
    """Render frames for training: furnished, bare from seed 5000000, with things put together at
    random from 6000000; for evaluation from 10000000 on, with things of held-out kinds."""
    from diception_ros.training.cache import fill

    one_thread()
    print(fill(out, first, count, size))


@app.command()
def sheet(
    out: Annotated[Path, typer.Argument(help="PNG to write.")],
    first: First = 0,
    count: Count = 8,
    size: Size = 192,
) -> None:
    """A contact sheet: image, depth, normals, instances, categories and keypoints of each seed."""
    from diception_ros.cli.outputs import check_writable
    from diception_ros.training.scenes.contact_sheet import contact_sheet

    if out.suffix != ".png":
        raise ValueError(f"{out}: expected a file name that ends in .png")
    check_writable(out)
    one_thread()
    contact_sheet(out, first, count, size)
    print(f"{count} scenes in {out}")


@app.command()
def pairs(
    out: Annotated[Path, typer.Argument(help="Folder for images/ and targets/.")],
    task: Annotated[str, typer.Option(help="floor-crack, handle, free-floor or support.")],
    count: Count,
    first: First = 0,
    size: Size = 192,
) -> None:
    """Pictures and masks of a task that the network has never seen, to adapt it to."""
    from diception_ros.training.scenes.files import write_pairs

    one_thread()
    print(watched(write_pairs(out, task, first, count, size), count, f"{task} pairs in {out}"))


@app.command()
def sequence(
    out: Annotated[Path, typer.Argument(help="Folder for rgb/, depth/ and sequence.json.")],
    frames: Annotated[int, typer.Option(min=1, help="How many; they end where they began.")],
    seed: Annotated[int, typer.Option(min=0, help="Of the room and the camera's way.")] = 0,
    size: Size = 128,
) -> None:
    """A camera that moves through a room: images, depth, intrinsics and poses."""
    from diception_ros.training.scenes.files import write_sequence

    one_thread()
    print(watched(write_sequence(out, seed, frames, size), frames, f"frames in {out}"))


def one_thread() -> None:
    """A frame is too small to be worth more threads: they slow it down."""
    import torch

    torch.set_num_threads(1)


def watched(written: Iterator[Path], total: int, what: str) -> str:
    """Runs through what is being written with a progress bar; what was made and how fast."""
    started = time.monotonic()
    console = Console(stderr=True)
    made = sum(1 for _ in track(written, "rendering", total=total, console=console, transient=True))
    return f"{made} {what}, {made / (time.monotonic() - started):.1f} a second"

# SPDX-License-Identifier: Apache-2.0
"""`diception bag info`: what is in a bag, and what a run over it would cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table

if TYPE_CHECKING:
    from diception_ros.ros.incoming import Prompts


def show(
    bags: Sequence[Path],
    values: Mapping[str, Any],
    asked: Mapping[str, Any],
    points: Prompts | None,
) -> int:
    """Prints a table for each bag. With tasks among the values the engine is loaded and a few
    images are answered, to tell the cost. asked: of a Plan; points: see Run."""
    from diception_ros.evaluation.offline.info import look

    if not bags:
        raise ValueError("diception bag info: name at least one bag")
    console = Console()
    for path in bags:
        found = look(path)
        console.print(
            f"[bold]{escape(str(path))}[/]: {found.seconds:.1f} s, {_bytes(found.size)}"
            f" on the disk, {len(found.topics)} topics"
        )
        for note in found.notes:
            console.print(f"  [yellow]{escape(note)}[/]")
        console.print(_table(found.topics))
    if values.get("tasks"):
        _costs(bags, values, asked, points, console)
    else:
        console.print("With --task the cost of a run is told, from a few images of the bag.")
    return 0


def _table(topics: Sequence[Any]) -> Table:
    table = Table(show_edge=False, pad_edge=False)
    for title in ("topic", "type", "messages", "Hz", "a minute", "can serve as"):
        right = title in ("messages", "Hz", "a minute")
        table.add_column(title, justify="right" if right else "left", overflow="fold")
    for one in topics:
        rate = f"{one.hz:.1f}" if one.hz else ""
        size = _bytes(one.bytes_per_minute) if one.bytes_per_minute else ""
        table.add_row(
            one.name,
            one.msgtype.replace("/msg/", "/"),
            str(one.messages),
            rate,
            size,
            escape(one.use),
        )
    return table


def _costs(
    bags: Sequence[Path],
    values: Mapping[str, Any],
    asked: Mapping[str, Any],
    points: Prompts | None,
    console: Console,
) -> None:
    from diception_ros.evaluation.offline.info import cost
    from diception_ros.evaluation.offline.plan import Plan
    from diception_ros.evaluation.offline.run import load

    engine, parameters = load(values, lambda line: None)
    tasks = ", ".join(parameters.tasks)
    for path in bags:
        found = cost(Plan((path,), Path("unused.mcap"), parameters, **asked), engine, points)
        seconds = found.images * found.seconds_each
        console.print(
            f"{escape(str(path))}: {tasks} on {found.images} images take about "
            f"{duration(seconds)} on {engine.device_name} "
            f"({1 / found.seconds_each:.1f} images/s) and {_bytes(found.images * found.bytes_each)}"
            " of disk; twice that while the parts are joined",
            highlight=False,
        )


def duration(seconds: float) -> str:
    """HH:MM:SS; hours may be more than 24."""
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60:02d}:{minutes % 60:02d}:{rest:02d}"


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"

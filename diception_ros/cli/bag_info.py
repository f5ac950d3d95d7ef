# SPDX-License-Identifier: Apache-2.0
"""`diception bag info`: what is in a bag, and what a run over it would cost."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.table import Table


def show(bags: Sequence[Path], camera: str, values: Mapping[str, Any]) -> int:
    """Prints a table for each bag. With tasks among the values the engine is loaded and a few
    images are answered, to tell the cost."""
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
        _costs(bags, camera, values, console)
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


def _costs(bags: Sequence[Path], camera: str, values: Mapping[str, Any], console: Console) -> None:
    from diception_ros.evaluation.offline.info import cost
    from diception_ros.evaluation.offline.run import load

    engine, parameters = load(values, lambda line: None)
    tasks = ", ".join(parameters.tasks)
    for path in bags:
        found = cost(path, engine, parameters, camera)
        seconds = found.images * found.seconds_each
        console.print(
            f"{escape(str(path))}: {tasks} on {found.images} images take about "
            f"{time.strftime('%H:%M:%S', time.gmtime(seconds))} on {engine.device_name} "
            f"({1 / found.seconds_each:.1f} images/s) and {_bytes(found.images * found.bytes_each)}"
            " of disk; twice that while the parts are joined",
            highlight=False,
        )


def _bytes(count: float) -> str:
    for unit in ("B", "kB", "MB"):
        if count < 1000:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1000
    return f"{count:.1f} GB"

# SPDX-License-Identifier: Apache-2.0
"""What a training tells of itself: rows of a CSV, and a bar."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

COLUMNS = ("step", "seconds", "loss", "rate")


@contextmanager
def log_from(path: Path, step: int, columns: Sequence[str] = COLUMNS) -> Iterator[Any]:
    """The CSV from `step` on: rows of steps that a kill lost, and that come again, are dropped, and
    what a full disk or a power cut left of a row. One of other columns is kept as *.before.csv."""
    rows = [line.split(",") for line in path.read_text().splitlines()] if path.is_file() else []
    if rows and rows[0] != list(columns):  # as of a validation with other tasks
        path.replace(path.with_suffix(".before.csv"))
        rows = []
    with path.open("w", newline="", buffering=1) as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        whole = (row for row in rows[1:] if len(row) == len(columns))
        writer.writerows(row for row in whole if int(row[0]) <= step)
        yield writer


def bar(shown: bool) -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[loss]}"),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
        disable=not shown,
    )

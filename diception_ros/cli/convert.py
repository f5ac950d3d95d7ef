# SPDX-License-Identifier: Apache-2.0
"""`diception convert`: the authors' checkpoint and an SD3-medium directory become a bundle."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


class Dtype(str, Enum):
    bfloat16 = "bfloat16"
    float16 = "float16"
    float32 = "float32"


class PointOrder(str, Enum):
    row_col = "row-col"
    col_row = "col-row"


def convert(
    sd3: Annotated[Path, typer.Option(help="SD3-medium directory in diffusers' layout.")],
    diception: Annotated[Path, typer.Option(help="The authors' DICEPTION_v1.pth.")],
    out: Annotated[Path, typer.Option(help="The bundle to write; must not exist.")],
    dtype: Annotated[Dtype, typer.Option(help="Of the written weights.")] = Dtype.bfloat16,
    categories: Annotated[
        Path | None,
        typer.Option(help="Text file, one category a line. Default: COCO's 80."),
    ] = None,
    point_order: Annotated[
        PointOrder,
        typer.Option(help="Axis order of points; the published code feeds both."),
    ] = PointOrder.row_col,
) -> None:
    """Make a bundle that the node and `infer` can run. Needs no network and no GPU."""
    import torch

    from diception_ros.model.convert import convert as convert_checkpoint

    names = read_categories(categories)
    console = Console(stderr=True, markup=False)
    convert_checkpoint(
        sd3,
        diception,
        out,
        prompts=bundle_prompts(names),
        dtype=getattr(torch, dtype.value),
        point_order=point_order.value,
        progress=lambda line: console.print(line, highlight=False, soft_wrap=True),
    )
    print(f"bundle written to {out}: try  diception infer IMAGE --task depth --bundle {out}")


def read_categories(file: Path | None) -> tuple[str, ...]:
    """COCO's, or the lines of a file; ValueError if the file is empty, OSError if unreadable."""
    from diception_ros.tasks import COCO_CATEGORIES

    if file is None:
        return COCO_CATEGORIES
    lines = (line.strip() for line in file.read_text().splitlines())
    names = tuple(dict.fromkeys(line for line in lines if line and not line.startswith("#")))
    if not names:
        raise ValueError(f"{file} names no category: expected one a line")
    return names


def bundle_prompts(categories: tuple[str, ...]) -> tuple[str, ...]:
    """Every prompt that the built-in tasks can ask for, the empty one (for guidance) first."""
    from diception_ros.tasks import TASKS

    prompts = [""]
    for task in TASKS.values():
        if task.takes_category:
            prompts += [task.prompt_for(category) for category in categories]
        else:
            prompts.append(task.prompt_for())
    return tuple(prompts)

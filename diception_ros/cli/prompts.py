# SPDX-License-Identifier: Apache-2.0
"""`diception prompts add`: teach a bundle's prompt bank new strings, without the network itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console


def add(
    bundle: Annotated[Path, typer.Argument(help="The bundle to extend.")],
    prompts: Annotated[
        list[str],
        typer.Argument(help='Exact prompts, e.g. "[[image2semantic]] forklift".'),
    ],
    sd3: Annotated[Path, typer.Option(help="SD3-medium directory with the text encoders.")],
) -> None:
    """Compute text embeddings once and store them in the bundle."""
    from diception_ros.model.convert import add_prompts

    console = Console(stderr=True, markup=False)
    add_prompts(
        bundle,
        prompts,
        sd3,
        progress=lambda line: console.print(line, highlight=False, soft_wrap=True),
    )
    print(f"{bundle} now knows {', '.join(repr(prompt) for prompt in prompts)}")

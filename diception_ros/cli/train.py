# SPDX-License-Identifier: Apache-2.0
"""`diception train`: a bundle from a recipe, from nothing or from another bundle."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def train(
    config: Annotated[Path, typer.Option(help="The recipe, for example config/train.yaml.")],
    out: Annotated[Path | None, typer.Option(help="Checkpoint, logs, bundle.")] = None,
    autoencoder: Annotated[Path | None, typer.Option(help="Instead of the recipe's.")] = None,
    init: Annotated[Path | None, typer.Option(help="A bundle to go on from.")] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="CPU threads of torch.")] = None,
) -> None:
    """Train, or go on where a killed training stopped. One process; several are started by
    `accelerate launch -m diception_ros.cli train --config RECIPE`, on CPUs by `torchrun`."""
    import logging

    from rich.logging import RichHandler

    from diception_ros.training.recipe import read_recipe
    from diception_ros.training.train import train as run

    logging.basicConfig(level=logging.INFO, format="%(message)s", handlers=[RichHandler()])
    changes = {"out": out, "autoencoder": autoencoder, "init": init, "threads": threads}
    trainer = run(read_recipe(config, **changes))
    if trainer.accelerator.is_main_process:
        print(f"{trainer.step} steps done, checkpoint and log in {trainer.recipe.out}")


def export(
    config: Annotated[Path, typer.Option(help="The recipe that was trained.")],
    bundle: Annotated[Path, typer.Option(help="Folder to write.")],
    out: Annotated[Path | None, typer.Option(help="The training's folder.")] = None,
    autoencoder: Annotated[Path | None, typer.Option(help="Instead of the recipe's.")] = None,
    metrics: Annotated[Path | None, typer.Option(help="metrics.json of the evaluation.")] = None,
    notes: Annotated[Path | None, typer.Option(help="YAML: phases, limits; for the card.")] = None,
    blend: Annotated[
        float,
        typer.Option(help="Share of the trained weights; the rest are those of the recipe's init."),
    ] = 1.0,
) -> None:
    """Write the running mean of a training's checkpoint as a bundle, with its card."""
    from diception_ros.training.export import export_files
    from diception_ros.training.recipe import read_recipe

    recipe = read_recipe(config, out=out, autoencoder=autoencoder)
    print(export_files(recipe, bundle, metrics, notes, blend).training)

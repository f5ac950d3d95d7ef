# SPDX-License-Identifier: Apache-2.0
"""The options of commands that can work on several machines."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Annotated

import typer

from diception_ros.evaluation.cluster import LOCAL, Cluster

ADDRESS = re.compile(r"auto|local|(ray://)?[\w.-]+:\d+")

Ray = Annotated[
    str | None,
    typer.Option(
        metavar="[ADDRESS]",
        help="Work on a Ray cluster: auto, HOST:PORT or ray://HOST:PORT; no address: here.",
    ),
]
RayWorkers = Annotated[int, typer.Option(min=0, help="With --ray; default: as many as fit.")]
WorkerGpus = Annotated[
    float | None,
    typer.Option(min=0.0, help="GPUs of one worker, 0.5 for two a GPU; default: 1 if there are."),
]
WorkerCpus = Annotated[int, typer.Option(min=1, help="CPUs of one worker, its torch threads.")]


def cluster_of(
    ray: str | None, workers: int, worker_gpus: float | None, worker_cpus: int
) -> Cluster | None:
    """None without --ray. ValueError when the others are given without it."""
    if ray is not None:
        return Cluster(ray, workers, worker_gpus, worker_cpus)
    if (workers, worker_gpus, worker_cpus) != (0, None, 1):
        raise ValueError("--workers, --worker-gpus and --worker-cpus are for --ray")
    return None


def with_address(arguments: Sequence[str]) -> list[str]:
    """`--ray` alone means this machine: typer has no options whose value may be left out."""
    found = list(arguments)
    for place, word in enumerate(found):
        following = found[place + 1] if place + 1 < len(found) else ""
        if word == "--ray" and not ADDRESS.fullmatch(following):
            found[place] = f"--ray={LOCAL}"
    return found

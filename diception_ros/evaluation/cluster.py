# SPDX-License-Identifier: Apache-2.0
"""Where workers run: this machine, or a Ray cluster of any size."""

from __future__ import annotations

import os
import socket
import sys
from dataclasses import dataclass, replace
from typing import Any

LOCAL = "local"
PATIENCE = 5.0
"""s for an address to answer."""


@dataclass(frozen=True)
class Cluster:
    """address: LOCAL for this machine alone, "auto" for the cluster that it belongs to, HOST:PORT,
    or ray://HOST:PORT from outside. workers: 0 for as many as fit. gpus: of one worker, 0.5 for two
    workers a GPU; None: 1 where there are GPUs. cpus: of one worker, and its torch threads."""

    address: str = LOCAL
    workers: int = 0
    gpus: float | None = None
    cpus: int = 1

    def __post_init__(self) -> None:
        if self.workers < 0 or self.cpus < 1:
            raise ValueError(
                f"a cluster needs workers >= 0 and cpus >= 1, got {self.workers} and {self.cpus}"
            )
        if self.gpus is not None and not (0 <= self.gpus < 1 or self.gpus == int(self.gpus) >= 1):
            raise ValueError(
                f"GPUs of a worker: expected a share below 1 or a whole number, got {self.gpus}"
            )


def find_ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise ValueError("--ray needs Ray, which is not installed: pip install ray") from error
    return ray


def start(ray: Any, address: str) -> None:
    quiet = {"log_to_driver": False, "logging_level": "ERROR"}
    # Workers must find the same code as this process, wherever it was started from.
    paths = os.pathsep.join(dict.fromkeys(path for path in sys.path if path))
    if address == LOCAL:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        environment = {"env_vars": {"PYTHONPATH": paths}}
        ray.init(include_dashboard=False, runtime_env=environment, **quiet)
        return
    _check_reachable(address)
    try:
        ray.init(address=address, **quiet)
    except Exception as error:  # Ray raises ConnectionError, RuntimeError and others
        cause = (str(error).splitlines() or [type(error).__name__])[0].split(". ")[0]
        raise ValueError(
            f"--ray {address}: {cause}; is there a cluster ('ray start --head'), and if it wants a "
            "token, is RAY_AUTH_MODE=token set and ~/.ray/auth_token the head's?"
        ) from error


def _check_reachable(address: str) -> None:
    """Ray itself waits for many minutes."""
    if address == "auto":
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ValueError(f"--ray {address}: expected auto, HOST:PORT or ray://HOST:PORT")
    try:
        socket.create_connection((host, int(port)), PATIENCE).close()
    except OSError as error:
        raise ValueError(
            f"--ray {address}: nothing answers there ({error.strerror or error}); is "
            "'ray start --head' running on that machine, and the port open?"
        ) from error


def fitting(cluster: Cluster, resources: dict[str, float]) -> Cluster:
    """The cluster with its number of workers and their GPUs. ValueError when they do not fit."""
    gpus, cpus = resources.get("GPU", 0.0), resources.get("CPU", 0.0)
    share = cluster.gpus if cluster.gpus is not None else float(gpus >= 1)
    fits = int(cpus // cluster.cpus)
    if share >= 1:
        fits = min(fits, int(gpus // share))
    elif share:
        fits = min(fits, int(gpus) * int(1 / share + 1e-9))
    if max(1, cluster.workers) > fits:
        raise ValueError(
            f"the cluster has room for {fits} workers of {cluster.cpus} CPUs and {share:g} GPUs "
            f"(it has {cpus:g} CPUs and {gpus:g} GPUs), {max(1, cluster.workers)} were asked for"
        )
    return replace(cluster, workers=cluster.workers or fits, gpus=share)

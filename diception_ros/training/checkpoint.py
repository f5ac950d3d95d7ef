# SPDX-License-Identifier: Apache-2.0
"""A training's state on disk, written whole or not at all."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

Tensor = torch.Tensor
CHECKPOINT = "last.pt"


def write_checkpoint(state: dict[str, Any], folder: Path) -> None:
    """OSError if it cannot be written; the checkpoint before it is then as it was."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / CHECKPOINT
    part = path.with_suffix(".part")
    try:
        torch.save(state, part)
    except (OSError, RuntimeError) as error:  # torch raises the latter where the disk is full
        part.unlink(missing_ok=True)
        raise OSError(
            f"{path} cannot be written, is the disk full? Run again when there is room, it goes on "
            f"from the checkpoint before: {error}"
        ) from error
    part.replace(path)


def read_checkpoint(path: Path, own: Mapping[str, Mapping[str, Tensor]]) -> dict[str, Any]:
    """Its tensors are on the CPU. own: the network's, by the names they have in the checkpoint.
    ValueError for a checkpoint that is damaged, or of a network with other ones."""
    # By way of the CPU: torch restores nothing to one of several CPU processes' "cpu:0", and a
    # GPU need not hold everything twice.
    try:
        state: dict[str, Any] = torch.load(path, weights_only=True, map_location="cpu")
    except (RuntimeError, EOFError, UnpicklingError) as error:
        raise ValueError(f"{path} is damaged, remove it to begin anew: {error}") from error
    if any(_shapes(state[name]) != _shapes(tensors) for name, tensors in own.items()):
        raise ValueError(f"{path} is of another network: choose another 'out' or remove it")
    return state


def _shapes(tensors: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: tensor.shape for name, tensor in tensors.items()}

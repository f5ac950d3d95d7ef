# SPDX-License-Identifier: Apache-2.0
"""Strict loading: every missing, unexpected or misshapen key is named; nothing is unpickled."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

WEIGHTS = "diffusion_pytorch_model"


def read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    """All tensors of one file; ValueError if it is missing or damaged."""
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    try:
        return load_file(path)
    except SafetensorError as error:
        raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error


def read_weights(path: Path, stem: str = WEIGHTS) -> dict[str, torch.Tensor]:
    """The weights of a diffusers directory, in one file or in indexed shards."""
    index = path / f"{stem}.safetensors.index.json"
    if not index.is_file():
        return read_safetensors(path / f"{stem}.safetensors")
    try:
        shards = set(json.loads(index.read_text())["weight_map"].values())
    except (KeyError, ValueError) as error:
        raise ValueError(f"{index} is damaged or no index of shards: {error}") from error
    state: dict[str, torch.Tensor] = {}
    for shard in sorted(shards):
        state.update(read_safetensors(path / shard))
    return state


def load_strict(
    module: nn.Module, state: Mapping[str, torch.Tensor], name: str, dtype: torch.dtype
) -> None:
    """Puts the tensors into the module (which may be on the meta device) in dtype."""
    expected = module.state_dict()
    problems = [f"missing {key}" for key in expected if key not in state]
    problems += [f"unexpected {key}" for key in state if key not in expected]
    problems += [
        f"{key} has shape {tuple(state[key].shape)}, expected {tuple(tensor.shape)}"
        for key, tensor in expected.items()
        if key in state and state[key].shape != tensor.shape
    ]
    if problems:
        raise ValueError(f"{name}: {len(problems)} keys do not fit: {'; '.join(problems)}")
    module.load_state_dict({key: state[key].to(dtype) for key in expected}, assign=True)

# SPDX-License-Identifier: Apache-2.0
"""Feed-forward layers on a CPU: the first product and its GELU as one operation of oneDNN."""

from __future__ import annotations

import torch
from diffusers.models.activations import GELU
from torch import nn


def fuse(module: nn.Module) -> None:
    """For every bfloat16 layer of the module, where this torch and this CPU can. Layers keep their
    weights and names. In float32 torch's own product is as fast."""
    if can_fuse():
        for layer in module.modules():
            if type(layer) is GELU and next(layer.parameters()).dtype == torch.bfloat16:
                layer.__class__ = FusedGELU


def unfuse(module: nn.Module) -> None:
    """diffusers' own layers again."""
    for layer in module.modules():
        if isinstance(layer, FusedGELU):
            layer.__class__ = GELU


class FusedGELU(GELU):
    """diffusers' GELU in one pass over its output. While gradients are wanted, and for
    torch.compile, which fuses it by itself, it is that layer."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(..., dim_in) -> (..., dim_out)."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            found: torch.Tensor = super().forward(hidden_states)
            return found
        return _linear_gelu(hidden_states, self.proj.weight, self.proj.bias, self.approximate)


def can_fuse() -> bool:
    """Whether the operation, which only torch.compile's own code is promised, is there."""
    one = torch.ones(1, 1, dtype=torch.bfloat16)
    try:
        return _linear_gelu(one, one, one[0], "tanh").dtype == torch.bfloat16
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def _linear_gelu(
    inputs: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None, approximate: str
) -> torch.Tensor:
    found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
        inputs, weight, bias, "gelu", [], approximate
    )
    return found

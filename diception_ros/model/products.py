# SPDX-License-Identifier: Apache-2.0
"""Linear layers on a CPU: oneDNN's own products, of weights that were laid out for it beforehand,
with a GELU in the same pass."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch
from diffusers.models.activations import GELU
from torch import nn


def fuse(module: nn.Module) -> None:
    """For answering: every linear layer of the module, and GELUs with theirs, where this torch and
    this CPU can. Layers keep weights and names, and see what merges into a weight in place. Weights
    are then held twice, from a layer's first product on."""
    for layer in module.modules():
        if type(layer) is nn.Linear and can_fuse(layer.weight.dtype):
            layer.__class__ = LaidOutLinear
            vars(layer)["laid"] = None
        elif type(layer) is GELU:
            layer.__class__ = FusedGELU


def unfuse(module: nn.Module) -> None:
    """The layers as they were."""
    for layer in module.modules():
        if isinstance(layer, LaidOutLinear):
            del vars(layer)["laid"]
            layer.__class__ = nn.Linear  # type: ignore[assignment]
        elif isinstance(layer, FusedGELU):
            layer.__class__ = GELU


class LaidOutLinear(nn.Linear):
    """While gradients are wanted, and for torch.compile, it is torch's layer."""

    laid: tuple[object, torch.Tensor] | None
    """The weight as oneDNN reads it, and of which state of the weight."""

    def forward(self, inputs: torch.Tensor) -> torch.Tensor:
        """(..., in_features) -> (..., out_features)."""
        if torch.is_grad_enabled() or torch.compiler.is_compiling():
            return super().forward(inputs)
        return self.product(inputs)

    def product(
        self, inputs: torch.Tensor, operation: str = "none", approximate: str = ""
    ) -> torch.Tensor:
        """(..., in_features) -> (..., out_features), with the operation applied."""
        rows = inputs.numel() // self.in_features
        return _product(inputs, self._laid_out(rows), self.bias, operation, approximate)

    def _laid_out(self, rows: int) -> torch.Tensor:
        """In the layout that suits that many rows the first time, and any number well."""
        state = self.weight.data_ptr(), self.weight.dtype, self.weight._version
        if self.laid is None or self.laid[0] != state:
            self.laid = state, _lay_out(self.weight.detach(), rows)
        return self.laid[1]

    def __getstate__(self) -> dict[str, Any]:
        """Without what can be made again, which torch cannot copy."""
        return self.__dict__ | {"laid": None}


class FusedGELU(GELU):
    """diffusers' GELU in one pass over its output, where its product is oneDNN's."""

    def forward(self, hidden_states: torch.Tensor) -> torch.Tensor:
        """(..., dim_in) -> (..., dim_out)."""
        plain = torch.is_grad_enabled() or torch.compiler.is_compiling()
        if plain or not isinstance(self.proj, LaidOutLinear):
            found: torch.Tensor = super().forward(hidden_states)
            return found
        return self.proj.product(hidden_states, "gelu", self.approximate)


@cache
def can_fuse(dtype: torch.dtype = torch.bfloat16) -> bool:
    """Whether the operations, which only torch.compile's own code is promised, are there."""
    one = torch.ones(1, 1, dtype=dtype)
    try:
        return bool(_product(one, _lay_out(one, 1), one[0], "none", "") == 2)
    except (AttributeError, RuntimeError, NotImplementedError):
        return False


def _lay_out(weight: torch.Tensor, rows: int) -> torch.Tensor:
    laid: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(weight, rows)
    return laid


def _product(
    inputs: torch.Tensor,
    laid: torch.Tensor,
    bias: torch.Tensor | None,
    operation: str,
    approximate: str,
) -> torch.Tensor:
    found: torch.Tensor = torch.ops.mkldnn._linear_pointwise(
        inputs, laid, bias, operation, [], approximate
    )
    return found

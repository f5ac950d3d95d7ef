# SPDX-License-Identifier: Apache-2.0
"""Adapters of random numbers for a model: for the plumbing, their answers mean nothing."""

from __future__ import annotations

import torch

from diception_ros.model import Diception
from diception_ros.model.lora import Adapter, AdapterInfo, base_sample, target_layers

RANK = 3


def adapter_of(
    model: Diception, second: float = 0.1, task: str = "crack", seed: int = 0
) -> Adapter:
    """An adapter of random A and of B with that deviation."""
    generator = torch.Generator().manual_seed(seed)
    layers = target_layers(model.transformer)
    pairs = {
        name: (
            torch.randn(RANK, layer.in_features, generator=generator),
            torch.randn(layer.out_features, RANK, generator=generator) * second,
        )
        for name, layer in layers.items()
    }
    info = AdapterInfo(task, f"[[image2{task}]]", "mask", model.info.name, RANK, 2.0 * RANK, 0.02)
    embeds, pooled = model.prompts.lookup(["[[image2depth]]"])
    return Adapter(info, pairs, embeds.float(), pooled.float(), base_sample(layers))

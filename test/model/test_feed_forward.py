# SPDX-License-Identifier: Apache-2.0
import copy

import pytest
import torch
from diffusers.models.activations import GELU
from torch import nn

from diception_ros.model.feed_forward import FusedGELU, can_fuse, fuse, unfuse

needs_fusion = pytest.mark.skipif(not can_fuse(), reason="this torch or CPU cannot")


def layers(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    return nn.Sequential(GELU(32, 64, "tanh"), GELU(64, 16, "none", bias=False)).to(dtype)


@needs_fusion
def test_a_fused_layer_is_the_plain_one_to_the_last_bits() -> None:
    plain = layers(torch.bfloat16)
    fused = copy.deepcopy(plain)
    fuse(fused)
    assert all(type(layer) is FusedGELU for layer in fused)
    inputs = torch.randn(2, 40, 32).bfloat16()
    exact = copy.deepcopy(plain).double()(inputs.double())
    with torch.inference_mode():
        error = (fused(inputs).double() - exact).abs().max()
        assert 0 < error <= 1.2 * (plain(inputs).double() - exact).abs().max()


@needs_fusion
def test_fused_layers_see_what_is_merged_into_their_weights_and_are_undone_whole() -> None:
    fused = layers(torch.bfloat16)
    names = list(fused.state_dict())
    fuse(fused)
    inputs = torch.randn(3, 32).bfloat16()
    with torch.no_grad():
        before = fused(inputs)
        fused[0].proj.weight.add_(0.5)
        assert not torch.equal(fused(inputs), before)
    assert list(fused.state_dict()) == names
    unfuse(fused)
    assert all(type(layer) is GELU for layer in fused)


def test_training_goes_through_the_plain_layer() -> None:
    fused = layers(torch.bfloat16)
    fuse(fused)
    fused(torch.randn(3, 32).bfloat16()).sum().backward()
    assert fused[0].proj.weight.grad is not None


def test_float32_is_left_alone() -> None:
    plain = layers(torch.float32)
    fuse(plain)
    assert all(type(layer) is GELU for layer in plain)


def test_a_compiler_sees_the_plain_layer() -> None:
    seen = []

    def backend(graph: torch.fx.GraphModule, inputs: list[torch.Tensor]) -> object:
        seen.extend(str(node.target) for node in graph.graph.nodes)
        return graph

    fused = layers(torch.bfloat16)
    fuse(fused)
    with torch.no_grad():
        torch.compile(fused, backend=backend)(torch.randn(3, 32).bfloat16())
    assert any("gelu" in target for target in seen)
    assert not any("mkldnn" in target for target in seen)

# SPDX-License-Identifier: Apache-2.0
import copy

import pytest
import torch
from diffusers.models.activations import GELU
from torch import nn

from diception_ros.model.products import FusedGELU, LaidOutLinear, can_fuse, fuse, unfuse

DTYPES = [torch.float32, torch.bfloat16]
needs_fusion = pytest.mark.skipif(
    not all(map(can_fuse, DTYPES)), reason="this torch or this CPU cannot"
)


def layers(dtype: torch.dtype) -> nn.Sequential:
    torch.manual_seed(0)
    gelus = GELU(32, 64, "tanh"), GELU(64, 48, "none", bias=False)
    return nn.Sequential(*gelus, nn.Linear(48, 16), nn.Linear(16, 24, bias=False)).to(dtype)


@needs_fusion
@pytest.mark.parametrize("dtype", DTYPES)
def test_fused_layers_are_the_plain_ones_to_the_last_bits(dtype: torch.dtype) -> None:
    plain = layers(dtype)
    fused = copy.deepcopy(plain)
    fuse(fused)
    assert [type(layer) for layer in fused] == [FusedGELU, FusedGELU, LaidOutLinear, LaidOutLinear]
    inputs = torch.randn(2, 40, 2, 32, dtype=dtype)[:, 3:, 1]  # with gaps between its rows
    exact = copy.deepcopy(plain).double()(inputs.double())
    with torch.inference_mode():
        for part in (inputs, inputs[:1], inputs[:, :2]):
            truth = exact[: len(part), : part.shape[1]]
            error = (fused(part).double() - truth).abs().max()
            assert 0 < error <= 1.2 * (plain(inputs).double() - exact).abs().max()


@needs_fusion
@pytest.mark.parametrize("change", ["merged", "replaced", "of another type"])
def test_fused_layers_see_every_change_of_their_weights(change: str) -> None:
    fused, inputs = layers(torch.float32), torch.randn(3, 32)
    names = list(fused.state_dict())
    fuse(fused)
    with torch.inference_mode():
        before = fused(inputs)
        weight = fused[2].weight
        if change == "merged":  # as an adapter is
            weight.copy_(weight + 0.5)
        elif change == "replaced":
            weight.data = weight + 0.5
        else:
            fused, inputs = fused.bfloat16(), inputs.bfloat16()
        plain = copy.deepcopy(fused)
        unfuse(plain)
        torch.testing.assert_close(fused(inputs), plain(inputs), atol=1e-3, rtol=0.02)
        assert not torch.equal(fused(inputs).float(), before)
    assert list(fused.state_dict()) == names


def test_layers_are_put_back_whole() -> None:
    fused = layers(torch.bfloat16)
    kept = [dict(vars(layer)) for layer in fused.modules()]
    fuse(fused)
    with torch.no_grad():
        fused(torch.randn(3, 32).bfloat16())
    unfuse(fused)
    assert [dict(vars(layer)) for layer in fused.modules()] == kept
    assert {type(layer) for layer in fused.modules()} == {nn.Sequential, GELU, nn.Linear}


def test_a_layer_that_has_answered_can_be_copied() -> None:
    fused, inputs = layers(torch.bfloat16), torch.randn(3, 32).bfloat16()
    fuse(fused)
    with torch.no_grad():
        expected = fused(inputs)
        assert torch.equal(copy.deepcopy(fused)(inputs), expected)


def test_training_goes_through_the_plain_layers() -> None:
    fused = layers(torch.bfloat16)
    fuse(fused)
    fused(torch.randn(3, 32).bfloat16()).sum().backward()
    assert all(weight.grad is not None for weight in fused.parameters())


def test_half_precision_of_which_cpus_know_nothing_is_left_alone() -> None:
    plain = layers(torch.float16)
    fuse(plain)
    if can_fuse(torch.float16):
        pytest.skip("this CPU can")
    assert not any(isinstance(layer, LaidOutLinear) for layer in plain.modules())


def test_a_compiler_sees_the_plain_layers() -> None:
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

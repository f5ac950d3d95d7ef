# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from diception_ros.model import Diception, attention
from diception_ros.model.attention import ROWS, attend, write_out
from diception_ros.model.blocks import lean, restore
from diception_ros.model.products import fuse, unfuse
from diception_ros.model.random_bundle import make_random_model


@pytest.mark.parametrize("tokens", [9, 300, ROWS, ROWS + 9, 2 * ROWS + 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("tiles", [False, True])
def test_attention_is_that_of_the_formula(
    tokens: int, dtype: torch.dtype, tiles: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(attention, "TILES", tiles)
    generator = torch.Generator().manual_seed(0)
    packed = torch.randn(2, tokens, 3, 4, 16, generator=generator)
    queries, keys, values = (part.transpose(1, 2) for part in packed.double().unbind(2))
    expected = scaled_dot_product_attention(queries, keys, values).transpose(1, 2)
    found = attend(*packed.to(dtype).unbind(2))
    assert found.dtype == dtype and found.shape == (2, tokens, 4, 16)
    near = 1e-5 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(found.double(), expected, atol=near, rtol=0)


@pytest.mark.parametrize("learned", range(3))
def test_gradients_reach_whichever_of_queries_keys_and_values_is_learned(learned: int) -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(2, 40, 4, 16, generator=generator) for _ in range(3)]
    parts[learned].requires_grad_()
    (found,) = torch.autograd.grad(attend(*parts).square().sum(), parts[learned])
    wide = [part.double().transpose(1, 2) for part in parts]
    loss = scaled_dot_product_attention(*wide).square().sum()
    (expected,) = torch.autograd.grad(loss, parts[learned])
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def velocity(model: Diception, count: int = 2) -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(count, *model.latent_shape(64, 64), generator=generator)
    embeds, pooled = model.prompts.lookup(["[[image2depth]]", "[[image2pose]]"][:count])
    time, tokens = torch.full((count,), 700.0), model.point_tokens(None, None, count)
    return model.velocity(noise, noise.flip(0), time, embeds, pooled, tokens)


@torch.no_grad()
@pytest.mark.parametrize("count", [1, 2])
def test_attentions_and_blocks_answer_as_diffusers_do(count: int) -> None:
    model = make_random_model()
    restore(model.transformer)
    expected = velocity(model, count)
    for change in (write_out, lean, fuse, unfuse, restore):
        change(model.transformer)
        torch.testing.assert_close(velocity(model, count), expected)


def test_one_sample_trains_in_mixed_precision() -> None:
    model = make_random_model()
    restore(model.transformer)
    expected = velocity(model, 1).detach()
    lean(model.transformer)
    with torch.autocast("cpu", torch.bfloat16):
        found = velocity(model, 1)
    torch.testing.assert_close(found.float(), expected, atol=0.05, rtol=0.05)
    found.sum().backward()


def test_what_training_uses_has_diffusers_gradients_even_after_the_model_has_answered() -> None:
    model = make_random_model()
    restore(model.transformer)
    velocity(model).square().sum().backward()
    expected = {name: weight.grad for name, weight in model.transformer.named_parameters()}
    model.transformer.zero_grad(set_to_none=True)
    fuse(model.transformer)
    write_out(model.transformer)
    lean(model.transformer)
    with torch.no_grad():
        velocity(model)
    velocity(model).square().sum().backward()
    for name, weight in model.transformer.named_parameters():
        found = torch.zeros_like(weight) if weight.grad is None else weight.grad  # nobody reads it
        torch.testing.assert_close(found, expected[name], msg=name)

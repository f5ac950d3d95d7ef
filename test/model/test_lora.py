# SPDX-License-Identifier: Apache-2.0
"""Adapters: zero change nothing, merged equals peft's unmerged, and restoring is exact."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import yaml
from peft import LoraConfig
from random_adapter import RANK, adapter_of
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from diception_ros.model.lora import FIRST, SECOND, Adapter, AdapterInfo, Merging, target_layers
from diception_ros.model.random_bundle import make_random_model


def answer(model):
    """The velocity of fixed inputs."""
    generator = torch.Generator().manual_seed(1)
    noise = torch.randn(2, *model.latent_shape(64, 64), generator=generator)
    embeds, pooled = model.prompts.lookup(["[[image2depth]]", "[[image2pose]]"])
    time, tokens = torch.full((2,), 700.0), model.point_tokens(None, None, 2)
    inputs = (noise, noise.flip(0), time, embeds.to(model.dtype), pooled.to(model.dtype), tokens)
    with torch.no_grad():
        return model.velocity(*(part.to(model.dtype) for part in inputs))


@pytest.fixture
def model():
    return make_random_model().requires_grad_(False)


def weights(model):
    return {name: tensor.clone() for name, tensor in model.state_dict().items()}


def same(before, after):
    return all(torch.equal(before[name], after[name]) for name in before)


def test_every_query_key_and_value_is_adapted_but_the_one_that_nothing_reads(model):
    names = set(target_layers(model.transformer))
    kinds = ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")
    every = {f"transformer_blocks.{block}.attn.{kind}" for block in range(2) for kind in kinds}
    (dead,) = every - names
    before = answer(model)
    with torch.no_grad():
        model.transformer.get_submodule(dead).weight.add_(1.0)
    assert torch.equal(answer(model), before)


def test_a_second_matrix_of_zeros_equals_the_base(model):
    before, state, merging = answer(model), weights(model), Merging(model)
    adapter = adapter_of(model, second=0.0)
    merging.add(adapter)
    merging.use(adapter)
    assert torch.equal(answer(model), before)
    assert same(state, weights(model))


def test_merged_equals_unmerged_as_peft_computes_it(model):
    adapter = adapter_of(model)
    merging = Merging(model)
    merging.add(adapter)
    merging.use(adapter)
    merged = answer(model)
    merging.use(None)
    before = answer(model)
    config = LoraConfig(r=RANK, lora_alpha=2 * RANK, target_modules=list(adapter.pairs))
    model.transformer.add_adapter(config)
    for name, (first, second) in adapter.pairs.items():
        layer = model.transformer.get_submodule(name)
        with torch.no_grad():
            layer.lora_A["default"].weight.copy_(first)
            layer.lora_B["default"].weight.copy_(second)
    unmerged = answer(model)
    assert (merged - before).abs().max() > 0.1
    torch.testing.assert_close(merged, unmerged, atol=2e-4, rtol=1e-4)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_restoring_is_bit_equal_and_in_place(model, dtype):
    model = model.to(dtype)
    state = weights(model)
    places = {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}
    merging = Merging(model)
    one, other = adapter_of(model), adapter_of(model, seed=1)
    merging.add(one)
    merging.add(other)
    for adapter in (one, other, one):
        merging.use(adapter)
        assert merging.active is adapter
        assert not same(state, weights(model))
    merging.use(None)
    assert same(state, weights(model))
    assert places == {name: tensor.data_ptr() for name, tensor in model.state_dict().items()}


def test_one_adapter_after_another_equals_each_alone(model):
    merging = Merging(model)
    one, other = adapter_of(model), adapter_of(model, seed=1)
    merging.add(one)
    merging.add(other)
    merging.use(one)
    alone = answer(model)
    merging.use(other)
    assert not torch.equal(answer(model), alone)
    merging.use(one)
    assert torch.equal(answer(model), alone)


def test_an_adapter_that_fails_halfway_leaves_nothing(model):
    """As where memory runs out in the middle of the layers."""
    state, merging, adapter = weights(model), Merging(model), adapter_of(model)
    merging.add(adapter)
    layers = merging._added[adapter]
    name, whole = list(layers.items())[2]
    layers[name] = (whole[0], whole[1][:, :1])
    for _ in range(2):
        with pytest.raises(RuntimeError, match="cannot be multiplied"):
            merging.use(adapter)
        assert merging.active is None
        assert same(state, weights(model))
    layers[name] = whole
    merging.use(adapter)
    assert not same(state, weights(model))


def test_removing_what_is_merged_restores_it(model):
    state, merging, adapter = weights(model), Merging(model), adapter_of(model)
    merging.add(adapter)
    merging.use(adapter)
    merging.remove(adapter)
    assert merging.active is None
    assert same(state, weights(model))


def test_a_file_comes_back_with_its_card(model, tmp_path):
    adapter = adapter_of(model)
    adapter = replace(adapter, info=replace(adapter.info, metrics={"mean IoU": 0.5}))
    adapter.save(tmp_path / "new" / "crack.safetensors")
    found = Adapter.load(tmp_path / "new" / "crack.safetensors")
    assert found.info == adapter.info
    assert set(found.pairs) == set(adapter.pairs)
    for name, pair in found.pairs.items():
        assert all(map(torch.equal, pair, adapter.pairs[name]))
    for part in ("embeds", "pooled", "base"):
        assert torch.equal(getattr(found, part), getattr(adapter, part))
    card = yaml.safe_load((tmp_path / "new" / "crack.yaml").read_text())
    assert AdapterInfo(**card) == adapter.info
    Merging(model).check(found)


def test_it_stays_as_it_was_read_when_the_file_is_written_over(model, tmp_path):
    """In place, as cp and scp do."""
    path, written = tmp_path / "crack.safetensors", adapter_of(model)
    written.save(path)
    found = Adapter.load(path)
    with path.open("r+b") as file:
        file.write(bytes(path.stat().st_size))
    for name, pair in written.pairs.items():
        assert all(map(torch.equal, pair, found.pairs[name]))
    assert torch.equal(found.embeds, written.embeds)


def test_it_knows_its_bundle_in_another_precision(model):
    adapter = adapter_of(model)
    for dtype in (torch.float16, torch.bfloat16):
        Merging(make_random_model().to(dtype)).check(adapter)


def test_another_bundle_is_refused(model):
    adapter = adapter_of(model)
    with pytest.raises(ValueError, match=r"'crack' was trained on .* 'random', whose weights are"):
        Merging(make_random_model(seed=1)).check(adapter)
    with pytest.raises(ValueError, match="whose sizes are not those of this one, 'random'"):
        Merging(make_random_model(width=48)).check(adapter)
    with pytest.raises(ValueError, match="whose sizes are not"):
        Merging(make_random_model(layers=1)).check(adapter)


def test_what_is_no_adapter_is_named(model, tmp_path):
    path = tmp_path / "a.safetensors"
    with pytest.raises(ValueError, match=r"a\.safetensors is missing"):
        Adapter.load(path)
    path.write_bytes(b"rubbish")
    with pytest.raises(ValueError, match=r"a\.safetensors is damaged or not a safetensors file"):
        Adapter.load(path)
    save_file({"x": torch.zeros(1)}, path)
    with pytest.raises(ValueError, match=r"is no adapter of this package: make one with 'dicep"):
        Adapter.load(path)


def test_a_tensor_without_its_partner_is_named(model, tmp_path):
    path = tmp_path / "a.safetensors"
    adapter_of(model).save(path)
    tensors, name = load_file(path), "transformer_blocks.0.attn.to_q"
    with safe_open(path, "pt") as file:
        card = file.metadata()
    for broken in (
        {key: value for key, value in tensors.items() if key != name + SECOND},
        {**tensors, name + FIRST: torch.zeros(RANK + 1, 32)},
    ):
        save_file(broken, path, metadata=card)
        with pytest.raises(ValueError, match=f"damaged: {name} has no A and B of rank {RANK}"):
            Adapter.load(path)


def test_a_card_of_another_version_is_named(model, tmp_path):
    path = tmp_path / "a.safetensors"
    adapter_of(model).save(path)
    save_file(load_file(path), path, metadata={"card": '{"task": "crack", "colour": "red"}'})
    with pytest.raises(ValueError, match=r"its card differs .* in alpha, bundle, colour, .*again"):
        Adapter.load(path)

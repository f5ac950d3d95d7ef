# SPDX-License-Identifier: Apache-2.0
"""Adapters in the engine: whose weights answer what, and nothing left behind."""

from __future__ import annotations

import threading
from dataclasses import replace

import numpy as np
import pytest
import torch
from random_adapter import adapter_of

from diception_ros.engine import Engine, EngineConfig
from diception_ros.model import Diception, make_random_bundle
from diception_ros.model.lora import Adapter
from diception_ros.tasks import Mask, Request

CPU = EngineConfig(device="cpu", dtype="float32")
IMAGE = np.random.default_rng(0).integers(0, 255, (48, 80, 3), np.uint8)
DEPTH, CRACK, SPILL = Request("depth"), Request("crack"), Request("spill")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_random_bundle(tmp_path_factory.mktemp("bundle") / "random")


@pytest.fixture(scope="module")
def model(bundle):
    return Diception.load(bundle)


@pytest.fixture(scope="module")
def crack(model):
    return adapter_of(model)


@pytest.fixture(scope="module")
def spill(model):
    return adapter_of(model, task="spill", seed=1)


@pytest.fixture
def engine(bundle):
    return Engine.load(bundle, CPU)


def weights(engine):
    return {name: tensor.clone() for name, tensor in engine._model.state_dict().items()}


def untouched(engine, before):
    return all(torch.equal(before[name], now) for name, now in weights(engine).items())


def asked(engine, *requests):
    return engine.infer([IMAGE], [requests])[0]


def score(engine, request):
    return asked(engine, request)[0].score


def test_a_file_adds_its_task(engine, crack, tmp_path):
    crack.save(tmp_path / "crack.safetensors")
    assert engine.load_adapter(tmp_path / "crack.safetensors") == "crack"
    assert list(engine.adapters) == ["crack"]
    (result,) = asked(engine, CRACK)
    assert isinstance(result, Mask)
    assert result.mask.shape == (48, 80)
    engine.unload_adapter("crack")
    with pytest.raises(ValueError, match="unknown task 'crack'"):
        asked(engine, CRACK)


def test_each_request_runs_with_its_own_weights_and_the_base_is_left(engine, crack, spill):
    before, depth = weights(engine), asked(engine, DEPTH)[0].values
    engine.load_adapter(crack)
    alone = score(engine, CRACK)
    engine.load_adapter(spill)
    assert untouched(engine, before)
    found = asked(engine, CRACK, DEPTH, SPILL, CRACK)
    np.testing.assert_allclose(found[1].values, depth, atol=1e-5)
    np.testing.assert_allclose(found[0].score, alone, atol=1e-5)
    np.testing.assert_allclose(found[0].score, found[3].score, atol=1e-5)
    assert np.abs(found[2].score - alone).max() > 0.01
    assert untouched(engine, before)


def test_the_weights_matter_not_only_the_prompt(engine, crack):
    """Without its matrices the adapter's prompt, which is depth's here, would answer depth."""
    engine.load_adapter(crack)
    (mask, depth) = asked(engine, CRACK, DEPTH)
    assert np.abs(mask.score - depth.values).max() > 0.01


def test_a_prompt_of_its_own_needs_no_place_in_the_bank(engine, model, crack):
    generator = torch.Generator().manual_seed(5)
    own = replace(
        crack,
        embeds=torch.randn(crack.embeds.shape, generator=generator),
        pooled=torch.randn(crack.pooled.shape, generator=generator),
    )
    engine.load_adapter(crack)
    borrowed = score(engine, CRACK)
    engine.unload_adapter("crack")
    engine.load_adapter(own)
    assert np.abs(score(engine, CRACK) - borrowed).max() > 1e-4
    assert crack.info.prompt not in engine.prompts


def test_guidance_works_with_an_adapter(engine, crack):
    engine.load_adapter(crack)
    before = score(engine, CRACK)
    assert np.abs(score(engine, replace(CRACK, guidance=3.0)) - before).max() > 1e-4


def test_resting_weights_change_no_answer(engine, crack, spill):
    before = weights(engine)
    engine.load_adapter(crack)
    engine.load_adapter(spill)
    plain = asked(engine, DEPTH, CRACK, SPILL)
    engine.set_adapter("crack")
    assert not untouched(engine, before)
    resting = asked(engine, DEPTH, CRACK, SPILL)
    np.testing.assert_array_equal(resting[0].values, plain[0].values)
    np.testing.assert_array_equal(resting[1].score, plain[1].score)
    np.testing.assert_array_equal(resting[2].score, plain[2].score)
    assert not untouched(engine, before)
    engine.set_adapter(None)
    assert untouched(engine, before)


def test_unloading_a_resting_adapter_restores_the_base(engine, crack):
    before = weights(engine)
    engine.load_adapter(crack)
    engine.set_adapter("crack")
    engine.unload_adapter("crack")
    assert untouched(engine, before)
    assert engine.load_adapter(crack) == "crack"


def test_a_failure_in_mid_call_leaves_the_base(engine, crack, monkeypatch):
    before = weights(engine)
    engine.load_adapter(crack)

    def broken(*_):
        raise RuntimeError("out of memory")

    monkeypatch.setattr(engine._stages, "denoise", broken)
    with pytest.raises(RuntimeError, match="out of memory"):
        asked(engine, CRACK)
    assert untouched(engine, before)


def test_threads_do_not_see_each_others_weights(engine, crack):
    engine.load_adapter(crack)
    depth, mask = asked(engine, DEPTH, CRACK)
    found = []

    def work(request):
        found.append((request.task, asked(engine, request)[0]))

    threads = [threading.Thread(target=work, args=(r,)) for r in (DEPTH, CRACK) * 4]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    for task, result in found:
        if task == "depth":
            np.testing.assert_allclose(result.values, depth.values, atol=1e-5)
        else:
            np.testing.assert_allclose(result.score, mask.score, atol=1e-5)


def test_adapters_can_come_with_the_bundle(bundle, crack, tmp_path):
    crack.save(tmp_path / "crack.safetensors")
    lines = []
    engine = Engine.load(
        bundle, CPU, progress=lines.append, warm=[CRACK], adapters=[tmp_path / "crack.safetensors"]
    )
    assert "adapter for crack" in lines
    assert "warming up crack" in lines
    assert score(engine, CRACK).shape == (48, 80)


def test_what_does_not_fit_is_refused(engine, crack, tmp_path):
    engine.load_adapter(crack)
    with pytest.raises(ValueError, match="adapter 'crack': a task of this name is there already"):
        engine.load_adapter(crack)
    taken = replace(crack, info=replace(crack.info, task="depth"))
    with pytest.raises(ValueError, match="adapter 'depth': a task of this name"):
        engine.load_adapter(taken)
    for name in ("unload_adapter", "set_adapter"):
        with pytest.raises(ValueError, match="adapter 'spill' is not loaded: crack"):
            getattr(engine, name)("spill")
    stranger = make_random_bundle(tmp_path / "other", seed=1)
    foreign: Adapter = adapter_of(Diception.load(stranger), task="spill")
    with pytest.raises(ValueError, match="whose weights are not those of this one"):
        engine.load_adapter(foreign)
    with pytest.raises(ValueError, match="whose weights are not those of this one"):
        engine.check_adapter(foreign)
    assert list(engine.adapters) == ["crack"]


def test_a_kind_that_does_not_exist_is_refused(engine, crack):
    odd = replace(crack, info=replace(crack.info, kind="sound"))
    with pytest.raises(ValueError, match="kind must be one of mask, disparity, colour"):
        engine.load_adapter(odd)


def test_a_closed_engine_says_so(bundle, crack):
    engine = Engine.load(bundle, CPU)
    engine.close()
    for call in (lambda: engine.load_adapter(crack), lambda: engine.set_adapter(None)):
        with pytest.raises(ValueError, match="this engine was closed"):
            call()


@pytest.mark.gpu
def test_captured_graphs_follow_the_weights(bundle, crack):
    config = EngineConfig(device="cuda", dtype="float32")
    graphs, eager = (Engine.load(bundle, replace(config, graphs=on)) for on in (True, False))
    asked(graphs, DEPTH)  # captured before there is an adapter
    for engine in (graphs, eager):
        engine.load_adapter(crack)
    for _ in range(2):
        for wanted in ((CRACK,), (DEPTH,), (CRACK, DEPTH, CRACK)):  # one graph, both weights
            replayed, plain = (asked(engine, *wanted) for engine in (graphs, eager))
            for one, other, request in zip(replayed, plain, wanted, strict=True):
                name = "score" if request is CRACK else "values"
                np.testing.assert_allclose(getattr(one, name), getattr(other, name), atol=1e-4)
    assert graphs.graph_state.startswith("captured")

# SPDX-License-Identifier: Apache-2.0
"""Capture and replay; what needs a GPU is marked and skipped without one."""

from __future__ import annotations

import gc
import weakref
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from diception_ros.engine import EMBEDDED_BUNDLE, Engine, EngineConfig, stages
from diception_ros.engine.cuda_graph import capture, check_contract
from diception_ros.model import make_random_bundle
from diception_ros.model.blocks import lean, restore
from diception_ros.model.random_bundle import make_random_model
from diception_ros.tasks import Request

gpu = pytest.mark.gpu


def frame(seed, size=(48, 80)):
    return np.random.default_rng(seed).integers(0, 255, (*size, 3), np.uint8)


def pixels(results):
    return [answer[0].values for answer in results]


def test_on_a_cpu_the_wrapper_is_the_function():
    def function(x):
        return x + 1

    assert capture(function, [torch.zeros(2)]) is function


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ([torch.zeros(3, 2)], r"input 0 changed .* was \(2, 2\) .* now \(3, 2\)"),
        ([torch.zeros(2, 2, dtype=torch.float64)], r"now \(2, 2\) torch.float64"),
        ([torch.zeros(2, 2, device="meta")], "now .* on meta"),
        ([], "captured with 1 inputs, replayed with 0"),
    ],
)
def test_contract_says_what_changed(given, message):
    with pytest.raises(ValueError, match=message):
        check_contract([torch.zeros(2, 2)], given)


@gpu
@pytest.mark.parametrize("count", [1, 3])
@torch.no_grad()
def test_the_lean_blocks_answer_on_a_gpu_as_diffusers_do(count):
    model = make_random_model().to("cuda").eval()
    noise = torch.randn(count, *model.latent_shape(64, 96), device="cuda")
    embeds, pooled = (part.to("cuda") for part in model.prompts.lookup(["[[image2depth]]"] * count))
    time, tokens = torch.full((count,), 700.0, device="cuda"), model.point_tokens(None, None, count)
    given = noise, noise.flip(-1), time, embeds, pooled, tokens
    restore(model.transformer)
    expected = model.velocity(*given)
    lean(model.transformer)
    torch.testing.assert_close(model.velocity(*given), expected, atol=1e-3, rtol=1e-3)
    captured = capture(model.velocity, list(given))
    torch.testing.assert_close(captured(*given), expected, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("amid", [False, True])
def test_what_a_call_took_is_free_before_a_smaller_batch_is_tried(tmp_path, monkeypatch, amid):
    """Memory runs out in the warm-up, or amid a capture, whose end then fails as well."""
    engine = Engine.load(make_random_bundle(tmp_path / "bundle"), EngineConfig("cpu", max_batch=4))
    engine._stages.graphs, taken, left = True, [], []

    def full(function, inputs, pool):
        if len(inputs[0]) == 1:
            return function
        held = torch.zeros(8)
        taken.append(weakref.ref(held))
        try:
            raise torch.OutOfMemoryError("CUDA out of memory")
        finally:
            if amid:
                raise RuntimeError("the capture was invalidated")

    def degrade(self, key, cause):
        left.extend(one() is not None for one in taken)
        self.max_batch //= 2

    monkeypatch.setattr(stages, "capture", full)
    monkeypatch.setattr(stages.Stages, "_degrade", degrade)
    gc.disable()
    try:
        engine.infer([frame(k) for k in range(4)], [[Request("depth")]] * 4)
    finally:
        gc.enable()
    assert left
    assert not any(left)


@gpu
def test_a_stretched_canvas_is_captured():
    engine = Engine.load(EMBEDDED_BUNDLE, EngineConfig("cuda", canvas=(128, 128)))
    assert engine.run([frame(0)], [[Request("depth")]]).graph
    assert engine.graph_state.startswith("captured")
    assert isinstance(engine._stages._encode, torch.nn.Conv2d)


@gpu
def test_replay_equals_eager_on_second_and_third_inputs():
    weight = torch.randn(8, 8, device="cuda")

    def function(x):
        return torch.tanh(x @ weight)

    captured = capture(function, [torch.zeros(4, 8, device="cuda")])
    kept = []
    for seed in range(3):
        x = torch.randn(4, 8, device="cuda", generator=torch.Generator("cuda").manual_seed(seed))
        kept.append((captured(x), function(x)))
    for replayed, eager in kept:  # after all replays: outputs are clones, not the static buffer
        torch.testing.assert_close(replayed, eager)


@gpu
@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("steps", [1, 4])
def test_engine_with_graphs_equals_eager(tmp_path, guidance, steps):
    bundle = make_random_bundle(tmp_path / "bundle")
    graphs, eager = (
        Engine.load(bundle, EngineConfig(device="cuda", dtype="float32", graphs=on))
        for on in (True, False)
    )
    asked = [
        Request(task, steps=steps, guidance=guidance) for task in ("depth", "normal", "entity")
    ]
    for seed in range(3):
        image = np.random.default_rng(seed).integers(0, 255, (48, 80, 3), np.uint8)
        replayed = graphs.run([image], [asked])
        plain = eager.infer([image], [asked])
        assert replayed.graph
        np.testing.assert_allclose(replayed.results[0][0].values, plain[0][0].values, atol=1e-4)
    assert graphs.graph_state.startswith("captured")


@gpu
@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 8, 9])
def test_every_bucket_equals_eager(tmp_path, count):
    engine = Engine.load(
        make_random_bundle(tmp_path / "bundle"), EngineConfig(device="cuda", dtype="float32")
    )
    eager = engine.sharing(graphs=False)
    for seed in range(3):
        images = [
            np.random.default_rng(seed * count + k).integers(0, 255, (48, 80, 3), np.uint8)
            for k in range(count)
        ]
        asked = [[Request("depth")]] * count
        for a, b in zip(engine.infer(images, asked), eager.infer(images, asked), strict=True):
            np.testing.assert_allclose(a[0].values, b[0].values, atol=1e-4)


@gpu
def test_threads_and_changed_settings_do_not_disturb_a_graph(tmp_path):
    engine = Engine.load(
        make_random_bundle(tmp_path / "bundle"), EngineConfig(device="cuda", dtype="float32")
    )
    eager = engine.sharing(graphs=False)
    image = np.random.default_rng(0).integers(0, 255, (48, 80, 3), np.uint8)
    cases = [(seed, guidance) for seed in range(2) for guidance in (1.0, 1.5, 3.0)]
    asked = {case: [[Request("depth", steps=2, guidance=case[1])]] for case in cases}
    expected = {case: eager.infer([image], asked[case], seed=case[0])[0][0] for case in cases}
    with ThreadPoolExecutor(4) as pool:
        found = {
            case: pool.submit(engine.infer, [image], asked[case], seed=case[0])
            for case in cases * 3
        }
    for case, answer in found.items():
        np.testing.assert_allclose(answer.result()[0][0].values, expected[case].values, atol=1e-4)


@gpu
def test_a_parameter_that_changes_needs_no_new_graph(tmp_path):
    engine = Engine.load(
        make_random_bundle(tmp_path / "bundle"), EngineConfig(device="cuda", dtype="float32")
    )
    eager, states = engine.sharing(graphs=False), set()
    for seed, guidance in ((0, 1.5), (1, 1.5), (1, 4.0)):
        asked = [[Request("depth", guidance=guidance)]]
        found = engine.infer([frame(0)], asked, seed=seed)
        plain = eager.infer([frame(0)], asked, seed=seed)
        np.testing.assert_allclose(pixels(found), pixels(plain), atol=1e-4)
        states.add(engine.graph_state)
    assert states == {"captured (3 graphs)"}


@gpu
def test_stages_are_charged_what_they_cost_on_the_gpu(tmp_path):
    """Queued work would otherwise be charged to whatever waits for it first, here decoding."""
    engine = Engine.load(make_random_bundle(tmp_path / "bundle"), EngineConfig(device="cuda"))
    asked = [[Request("depth", steps=64)]]
    engine.run([frame(0)], asked)
    stages = engine.run([frame(0)], asked).stages
    assert list(stages) == ["preprocess", "encode", "denoise", "decode", "postprocess"]
    assert stages["denoise"] > stages["decode"]


@gpu
def test_when_memory_is_short_batches_shrink_and_the_answers_stay(tmp_path, monkeypatch):
    monkeypatch.setattr(stages, "PIXELS", 10**9)  # else the autoencoder parts its batch by itself
    config = EngineConfig(device="cuda", dtype="float32", canvas=(384, 384), max_batch=16)
    bundle = make_random_bundle(tmp_path / "bundle")
    images, total = [frame(k) for k in range(16)], torch.cuda.mem_get_info()[1]
    asked = [[Request("depth")]] * len(images)
    plain, peaks = [], []
    for count in (4, 16):  # what graphs of four take, and what graphs of sixteen take
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
        measured = Engine.load(bundle, replace(config, max_batch=count))
        plain = measured.infer(images, asked)
        peaks.append(torch.cuda.max_memory_reserved())
        measured.close()
        del measured
    gc.collect()
    torch.cuda.empty_cache()
    graphs = Engine.load(bundle, config)
    torch.cuda.set_per_process_memory_fraction(sum(peaks) / 2 / total)
    try:
        found = graphs.infer(images, asked)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    np.testing.assert_allclose(pixels(found), pixels(plain), atol=1e-4)
    assert "out of memory in" in graphs.graph_state
    assert graphs.graph_state.startswith("captured")


@gpu
@pytest.mark.parametrize("on", [True, False])
def test_calls_in_flight_together_equal_calls_one_after_the_other(tmp_path, on):
    """Bit for bit, though images and answers of one call cross while another one computes, and
    results are kept while later ones use the host's buffers."""
    engine = Engine.load(make_random_bundle(tmp_path / "bundle"), EngineConfig("cuda", graphs=on))
    asked = [[Request("depth", steps=4), Request("normal")], [Request("depth")]]
    calls = [[frame(2 * k, (720, 1280)), frame(2 * k + 1)] for k in range(8)]
    expected = [engine.run(images, asked).results for images in calls]
    found = []
    with ThreadPoolExecutor(1) as pool:
        for images in calls:
            pending = engine.begin(images, asked)
            if found:
                found[-1].result()  # two in flight at most, as the node does it
            found.append(pool.submit(pending.outcome))
    for one, wanted in zip(found, expected, strict=True):
        for answers, others in zip(one.result().results, wanted, strict=True):
            for a, b in zip(answers, others, strict=True):
                assert all(np.array_equal(x, vars(b)[name]) for name, x in vars(a).items())


@gpu
def test_a_call_is_begun_before_its_work_is_done(tmp_path):
    engine = Engine.load(make_random_bundle(tmp_path / "bundle"), EngineConfig(device="cuda"))
    asked = [[Request("depth", steps=256)]]
    engine.run([frame(0)], asked)
    pending = engine.begin([frame(1)], asked)
    assert not pending.generated.done.query()
    assert pending.outcome().stages["denoise"] > 0
    assert pending.generated.done.query()

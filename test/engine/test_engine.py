# SPDX-License-Identifier: Apache-2.0
"""The engine's promises on a tiny model of the real classes (random weights: plumbing only)."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace

import numpy as np
import pytest
import torch

from diception_ros.engine import Engine, EngineConfig, Options, network, stages
from diception_ros.engine.passes import STREAMS
from diception_ros.imaging import Canvas
from diception_ros.model import Diception, make_random_bundle
from diception_ros.tasks import (
    TASKS,
    Disparity,
    Instances,
    Keypoints,
    Mask,
    Normals,
    Request,
)
from diception_ros.tasks.edges import Guide

CPU = EngineConfig(device="cpu", dtype="float32")
ALL = [
    Request("depth"),
    Request("normal"),
    Request("entity"),
    Request("semantic", category="person"),
    Request("point", points=((3.0, 4.0), (20.0, 10.0)), labels=(1, 0)),
    Request("pose"),
]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    return make_random_bundle(tmp_path_factory.mktemp("bundle") / "random")


@pytest.fixture(scope="module")
def engine(bundle):
    return Engine.load(bundle, CPU)


def photo(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 255, (height, width, 3), np.uint8)


def same(a, b):
    pairs = zip(vars(a).values(), vars(b).values(), strict=True)
    return all(np.array_equal(x, y) for x, y in pairs)


def test_each_task_answers_with_its_type_at_the_input_size(engine):
    (results,) = engine.infer([photo(48, 80)], [ALL])
    kinds = [Disparity, Normals, Instances, Instances, Mask, Keypoints]
    assert [type(result) for result in results] == kinds
    assert results[0].values.shape == (48, 80)
    assert results[1].vectors.shape == (48, 80, 3)
    assert results[2].ids.shape == (48, 80)
    assert results[3].category == "person"
    assert results[4].mask.shape == (48, 80)


def test_images_of_different_sizes_keep_their_order(engine):
    images = [photo(48, 80, 1), photo(64, 64, 2)]
    requests = [[Request("normal"), Request("depth")], [Request("depth")]]
    together = engine.infer(images, requests)
    assert together[0][1].values.shape == (48, 80)
    assert together[1][0].values.shape == (64, 64)
    for image, asked, results in zip(images, requests, together, strict=True):
        for request, result in zip(asked, results, strict=True):
            ((alone,),) = engine.infer([image], [[request]])
            for x, y in zip(vars(alone).values(), vars(result).values(), strict=True):
                np.testing.assert_allclose(x, y, atol=1e-4)


def test_pictures_are_refined_as_the_bundles_card_says(engine, bundle):
    """Before they are decoded, each by its own image; the same that evaluation does by hand."""
    model = Diception.load(bundle)
    model.info = replace(model.info, refine={"point": {"edges": 2}, "entity": {"regions": 20.0}})
    fine = Engine(model, CPU, TASKS)
    images = [photo(60, 90, 1), photo(48, 80, 2)]
    asked = [Request("depth"), Request("entity"), Request("point", points=((3.0, 4.0),))]
    plain, found = (one.infer(images, [asked] * 2) for one in (engine, fine))
    for image, before, after in zip(images, plain, found, strict=True):
        assert same(before[0], after[0])
        assert not np.array_equal(before[1].ids, after[1].ids)
        score = Guide(image).filtered(before[2].score, 2)
        np.testing.assert_allclose(after[2].score, score, atol=1e-5)


def test_engine_equals_generate(engine, bundle):
    """The engine adds batching, nothing else: the model called by hand gives the same depth."""
    image = photo(64, 64)
    ((result,),) = engine.infer([image], [[Request("depth", steps=3, guidance=2.0)]])
    model = Diception.load(bundle)
    pixels = torch.from_numpy(image).permute(2, 0, 1).float()[None] / 127.5 - 1
    generated = model.generate(pixels, ["[[image2depth]]"], steps=3, guidance=2.0)
    np.testing.assert_allclose(result.values, generated[0].mean(0), atol=1e-5)


def test_points_reach_the_network_in_the_bundle_s_order(bundle):
    canvas = Canvas(64, 64)
    points, labels = canvas.points_to_model([(20, 12)], [], (48, 80), "row-col")
    np.testing.assert_allclose(points[0], [12 / 48, 20 / 80])
    assert labels.tolist() == [1, 0, 0, 0, 0]
    swapped, _ = canvas.points_to_model([(20, 12)], [0], (48, 80), "col-row")
    np.testing.assert_allclose(swapped[0], [20 / 80, 12 / 48])


def test_the_image_is_encoded_once(engine, monkeypatch):
    encoded = []
    plain = Diception.encode_image

    def counting(self, images):
        encoded.append(len(images))
        return plain(self, images)

    monkeypatch.setattr(Diception, "encode_image", counting)
    engine = Engine.load(make_bundle_of(engine), CPU)
    engine.infer([photo(48, 80), photo(48, 80, 1)], [ALL, ALL[:2]])
    assert encoded == [2]


def make_bundle_of(engine):
    """The directory the engine's random bundle can be made in again."""
    import tempfile

    return make_random_bundle(tempfile.mkdtemp())


def test_equal_settings_share_a_pass(engine, monkeypatch):
    batches = []
    plain = Diception.velocity

    def counting(self, latents, *rest):
        batches.append(len(latents))
        return plain(self, latents, *rest)

    monkeypatch.setattr(Diception, "velocity", counting)
    asked = [Request("depth"), Request("normal"), Request("entity", guidance=2.0)]
    outcome = engine.run([photo(48, 80)], [asked])
    assert sorted(batches) == [2, 2]  # two requests plain; one with guidance, twice
    assert outcome.batch == 3
    assert outcome.steps == {"depth": 1, "normal": 1, "entity": 1}
    assert set(outcome.stages) == {"preprocess", "encode", "denoise", "decode", "postprocess"}


def test_more_requests_than_a_batch_are_split(bundle):
    small = Engine.load(bundle, replace(CPU, max_batch=2))
    large = Engine.load(bundle, CPU)
    for a, b in zip(
        small.infer([photo(48, 80)], [ALL])[0], large.infer([photo(48, 80)], [ALL])[0], strict=True
    ):
        if isinstance(a, Disparity):
            np.testing.assert_allclose(a.values, b.values, atol=1e-5)


def test_the_autoencoder_works_on_so_many_pixels_at_once(bundle, monkeypatch):
    images, asked = [photo(48, 80, seed) for seed in range(5)], [[Request("depth")]] * 5
    together = Engine.load(bundle, CPU).infer(images, asked)
    monkeypatch.setattr(stages, "PIXELS", 2 * 64 * 64 + 1)
    seen, real = [], Diception.decode_latents
    monkeypatch.setattr(
        Diception,
        "decode_latents",
        lambda self, latents: seen.append(len(latents)) or real(self, latents),
    )
    parted = Engine.load(bundle, CPU).infer(images, asked)
    assert seen == [2, 2, 1]
    for (a,), (b,) in zip(parted, together, strict=True):
        np.testing.assert_allclose(a.values, b.values, atol=1e-5)


def test_many_shapes_are_compiled_in_whatever_thread_computes(bundle):
    """torch's settings are each thread's own, and the node's worker is not its loader."""
    engine, limits = Engine.load(bundle, replace(CPU, compile=True)), []

    def encode(images):
        limits.append(torch._dynamo.config.recompile_limit)
        return images

    engine._stages._encode = encode
    with ThreadPoolExecutor(1) as pool:
        pool.submit(engine._stages.encode, torch.zeros(1, 3, 64, 64)).result()
    assert limits == [network.SHAPES]


def test_where_a_compiler_fails_the_engine_goes_on_without_it(bundle, engine, caplog):
    from torch._inductor import config
    from torch._inductor.utils import fresh_cache

    image, asked = photo(48, 80), [Request("depth")]
    with fresh_cache(), config.patch({"cpp.cxx": (None, "/bin/false")}):
        compiled = Engine.load(bundle, replace(CPU, compile=True))
        (found,) = compiled.infer([image], [asked])
        assert "torch.compile failed, running without" in compiled.graph_state
        assert "torch.compile failed" in caplog.text
        compiled.infer([image], [asked])
    assert caplog.text.count("torch.compile failed") == 1
    (plain,) = engine.infer([image], [asked])
    np.testing.assert_allclose(found[0].values, plain[0].values, atol=1e-5)


def test_same_seed_same_answer_other_seed_other_answer(engine):
    image, asked = photo(48, 80), [Request("depth")]
    first = engine.infer([image], [asked], seed=3)[0][0]
    assert same(first, engine.infer([image], [asked], seed=3)[0][0])
    assert not same(first, engine.infer([image], [asked], seed=4)[0][0])


def test_threads_do_not_disturb_each_other(engine):
    image = photo(48, 80)
    asked = [[Request("depth")]]
    expected = {seed: engine.infer([image], asked, seed=seed)[0][0] for seed in range(4)}
    actual = {}

    def work(seed):
        actual[seed] = engine.infer([image], [[Request("depth")]], seed=seed)[0][0]

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(same(expected[seed], actual[seed]) for seed in range(4))


def test_options_of_a_task_can_change_between_calls(bundle):
    engine = Engine.load(bundle, CPU)
    request = Request("point", points=((3.0, 4.0),))
    everything = replace(TASKS["point"], options={"threshold": 0.0})
    engine.tasks["point"] = everything
    assert engine.infer([photo(48, 80)], [[request]])[0][0].mask.all()
    assert not engine.infer([photo(48, 80)], [[]])[0]


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (Request("flow"), "unknown task 'flow': expected one of depth, normal"),
        (Request("semantic"), "needs a category"),
        (Request("semantic", category="forklift"), "diception prompts add"),
        (Request("depth", category="person"), "takes no category"),
        (Request("depth", points=((1.0, 1.0),)), "takes no points"),
        (Request("point", points=((90.0, 1.0),)), r"point \(90, 1\) lies outside the 80x48 image"),
    ],
)
def test_requests_it_cannot_answer_are_refused(engine, request_, message):
    with pytest.raises(ValueError, match=message):
        engine.infer([photo(48, 80)], [[request_]])


@pytest.mark.parametrize(
    "image",
    [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3), np.float32), np.zeros((0, 4, 3), np.uint8)],
)
def test_images_that_are_not_rgb_are_refused(engine, image):
    with pytest.raises(ValueError, match="expected a non-empty RGB image"):
        engine.infer([image], [[Request("depth")]])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"device": "tpu"}, "device must be auto, cpu, cuda"),
        ({"device": "cuda:first"}, "device must be auto, cpu, cuda"),
        ({"dtype": "int8"}, "dtype must be auto or one of"),
        ({"max_batch": 0}, "max_batch must be at least 1"),
        ({"threads": 0}, "threads must be at least 1"),
        ({"canvas": (100, 64)}, "multiples of 16"),
    ],
)
def test_config_is_validated(values, message):
    with pytest.raises(ValueError, match=message):
        EngineConfig(**values)


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_no_silent_fallback_from_cuda(bundle):
    with pytest.raises(ValueError, match=r"sees no CUDA GPU: .* use device 'cpu'"):
        Engine.load(bundle, EngineConfig(device="cuda"))


def test_auto_says_what_it_chose(bundle):
    lines = []
    engine = Engine.load(bundle, progress=lines.append, warm=[Request("depth")])
    assert engine.device_name in lines[-1]
    assert "warming up depth" in lines
    if not torch.cuda.is_available():
        assert engine.graph_state == "eager (cpu)"


def test_canvas_can_be_changed(bundle):
    engine = Engine.load(bundle, replace(CPU, canvas=(96, 128)))
    assert engine.infer([photo(48, 80)], [[Request("depth")]])[0][0].values.shape == (48, 80)


def test_categories_come_from_the_bank(engine):
    assert engine.categories == ("person", "chair")


def test_closed_engine_says_so(bundle):
    engine = Engine.load(bundle, CPU)
    engine.close()
    with pytest.raises(ValueError, match="this engine was closed"):
        engine.infer([photo(48, 80)], [[Request("depth")]])


def test_custom_noise_levels(engine, bundle):
    image, sigmas = photo(64, 64), (1.0, 0.6, 0.2)
    ((result,),) = engine.infer([image], [[Request("depth", sigmas=sigmas)]])
    pixels = torch.from_numpy(image).permute(2, 0, 1).float()[None] / 127.5 - 1
    generated = Diception.load(bundle).generate(pixels, ["[[image2depth]]"], sigmas=sigmas)
    np.testing.assert_allclose(result.values, generated[0].mean(0), atol=1e-5)
    with pytest.raises(ValueError, match="sigmas must fall strictly from at most 1 to 0"):
        engine.infer([image], [[Request("depth", sigmas=(0.2, 0.6))]])


def test_several_samples_say_where_they_disagree(engine, bundle):
    images, asked = [photo(48, 80), photo(64, 64, 1)], [[Request("depth")], ALL[:2]]
    outcome = engine.run(images, asked, seed=5, options=Options(samples=3))
    assert outcome.batch == 9
    alone = engine.infer(images, asked, seed=5)[1][0].values
    np.testing.assert_allclose(outcome.results[1][0].values, alone, atol=1e-5)
    model = Diception.load(bundle)
    noise = torch.cat([model.fixed_noise(64, 64, seed) for seed in (5, 6, 7)])
    pixels = torch.from_numpy(images[1]).permute(2, 0, 1).float()[None] / 127.5 - 1
    seen = model.generate(pixels.expand(3, -1, -1, -1), ["[[image2depth]]"] * 3, noise=noise)
    expected = seen.std(dim=0, correction=0).mean(dim=0)
    np.testing.assert_allclose(outcome.spread[1][0], expected, atol=1e-5)
    assert outcome.spread[0][0].shape == (48, 80)
    assert engine.run(images, asked).spread == [[None], [None, None]]


def test_a_temporal_start_takes_the_stream_s_own_latents(bundle):
    engine, options = Engine.load(bundle, CPU), Options(temporal=0.6)
    asked = [[Request("depth")]]

    def see(image, stream):
        outcome = engine.run([image], asked, options=options, streams=[stream])
        return outcome.results[0][0].values

    first = see(photo(48, 80), "left")
    plain = engine.infer([photo(48, 80)], asked)[0][0].values
    np.testing.assert_array_equal(first, plain)  # nothing came before; infer forgot all streams
    other, second = see(photo(48, 80), "left"), see(photo(48, 80), "left")
    np.testing.assert_array_equal(other, plain)
    assert np.abs(second - plain).max() > 1e-4
    np.testing.assert_array_equal(see(photo(48, 80), "right"), plain)
    np.testing.assert_array_equal(see(photo(48, 80), ("left", "afresh")), plain)


def test_a_temporal_start_is_for_every_request_however_many(bundle):
    """And what is asked no more, as a click of long ago, is forgotten."""
    engine, options = Engine.load(bundle, CPU), Options(temporal=0.6)
    many = [Request("point", points=((float(x), 5.0),)) for x in range(STREAMS + 6)]

    def see(requests):
        outcome = engine.run([photo(48, 80)], [requests], options=options, streams=["left"])
        return [result.score for result in outcome.results[0]]

    first, second = see(many), see(many)
    same_as_before = [np.array_equal(a, b) for a, b in zip(first, second, strict=True)]
    assert not any(same_as_before)
    for request in many * 2:
        see([request])
    assert len(engine._passes._before) == STREAMS


def test_a_batch_that_memory_is_too_small_for_is_halved(bundle, monkeypatch, caplog):
    plain = Diception.velocity

    def limited(self, latents, *rest):
        if len(latents) > limit:
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 1 GiB\nmore")
        return plain(self, latents, *rest)

    expected = Engine.load(bundle, CPU).infer([photo(48, 80)], [ALL])[0]
    limit = 2
    monkeypatch.setattr(Diception, "velocity", limited)
    engine = Engine.load(bundle, CPU)
    results = engine.infer([photo(48, 80)], [ALL])[0]
    np.testing.assert_allclose(results[0].values, expected[0].values, atol=1e-5)
    assert "out of memory in denoise: batches of at most 2 since" in engine.graph_state
    assert "out of memory in denoise: batches of at most 2 now" in caplog.text
    limit = 0
    with pytest.raises(ValueError, match="with one request at a time: free the GPU's memory"):
        engine.infer([photo(48, 80)], [ALL])


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"samples": 0}, r"samples must lie in 1\.\.16, got 0"),
        ({"temporal": 1.0}, "temporal must be at least 0 and below 1"),
        ({"deadline_ms": 0.0}, "deadline_ms must be over 0"),
    ],
)
def test_options_are_validated(values, message):
    with pytest.raises(ValueError, match=message):
        Options(**values)


def test_steps_and_sigmas_exclude_each_other():
    with pytest.raises(ValueError, match="steps or sigmas, got both"):
        Request("depth", steps=2, sigmas=(1.0, 0.5))


def test_a_call_may_begin_before_the_last_ones_outcome_is_asked_for(engine):
    images = [photo(48, 80, seed) for seed in range(3)]
    begun = [engine.begin([image], [ALL]) for image in images]
    for image, pending in zip(images, begun, strict=True):
        outcome, plain = pending.outcome(), engine.run([image], [ALL])
        assert list(outcome.stages) == list(plain.stages)
        assert all(same(a, b) for a, b in zip(outcome.results[0], plain.results[0], strict=True))

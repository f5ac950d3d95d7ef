# SPDX-License-Identifier: Apache-2.0
"""Bundles: what is saved is loaded, and what does not fit is named."""

from __future__ import annotations

import pytest
import torch
import yaml
from diffusers import AutoencoderTiny
from safetensors.torch import load_file, save_file

from diception_ros.model import BundleInfo, Diception, make_random_bundle, read_bundle_info
from diception_ros.model.bundle import save_bundle
from diception_ros.model.random_bundle import make_random_model

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture
def bundle(tmp_path):
    return make_random_bundle(tmp_path / "bundle")


def change(path, edit):
    state = load_file(path)
    edit(state)
    save_file(state, path)


def test_round_trip_is_exact(bundle):
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    first = make_random_model().generate(images, ["[[image2depth]]"])
    assert torch.equal(Diception.load(bundle).generate(images, ["[[image2depth]]"]), first)


def test_half_precision_bundle_loads_in_any_dtype(tmp_path):
    save_bundle(make_random_model(), tmp_path / "half", torch.float16)
    for dtype in (torch.float32, torch.bfloat16):
        model = Diception.load(tmp_path / "half", dtype=dtype)
        image = model.generate(torch.zeros(1, 3, 64, 64), ["[[image2depth]]"])
        assert model.dtype == dtype
        assert image.dtype == torch.float32
        assert 0 <= image.min() <= image.max() <= 1


def test_points_are_exact_however_coarse_the_weights_are(bundle):
    """bfloat16 knows 385 places between 0 and 1, an image 1280 columns."""
    fine, coarse = (Diception.load(bundle, dtype=kind) for kind in (torch.float32, torch.bfloat16))
    points, labels = torch.zeros(1280, 5, 2), torch.ones(1280, 5, dtype=torch.long)
    points[..., 1] = (torch.arange(1280) / 1280)[:, None]
    expected, found = (one.point_tokens(points, labels, 1280)[:, 0] for one in (fine, coarse))
    assert len(found.unique(dim=0)) == 1280
    torch.testing.assert_close(found.float(), expected, atol=0.03, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):  # as they train
        trained = fine.point_tokens(points, labels, 1280)[:, 0]
    assert len(trained.unique(dim=0)) == 1280
    save_bundle(coarse, bundle.with_name("again"))
    again = Diception.load(bundle.with_name("again")).point_embedder
    assert torch.equal(
        again.positional_encoding_gaussian_matrix,
        fine.point_embedder.positional_encoding_gaussian_matrix,
    )


def test_shards_are_read_back(tmp_path, monkeypatch):
    monkeypatch.setattr("diception_ros.model.bundle.SHARD_SIZE", "100KB")
    model = make_random_model()
    from diception_ros.model.bundle import save_module

    save_bundle(model, tmp_path / "bundle", torch.float32)
    save_module(model.transformer, tmp_path / "bundle" / "transformer", torch.float32, "100KB")
    assert len(list((tmp_path / "bundle" / "transformer").glob("*.safetensors"))) > 1
    again = Diception.load(tmp_path / "bundle")
    for name, tensor in model.transformer.state_dict().items():
        assert torch.equal(again.transformer.state_dict()[name], tensor)


def test_tiny_autoencoder_takes_the_same_path(tmp_path):
    model = make_random_model()
    model.vae = AutoencoderTiny(
        encoder_block_out_channels=(8,) * 4,
        decoder_block_out_channels=(8,) * 4,
        num_encoder_blocks=(1, 1, 1, 1),
        num_decoder_blocks=(1, 1, 1, 1),
        latent_channels=4,
        scaling_factor=0.5,
        shift_factor=0.1,
    )
    save_bundle(model, tmp_path / "tiny", torch.float32)
    again = Diception.load(tmp_path / "tiny")
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    expected = (model.vae.encode(images).latents - 0.1) * 0.5
    torch.testing.assert_close(again.encode_image(images), expected)
    assert again.generate(images, ["[[image2depth]]"]).shape == images.shape


@pytest.mark.parametrize("part", ["transformer", "vae"])
def test_keys_that_do_not_fit_are_all_named(bundle, part):
    def edit(state):
        names = sorted(state)
        state["extra.weight"] = torch.zeros(1)
        state[names[1]] = torch.zeros(1, 2, 3)
        del state[names[0]]

    names = sorted(load_file(bundle / part / WEIGHTS))
    change(bundle / part / WEIGHTS, edit)
    with pytest.raises(ValueError, match="3 keys do not fit") as error:
        Diception.load(bundle)
    message = str(error.value)
    assert f"missing {names[0]}" in message
    assert "unexpected extra.weight" in message
    assert f"{names[1]} has shape (1, 2, 3), expected" in message


def test_point_embedder_is_strict_too(bundle):
    change(bundle / "point_embedder.safetensors", lambda state: state.pop("seg_embeddings.weight"))
    with pytest.raises(ValueError, match=r"missing seg_embeddings\.weight"):
        Diception.load(bundle)


def test_missing_files_are_named(bundle, tmp_path):
    (bundle / "prompts.safetensors").unlink()
    with pytest.raises(ValueError, match=r"is not a bundle: missing prompts\.safetensors"):
        read_bundle_info(bundle)
    with pytest.raises(ValueError, match=r"missing bundle\.yaml, transformer/config\.json"):
        Diception.load(tmp_path / "nowhere")


def test_damaged_weights_are_named(bundle):
    path = bundle / "vae" / WEIGHTS
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(ValueError, match="damaged or not a safetensors file"):
        Diception.load(bundle)


def test_a_damaged_bank_is_named(bundle):
    (bundle / "prompts.safetensors").write_bytes(b"version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match=r"prompts\.safetensors is damaged or not a safetensors"):
        Diception.load(bundle)


@pytest.mark.parametrize("text", ["{", '{"metadata": {}}'])
def test_a_damaged_index_is_named(bundle, text):
    (bundle / "transformer" / f"{WEIGHTS}.index.json").write_text(text)
    with pytest.raises(ValueError, match=r"index\.json is damaged or no index of shards"):
        Diception.load(bundle)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("name: [a\ncanvas:", "while parsing a flow sequence"),
        ("", "expected a name, a canvas and more, found None"),
        ("{name: a, canvas: [64, 64], refine: }", "refine: expected entries by task, or leave it"),
        ("{name: a, canvas: [64, 64], defaults: 3}", "defaults: expected entries by task"),
    ],
)
def test_a_card_that_is_none_is_named(bundle, text, message):
    (bundle / "bundle.yaml").write_text(text)
    with pytest.raises(ValueError, match=f"bundle.yaml: {message}") as raised:
        read_bundle_info(bundle)
    assert "\n" not in str(raised.value)


def test_bank_without_the_empty_prompt_is_refused(bundle):
    with pytest.raises(ValueError, match="the empty prompt is missing"):
        make_random_model(prompts=["[[image2depth]]"])


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("canvas", [100, 64], "multiples of 16"),
        ("point_order", "xy", "point_order must be one of"),
        ("prompts", "spoken", "prompts must be one of"),
        ("defaults", {"depth": {"step": 1}}, "expected steps, guidance"),
        (
            "refine",
            {"point": {"edges": -1}},
            r"none negative, got {'edges': -1}",
        ),
        (
            "refine",
            {"point": {"edges": 1.5}},
            r"of 'point': expected edges \(a whole number",
        ),
        ("refine", {"pose": {"gain": 0}}, r"and a gain over 0, .* got {'gain': 0}"),
        ("refine", {"point": {"edge": 3}}, r"refine of 'point': .* got {'edge': 3}"),
        ("colour", "red", "unexpected keyword"),
        ("positions", "middle", "positions must be one of"),
    ],
)
def test_wrong_cards_are_refused(bundle, field, value, message):
    card = yaml.safe_load((bundle / "bundle.yaml").read_text())
    (bundle / "bundle.yaml").write_text(yaml.safe_dump({**card, field: value}))
    with pytest.raises(ValueError, match=message):
        read_bundle_info(bundle)


def test_defaults_per_task():
    info = BundleInfo("x", (64, 64), defaults={"depth": {"steps": 4}})
    assert info.steps("depth", 1) == 4
    assert info.steps("pose", 2) == 2
    assert info.guidance("depth", 1.5) == 1.5

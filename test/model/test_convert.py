# SPDX-License-Identifier: Apache-2.0
"""The official checkpoint's layout, on a miniature of everything it needs."""

from __future__ import annotations

import shutil

import pytest
import torch
from tiny_sd3 import CLIP_WIDTHS, T5_WIDTH, make_checkpoint, make_sd3
from transformers import CLIPTextModelWithProjection, CLIPTokenizer, T5EncoderModel, T5TokenizerFast

from diception_ros.model import Diception, read_bundle_info
from diception_ros.model.convert import add_prompts, convert

PROMPTS = ["", "[[image2depth]]", "[[image2semantic]] dining table"]


@pytest.fixture(scope="module")
def sources(tmp_path_factory):
    root = tmp_path_factory.mktemp("sources")
    return make_sd3(root / "sd3"), make_checkpoint(root / "DICEPTION_v1.pth")


@pytest.fixture
def bundle(sources, tmp_path):
    convert(*sources, tmp_path / "bundle", prompts=PROMPTS, dtype=torch.float32)
    return tmp_path / "bundle"


def test_weights_are_the_checkpoint_s(sources, bundle):
    model = Diception.load(bundle)
    checkpoint = torch.load(sources[1], weights_only=True)
    for name, tensor in checkpoint["transformer"].items():
        assert torch.equal(model.transformer.state_dict()[name], tensor), name
    points = model.point_embedder.state_dict()
    matrix = "positional_encoding_gaussian_matrix"
    assert torch.equal(points[matrix], checkpoint[matrix])
    weight = checkpoint["point_embedder"]["2.weight"]
    assert torch.equal(points["point_embedder.2.weight"], weight)
    assert model.info.point_order == "row-col"
    assert model.info.canvas == (768, 768)
    assert "DICEPTION_v1" in model.info.source


@torch.no_grad()
def test_bank_holds_the_encoders_states(sources, bundle):
    """One prompt at a time, token by token, against transformers called by hand."""
    bank = Diception.load(bundle).prompts
    assert bank.names == tuple(PROMPTS)
    for row, prompt in enumerate(PROMPTS):
        offset, pooled = 0, []
        for number, width in zip(("", "_2"), CLIP_WIDTHS, strict=True):
            tokenizer = CLIPTokenizer.from_pretrained(sources[0] / f"tokenizer{number}")
            encoder = CLIPTextModelWithProjection.from_pretrained(
                sources[0] / f"text_encoder{number}"
            )
            ids = tokenizer(prompt, padding="max_length", max_length=77, return_tensors="pt")
            out = encoder(ids.input_ids, output_hidden_states=True)
            part = bank.embeds[row, :77, offset : offset + width]
            torch.testing.assert_close(part, out.hidden_states[-2][0], atol=1e-5, rtol=1e-5)
            offset += width
            pooled.append(out.text_embeds[0])
        assert bank.embeds[row, :77, offset:].abs().max() == 0
        torch.testing.assert_close(bank.pooled[row], torch.cat(pooled), atol=1e-5, rtol=1e-5)
        tokenizer = T5TokenizerFast.from_pretrained(sources[0] / "tokenizer_3")
        ids = tokenizer(prompt, padding="max_length", max_length=256, return_tensors="pt")
        states = T5EncoderModel.from_pretrained(sources[0] / "text_encoder_3")(ids.input_ids)[0]
        torch.testing.assert_close(bank.embeds[row, 77:], states[0], atol=1e-5, rtol=1e-5)
    assert bank.embeds.shape == (3, 77 + 256, T5_WIDTH)


def test_different_prompts_have_different_embeddings(bundle):
    bank = Diception.load(bundle).prompts
    assert (bank.embeds[1] - bank.embeds[2]).abs().max() > 1e-3


def test_bundle_runs_and_bfloat16_halves_it(sources, bundle, tmp_path):
    lines = []
    convert(
        *sources,
        tmp_path / "half",
        prompts=PROMPTS,
        dtype=torch.bfloat16,
        point_order="col-row",
        progress=lines.append,
    )
    image = Diception.load(tmp_path / "half").generate(torch.zeros(1, 3, 64, 64), PROMPTS[1:2])
    assert image.shape == (1, 3, 64, 64)
    assert read_bundle_info(tmp_path / "half").point_order == "col-row"
    assert sum("peak memory" in line for line in lines) == 3
    sizes = [
        (root / "transformer" / "diffusion_pytorch_model.safetensors").stat().st_size
        for root in (tmp_path / "half", bundle)
    ]
    assert sizes[0] < 0.6 * sizes[1]


def test_prompts_are_added_and_replaced(sources, bundle):
    before = Diception.load(bundle).prompts
    add_prompts(bundle, ["[[image2semantic]] forklift", "[[image2depth]]"], sources[0])
    after = Diception.load(bundle).prompts
    assert set(after.names) == {*PROMPTS, "[[image2semantic]] forklift"}
    for prompt in PROMPTS:
        expected, actual = before.lookup([prompt])[0], after.lookup([prompt])[0]
        torch.testing.assert_close(actual, expected, atol=1e-5, rtol=1e-5)


def test_nothing_is_overwritten(sources, bundle):
    with pytest.raises(FileExistsError, match="remove it or choose another --out"):
        convert(*sources, bundle, prompts=PROMPTS)


def test_incomplete_sd3_directory_is_named(sources, tmp_path):
    shutil.copytree(sources[0], tmp_path / "sd3")
    shutil.rmtree(tmp_path / "sd3" / "tokenizer_3")
    with pytest.raises(ValueError, match="missing tokenizer_3"):
        convert(tmp_path / "sd3", sources[1], tmp_path / "out", prompts=PROMPTS)


@pytest.mark.parametrize("drop", ["seg_embeddings", "positional_encoding_gaussian_matrix"])
def test_incomplete_checkpoint_is_named(sources, tmp_path, drop):
    checkpoint = torch.load(sources[1], weights_only=True)
    del checkpoint[drop]
    torch.save(checkpoint, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=rf"missing keys \['{drop}'\]"):
        convert(sources[0], tmp_path / "cut.pth", tmp_path / "out", prompts=PROMPTS)
    assert not (tmp_path / "out").exists()


def test_transformer_keys_are_strict(sources, tmp_path):
    checkpoint = torch.load(sources[1], weights_only=True)
    del checkpoint["transformer"]["proj_out.bias"]
    torch.save(checkpoint, tmp_path / "cut.pth")
    with pytest.raises(ValueError, match=r"missing proj_out\.bias"):
        convert(sources[0], tmp_path / "cut.pth", tmp_path / "out", prompts=PROMPTS)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("share", [0.0, 0.9])
def test_a_checkpoint_that_is_none_is_named(sources, tmp_path, share):
    whole = sources[1].read_bytes()
    (tmp_path / "cut.pth").write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(ValueError, match=r"cut\.pth is damaged or no checkpoint.*download it"):
        convert(sources[0], tmp_path / "cut.pth", tmp_path / "out", prompts=PROMPTS)


class Harmful:
    def __reduce__(self):
        return (print, ("code ran",))


def test_pickled_code_is_never_run(sources, tmp_path, capsys):
    torch.save({"transformer": Harmful()}, tmp_path / "bad.pth")
    with pytest.raises(ValueError, match="not a checkpoint of plain tensors"):
        convert(sources[0], tmp_path / "bad.pth", tmp_path / "out", prompts=PROMPTS)
    assert "code ran" not in capsys.readouterr().out


@pytest.mark.parametrize("part", ["tokenizer", "tokenizer_2", "tokenizer_3"])
def test_a_tokenizer_without_its_vocabulary_is_named(sources, tmp_path, part):
    sd3 = shutil.copytree(sources[0], tmp_path / "sd3")
    for path in (sd3 / part).iterdir():
        if path.name != "tokenizer_config.json":
            path.unlink()
    with pytest.raises(ValueError, match=f"missing one of tokenizer.json, .* in {part}$"):
        convert(sd3, sources[1], tmp_path / "bundle", prompts=PROMPTS)


@pytest.mark.parametrize("part", ["text_encoder", "text_encoder_3"])
def test_weights_that_git_lfs_did_not_fetch_are_named(sources, tmp_path, part):
    sd3 = shutil.copytree(sources[0], tmp_path / "sd3")
    (sd3 / part / "model.safetensors").write_text("version https://git-lfs.github.com/spec/v1")
    with pytest.raises(ValueError, match=f"{part}: damaged weights, get them again"):
        convert(sd3, sources[1], tmp_path / "bundle", prompts=PROMPTS)


def test_long_prompts_are_refused(sources, bundle):
    with pytest.raises(ValueError, match="tokens, at most 77 fit"):
        add_prompts(bundle, ["[[image2semantic]] " + "forklift " * 30], sources[0])

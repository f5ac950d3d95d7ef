# SPDX-License-Identifier: Apache-2.0
"""Generated images against independent arithmetic: diffusers' own SD3 forward and scheduler.

The token lists are made by hand and handed to the unchanged `SD3Transformer2DModel.forward`: twice
the image tokens are, to it, an image of twice the height.
"""

from __future__ import annotations

import copy
import math

import pytest
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from diception_ros.model import Diception
from diception_ros.model.blocks import restore
from diception_ros.model.random_bundle import make_random_model
from diception_ros.model.sampling import check_sigmas, default_sigmas

PROMPTS = ["[[image2depth]]", "[[image2semantic]] chair", "[[image2segmentation]]"]


@pytest.fixture(scope="module")
def model() -> Diception:
    return make_random_model(channels=16, layers=3)


class Given(torch.nn.Module):
    """A layer that answers with tokens made elsewhere."""

    def __init__(self, tokens: torch.Tensor) -> None:
        super().__init__()
        self.tokens = tokens

    def forward(self, *_: torch.Tensor) -> torch.Tensor:
        return self.tokens


def point_tokens(model: Diception, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """The published formula, one point at a time."""
    embedder = model.point_embedder
    first, _, last = embedder.point_embedder
    matrix = embedder.positional_encoding_gaussian_matrix
    rows = []
    for b in range(len(points)):
        for i in range(5):
            u, v = (2 * float(value) - 1 for value in points[b, i])
            angle = 2 * math.pi * (u * matrix[0] + v * matrix[1])
            features = torch.cat([torch.sin(angle), torch.cos(angle)])
            hidden = torch.nn.functional.gelu(first.weight @ features + first.bias)
            token = last.weight @ hidden + last.bias
            seg = embedder.seg_embeddings if labels[b, i] == 1 else embedder.not_seg_embeddings
            rows.append(token + seg.weight[0])
    return torch.stack(rows).reshape(len(points), 5, -1)


def plain_velocity(model, x, image_latents, t, embeds, pooled, points):
    transformer = copy.deepcopy(model.transformer)
    restore(transformer)
    pos_embed, context = model.transformer.pos_embed, model.transformer.context_embedder
    transformer.pos_embed = Given(torch.cat([pos_embed(x), pos_embed(image_latents)], 1))
    transformer.context_embedder = Given(torch.cat([context(embeds), points], 1))
    output = transformer(
        hidden_states=torch.cat([x, image_latents], dim=2),
        encoder_hidden_states=embeds,
        pooled_projections=pooled,
        timestep=t.expand(len(x)),
    ).sample
    return output[:, :, : x.shape[2]]


@torch.no_grad()
def reference(model, images, prompts, points, labels, steps, guidance, noise):
    config = model.vae.config
    z = model.vae.encode(images).latent_dist.mode()
    z = (z - config.shift_factor) * config.scaling_factor
    embeds, pooled = model.prompts.lookup(prompts)
    empty, empty_pooled = model.prompts.lookup([""] * len(prompts))
    tokens = point_tokens(model, points, labels)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(steps)
    x = noise
    for t in scheduler.timesteps:
        v = plain_velocity(model, x, z, t, embeds, pooled, tokens)
        if guidance > 1:
            zeros = torch.zeros_like(tokens)
            u = plain_velocity(model, x, z, t, empty, empty_pooled, zeros)
            v = u + guidance * (v - u)
        x = scheduler.step(v, t, x).prev_sample
    image = model.vae.decode(x / config.scaling_factor + config.shift_factor).sample
    return (image / 2 + 0.5).clamp(0, 1)


@pytest.mark.parametrize("steps", [1, 2, 4, 28])
@pytest.mark.parametrize("guidance", [1.0, 2.0])
@pytest.mark.parametrize("size", [(64, 64), (48, 96)])
def test_generate_equals_plain_diffusers(model, steps, guidance, size):
    generator = torch.Generator().manual_seed(steps)
    images = torch.rand(3, 3, *size, generator=generator) * 2 - 1
    noise = torch.randn(3, 16, size[0] // 8, size[1] // 8, generator=generator)
    points = torch.rand(3, 5, 2, generator=generator)
    labels = torch.tensor([[1, 0, 0, 0, 0], [1, 1, 0, 1, 1], [0, 0, 0, 0, 1]])
    settings = {"steps": steps, "guidance": guidance, "noise": noise}
    expected = reference(model, images, PROMPTS, points, labels, **settings)
    actual = model.generate(images, PROMPTS, points=points, point_labels=labels, **settings)
    torch.testing.assert_close(actual, expected, atol=1e-5, rtol=0)


def test_without_points_the_tokens_are_five_unlabelled_corners(model):
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    corners, unlabelled = torch.zeros(1, 5, 2), torch.zeros(1, 5, dtype=torch.long)
    expected = model.generate(images, PROMPTS[:1], points=corners, point_labels=unlabelled)
    torch.testing.assert_close(model.generate(images, PROMPTS[:1]), expected, atol=0, rtol=0)


@pytest.mark.parametrize("change", ["prompt", "image", "points", "label", "noise", "guidance"])
def test_every_condition_changes_the_image(model, change):
    generator = torch.Generator().manual_seed(0)
    images = torch.rand(1, 3, 64, 64, generator=generator) * 2 - 1
    points = torch.full((1, 5, 2), 0.3)
    labels = torch.ones(1, 5, dtype=torch.long)
    noise = torch.randn(1, 16, 8, 8, generator=generator)
    base = {"points": points, "point_labels": labels, "noise": noise, "guidance": 2.0}
    changed = {
        "prompt": (images, ["[[image2normal]]"], {}),
        "image": (-images, PROMPTS[:1], {}),
        "points": (images, PROMPTS[:1], {"points": 1 - points}),
        "label": (images, PROMPTS[:1], {"point_labels": 1 - labels}),
        "noise": (images, PROMPTS[:1], {"noise": -noise}),
        "guidance": (images, PROMPTS[:1], {"guidance": 3.0}),
    }[change]
    first = model.generate(images, PROMPTS[:1], **base)
    second = model.generate(changed[0], changed[1], **{**base, **changed[2]})
    assert (first - second).abs().max() > 1e-4


def test_same_inputs_same_image(model):
    images = torch.rand(2, 3, 64, 64) * 2 - 1
    first, second = (model.generate(images, PROMPTS[:2]) for _ in range(2))
    assert torch.equal(first, second)


def test_no_unconditional_branch_up_to_guidance_one(model, monkeypatch):
    batches = []
    plain = type(model).velocity

    def counting(self, latents, *rest):
        batches.append(len(latents))
        return plain(self, latents, *rest)

    monkeypatch.setattr(type(model), "velocity", counting)
    images = torch.zeros(1, 3, 64, 64)
    for guidance in (0.0, 1.0, 1.5):
        model.generate(images, PROMPTS[:1], guidance=guidance)
    assert batches == [1, 1, 2]


@pytest.mark.parametrize("steps", range(1, 51))
def test_default_sigmas_equal_diffusers(model, steps):
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    scheduler.set_timesteps(steps)
    assert default_sigmas(model.scheduler, steps) == scheduler.sigmas.tolist()


def test_published_sigma_table(model):
    table = [1, 0.8577, 0.6022, 0.0089, 0]
    assert default_sigmas(model.scheduler, 4) == pytest.approx(table, abs=1e-4)


def test_custom_sigmas_replace_the_list(model):
    images = torch.rand(1, 3, 64, 64) * 2 - 1
    same = model.generate(images, PROMPTS[:1], sigmas=default_sigmas(model.scheduler, 3))
    assert torch.equal(same, model.generate(images, PROMPTS[:1], steps=3))
    other = model.generate(images, PROMPTS[:1], sigmas=[1.0, 0.5])
    assert not torch.equal(same, other)


@pytest.mark.parametrize("sigmas", [[], [0.0], [0.5, 0.5], [0.2, 0.8], [1.5, 0.0]])
def test_sigmas_that_do_not_fall_are_refused(sigmas):
    with pytest.raises(ValueError, match="sigmas must fall strictly from at most 1 to 0"):
        check_sigmas(sigmas)


def test_wrong_sizes_are_refused(model):
    with pytest.raises(ValueError, match=r"image size 60x64: .* multiples of 16"):
        model.generate(torch.zeros(1, 3, 60, 64), PROMPTS[:1])
    with pytest.raises(ValueError, match="noise: expected shape"):
        model.generate(torch.zeros(1, 3, 64, 64), PROMPTS[:1], noise=torch.zeros(1, 4, 8, 8))
    with pytest.raises(ValueError, match="B prompts"):
        model.generate(torch.zeros(2, 3, 64, 64), PROMPTS[:1])
    with pytest.raises(ValueError, match="expected points"):
        model.generate(torch.zeros(1, 3, 64, 64), PROMPTS[:1], points=torch.zeros(1, 3, 2))


def test_unknown_prompt_names_the_command(model):
    with pytest.raises(ValueError, match="diception prompts add"):
        model.generate(torch.zeros(1, 3, 64, 64), ["[[image2semantic]] forklift"])

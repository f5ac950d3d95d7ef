# SPDX-License-Identifier: Apache-2.0
"""A whole tiny bundle with random weights, for tests of the plumbing: its answers mean nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel

from diception_ros.model.bundle import BundleInfo, save_bundle
from diception_ros.model.diception import Diception
from diception_ros.model.points import PointEmbedder
from diception_ros.model.prompts import PromptBank

PROMPTS = (
    "",
    "[[image2depth]]",
    "[[image2normal]]",
    "[[image2entity]]",
    "[[image2segmentation]]",
    "[[image2pose]]",
    "[[image2semantic]] person",
    "[[image2semantic]] chair",
)


def make_random_model(
    *,
    width: int = 32,
    layers: int = 2,
    channels: int = 4,
    canvas: tuple[int, int] = (64, 64),
    prompts: Sequence[str] = PROMPTS,
    seed: int = 0,
) -> Diception:
    """A tiny Diception with random weights: `width` in heads of 16, `channels` latent channels."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformer = SD3Transformer2DModel(
            sample_size=canvas[0] // 8,
            in_channels=channels,
            out_channels=channels,
            num_layers=layers,
            attention_head_dim=16,
            num_attention_heads=width // 16,
            joint_attention_dim=24,
            caption_projection_dim=width,
            pooled_projection_dim=20,
            pos_embed_max_size=24,
        )
        vae = AutoencoderKL(
            down_block_types=("DownEncoderBlock2D",) * 4,
            up_block_types=("UpDecoderBlock2D",) * 4,
            block_out_channels=(8, 8, 8, 8),
            layers_per_block=1,
            latent_channels=channels,
            norm_num_groups=4,
            scaling_factor=1.5305,
            shift_factor=0.0609,
            use_quant_conv=False,
            use_post_quant_conv=False,
        )
        points = PointEmbedder(frequencies=16, hidden=32, width=width)
        points.positional_encoding_gaussian_matrix.normal_()
        bank = PromptBank(prompts, torch.randn(len(prompts), 7, 24), torch.randn(len(prompts), 20))
    info = BundleInfo(
        name="random",
        canvas=canvas,
        training="random weights for tests: the answers mean nothing",
    )
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    return Diception(transformer, vae, points, bank, scheduler, info).eval()


def make_sd3_sized_model(
    device: torch.device | str, dtype: torch.dtype, prompts: Sequence[str] = PROMPTS
) -> Diception:
    """SD3-medium's exact size with random weights made on the device, for measuring speed: 2.1
    billion parameters in the transformer, its real autoencoder, 333 text tokens, 768 x 768.
    """
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        with torch.device(device):
            transformer = SD3Transformer2DModel(
                sample_size=128,
                num_layers=24,
                attention_head_dim=64,
                num_attention_heads=24,
                joint_attention_dim=4096,
                caption_projection_dim=1536,
                pooled_projection_dim=2048,
                pos_embed_max_size=192,
            )
            vae = AutoencoderKL(
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                block_out_channels=(128, 256, 512, 512),
                layers_per_block=2,
                latent_channels=16,
                scaling_factor=1.5305,
                shift_factor=0.0609,
                use_quant_conv=False,
                use_post_quant_conv=False,
            )
            points = PointEmbedder(frequencies=1024, hidden=2048, width=1536)
    finally:
        torch.set_default_dtype(before)
    generator = torch.Generator().manual_seed(0)
    embeds = torch.randn(len(prompts), 333, 4096, generator=generator)
    bank = PromptBank(prompts, embeds, torch.randn(len(prompts), 2048, generator=generator))
    info = BundleInfo(name="sd3-sized", canvas=(768, 768), training="random weights: for speed")
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    model = Diception(transformer, vae, points, bank, scheduler, info)
    return model.to(dtype).eval().requires_grad_(False)


def make_random_bundle(path: str | Path, *, width: int = 32, seed: int = 0) -> Path:
    """Writes such a model as a bundle (float32) and returns its path."""
    save_bundle(make_random_model(width=width, seed=seed), path, torch.float32)
    return Path(path)

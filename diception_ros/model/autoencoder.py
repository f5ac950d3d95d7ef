# SPDX-License-Identifier: Apache-2.0
"""Images to latents and back, the same for AutoencoderKL and AutoencoderTiny."""

from __future__ import annotations

import copy
from typing import TypeAlias

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch import nn

Autoencoder: TypeAlias = AutoencoderKL | AutoencoderTiny


def encode(vae: Autoencoder, images: torch.Tensor) -> torch.Tensor:
    """Images (B, 3, H, W) in [-1, 1] -> latents (B, C, H/f, W/f), shifted and scaled.

    The posterior's mode is taken, never a sample: a result is a function of its inputs.
    """
    encoded = vae.encode(images)
    raw = encoded.latents if isinstance(vae, AutoencoderTiny) else encoded.latent_dist.mode()
    latents: torch.Tensor = (raw - shift(vae)) * float(vae.config.scaling_factor)
    return latents


def decode(vae: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
    """Latents (B, C, h, w) -> images (B, 3, h*f, w*f) in [0, 1]."""
    return decode_unclamped(vae, latents).clamp(0, 1)


def decode_unclamped(vae: Autoencoder, latents: torch.Tensor) -> torch.Tensor:
    """As decode, with what lies beyond black and white, for losses."""
    raw = latents / float(vae.config.scaling_factor) + shift(vae)
    images: torch.Tensor = vae.decode(raw).sample / 2 + 0.5
    return images


@torch.no_grad()
def projection(vae: Autoencoder) -> nn.Conv2d | None:
    """encode() as one convolution over cells of f x f pixels, where the encoder is no more than
    that (as the embedded bundle's is; rounding apart): many times as fast. None otherwise.
    """
    if not isinstance(vae, AutoencoderTiny) or any(vae.config.num_encoder_blocks):
        return None
    own = next(vae.parameters())
    # Whatever it runs in: bfloat16, and a GPU's TF32, would blur the comparison.
    vae = copy.deepcopy(vae).float().cpu()
    side, weight = downsampling(vae), next(vae.parameters())
    basis = torch.eye(3 * side**2).reshape(-1, 3, side, side).to(weight)
    offset = encode(vae, torch.zeros_like(basis[:1]))
    rows = encode(vae, basis) - offset
    single = nn.Conv2d(3, rows.shape[1], side, stride=side)
    single.weight = nn.Parameter(rows.flatten(1).T.reshape(single.weight.shape), False)
    single.bias = nn.Parameter(offset.flatten(), False)
    probe = torch.linspace(0, 1e4, 3 * (4 * side) ** 2).to(weight).sin().reshape(1, 3, 4 * side, -1)
    same = torch.allclose(single(probe), encode(vae, probe), rtol=0.0, atol=1e-3)
    return single.to(own.device, own.dtype) if same else None


def shift(vae: Autoencoder) -> float:
    """The config's shift_factor; autoencoders older than SD3 have none."""
    return float(getattr(vae.config, "shift_factor", None) or 0.0)


def downsampling(vae: Autoencoder) -> int:
    """Pixels per latent along one side (8 for SD3)."""
    tiny = isinstance(vae, AutoencoderTiny)
    channels = vae.config.encoder_block_out_channels if tiny else vae.config.block_out_channels
    return int(2 ** (len(channels) - 1))

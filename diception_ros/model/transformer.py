# SPDX-License-Identifier: Apache-2.0
"""DICEPTION's forward pass over diffusers' SD3 blocks: image tokens and point tokens."""

from __future__ import annotations

import torch
from diffusers import SD3Transformer2DModel
from torch.utils.checkpoint import checkpoint


def velocity(
    transformer: SD3Transformer2DModel,
    latents: torch.Tensor,
    image_latents: torch.Tensor,
    timesteps: torch.Tensor,
    prompt_embeds: torch.Tensor,
    pooled: torch.Tensor,
    point_tokens: torch.Tensor,
) -> torch.Tensor:
    """Predicted velocity (B, C, h, w) of the flow at `latents`.

    latents, image_latents: (B, C, h, w), h and w multiples of the patch size. timesteps: (B,) in
    0..1000. prompt_embeds: (B, T, joint_attention_dim); pooled: (B, pooled_projection_dim);
    point_tokens: (B, 5, inner width).

    The two latents share one patch embedding and its absolute positions, so a noisy token and the
    image token of the same place carry the same position (arXiv 2502.17157, section 3).
    """
    channels, height, width = latents.shape[1:]
    noisy = transformer.pos_embed(latents)
    tokens = torch.cat([noisy, transformer.pos_embed(image_latents)], dim=1)
    context = torch.cat([transformer.context_embedder(prompt_embeds), point_tokens], dim=1)
    temb = transformer.time_text_embed(timesteps, pooled)
    for block in transformer.transformer_blocks:
        if transformer.gradient_checkpointing and torch.is_grad_enabled():
            context, tokens = checkpoint(block, tokens, context, temb, use_reentrant=False)
        else:
            context, tokens = block(hidden_states=tokens, encoder_hidden_states=context, temb=temb)
    # norm_out and proj_out act per token: only the noisy ones are needed, which come first.
    tokens = transformer.proj_out(transformer.norm_out(tokens[:, : noisy.shape[1]], temb))
    return unpatchify(tokens, transformer.config.patch_size, channels, height, width)


def unpatchify(
    tokens: torch.Tensor, patch: int, channels: int, height: int, width: int
) -> torch.Tensor:
    """Tokens (B, h/p * w/p, p * p * C) -> (B, C, h, w); the channel runs fastest in a token."""
    rows, columns = height // patch, width // patch
    grid = tokens.reshape(-1, rows, columns, patch, patch, channels)
    return torch.einsum("nhwpqc->nchpwq", grid).reshape(-1, channels, height, width)

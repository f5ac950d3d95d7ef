# SPDX-License-Identifier: Apache-2.0
"""diffusers' SD3 blocks with fewer operations, of the same weights and answers."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from diffusers.models.attention import JointTransformerBlock
from torch import nn
from torch.nn import functional

from diception_ros.model.attention import attend

Tensor = torch.Tensor


def lean(transformer: SD3Transformer2DModel) -> None:
    """Every block that can be; the last one then computes what `velocity` reads and no more. Layers
    keep their names, and their weights are not touched."""
    for block in transformer.transformer_blocks:
        if type(block) is JointTransformerBlock and block.attn2 is None:
            block.__class__ = LastBlock if block.context_pre_only else Block


def restore(transformer: SD3Transformer2DModel) -> None:
    """diffusers' own blocks again."""
    for block in transformer.transformer_blocks:
        if isinstance(block, Block | LastBlock):
            block.__class__ = JointTransformerBlock


class Block(JointTransformerBlock):
    """In fewer passes over the tokens: a scale and a shift, a gate and a sum are one each."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        joint_attention_kwargs: None = None,
    ) -> tuple[Tensor, Tensor]:
        """Image (B, N, W) and text tokens (B, T, W), temb (B, W) -> text and image tokens."""
        image, text = hidden_states, encoder_hidden_states
        shift, scale, gate, *rest = modulation(self.norm1, temb, 6)
        text_shift, text_scale, text_gate, *text_rest = modulation(self.norm1_context, temb, 6)
        found, text_found = self.attn(
            hidden_states=modulated(self.norm1.norm, image, shift, scale),
            encoder_hidden_states=modulated(self.norm1_context.norm, text, text_shift, text_scale),
        )
        image = torch.addcmul(image, gate, found)
        text = torch.addcmul(text, text_gate, text_found)
        text = fed_forward(self.norm2_context, self.ff_context, text, *text_rest)
        return text, fed_forward(self.norm2, self.ff, image, *rest)


class LastBlock(JointTransformerBlock):
    """Without what nobody reads: of the image's tokens only keys and values are needed, which saves
    nearly half of the block."""

    def forward(
        self,
        hidden_states: Tensor,
        encoder_hidden_states: Tensor,
        temb: Tensor,
        joint_attention_kwargs: None = None,
    ) -> tuple[None, Tensor]:
        """Tokens (B, 2 N, W), the noisy first, text (B, T, W), temb (B, W) -> noisy (B, N, W)."""
        shift, scale, gate, *rest = modulation(self.norm1, temb, 6)
        text_scale, text_shift = modulation(self.norm1_context, temb, 2)
        image = modulated(self.norm1.norm, hidden_states, shift, scale)
        text = modulated(self.norm1_context.norm, encoder_hidden_states, text_shift, text_scale)
        noisy = slice(hidden_states.shape[1] // 2)
        found = answers(self.attn, image, text, noisy)
        tokens = torch.addcmul(hidden_states[:, noisy], gate, found)
        return None, fed_forward(self.norm2, self.ff, tokens, *rest)


def modulation(norm: Any, temb: Tensor, parts: int) -> tuple[Tensor, ...]:
    """What an adaptive norm makes of temb (B, W): parts of (B, 1, W)."""
    made: Tensor = norm.linear(norm.silu(temb))
    return made[:, None].chunk(parts, dim=-1)


def modulated(norm: nn.LayerNorm, tokens: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    # Of one sample the norm's own scale and shift can be these: no pass more. Not under autocast,
    # where types are mixed.
    if len(tokens) == 1 and tokens.dtype == scale.dtype == shift.dtype:
        shape, eps = norm.normalized_shape, norm.eps
        return functional.layer_norm(tokens, shape, 1 + scale.flatten(), shift.flatten(), eps)
    return torch.addcmul(shift, norm(tokens), 1 + scale)


def fed_forward(
    norm: nn.LayerNorm, layer: nn.Module, tokens: Tensor, shift: Tensor, scale: Tensor, gate: Tensor
) -> Tensor:
    return torch.addcmul(tokens, gate, layer(modulated(norm, tokens, shift, scale)))


def answers(attention: Any, image: Tensor, text: Tensor, asking: slice) -> Tensor:
    """What some of the image's tokens (B, N, W) find in all of them and in the text's (B, T, W)."""

    def heads(norm: nn.Module | None, tokens: Tensor) -> Tensor:
        parted = tokens.unflatten(-1, (attention.heads, -1))
        return (norm or nn.Identity())(parted)  # type: ignore[no-any-return]

    queries = heads(attention.norm_q, attention.to_q(image[:, asking]))
    keys = [
        heads(attention.norm_k, attention.to_k(image)),
        heads(attention.norm_added_k, attention.add_k_proj(text)),
    ]
    values = [heads(None, attention.to_v(image)), heads(None, attention.add_v_proj(text))]
    found = attend(queries, torch.cat(keys, dim=1), torch.cat(values, dim=1))
    answered: Tensor = attention.to_out[0](found.flatten(2))
    return answered

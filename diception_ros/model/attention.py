# SPDX-License-Identifier: Apache-2.0
"""Joint attention in fewer and larger operations than diffusers', above all for CPUs."""

from __future__ import annotations

import math
from typing import Any

import torch
from diffusers import SD3Transformer2DModel
from torch.nn import functional

SHORT = 256
"""Tokens up to which attention written out is faster than torch's kernel in float32, too."""
TILES = getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)()
"""Whether torch's kernel multiplies in a CPU's tiles in bfloat16. torch has no public name for it,
and may have none at all elsewhere."""
ROWS = 256
"""Queries that are answered at once, so that their scores stay in the cache."""


def write_out(transformer: SD3Transformer2DModel) -> None:
    """Has `attend` compute every attention without norms of q and k."""
    for attention in [block.attn for block in transformer.transformer_blocks]:
        if attention.norm_q is None and attention.norm_added_q is None:
            attention.set_processor(JointAttention())


class JointAttention:
    """diffusers' JointAttnProcessor2_0 for layers without norms, around `attend`."""

    def __call__(
        self,
        attention: Any,
        hidden_states: torch.Tensor,
        encoder_hidden_states: torch.Tensor,
        attention_mask: None = None,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Image (B, N, W) and text tokens (B, T, W)."""

        def heads(tokens: torch.Tensor) -> torch.Tensor:
            parted: torch.Tensor = tokens.unflatten(-1, (attention.heads, -1))
            return parted.transpose(1, 2)

        of_image = attention.to_q, attention.to_k, attention.to_v
        of_text = attention.add_q_proj, attention.add_k_proj, attention.add_v_proj
        parts = [
            torch.cat([heads(layer(hidden_states)), heads(text_layer(encoder_hidden_states))], 2)
            for layer, text_layer in zip(of_image, of_text, strict=True)
        ]
        found = attend(*(part.transpose(1, 2) for part in parts)).flatten(2)
        image, text = found.split((hidden_states.shape[1], encoder_hidden_states.shape[1]), dim=1)
        image = attention.to_out[0](image)
        return image, text if attention.context_pre_only else attention.to_add_out(text)


def attend(queries: torch.Tensor, keys: torch.Tensor, values: torch.Tensor) -> torch.Tensor:
    """(B, L, heads, D) each -> the same. Written out in bfloat16 on CPUs without AMX, where torch's
    kernel is no faster than in float32, at 0.6 to 0.9 of its time for 265 to 2,057 tokens; with AMX
    torch's takes 0.4 of the written one's time, but 1.4 times as long where gradients are needed.
    """
    q, k, v = (tensor.transpose(1, 2) for tensor in (queries, keys, values))
    single = q.dtype == torch.float32
    answering = not (q.requires_grad or k.requires_grad or v.requires_grad)
    if q.is_cuda or (q.shape[2] > SHORT if single else TILES and answering):
        return functional.scaled_dot_product_attention(q, k, v).transpose(1, 2)
    if answering and not torch.compiler.is_compiling():  # which places results by itself
        return _answered(q, k, v)
    q, k, v = q * q.shape[-1] ** -0.5, k.contiguous().transpose(-1, -2), v.contiguous()
    parts = [torch.matmul(torch.matmul(rows, k).softmax(-1), v) for rows in _rows(q)]
    return torch.cat(parts, dim=2).transpose(1, 2)


def _answered(q: torch.Tensor, k: torch.Tensor, v: torch.Tensor) -> torch.Tensor:
    """(B, heads, L, D) -> (B, L, heads, D). All scores are written to one place, and the weights
    over them, so that they stay in the cache."""
    count, heads, length, depth = q.shape
    q = torch.mul(q, depth**-0.5, out=q.new_empty(q.shape))
    k, v = (tensor.flatten(0, 1).contiguous() for tensor in (k, v))
    parts, found = _rows(q), q.new_empty(count, length, heads, depth)
    place = q.new_empty(count * heads * parts[0].shape[2] * k.shape[1])
    for rows, answer in zip(parts, found.split(parts[0].shape[2], dim=1), strict=True):
        shape = count * heads, rows.shape[2], k.shape[1]
        scores = torch.bmm(rows.flatten(0, 1), k.mT, out=place[: math.prod(shape)].view(shape))
        weights = torch.softmax(scores, -1, out=scores)
        answer.copy_(torch.bmm(weights, v).unflatten(0, (count, heads)).transpose(1, 2))
    return found


def _rows(queries: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """(B, heads, L, D) in equal parts of at most ROWS queries."""
    length = queries.shape[2]
    return torch.split(queries, -(-length // -(-length // ROWS)), dim=2)

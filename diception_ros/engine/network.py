# SPDX-License-Identifier: Apache-2.0
"""What the stages compute, as functions of tensors, and how a model is prepared for its device."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch

from diception_ros.model import Diception
from diception_ros.model.attention import write_out
from diception_ros.model.products import fuse
from diception_ros.model.upsampling import fold

SHAPES = 64
"""Shapes, times kinds of blocks, that are compiled."""


def prepare(model: Diception, *, compiled: bool) -> None:
    """The autoencoder's memory format, faster products on a CPU, and torch.compile where it pays.

    Eager group norms in channels_last are slow on a GPU: SD3's decoder at 768 x 768 takes 66 ms on
    an H200, 48 ms in torch's own format and 20 ms compiled, when channels_last pays again. Blocks
    are compiled one by one, so that one compilation serves all of them and an adapter that is
    merged in place is seen. Nothing is compiled before it is first called.
    """
    if model.device.type == "cpu":
        write_out(model.transformer)
        fuse(model.transformer)
        fold(model.vae.decoder)
    choose_format(model, compiled=compiled)
    if compiled:
        parts = [*model.transformer.transformer_blocks, model.vae.encoder, model.vae.decoder]
        for part in parts:  # a shape at a time: code for shapes that vary is slower
            part.compile(dynamic=False)


def allow_shapes() -> None:
    """SHAPES instead of eight, at which torch gives up without a word to users. Its settings are
    each thread's own, so whoever computes has to call this."""
    settings = torch._dynamo.config  # under the name that torch 2.5 has as well
    settings.cache_size_limit = max(SHAPES, settings.cache_size_limit)


def stance(name: str) -> AbstractContextManager[Any]:
    """torch.compiler.set_stance; nothing before torch 2.6, which has none."""
    found = getattr(torch.compiler, "set_stance", None)
    return nullcontext() if found is None else found(name)


def choose_format(model: Diception, *, compiled: bool) -> None:
    """Of the autoencoder's memory: see prepare."""
    plain = model.device.type == "cuda" and not compiled
    model.vae.to(memory_format=torch.contiguous_format if plain else torch.channels_last)


def denoise(model: Diception, sigmas: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
    """inputs: noise, image latents, embeds, pooled and point tokens, as Stages.denoise."""
    noise, image_latents, embeds, pooled, tokens = inputs
    return model.denoise_embedded(noise, image_latents, embeds, pooled, tokens, sigmas, 1.0)


def denoise_guided(model: Diception, sigmas: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
    """inputs: as denoise, then the empty prompt's embeds and pooled, and the scale (N, 1, 1, 1)."""
    noise, image_latents, embeds, pooled, tokens, empty, empty_pooled, scale = inputs
    return model.denoise_embedded(
        noise,
        torch.cat([image_latents, image_latents]),
        torch.cat([empty, embeds]),
        torch.cat([empty_pooled, pooled]),
        torch.cat([torch.zeros_like(tokens), tokens]),
        sigmas,
        scale,
    )


def decode(model: Diception, latents: torch.Tensor) -> torch.Tensor:
    """As Stages.decode."""
    return model.decode_latents(latents.to(model.dtype)).float()

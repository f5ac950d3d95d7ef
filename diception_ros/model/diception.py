# SPDX-License-Identifier: Apache-2.0
"""Diception: one network whose every answer is a generated image."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from torch import nn

from diception_ros.imaging import POINT_TOKENS
from diception_ros.model import autoencoder, sampling
from diception_ros.model.allocator import keep_freed_memory
from diception_ros.model.blocks import lean
from diception_ros.model.bundle import BundleInfo, read_parts
from diception_ros.model.points import PointEmbedder
from diception_ros.model.positions import StretchedPatchEmbed
from diception_ros.model.prompts import PromptBank
from diception_ros.model.transformer import velocity


class Diception(nn.Module):
    """Transformer, autoencoder, point embedder, prompt bank and sampler of one bundle.

    One class for every size: SD3-medium and the embedded model differ only in configuration.
    """

    def __init__(
        self,
        transformer: SD3Transformer2DModel,
        vae: autoencoder.Autoencoder,
        point_embedder: PointEmbedder,
        prompts: PromptBank,
        scheduler: FlowMatchEulerDiscreteScheduler,
        info: BundleInfo,
    ) -> None:
        super().__init__()
        self.transformer = transformer
        lean(transformer)
        self.vae = vae.to(memory_format=torch.channels_last)  # a third less time on a CPU
        self.point_embedder = point_embedder
        self.prompts = prompts
        self.scheduler = scheduler
        self.info = info
        if info.positions == "stretch":
            patch, (_, *latents) = transformer.config.patch_size, self.latent_shape(*info.canvas)
            tokens = latents[0] // patch, latents[1] // patch
            transformer.pos_embed = StretchedPatchEmbed(transformer.pos_embed, tokens)

    @classmethod
    def load(
        cls,
        bundle: str | Path,
        device: str | torch.device = "cpu",
        dtype: torch.dtype = torch.float32,
    ) -> Diception:
        """The model of a bundle directory, ready for inference.

        ValueError names every missing, unexpected or misshapen key or file.
        """
        if torch.device(device).type == "cpu":
            keep_freed_memory()
        model = cls(**read_parts(Path(bundle), dtype))
        return model.to(device).eval().requires_grad_(False)

    @classmethod
    def from_parts(cls, *parts: Any, **named: Any) -> Diception:
        """The same as the constructor."""
        return cls(*parts, **named)

    @property
    def device(self) -> torch.device:
        device: torch.device = next(self.transformer.parameters()).device
        return device

    @property
    def dtype(self) -> torch.dtype:
        dtype: torch.dtype = next(self.transformer.parameters()).dtype
        return dtype

    def velocity(
        self,
        latents: torch.Tensor,
        image_latents: torch.Tensor,
        timesteps: torch.Tensor,
        prompt_embeds: torch.Tensor,
        pooled: torch.Tensor,
        point_tokens: torch.Tensor,
    ) -> torch.Tensor:
        """See diception_ros.model.transformer.velocity."""
        return velocity(
            self.transformer,
            latents,
            image_latents,
            timesteps,
            prompt_embeds,
            pooled,
            point_tokens,
        )

    def encode_image(self, images: torch.Tensor) -> torch.Tensor:
        """Images (B, 3, H, W) in [-1, 1] -> scaled latents (B, C, H/f, W/f)."""
        return autoencoder.encode(self.vae, images)

    def decode_latents(self, latents: torch.Tensor) -> torch.Tensor:
        """Scaled latents (B, C, h, w) -> images (B, 3, h*f, w*f) in [0, 1]."""
        return autoencoder.decode(self.vae, latents)

    def point_tokens(
        self, points: torch.Tensor | None, labels: torch.Tensor | None, batch: int
    ) -> torch.Tensor:
        """(B, 5, width). Without points: five times (0, 0) with label 0, as the authors feed it."""
        if points is None:
            points = torch.zeros(batch, POINT_TOKENS, 2)
        if labels is None:
            labels = torch.zeros(points.shape[:2], dtype=torch.long)
        if points.shape != (batch, POINT_TOKENS, 2) or labels.shape != (batch, POINT_TOKENS):
            raise ValueError(
                f"expected points ({batch}, 5, 2) and labels ({batch}, 5), "
                f"got {tuple(points.shape)} and {tuple(labels.shape)}"
            )
        tokens: torch.Tensor = self.point_embedder(points.to(self.device), labels.to(self.device))
        return tokens.to(self.dtype)

    def latent_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """(C, h, w) of an image's latents; ValueError for a size the patches do not divide."""
        factor = autoencoder.downsampling(self.vae)
        multiple = factor * int(self.transformer.config.patch_size)
        if height % multiple or width % multiple:
            raise ValueError(
                f"image size {height}x{width}: height and width must be multiples of {multiple}"
            )
        return int(self.transformer.config.in_channels), height // factor, width // factor

    def fixed_noise(self, height: int, width: int, seed: int = 0) -> torch.Tensor:
        """The start (1, C, h, w) float32 that serving uses for every image, drawn on the CPU so
        that it is the same on every device."""
        generator = torch.Generator("cpu").manual_seed(seed)
        return torch.randn((1, *self.latent_shape(height, width)), generator=generator)

    @torch.no_grad()
    def generate(
        self,
        images: torch.Tensor,
        prompts: Sequence[str],
        *,
        points: torch.Tensor | None = None,
        point_labels: torch.Tensor | None = None,
        steps: int = 1,
        guidance: float = 1.0,
        noise: torch.Tensor | None = None,
        sigmas: Sequence[float] | None = None,
    ) -> torch.Tensor:
        """Images (B, 3, H, W) in [-1, 1] and B prompts -> generated images (B, 3, H, W) in [0, 1].

        points (B, 5, 2) in 0..1 in the bundle's axis order, point_labels (B, 5). noise
        (B, C, h, w); None is the fixed noise of seed 0. sigmas replaces the list that steps gives.
        guidance <= 1 computes no unconditional branch.
        """
        if images.ndim != 4 or len(images) != len(prompts):
            raise ValueError(
                f"expected images (B, 3, H, W) and B prompts, got {tuple(images.shape)} "
                f"and {len(prompts)} prompts"
            )
        batch, (height, width) = len(images), images.shape[-2:]
        if noise is None:
            noise = self.fixed_noise(height, width).expand(batch, -1, -1, -1)
        elif noise.shape != (batch, *self.latent_shape(height, width)):
            expected = (batch, *self.latent_shape(height, width))
            raise ValueError(f"noise: expected shape {expected}, got {tuple(noise.shape)}")
        schedule = (
            sampling.default_sigmas(self.scheduler, steps)
            if sigmas is None
            else sampling.check_sigmas(sigmas)
        )
        image_latents = self.encode_image(images.to(self.device, self.dtype))
        tokens = self.point_tokens(points, point_labels, batch)
        latents = self.denoise(
            noise.to(self.device), image_latents, prompts, tokens, schedule, guidance
        )
        return self.decode_latents(latents.to(self.dtype)).float()

    def denoise(
        self,
        noise: torch.Tensor,
        image_latents: torch.Tensor,
        prompts: Sequence[str],
        point_tokens: torch.Tensor,
        sigmas: Sequence[float],
        guidance: float = 1.0,
    ) -> torch.Tensor:
        """Noise and image latents (B, C, h, w) -> result latents, float32."""
        embeds, pooled = self.prompts.lookup(prompts)
        if guidance > 1:
            empty, empty_pooled = self.prompts.lookup([""] * len(prompts))
            embeds, pooled = torch.cat([empty, embeds]), torch.cat([empty_pooled, pooled])
            # The unconditional half: empty prompt, zero point tokens, the same image.
            point_tokens = torch.cat([torch.zeros_like(point_tokens), point_tokens])
            image_latents = torch.cat([image_latents, image_latents])
        return self.denoise_embedded(
            noise,
            image_latents,
            embeds.to(self.device, self.dtype),
            pooled.to(self.device, self.dtype),
            point_tokens,
            torch.tensor(list(sigmas), dtype=torch.float32, device=self.device),
            guidance,
        )

    def denoise_embedded(
        self,
        noise: torch.Tensor,
        image_latents: torch.Tensor,
        embeds: torch.Tensor,
        pooled: torch.Tensor,
        point_tokens: torch.Tensor,
        sigmas: torch.Tensor,
        guidance: float | torch.Tensor,
    ) -> torch.Tensor:
        """Tensors only, nothing looked up: what a graph captures. With guidance the conditions
        have batch 2B, the unconditional half first; the noise always has batch B."""

        def plain(latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
            return self.velocity(
                latents.to(self.dtype), image_latents, timesteps, embeds, pooled, point_tokens
            )

        doubled = len(image_latents) == 2 * len(noise)
        return sampling.euler(sampling.guided(plain, guidance) if doubled else plain, noise, sigmas)

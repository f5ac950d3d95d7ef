# SPDX-License-Identifier: Apache-2.0
"""The obvious alternative, to measure against: plain diffusers-style code, as the authors run it.

One call per task and image. Every call resizes with PIL, encodes the image, makes its scheduler's
table, steps with the scheduler object, concatenates for guidance and decodes; nothing is shared,
captured or kept. Written after the published inference code (see README, licences), not copied.
"""

from __future__ import annotations

import copy
from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.models.attention_processor import JointAttnProcessor2_0
from PIL import Image as Pil

from diception_ros.engine.network import stance
from diception_ros.imaging import Canvas
from diception_ros.model import Diception
from diception_ros.model.autoencoder import decode, encode
from diception_ros.model.blocks import restore
from diception_ros.model.products import unfuse
from diception_ros.model.transformer import velocity
from diception_ros.model.upsampling import unfold

Velocity = Callable[..., torch.Tensor]


class Naive:
    """Its own copies of the autoencoder, in torch's default memory format, and of the scheduler;
    the transformer's weights are the engine's, its layers are diffusers' own. compiled:
    torch.compile's mode, or None.
    """

    def __init__(self, model: Diception, canvas: Canvas, compiled: str | None = None) -> None:
        self._model, self._canvas = model, canvas
        self._vae = copy.deepcopy(model.vae).to(memory_format=torch.contiguous_format)
        unfold(self._vae.decoder)
        weights = {id(weight): weight for weight in model.transformer.parameters()}
        self._transformer = copy.deepcopy(model.transformer, weights)
        self._transformer.set_attn_processor(JointAttnProcessor2_0())
        unfuse(self._transformer)
        restore(self._transformer)
        self._scheduler = FlowMatchEulerDiscreteScheduler.from_config(model.scheduler.config)
        self._compiled = compiled is not None
        self._velocity: Velocity = velocity
        if compiled is not None:
            # A shape at a time, as its own best: shapes that vary compile to slower code.
            self._velocity = torch.compile(velocity, mode=compiled, dynamic=False)

    @torch.inference_mode()
    def __call__(
        self, image: npt.NDArray[np.uint8], prompt: str, steps: int, guidance: float, seed: int = 0
    ) -> npt.NDArray[np.float32]:
        """RGB uint8 (H, W, 3) -> generated colours (H, W, 3) float32 in [0, 1]."""
        # The engine may have compiled the blocks of the shared transformer.
        with stance("default" if self._compiled else "force_eager"):
            return self._generate(image, prompt, steps, guidance, seed)

    def _generate(
        self, image: npt.NDArray[np.uint8], prompt: str, steps: int, guidance: float, seed: int
    ) -> npt.NDArray[np.float32]:
        model, size = self._model, (self._canvas.width, self._canvas.height)
        resized = np.asarray(Pil.fromarray(image).resize(size, Pil.Resampling.LANCZOS))
        pixels = torch.from_numpy(resized.copy()).permute(2, 0, 1)[None].to(model.device)
        latents = encode(self._vae, (pixels / 127.5 - 1).to(model.dtype))
        generated = decode(self._vae, self._sample(latents, prompt, steps, guidance, seed))
        picture = (generated[0].float().permute(1, 2, 0).cpu().numpy() * 255).round()
        back = Pil.fromarray(picture.astype(np.uint8)).resize((image.shape[1], image.shape[0]))
        colours: npt.NDArray[np.float32] = np.asarray(back, np.float32) / np.float32(255)
        return colours

    def _sample(
        self, image: torch.Tensor, prompt: str, steps: int, guidance: float, seed: int
    ) -> torch.Tensor:
        model, guided = self._model, guidance > 1
        embeds, pooled = model.prompts.lookup(["", prompt] if guided else [prompt])
        embeds, pooled = embeds.to(image), pooled.to(image)
        tokens = model.point_tokens(None, None, 1)
        if guided:
            tokens = torch.cat([torch.zeros_like(tokens), tokens])
            image = torch.cat([image, image])
        x = model.fixed_noise(self._canvas.height, self._canvas.width, seed).to(image)
        self._scheduler.set_timesteps(steps, device=model.device)
        for timestep in self._scheduler.timesteps:
            entered = torch.cat([x, x]) if guided else x
            times = timestep.expand(len(entered))
            predicted = self._velocity(
                self._transformer, entered, image, times, embeds, pooled, tokens
            )
            if guided:
                unconditional, conditional = predicted.chunk(2)
                predicted = unconditional + guidance * (conditional - unconditional)
            x = self._scheduler.step(predicted, timestep, x, return_dict=False)[0]
        return x.to(model.dtype)

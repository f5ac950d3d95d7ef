# SPDX-License-Identifier: Apache-2.0
"""The three tensor stages (encode, denoise, decode) in fixed shapes, captured on a GPU."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial

import torch

from diception_ros.engine.cuda_graph import TensorFunction, capture
from diception_ros.model import Diception
from diception_ros.model.sampling import default_sigmas

logger = logging.getLogger(__name__)
BUCKETS = (1, 2, 3, 4, 6, 8)
"""Batch sizes that graphs are captured for; larger max_batch values add their own size."""


class Stages:
    """Runs the model's stages on whole batches.

    On a GPU each batch is padded to a bucket and every (stage, bucket, settings) is one captured
    graph; on a CPU shapes are taken as they come and run eagerly.
    """

    def __init__(self, model: Diception, canvas: tuple[int, int], max_batch: int, graphs: bool):
        self.model, self.canvas, self.max_batch = model, canvas, max_batch
        self.graphs = graphs and model.device.type == "cuda"
        self.failure = ""
        self._buckets = sorted({size for size in BUCKETS if size <= max_batch} | {max_batch})
        self._captured: dict[tuple[object, ...], TensorFunction] = {}
        self._tables: dict[int, torch.Tensor] = {}

    @property
    def state(self) -> str:
        """One line for people: eager or captured, and why."""
        if self.failure:
            return f"failed: {self.failure}; running eagerly"
        if self.graphs:
            return f"captured ({len(self._captured)} graphs)"
        return f"eager ({self.model.device.type})"

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, h, w) in [-1, 1] -> image latents (N, C, h/f, w/f)."""
        return self._run(("encode",), self.model.encode_image, images)

    def denoise(
        self,
        noise: torch.Tensor,
        image_latents: torch.Tensor,
        conditions: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        unconditional: tuple[torch.Tensor, torch.Tensor] | None,
        steps: int,
        guidance: float,
    ) -> torch.Tensor:
        """Result latents (N, C, h, w) of N requests with equal settings.

        conditions: embeds (N, T, D), pooled (N, P), point tokens (N, 5, W). unconditional: the
        empty prompt's embeds (1, T, D) and pooled (1, P), or None without guidance.
        """
        sigmas = self._sigmas(steps)
        if unconditional is None:
            function = partial(_denoise, self.model, sigmas)
            return self._run(("denoise", steps), function, noise, image_latents, *conditions)
        empty, empty_pooled = (part.expand(len(noise), *part.shape[1:]) for part in unconditional)
        # A tensor, so that a new value needs no new graph.
        scale = torch.full((len(noise), 1, 1, 1), guidance, device=noise.device)
        function = partial(_denoise_guided, self.model, sigmas)
        key = ("denoise guided", steps)
        return self._run(
            key, function, noise, image_latents, *conditions, empty, empty_pooled, scale
        )

    def _sigmas(self, steps: int) -> torch.Tensor:
        """The list on the device, made once: a captured graph keeps reading this very tensor."""
        if steps not in self._tables:
            values = default_sigmas(self.model.scheduler, steps)
            self._tables[steps] = torch.tensor(values, device=self.model.device)
        return self._tables[steps]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (N, C, h, w) -> images (N, 3, H, W) float32 in [0, 1]."""
        return self._run(("decode",), partial(_decode, self.model), latents)

    def _run(
        self, key: tuple[object, ...], function: TensorFunction, *inputs: torch.Tensor
    ) -> torch.Tensor:
        if not self.graphs:
            return _in_chunks(function, inputs, self.max_batch)
        return _in_chunks(partial(self._replay, key, function), inputs, self.max_batch)

    def _replay(
        self, key: tuple[object, ...], function: TensorFunction, *inputs: torch.Tensor
    ) -> torch.Tensor:
        count = len(inputs[0])
        size = next(bucket for bucket in self._buckets if bucket >= count)
        padded = [_pad(tensor, size) for tensor in inputs]
        # The shape is part of the key: another canvas is another graph.
        bucket = (*key, size, tuple(inputs[0].shape[1:]))
        if bucket not in self._captured:
            self._captured[bucket] = self._capture(bucket, function, padded)
        return self._captured[bucket](*padded)[:count]

    def _capture(
        self, bucket: tuple[object, ...], function: TensorFunction, inputs: list[torch.Tensor]
    ) -> TensorFunction:
        try:
            return capture(function, inputs)
        except RuntimeError as error:  # torch raises nothing narrower for a failed capture
            self.failure = f"capture of {bucket}: {str(error).splitlines()[0]}"
            logger.error("CUDA graph %s", self.failure)
            return function


def _denoise(model: Diception, sigmas: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
    noise, image_latents, embeds, pooled, tokens = inputs
    return model.denoise_embedded(noise, image_latents, embeds, pooled, tokens, sigmas, 1.0)


def _denoise_guided(model: Diception, sigmas: torch.Tensor, *inputs: torch.Tensor) -> torch.Tensor:
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


def _decode(model: Diception, latents: torch.Tensor) -> torch.Tensor:
    return model.decode_latents(latents.to(model.dtype)).float()


def _in_chunks(
    function: Callable[..., torch.Tensor], inputs: tuple[torch.Tensor, ...], size: int
) -> torch.Tensor:
    """Calls the function on at most `size` rows at a time."""
    if len(inputs[0]) <= size:
        return function(*inputs)
    chunks = zip(*(tensor.split(size) for tensor in inputs), strict=True)
    return torch.cat([function(*chunk) for chunk in chunks])


def _pad(tensor: torch.Tensor, size: int) -> torch.Tensor:
    """Repeats the last row up to `size` rows."""
    missing = size - len(tensor)
    if missing == 0:
        return tensor
    return torch.cat([tensor, tensor[-1:].expand(missing, *tensor.shape[1:])])

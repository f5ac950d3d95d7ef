# SPDX-License-Identifier: Apache-2.0
"""The three tensor stages (encode, denoise, decode) in fixed shapes, captured on a GPU."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial

import torch

from diception_ros.engine.cuda_graph import TensorFunction, capture
from diception_ros.engine.jobs import Settings
from diception_ros.engine.network import (
    allow_shapes,
    choose_format,
    decode,
    denoise,
    denoise_guided,
    stance,
)
from diception_ros.model import Diception
from diception_ros.model.autoencoder import downsampling, projection

logger = logging.getLogger(__name__)
BUCKETS = (1, 2, 3, 4, 6, 8)
"""Batch sizes that graphs are captured for; larger max_batch values add their own size."""
PIXELS = 3 * 512 * 512
"""Of all pictures that the autoencoder works on at once, if they are more than one: by then it
fills a GPU, and its memory grows with them."""


class Stages:
    """Runs the model's stages on whole batches.

    On a GPU each batch is padded to a bucket and every (stage, bucket, settings) is one captured
    graph; on a CPU shapes are taken as they come and run eagerly. A batch that memory is too small
    for is halved, for good: the answers come later, but they come. Where a compiler fails, the
    model goes on without it.
    """

    def __init__(
        self, model: Diception, max_batch: int, graphs: bool, compiled: bool = False
    ) -> None:
        self.model, self.max_batch, self.compiled = model, max_batch, compiled
        self.graphs = graphs and model.device.type == "cuda"
        self.failure, self.pressure, self.uncompiled = "", "", ""
        self.captures = 0  # so far, failed ones as well
        self._encode: TensorFunction = projection(model.vae) or model.encode_image
        self._pool = torch.cuda.graph_pool_handle() if self.graphs else None
        self._captured: dict[tuple[object, ...], TensorFunction] = {}
        self._tables: dict[tuple[float, ...], torch.Tensor] = {}

    @property
    def state(self) -> str:
        """One line for people: eager or captured, and why."""
        if self.failure:
            return self.faults + self.pressure
        captured = f"captured ({len(self._captured)} graphs)"
        how = captured if self.graphs else f"eager ({self.model.device.type})"
        return "; ".join(filter(None, [how, self.faults])) + self.pressure

    @property
    def faults(self) -> str:
        """What was asked for and does not run, and why; empty if there is nothing."""
        failed = [f"failed: {self.failure}; running eagerly"] if self.failure else []
        if self.uncompiled:
            failed.append(f"torch.compile failed, running without: {self.uncompiled}")
        return "; ".join(failed)

    def encode(self, images: torch.Tensor) -> torch.Tensor:
        """(N, 3, h, w) in [-1, 1] -> image latents (N, C, h/f, w/f)."""
        most = _together(*images.shape[-2:])
        return self._run(("encode",), self._encode, images, most=most)

    def denoise(
        self,
        noise: torch.Tensor,
        image_latents: torch.Tensor,
        conditions: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
        unconditional: tuple[torch.Tensor, torch.Tensor] | None,
        settings: Settings,
    ) -> torch.Tensor:
        """Result latents (N, C, h, w) of N requests with equal settings.

        conditions: embeds (N, T, D), pooled (N, P), point tokens (N, 5, W). unconditional: the
        empty prompt's embeds (1, T, D) and pooled (1, P), or None without guidance.
        """
        sigmas = self._sigmas(settings.sigmas)
        if unconditional is None:
            function = partial(denoise, self.model, sigmas)
            return self._run(
                ("denoise", settings.sigmas), function, noise, image_latents, *conditions
            )
        empty, empty_pooled = (part.expand(len(noise), *part.shape[1:]) for part in unconditional)
        # A tensor, so that a new value needs no new graph.
        scale = torch.full((len(noise), 1, 1, 1), settings.guidance, device=noise.device)
        function = partial(denoise_guided, self.model, sigmas)
        key = ("denoise guided", settings.sigmas)
        return self._run(
            key, function, noise, image_latents, *conditions, empty, empty_pooled, scale
        )

    def _sigmas(self, values: tuple[float, ...]) -> torch.Tensor:
        """The list on the device, made once: a captured graph keeps reading this very tensor."""
        if values not in self._tables:
            self._tables[values] = torch.tensor(values, device=self.model.device)
        return self._tables[values]

    def decode(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (N, C, h, w) -> images (N, 3, H, W) float32 in [0, 1]."""
        scale = downsampling(self.model.vae)
        most = _together(*(scale * side for side in latents.shape[-2:]))
        return self._run(("decode",), partial(decode, self.model), latents, most=most)

    def _run(
        self,
        key: tuple[object, ...],
        function: TensorFunction,
        *inputs: torch.Tensor,
        most: float = math.inf,
    ) -> torch.Tensor:
        """most: rows at once, if that is less than max_batch."""
        call = partial(self._replay, key, function) if self.graphs else function
        if self.compiled:
            allow_shapes()
        while True:
            try:
                with stance("force_eager") if self.uncompiled else nullcontext():
                    return _in_chunks(call, inputs, int(min(self.max_batch, most)))
            except torch.OutOfMemoryError as error:
                cause = str(error).splitlines()[0]
            except RuntimeError as error:
                if not self._of_compiler(error):
                    raise
                self._go_uncompiled(error)
                continue
            # Out of the handler: the error's traceback holds all tensors of the failed call.
            self._degrade(key, cause)

    def _of_compiler(self, error: RuntimeError) -> bool:
        if not self.compiled or self.uncompiled:
            return False
        from torch._dynamo.exc import TorchDynamoException  # a second, and only then known

        return isinstance(error, TorchDynamoException)

    def _go_uncompiled(self, error: RuntimeError) -> None:
        cause = next(iter(str(error).strip().splitlines()), type(error).__name__)
        self.uncompiled = cause
        self._captured.clear()  # they read weights in the format of before
        choose_format(self.model, compiled=False)
        logger.error("torch.compile failed, running without it: %s", cause)

    def _degrade(self, key: tuple[object, ...], cause: str) -> None:
        """Half the batch, and the memory of all graphs back. With one request at a time nothing
        smaller is left: requests run one after another, so leaving some out frees nothing."""
        if self.max_batch == 1:
            raise ValueError(
                f"out of memory in {key[0]} with one request at a time: free the GPU's memory, "
                f"or choose a smaller canvas ({cause})"
            )
        self.max_batch //= 2
        self._captured.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        if self.graphs:
            self._pool = torch.cuda.graph_pool_handle()
        self.pressure = f"; out of memory in {key[0]}: batches of at most {self.max_batch} since"
        logger.warning("out of memory in %s: batches of at most %d now", key[0], self.max_batch)

    def _replay(
        self, key: tuple[object, ...], function: TensorFunction, *inputs: torch.Tensor
    ) -> torch.Tensor:
        count = len(inputs[0])
        size = min(bucket for bucket in (*BUCKETS, self.max_batch) if bucket >= count)
        padded = [_pad(tensor, size) for tensor in inputs]
        # The shape is part of the key: another canvas is another graph.
        bucket = (*key, size, tuple(inputs[0].shape[1:]))
        if bucket not in self._captured:
            self.captures += 1
            self._captured[bucket] = self._capture(bucket, function, padded)
        return self._captured[bucket](*padded)[:count]

    def _capture(
        self, bucket: tuple[object, ...], function: TensorFunction, inputs: list[torch.Tensor]
    ) -> TensorFunction:
        # Out of memory is not a failed capture: a smaller batch may fit. No name may outlive its
        # handler: the traceback has this frame, and a cycle would keep what the call had taken.
        try:
            return capture(function, inputs, self._pool)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:  # torch raises nothing narrower for a failed capture
            if isinstance(error.__context__, torch.OutOfMemoryError):
                raise error.__context__ from None  # amid a capture it is the cause of ending it
            if self._of_compiler(error):
                raise
            self.failure = f"capture of {bucket}: {str(error).splitlines()[0]}"
            logger.error("CUDA graph %s", self.failure)
            return function


def _together(height: int, width: int) -> int:
    """Pictures of that size that the autoencoder works on at once."""
    return max(1, PIXELS // (height * width))


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

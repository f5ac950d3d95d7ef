# SPDX-License-Identifier: Apache-2.0
"""Images to the device and answers back, beside what it computes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

Float = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Arrival:
    """Answers on their way to the host. done: of the last copy, None where nothing is copied."""

    tensors: Sequence[torch.Tensor]
    done: torch.cuda.Event | None = None

    def arrays(self) -> list[Float]:
        """Waits for them, by whatever thread."""
        if self.done is not None:
            self.done.synchronize()
        return [tensor.numpy() for tensor in self.tensors]


class Transfers:
    """On a GPU each direction has a stream of its own, so that one call's images and another's
    answers cross while a third computes; on a CPU nothing crosses.

    Host buffers are pinned and come from torch's cache of them, which gives none out again before
    its copy is done: as many as calls are in flight, two with overlap. Results may keep theirs.
    """

    def __init__(self, device: torch.device) -> None:
        self._device = device
        cuda = device.type == "cuda"
        self._up = torch.cuda.Stream(device) if cuda else None
        self._down = torch.cuda.Stream(device) if cuda else None

    def upload(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[torch.Tensor]:
        """RGB uint8 (H, W, 3) each -> the same on the device, for the current stream. Only bytes
        cross."""
        pixels = [torch.from_numpy(np.ascontiguousarray(image)) for image in images]
        if self._up is None:
            return pixels
        with torch.cuda.stream(self._up):
            sent = [one.pin_memory().to(self._device, non_blocking=True) for one in pixels]
        current = torch.cuda.current_stream(self._device)
        current.wait_stream(self._up)
        for one in sent:
            one.record_stream(current)  # its memory belongs to the other stream
        return sent

    def download(self, answers: Sequence[torch.Tensor]) -> Arrival:
        """What the current stream computes, on its way to the host."""
        if self._down is None:
            return Arrival(answers)
        self._down.wait_stream(torch.cuda.current_stream(self._device))
        with torch.cuda.stream(self._down):
            received = [_received(answer, self._down) for answer in answers]
            done = torch.cuda.Event(enable_timing=True)
            done.record(self._down)
        return Arrival(received, done)


def _received(answer: torch.Tensor, stream: torch.cuda.Stream) -> torch.Tensor:
    host = torch.empty(answer.shape, dtype=answer.dtype, pin_memory=True)
    host.copy_(answer, non_blocking=True)
    answer.record_stream(stream)
    return host

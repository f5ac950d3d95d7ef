# SPDX-License-Identifier: Apache-2.0
"""CUDA graphs: capture a function of tensors once, replay it with its contract checked.

On a CPU the wrapper is the function itself.
"""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import torch

TensorFunction = Callable[..., torch.Tensor]
WARM_UP_RUNS = 1
"""Everything that is made on first use is made by one run, and 28 steps of a large network are
seconds."""
_CAPTURE_LOCK = threading.Lock()
"""One capture at a time in a process: work launched meanwhile would be recorded too."""


class CapturedFunction:
    """Replays a graph: inputs are copied into static buffers, the output is cloned out.

    Not safe for concurrent calls; the engine holds its lock around them. pool: of
    torch.cuda.graph_pool_handle(), memory that graphs may share if no two replay at a time, in
    whatever order, since each output is out of it before the next replay; None: a pool of its own.
    """

    def __init__(
        self, function: TensorFunction, examples: Sequence[torch.Tensor], pool: Any = None
    ) -> None:
        self._pool = pool
        self._inputs = [example.clone() for example in examples]
        with _CAPTURE_LOCK:
            self._warm_up(function)
            self._graph, self._output = self._capture(function)

    def _warm_up(self, function: TensorFunction) -> None:
        side = _side_stream(torch.cuda.current_device())
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for _ in range(WARM_UP_RUNS):
                function(*self._inputs)
        torch.cuda.current_stream().wait_stream(side)

    def _capture(self, function: TensorFunction) -> tuple[torch.cuda.CUDAGraph, torch.Tensor]:
        graph, side = torch.cuda.CUDAGraph(), _side_stream(torch.cuda.current_device())
        collecting = gc.isenabled()
        gc.disable()  # a tensor freed by a collection during capture would break the graph
        try:
            # Other threads may copy and resize meanwhile: only this thread's work is recorded. The
            # outer context restores the stream, which torch leaves changed when a capture fails.
            with (
                torch.cuda.stream(torch.cuda.current_stream()),
                torch.cuda.graph(graph, self._pool, side, capture_error_mode="thread_local"),
            ):
                output = function(*self._inputs)
        finally:
            if collecting:
                gc.enable()
        return graph, output

    def __call__(self, *inputs: torch.Tensor) -> torch.Tensor:
        check_contract(self._inputs, inputs)
        for static, given in zip(self._inputs, inputs, strict=True):
            static.copy_(given, non_blocking=True)
        self._graph.replay()
        return self._output.clone()


@cache
def _side_stream(device: int) -> torch.cuda.Stream:
    """For warming up and capturing. One a GPU: cuBLAS keeps a workspace of 32 MiB for each."""
    return torch.cuda.Stream(device)


def capture(
    function: TensorFunction, examples: Sequence[torch.Tensor], pool: Any = None
) -> TensorFunction:
    """The function as a graph on a GPU; on a CPU the function itself. pool: as there."""
    if not examples or examples[0].device.type != "cuda":
        return function
    return CapturedFunction(function, examples, pool)


def check_contract(expected: Sequence[torch.Tensor], given: Sequence[torch.Tensor]) -> None:
    """ValueError says which input changed its shape, dtype or device since the capture."""
    if len(expected) != len(given):
        raise ValueError(f"captured with {len(expected)} inputs, replayed with {len(given)}")
    for i, (old, new) in enumerate(zip(expected, given, strict=True)):
        was, now = _signature(old), _signature(new)
        if was != now:
            raise ValueError(f"input {i} changed since capture: was {was}, now {now}")


def _signature(tensor: torch.Tensor) -> str:
    return f"{tuple(tensor.shape)} {tensor.dtype} on {tensor.device}"

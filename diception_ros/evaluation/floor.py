# SPDX-License-Identifier: Apache-2.0
"""The least time that a computation can take on a device: its work over measured rates."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch.utils.flop_counter import FlopCounterMode

from diception_ros.engine.network import stance

REPEATS = 5
WARM_UP = 2
GPU_SECONDS = 0.4
"""Longer, for an idle GPU needs a while to raise its clock."""


@dataclass(frozen=True)
class Rates:
    """flops: floating-point operations a second of a large matrix product in the dtype used.
    bandwidth: bytes a second, read plus written, of a large copy."""

    flops: float
    bandwidth: float


def measure_rates(device: torch.device, dtype: torch.dtype) -> Rates:
    """Best of a few runs: a floor must not be lifted by other work on the machine."""
    side = 8192 if device.type == "cuda" else 1024
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))
    product = _best_seconds(lambda: torch.mm(a, b), device)
    source = torch.empty(side * side * 16, device=device, dtype=torch.uint8)
    target = torch.empty_like(source)
    copied = _best_seconds(lambda: target.copy_(source), device)
    return Rates(flops=2 * side**3 / product, bandwidth=2 * source.numel() / copied)


def count_flops(function: Callable[[], object]) -> int:
    """Operations of matrix products, convolutions and attention (torch.utils.flop_counter)."""
    # Code that torch.compile first meets under a counter it would pass by ever after.
    fused = getattr(torch.ops.mkldnn, "_linear_pointwise", None)  # of CPUs' torch alone
    known = {} if fused is None else {fused: linear_flops}
    counter = FlopCounterMode(display=False, custom_mapping=known)
    with stance("force_eager"), counter:
        function()
    return int(counter.get_total_flops())


def linear_flops(inputs: Sequence[int], weight: Sequence[int], *_: object, **__: object) -> int:
    """Of inputs of shape (..., K) with a weight of shape (N, K): oneDNN's operation, which torch's
    counter does not know."""
    return 2 * math.prod(inputs) * weight[0]


def floor_ms(flops: int, weight_bytes: int, rates: Rates) -> float:
    """The longer of computing and of reading the weights once (the roofline model; Williams et al.
    2009). Activations are left out, so the true floor is not lower."""
    return 1000 * max(flops / rates.flops, weight_bytes / rates.bandwidth)


def _best_seconds(function: Callable[[], object], device: torch.device) -> float:
    spent: list[float] = []
    end = time.monotonic() + (GPU_SECONDS if device.type == "cuda" else 0.0)
    while len(spent) < WARM_UP + REPEATS or time.monotonic() < end:
        synchronize(device)
        started = time.perf_counter()
        function()
        synchronize(device)
        spent.append(time.perf_counter() - started)
    return min(spent[WARM_UP:])


def synchronize(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)

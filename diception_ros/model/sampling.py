# SPDX-License-Identifier: Apache-2.0
"""Rectified flow: sigma lists and the Euler integration of the predicted velocity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from diffusers import FlowMatchEulerDiscreteScheduler

TIMESTEPS_PER_SIGMA = 1000.0


def default_sigmas(scheduler: FlowMatchEulerDiscreteScheduler, steps: int) -> list[float]:
    """steps + 1 sigmas, 1 first and 0 last, exactly as the scheduler computes them in float32.

    Note that diffusers applies the shift twice, so the last step of a few-step list does almost
    nothing (2 steps with shift 3: 1, 0.0089, 0).
    """
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    scheduler.set_timesteps(steps)
    return [float(sigma) for sigma in scheduler.sigmas]


def check_sigmas(sigmas: Sequence[float]) -> list[float]:
    """A custom list, final values that no shift is applied to; a closing 0 is added if missing."""
    values = [float(sigma) for sigma in sigmas]
    if values and values[-1] != 0.0:
        values.append(0.0)
    falling = all(a > b for a, b in pairwise(values))
    if len(values) < 2 or not falling or values[0] > 1.0:
        raise ValueError(f"sigmas must fall strictly from at most 1 to 0, got {list(sigmas)}")
    return values


def euler(
    velocity: Callable[[torch.Tensor, torch.Tensor], torch.Tensor],
    noise: torch.Tensor,
    sigmas: torch.Tensor,
) -> torch.Tensor:
    """Integrates x <- x + (sigma_next - sigma) * v from noise (B, C, h, w) to latents, in float32.

    velocity(x, timesteps (B,)) -> (B, C, h, w). sigmas: (steps + 1,) float32 on the noise's device:
    nothing crosses from the host inside, so the loop can be captured in a CUDA graph.
    """
    timesteps, deltas = sigmas[:-1] * TIMESTEPS_PER_SIGMA, sigmas[1:] - sigmas[:-1]
    latents = noise.float()
    for step in range(len(sigmas) - 1):
        predicted = velocity(latents, timesteps[step].expand(len(latents)))
        latents = latents + deltas[step] * predicted.float()
    return latents


def guided(
    velocity: Callable[[torch.Tensor, torch.Tensor], torch.Tensor], guidance: float | torch.Tensor
) -> Callable[[torch.Tensor, torch.Tensor], torch.Tensor]:
    """Classifier-free guidance around a velocity of batch 2B, unconditional half first:
    v = v_uncond + g * (v_text - v_uncond)."""

    def combined(latents: torch.Tensor, timesteps: torch.Tensor) -> torch.Tensor:
        doubled = velocity(torch.cat([latents, latents]), torch.cat([timesteps, timesteps]))
        unconditional, conditional = doubled.chunk(2)
        return unconditional + guidance * (conditional - unconditional)

    return combined

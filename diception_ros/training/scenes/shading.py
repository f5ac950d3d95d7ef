# SPDX-License-Identifier: Apache-2.0
"""Surface colours: checkers, stripes, noise and photographs in the solid's own metres."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from diception_ros.training.scenes.solids import CHECKER, NOISE, PHOTO, STRIPES

if TYPE_CHECKING:
    from diception_ros.training.scenes.render import Solids
    from diception_ros.training.scenes.world import World

FLOOR, CEILING = 4, 5
"""Rows of World.surfaces: four walls first."""


def albedo(
    world: World,
    solids: Solids,
    nearest: torch.Tensor,
    metres: torch.Tensor,
    inner: torch.Tensor,
    photos: list[torch.Tensor],
) -> tuple[torch.Tensor, torch.Tensor]:
    """Linear RGB (N, 3) and gloss (N, 1) at points (N, 3), metres in the solid's frame; `inner` is
    the local normal, whose largest axis is the side that was hit.
    """
    materials = list(solids.materials)
    index = nearest
    axis = inner.abs().argmax(-1)
    if solids.shell:
        shell = len(materials) - 1
        materials += world.surfaces
        sign = (inner.gather(1, axis[:, None])[:, 0] > 0).long()
        side = torch.where(axis == 2, FLOOR + sign, axis * 2 + sign)
        index = torch.where(nearest == shell, shell + 1 + side, nearest)
    first = torch.tensor([m.colour for m in materials], dtype=torch.float32)[index]
    second = torch.tensor([m.second for m in materials], dtype=torch.float32)[index]
    pattern = torch.tensor([m.pattern for m in materials])[index]
    size = torch.tensor([m.size for m in materials], dtype=torch.float32)[index]
    others = torch.tensor([[1, 2], [0, 2], [0, 1]])[axis]
    uv = metres.gather(1, others) / size[:, None]
    share = mix(pattern, uv)[:, None]
    colour = first * (1 - share) + second * share
    if photos:
        photo = torch.tensor([m.photo for m in materials])[index] % len(photos)
        colour = paste(colour, pattern, photo, uv, photos)
    gloss = torch.tensor([m.gloss for m in materials], dtype=torch.float32)[index]
    return colour, gloss[:, None]


def mix(pattern: torch.Tensor, uv: torch.Tensor) -> torch.Tensor:
    """Share of the second colour (N,), 0..1."""
    u, v = uv[:, 0], uv[:, 1]
    checker = ((u.floor() + v.floor()) % 2).abs()
    stripes = ((u % 1).abs() < 0.4).float()
    wave = torch.sin(3.1 * u + 1.7 * torch.sin(2.3 * v)) + torch.sin(4.7 * v + 2.1 * torch.sin(u))
    noise = (0.5 + 0.25 * wave + 0.15 * torch.sin(17 * u + 5 * v) * torch.sin(13 * v)).clamp(0, 1)
    share = torch.where(pattern == CHECKER, checker, torch.zeros_like(u))
    share = torch.where(pattern == STRIPES, stripes, share)
    return torch.where(pattern == NOISE, noise, share)


def paste(
    colour: torch.Tensor,
    pattern: torch.Tensor,
    photo: torch.Tensor,
    uv: torch.Tensor,
    photos: list[torch.Tensor],
) -> torch.Tensor:
    """Photographs, repeated every 1.5 pattern sizes, in linear light."""
    for number in photo[pattern == PHOTO].unique().tolist():
        chosen = (pattern == PHOTO) & (photo == number)
        picture = photos[number]
        row = (uv[chosen, 1] / 1.5 % 1 * picture.shape[0]).long().clamp_max(picture.shape[0] - 1)
        column = (uv[chosen, 0] / 1.5 % 1 * picture.shape[1]).long().clamp_max(picture.shape[1] - 1)
        colour[chosen] = picture[row, column].pow(2.2)
    return colour

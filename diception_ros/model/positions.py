# SPDX-License-Identifier: Apache-2.0
"""Position codes on canvases of another size than a network was trained at."""

from __future__ import annotations

import torch
from diffusers.models.embeddings import PatchEmbed
from torch import nn
from torch.nn import functional

Tokens = tuple[int, int]
"""Rows and columns."""


class StretchedPatchEmbed(PatchEmbed):  # type: ignore[misc]  # diffusers has no types
    """A patch embedding whose position codes are those of one canvas, stretched over any other, so
    that a place in the image keeps its code. diffusers' own takes the middle of a large grid: a
    smaller canvas is then the middle of a larger one."""

    def __init__(self, embed: PatchEmbed, tokens: Tokens) -> None:
        """Shares the weights and codes of `embed`, which were trained at a canvas of `tokens`."""
        nn.Module.__init__(self)
        self.__dict__.update(embed.__dict__)
        self.tokens = tokens

    def cropped_pos_embed(self, height: int, width: int) -> torch.Tensor:
        """(1, rows * columns, width) for latents of that height and width."""
        asked = height // self.patch_size, width // self.patch_size
        if asked != self.tokens:
            return stretched(self.pos_embed, self.tokens, asked)
        found: torch.Tensor = super().cropped_pos_embed(height, width)
        return found


def stretched(codes: torch.Tensor, before: Tokens, after: Tokens) -> torch.Tensor:
    """Codes (1, rows * columns, W) of a canvas of `after` tokens from the square grid `codes`
    (1, side^2, W), whose middle is a canvas of `before`; between two codes linearly. All of it on
    their device: a copy from the CPU could not be captured."""
    side = round(codes.shape[1] ** 0.5)
    lines = []
    for was, new in zip(before, after, strict=True):
        cells = torch.arange(new, device=codes.device) + 0.5
        lines.append((cells * was / new + (side - was) // 2) * 2 / side - 1)
    rows, columns = torch.meshgrid(*lines, indexing="ij")
    where = torch.stack([columns, rows], dim=-1)[None]
    grid = codes.float().unflatten(1, (side, side)).permute(0, 3, 1, 2)
    found = functional.grid_sample(grid, where, padding_mode="border", align_corners=False)
    return found.flatten(2).transpose(1, 2).to(codes.dtype)

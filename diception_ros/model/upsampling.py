# SPDX-License-Identifier: Apache-2.0
"""AutoencoderTiny's decoder on a CPU: doubling a map and convolving it as one operation.

Every pixel of a map whose sides are doubled by repetition comes four times, so of a 3 x 3 kernel's
nine weights those that fall on the same pixel can be added beforehand: 2 x 2 weights are left, of
four kinds, one for each parity of row and column. These are the sub-pixel convolutions of Shi et
al. 2016 (arXiv 1609.07009), with 4/9 of the operations.
"""

from __future__ import annotations

from itertools import pairwise, product

import torch
from torch import nn
from torch.nn import functional


@torch.no_grad()
def fold(decoder: nn.Module) -> None:
    """For answering: every such pair in the module's sequences. Weights keep their names, and must
    not change before `unfold`."""
    for first, second in _pairs(decoder):
        if type(first) is nn.Upsample and type(second) is nn.Conv2d and _foldable(first, second):
            second.register_buffer("folded", folded(second.weight), persistent=False)
            first.__class__, second.__class__ = Undoubled, DoublingConv


def unfold(decoder: nn.Module) -> None:
    """The layers as they were."""
    for first, second in _pairs(decoder):
        if isinstance(second, DoublingConv):
            del second.folded
            first.__class__ = nn.Upsample
            second.__class__ = nn.Conv2d  # type: ignore[assignment]


def _pairs(module: nn.Module) -> list[tuple[nn.Module, nn.Module]]:
    found = [one for one in module.modules() if isinstance(one, nn.Sequential)]
    return [pair for one in found for pair in pairwise(one)]


def _foldable(doubling: nn.Upsample, conv: nn.Conv2d) -> bool:
    plain = (conv.kernel_size, conv.padding, conv.stride) == ((3, 3), (1, 1), (1, 1))
    plain = plain and conv.bias is None and conv.groups == 1 and conv.dilation == (1, 1)
    return plain and doubling.mode == "nearest" and doubling.scale_factor == 2


class Undoubled(nn.Upsample):
    """Leaves its input to the convolution behind it."""

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        return maps


class DoublingConv(nn.Conv2d):
    """(B, C, h, w) -> (B, D, 2 h, 2 w)."""

    folded: torch.Tensor

    def forward(self, maps: torch.Tensor) -> torch.Tensor:
        (count, _, height, width), depth = maps.shape, self.out_channels
        parts = functional.conv2d(maps, self.folded, padding=1).unflatten(1, (2, 2, depth))
        found = torch.empty(
            (count, depth, 2 * height, 2 * width),
            dtype=maps.dtype,
            device=maps.device,
            memory_format=torch.channels_last,
        )
        for row, column in product((0, 1), repeat=2):
            part = parts[:, row, column, :, row : row + height, column : column + width]
            found[:, :, row::2, column::2] = part
        return found


def folded(weight: torch.Tensor) -> torch.Tensor:
    """Kernels (D, C, 3, 3) -> (4 D, C, 2, 2), even rows and columns first; for a map with a border
    of one pixel around it, where odd ones begin a pixel later."""
    wide = weight.float()
    rows = [_joined(wide.movedim(2, 0), parity) for parity in (0, 1)]
    kinds = [_joined(half.movedim(-1, 0), parity) for half in rows for parity in (0, 1)]
    shape = [half.movedim((0, 1), (-1, -2)) for half in kinds]
    return torch.cat(shape).to(weight)


def _joined(lines: torch.Tensor, parity: int) -> torch.Tensor:
    """Three lines of a kernel, first axis -> two, of which one is the sum of those that fall on one
    and the same pixel."""
    first, second, third = lines
    return torch.stack([first, second + third] if parity == 0 else [first + second, third])

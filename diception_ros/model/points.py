# SPDX-License-Identifier: Apache-2.0
"""Point prompts as tokens: random Fourier features, a small MLP and a label embedding."""

from __future__ import annotations

import math

import torch
from torch import nn


class PointEmbedder(nn.Module):
    """Five points and labels -> five tokens of the transformer's width.

    The names of the parameters are those of the published checkpoint. Positions are encoded as in
    SAM (Tancik et al. 2020): 2p-1, times a fixed Gaussian matrix (2, F), times 2 pi, sin and cos.
    """

    positional_encoding_gaussian_matrix: torch.Tensor

    def __init__(self, frequencies: int, hidden: int, width: int) -> None:
        super().__init__()
        self.register_buffer("positional_encoding_gaussian_matrix", torch.zeros(2, frequencies))
        self.point_embedder = nn.Sequential(
            nn.Linear(2 * frequencies, hidden), nn.GELU(), nn.Linear(hidden, width)
        )
        self.seg_embeddings = nn.Embedding(1, width)
        self.not_seg_embeddings = nn.Embedding(1, width)

    def forward(self, points: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
        """points (B, 5, 2) in 0..1 in the bundle's axis order, labels (B, 5), 1 inside and
        0 outside or unused -> (B, 5, width). Positions are as exact as the matrix, whatever the
        weights are: in bfloat16 a point moves by up to 1/500 of the image."""
        matrix = self.positional_encoding_gaussian_matrix
        offsets = (2 * points.to(matrix.dtype) - 1).float()
        # No product of matrices: autocast would round the points as they train.
        turns = (offsets.unsqueeze(-1) * matrix.float()).sum(dim=-2)
        angles = 2 * math.pi * turns.to(matrix.dtype)
        waves = torch.cat([angles.sin(), angles.cos()], dim=-1)
        tokens = self.point_embedder(waves.to(self.seg_embeddings.weight.dtype))
        inside = (labels == 1).unsqueeze(-1)
        kind = torch.where(inside, self.seg_embeddings.weight, self.not_seg_embeddings.weight)
        return tokens + kind  # type: ignore[no-any-return]

    @classmethod
    def from_state(cls, state: dict[str, torch.Tensor]) -> PointEmbedder:
        """An embedder of the sizes that the state dict shows, without its weights yet."""
        matrix = state.get("positional_encoding_gaussian_matrix")
        first, last = state.get("point_embedder.0.weight"), state.get("point_embedder.2.weight")
        if matrix is None or first is None or last is None:
            raise ValueError(
                "point embedder: expected the keys positional_encoding_gaussian_matrix, "
                f"point_embedder.0.weight and point_embedder.2.weight, found {sorted(state)}"
            )
        return cls(matrix.shape[1], first.shape[0], last.shape[0])

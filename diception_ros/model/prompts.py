# SPDX-License-Identifier: Apache-2.0
"""The prompt bank: text embeddings per prompt string, computed once, so no encoder is loaded."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file


class PromptBank:
    """embeds (N, T, D) and pooled (N, P) for N prompt strings, on the CPU; `lookup` gives rows.

    The empty prompt must be among them: guidance's unconditional half uses it.
    """

    def __init__(self, names: Sequence[str], embeds: torch.Tensor, pooled: torch.Tensor) -> None:
        self.names = tuple(names)
        if "" not in self.names:
            raise ValueError("prompt bank: the empty prompt is missing (guidance needs it)")
        if embeds.ndim != 3 or pooled.ndim != 2 or not len(embeds) == len(pooled) == len(names):
            raise ValueError(
                f"prompt bank: expected embeds ({len(names)}, T, D) and pooled ({len(names)}, P), "
                f"found {tuple(embeds.shape)} and {tuple(pooled.shape)}"
            )
        self.embeds, self.pooled = embeds, pooled
        self._rows = {name: row for row, name in enumerate(self.names)}

    def lookup(self, prompts: Sequence[str]) -> tuple[torch.Tensor, torch.Tensor]:
        """B prompt strings -> (B, T, D) and (B, P). ValueError names the ones not in the bank."""
        rows = self.rows(prompts)
        return self.embeds[rows], self.pooled[rows]

    def rows(self, prompts: Sequence[str]) -> torch.Tensor:
        """B prompt strings -> their rows (B,) in embeds and pooled. ValueError as lookup's."""
        unknown = sorted(set(prompts) - set(self._rows))
        if unknown:
            raise ValueError(
                f"prompt '{unknown[0]}' is not in this bundle's prompt bank of {len(self.names)}: "
                f'add it with: diception prompts add BUNDLE "{unknown[0]}" --sd3 DIR'
            )
        return torch.tensor([self._rows[prompt] for prompt in prompts])

    def joined(self, other: PromptBank) -> PromptBank:
        """This bank with the other's prompts added; the other's embeddings win on equal names."""
        kept = [row for row, name in enumerate(self.names) if name not in other._rows]
        return PromptBank(
            [self.names[row] for row in kept] + list(other.names),
            torch.cat([self.embeds[kept], other.embeds.to(self.embeds.dtype)]),
            torch.cat([self.pooled[kept], other.pooled.to(self.pooled.dtype)]),
        )

    def save(self, path: Path) -> None:
        tensors = {"embeds": self.embeds.contiguous(), "pooled": self.pooled.contiguous()}
        save_file(tensors, path, metadata={"prompts": json.dumps(self.names)})
        path.chmod(0o644)

    @classmethod
    def load(cls, path: Path, dtype: torch.dtype | None = None) -> PromptBank:
        """The bank of a file; dtype None keeps the file's own. ValueError if it is damaged."""
        try:
            with safe_open(path, framework="pt") as file:
                names = (file.metadata() or {}).get("prompts")
                tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(f"{path} is damaged or not a safetensors file: {error}") from error
        if names is None or set(tensors) != {"embeds", "pooled"}:
            raise ValueError(
                f"{path}: expected the tensors embeds and pooled and a 'prompts' list in the "
                f"metadata, found {sorted(tensors)}"
            )
        embeds, pooled = tensors["embeds"], tensors["pooled"]
        return cls(
            json.loads(names), embeds.to(dtype or embeds.dtype), pooled.to(dtype or pooled.dtype)
        )

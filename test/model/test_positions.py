# SPDX-License-Identifier: Apache-2.0
"""Position codes of a canvas that the network was not trained at."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from diception_ros.model import Diception
from diception_ros.model.positions import stretched
from diception_ros.model.random_bundle import make_random_model


def ramp(side: int) -> torch.Tensor:
    """(1, side^2, 2): every token's code is its row and column."""
    rows, columns = torch.meshgrid(torch.arange(side), torch.arange(side), indexing="ij")
    return torch.stack([rows, columns], dim=-1).float().flatten(0, 1)[None]


def test_codes_lie_where_the_places_do() -> None:
    codes = stretched(ramp(12), (4, 6), (8, 3)).unflatten(1, (8, 3))[0]
    rows = 4 + (torch.arange(8) + 0.5) / 2 - 0.5  # the 4 rows in the middle of 12 are 4 to 7
    columns = 3 + (torch.arange(3) + 0.5) * 2 - 0.5
    torch.testing.assert_close(codes[:, 0, 0], rows)
    torch.testing.assert_close(codes[0, :, 1], columns)


def test_the_same_canvas_keeps_its_codes() -> None:
    codes = ramp(8).unflatten(1, (8, 8))[:, 2:6, 1:7].flatten(1, 2)
    torch.testing.assert_close(stretched(ramp(8), (4, 6), (4, 6)), codes)


class OnlyThere(TorchDispatchMode):
    """Nothing may be computed anywhere else than on the codes' device."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        found = func(*args, **(kwargs or {}))
        assert not isinstance(found, torch.Tensor) or found.device.type == "meta", func
        return found


def test_nothing_is_copied_from_the_cpu() -> None:
    """A CUDA graph could not be captured of it."""
    codes = ramp(8).to("meta")
    with OnlyThere():
        assert stretched(codes, (4, 6), (8, 3)).shape == (1, 24, 2)


@pytest.mark.parametrize(("positions", "step"), [("crop", 1.0), ("stretch", 2.0)])
def test_a_model_reads_a_smaller_canvas_as_its_card_says(positions: str, step: float) -> None:
    """Half as many tokens a side: the middle of the codes, or every second place of all of them."""
    model = make_random_model()
    parts = model.transformer, model.vae, model.point_embedder, model.prompts, model.scheduler
    embed = Diception(*parts, replace(model.info, positions=positions)).transformer.pos_embed
    with torch.no_grad():
        embed.pos_embed[..., :2] = ramp(model.transformer.config.pos_embed_max_size)
    whole, half = (
        embed.cropped_pos_embed(*model.latent_shape(side, side)[1:])[0, :, :2] for side in (64, 32)
    )
    assert half.shape == (4, 2)
    torch.testing.assert_close(half.mean(0), whole.mean(0))
    torch.testing.assert_close(half[3] - half[0], torch.tensor([step, step]))


def test_a_stretched_model_answers_at_any_canvas() -> None:
    model = make_random_model()
    parts = model.transformer, model.vae, model.point_embedder, model.prompts, model.scheduler
    stretch = Diception(*parts, replace(model.info, positions="stretch"))
    for size in [(64, 64), (32, 96), (448, 16)]:  # more than the grid of codes has
        answer = stretch.generate(torch.zeros(1, 3, *size), ["[[image2depth]]"])
        assert answer.shape == (1, 3, *size) and answer.isfinite().all()

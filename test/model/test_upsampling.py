# SPDX-License-Identifier: Apache-2.0
import copy

import pytest
import torch

from diception_ros.model import EMBEDDED_BUNDLE, Diception
from diception_ros.model.upsampling import DoublingConv, fold, unfold


@torch.no_grad()
@pytest.mark.parametrize("memory", [torch.contiguous_format, torch.channels_last])
def test_the_decoder_draws_the_same_in_fewer_operations(memory: torch.memory_format) -> None:
    vae = Diception.load(EMBEDDED_BUNDLE).vae.to(memory_format=memory)
    plain = copy.deepcopy(vae.decoder)
    latents = torch.randn(2, 16, 6, 10, generator=torch.Generator().manual_seed(0))
    expected = plain(latents)
    fold(vae.decoder)
    assert sum(isinstance(layer, DoublingConv) for layer in vae.decoder.modules()) == 3
    vae.to(memory_format=memory)
    torch.testing.assert_close(vae.decoder(latents), expected, atol=1e-4, rtol=0)
    assert vae.decoder.state_dict().keys() == plain.state_dict().keys()
    unfold(vae.decoder)
    assert [type(layer) for layer in vae.decoder.modules()] == [
        type(layer) for layer in plain.modules()
    ]
    torch.testing.assert_close(vae.decoder(latents), expected, atol=0, rtol=0)


def test_other_layers_are_left_alone() -> None:
    kinds = [
        torch.nn.Conv2d(4, 4, 3, padding=1),  # has a bias
        torch.nn.Conv2d(4, 4, 3, bias=False),  # has no border
        torch.nn.Conv2d(4, 4, 5, padding=2, bias=False),
        torch.nn.Conv2d(4, 4, 3, padding=1, bias=False, groups=2),
    ]
    doubling = torch.nn.Upsample(scale_factor=2)
    foldable = torch.nn.Conv2d(4, 4, 3, padding=1, bias=False)
    others = [torch.nn.Upsample(scale_factor=3), torch.nn.Upsample(scale_factor=2, mode="bilinear")]
    rows = [torch.nn.Sequential(doubling, layer) for layer in kinds]
    rows += [torch.nn.Sequential(layer, foldable) for layer in others]
    for row in rows:
        types = [type(layer) for layer in row]
        fold(row)
        assert [type(layer) for layer in row] == types

# SPDX-License-Identifier: Apache-2.0
import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from diception_ros.engine.attention import ROWS, attend


@pytest.mark.parametrize("tokens", [9, 300, ROWS, ROWS + 9, 2 * ROWS + 9])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_attention_is_that_of_the_formula(tokens: int, dtype: torch.dtype) -> None:
    generator = torch.Generator().manual_seed(0)
    packed = torch.randn(2, tokens, 3, 4, 16, generator=generator)
    queries, keys, values = (part.transpose(1, 2) for part in packed.double().unbind(2))
    expected = scaled_dot_product_attention(queries, keys, values).transpose(1, 2)
    found = attend(*packed.to(dtype).unbind(2))
    assert found.dtype == dtype and found.shape == (2, tokens, 4, 16)
    near = 1e-5 if dtype == torch.float32 else 0.03
    torch.testing.assert_close(found.double(), expected, atol=near, rtol=0)

# SPDX-License-Identifier: Apache-2.0
from __future__ import annotations

import pytest
import torch

from diception_ros.model.precision import best_dtype


@pytest.mark.parametrize(
    ("capability", "dtype"),
    [((7, 2), torch.float32), ((7, 5), torch.float32), ((8, 7), torch.bfloat16)],
    ids=["Xavier", "Turing", "Orin"],
)
def test_a_gpu_that_only_emulates_bfloat16_gets_float32(monkeypatch, capability, dtype):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert best_dtype(torch.device("cuda")) == dtype

# SPDX-License-Identifier: Apache-2.0
"""What a machine lacks is skipped with a reason, never passed over in silence."""

from __future__ import annotations

import pytest
import torch


@pytest.fixture(autouse=True)
def _float32_is_float32(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 would let two batch sizes differ on a GPU by more than the tests there allow."""
    if request.node.get_closest_marker("gpu"):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="needs a CUDA GPU, this torch sees none")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)

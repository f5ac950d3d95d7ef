# SPDX-License-Identifier: Apache-2.0
"""What a machine lacks is skipped with a reason, never passed over in silence."""

from __future__ import annotations

import os

import pytest
import torch


@pytest.fixture(autouse=True)
def _float32_is_float32(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """TF32 would let two batch sizes differ on a GPU by more than the tests there allow."""
    if request.node.get_closest_marker("gpu"):
        monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)


@pytest.fixture(scope="session")
def ray_here():
    """Ray with two CPUs, started once for all tests. Its workers end a part with every image, so
    that one can be killed between two."""
    ray = pytest.importorskip("ray", reason="Ray is not installed")
    os.environ |= {"DICEPTION_PART_SECONDS": "0", "RAY_USAGE_STATS_ENABLED": "0"}
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="ERROR")
    del os.environ["DICEPTION_PART_SECONDS"]
    yield ray
    ray.shutdown()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    if not torch.cuda.is_available():
        skip = pytest.mark.skip(reason="needs a CUDA GPU, this torch sees none")
        for item in items:
            if item.get_closest_marker("gpu"):
                item.add_marker(skip)

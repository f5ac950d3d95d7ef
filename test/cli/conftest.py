# SPDX-License-Identifier: Apache-2.0
"""A random tiny bundle and two photographs: for the plumbing, the answers mean nothing."""

import cv2
import numpy as np
import pytest

from diception_ros.model import make_random_bundle


@pytest.fixture(scope="session")
def bundle(tmp_path_factory):
    return make_random_bundle(tmp_path_factory.mktemp("bundle") / "random")


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for name in ("a.png", "b.jpg"):
        pixels = rng.integers(0, 255, (48, 72, 3), dtype=np.uint8)
        cv2.imwrite(str(folder / name), pixels)
    return folder

# SPDX-License-Identifier: Apache-2.0
"""Which pixels of a data set count for depth and how far: its clips and crops under one name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.protocols.depth import Array, Bool, Double

Box = tuple[int, int, int, int]
"""top, bottom, left, right: rows top..bottom - 1, columns left..right - 1."""


@dataclass(frozen=True)
class DepthPreset:
    """Truth counts strictly between min_m and max_m and inside `crop`; answers are clipped to
    min_m..max_m. shown: the part of the image that is shown to the network and judged at all.
    source: whose evaluation this is.
    """

    name: str
    min_m: float
    max_m: float
    source: str
    crop: Callable[[int, int], Box] | None = None
    shown: Callable[[int, int], Box] | None = None

    def __post_init__(self) -> None:
        if not 0 < self.min_m < self.max_m:
            raise ValueError(f"expected 0 < min_m < max_m, found {self.min_m} and {self.max_m}")

    def valid(self, truth_m: Array) -> Bool:
        """(H, W): where the truth counts."""
        mask = np.isfinite(truth_m) & (truth_m > self.min_m) & (truth_m < self.max_m)
        if self.crop is not None:
            inside = np.zeros_like(mask)
            top, bottom, left, right = self.crop(*truth_m.shape)
            inside[top:bottom, left:right] = True
            mask = mask & inside
        return mask

    def clip(self, metres: npt.NDArray[np.floating]) -> Double:
        return np.clip(metres.astype(np.float64), self.min_m, self.max_m)


def eigen_nyu(height: int, width: int) -> Box:
    """Rows 45-470, columns 41-600 of 480x640, where NYU's projected depth is dense (Eigen et al.
    2014). Other sizes in proportion."""
    return _share(height, width, (45 / 480, 471 / 480, 41 / 640, 601 / 640))


def garg_kitti(height: int, width: int) -> Box:
    """Garg et al. 2016 (ECCV), as monodepth's evaluate_kitti.py has it."""
    return _share(height, width, (0.40810811, 0.99189189, 0.03594771, 0.96405229))


def eigen_kitti(height: int, width: int) -> Box:
    """Eigen et al. 2014, as monodepth's evaluate_kitti.py has it."""
    return _share(height, width, (0.3324324, 0.91351351, 0.0359477, 0.96405229))


def benchmark_kitti(height: int, width: int) -> Box:
    """KITTI's benchmark crop: the middle 1216 columns of the lowest 352 rows. ValueError for a
    smaller image."""
    if height < 352 or width < 1216:
        raise ValueError(f"the KITTI benchmark crop is 1216x352, the image {width}x{height}")
    left = int((width - 1216) / 2)
    return height - 352, height, left, left + 1216


def _share(height: int, width: int, edges: tuple[float, float, float, float]) -> Box:
    top, bottom, left, right = edges
    # 1e-9: 45 / 480 * 480 must stay 45 whatever the rounding.
    scaled = (top * height, bottom * height, left * width, right * width)
    a, b, c, d = (int(value + 1e-9) for value in scaled)
    return a, b, c, d


PRESETS: dict[str, DepthPreset] = {
    preset.name: preset
    for preset in (
        DepthPreset("plain", 1e-3, 80.0, "ours: every known pixel up to 80 m"),
        DepthPreset("nyu", 1e-3, 10.0, "NYUv2 without a crop"),
        DepthPreset("nyu-eigen", 1e-3, 10.0, "Eigen et al. 2014; Marigold", eigen_nyu),
        DepthPreset("kitti-garg", 1e-3, 80.0, "Garg et al. 2016; monodepth2", garg_kitti),
        DepthPreset("kitti-eigen", 1e-3, 80.0, "Eigen et al. 2014; monodepth", eigen_kitti),
        DepthPreset(
            "kitti-benchmark-eigen",
            1e-5,
            80.0,
            "Marigold: Eigen's crop inside KITTI's benchmark crop",
            eigen_kitti,
            benchmark_kitti,
        ),
        DepthPreset("scannet", 1e-3, 10.0, "Marigold"),
        DepthPreset("diode", 0.6, 350.0, "DIODE development kit; Marigold"),
        DepthPreset("eth3d", 1e-5, float("inf"), "Marigold"),
        DepthPreset("hypersim", 1e-5, 65.0, "Marigold"),
    )
}


def find_preset(name: str) -> DepthPreset:
    """ValueError for an unknown name."""
    if name not in PRESETS:
        raise ValueError(f"unknown preset '{name}': expected one of {', '.join(PRESETS)}")
    return PRESETS[name]

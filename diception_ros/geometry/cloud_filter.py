# SPDX-License-Identifier: Apache-2.0
"""Clouds made smaller and cleaner by open3d, which may be absent: one clear line says so."""

from __future__ import annotations

import importlib
import importlib.util
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Rgb = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Cloud:
    """points (N, 3) float32 metres, all finite; colours (N, 3) uint8 RGB, or None."""

    points: Float
    colours: Rgb | None = None

    def __post_init__(self) -> None:
        if self.points.ndim != 2 or self.points.shape[1] != 3:
            raise ValueError(f"expected points of shape (N, 3), found {self.points.shape}")
        if self.colours is not None and self.colours.shape != self.points.shape:
            raise ValueError(
                f"{len(self.points)} points but colours of shape {self.colours.shape}: "
                "give one RGB colour per point"
            )


def require_open3d(purpose: str) -> None:
    """ValueError in one line where open3d is not installed. Does not load it, which takes a
    second; purpose: what asked for it."""
    if importlib.util.find_spec("open3d") is None:
        raise ValueError(
            f"{purpose} needs open3d, which is not installed: pip install open3d-cpu (or open3d)"
        )


def load_open3d(purpose: str) -> Any:
    """The module open3d. ValueError in one line where it is absent or cannot be loaded; purpose:
    what asked for it."""
    require_open3d(purpose)
    try:
        return importlib.import_module("open3d")
    except ModuleNotFoundError as error:
        raise ValueError(f"{purpose} needs open3d, which lacks a package: {error}") from error
    except (ImportError, OSError) as error:  # a shared library of the system is missing
        raise ValueError(
            f"{purpose} needs open3d, which is installed but does not load: {error}"
        ) from error


def voxel_downsample(cloud: Cloud, size: float) -> Cloud:
    """One point per cube of `size` metres: the mean of its points and of their colours.
    ValueError for a size that is not positive, or without open3d."""
    if not size > 0:
        raise ValueError(f"voxel size must be positive, found {size:g} m")
    library = load_open3d("voxel down-sampling")
    made = _to_open3d(library, cloud.points, cloud.colours).voxel_down_sample(size)
    colours = None
    if cloud.colours is not None:
        colours = np.rint(np.asarray(made.colors) * 255).astype(np.uint8)
    return Cloud(np.asarray(made.points).astype(np.float32), colours)


def inliers(points: Float, neighbours: int = 20, ratio: float = 2.0) -> npt.NDArray[np.bool_]:
    """Points (..., 3), unknown ones not finite -> bool (...), False for unknown points and for
    outliers: those whose mean distance to their `neighbours` nearest points exceeds the mean over
    the cloud by more than `ratio` standard deviations (Rusu et al. 2008, as in PCL and open3d).
    ValueError for settings without meaning, or without open3d."""
    if neighbours < 1 or not ratio > 0:
        raise ValueError(
            "outlier removal needs at least 1 neighbour and a positive ratio, "
            f"found {neighbours} and {ratio:g}"
        )
    library = load_open3d("outlier removal")
    known = np.isfinite(points).all(axis=-1)
    kept = np.zeros(int(known.sum()), np.bool_)
    if len(kept):
        made = _to_open3d(library, points[known], None)
        _, chosen = made.remove_statistical_outlier(neighbours, ratio)
        kept[np.asarray(chosen, np.intp)] = True
    result = np.zeros(known.shape, np.bool_)
    result[known] = kept
    return result


def without_outliers(points: Float, neighbours: int = 20, ratio: float = 2.0) -> Float:
    """As `inliers`, for a cloud that stays organised: (H, W, 3) -> (H, W, 3), outliers NaN."""
    kept = inliers(points, neighbours, ratio)
    return np.where(kept[..., None], points, np.float32(np.nan)).astype(np.float32, copy=False)


def _to_open3d(library: Any, points: Float, colours: Rgb | None) -> Any:
    vectors = library.utility.Vector3dVector
    made = library.geometry.PointCloud(vectors(points.astype(np.float64)))
    if colours is not None:
        made.colors = vectors(colours.astype(np.float64) / 255)
    return made

# SPDX-License-Identifier: Apache-2.0
"""Files of targets and truths as arrays at the file's own size. A file that cannot be what it
should be is a ValueError in one line, without the file's name: whoever asks knows it."""

from __future__ import annotations

from collections.abc import Iterator
from glob import escape, iglob
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from diception_ros.tasks import Mask

Array = npt.NDArray[Any]
Float = npt.NDArray[np.float32]
PICTURES = (".png", ".jpg", ".jpeg")
MAPS = (".npy", ".png")
EIGHT_BIT = ("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr")
FRAMES = {"optical": (1, 1, 1), "opengl": (1, -1, -1), "stablenormal": (-1, -1, -1)}
"""Signs of x, y, z on the way to the optical frame (x right, y down, z forward). opengl: x right,
y up, z towards the viewer; stablenormal: x left, y up, z towards the viewer."""
UNIT = (0.5, 1.5)
"""Lengths of a vector that has a direction: grey has none, black and white are 1.7."""
WHITE = 128


def below(folder: Path, pattern: str) -> Iterator[Path]:
    """As Path.glob, but through linked folders as well: data sets are often put together so."""
    return map(Path, iglob(f"{escape(str(folder))}/{pattern}", recursive=True))  # noqa: PTH207


def find_files(folder: Path, suffixes: tuple[str, ...]) -> dict[str, Path]:
    """Files below the folder by their path in it without the suffix; hidden ones are left out.
    ValueError for no such folder, no file, or two of one name."""
    if not folder.is_dir():
        raise ValueError(f"no folder {folder}")
    found: dict[str, Path] = {}
    for path in sorted(below(folder, "**/*")):
        if path.suffix.lower() in suffixes and not path.name.startswith("."):
            name = path.relative_to(folder).with_suffix("").as_posix()
            if name in found:
                raise ValueError(f"{folder}: both {found[name].name} and {path.name}: remove one")
            found[name] = path
    if not found:
        raise ValueError(f"{folder}: expected files {' '.join(suffixes)}, found none")
    return found


def open_picture(path: Path) -> Image.Image:
    """The picture, decoded and upright (EXIF orientation applied, as viewers do)."""
    try:
        with Image.open(path) as picture:
            return ImageOps.exif_transpose(picture)
    except Exception as error:  # decoders of broken files raise whatever they please
        raise ValueError(f"cannot be read: {error!r}") from error


def read_stored_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 3) as stored, whatever EXIF says of its orientation: for truths of the sensor's own
    raster."""
    try:
        with Image.open(path) as picture:
            return np.array(picture.convert("RGB"))
    except Exception as error:  # as above
        raise ValueError(f"{path}: cannot be read: {error!r}") from error


def load_array(path: Path) -> Array:
    try:
        values = np.load(path, allow_pickle=False)
    except Exception as error:  # as above
        raise ValueError(f"cannot be read: {error!r}") from error
    if not isinstance(values, np.ndarray) or values.dtype.kind not in "fiu" or not values.size:
        found = f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else "an archive"
        raise ValueError(f"expected an array of numbers, found {found}")
    return values


def read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    """(H, W, 3); grey is repeated, transparency dropped."""
    picture = open_picture(path)
    if picture.mode not in EIGHT_BIT:
        raise ValueError(f"expected 8 bits a channel, found mode {picture.mode}")
    return np.array(picture.convert("RGB"))


def read_depth(path: Path, scale: float) -> Float:
    """As `known_depth`, but unknown pixels get the value of the nearest known one: a hole of the
    sensor says nothing of the scene, and a target that is far there would teach holes."""
    metres = known_depth(path, scale)
    return fill_unknown(metres, ~np.isnan(metres))


def known_depth(path: Path, scale: float) -> Float:
    """Metres (H, W) along the optical axis: floats as they are, integers (16-bit PNG) times scale.

    +inf is infinitely far (as in ROS, REP 117), for example sky. Other unknown pixels (0, negative,
    NaN) are NaN.
    """
    values = load_array(path) if path.suffix.lower() == ".npy" else np.asarray(open_picture(path))
    if values.ndim != 2 or (values.dtype.kind in "iub" and values.dtype.itemsize < 2):
        raise ValueError(
            "expected depth (H, W), a .npy of metres or a grey 16-bit PNG, found "
            f"{values.dtype} {values.shape}"
        )
    metres = values.astype(np.float32) * np.float32(1 if values.dtype.kind == "f" else scale)
    known = metres > 0
    if not np.isfinite(metres[known]).any():
        raise ValueError("no pixel of the depth is known (finite and over 0)")
    unknown: Float = np.where(known, metres, np.float32(np.nan))
    return unknown


def fill_unknown(values: Float, known: npt.NDArray[np.bool_]) -> Float:
    """Values (H, W) where known, elsewhere that of the nearest known pixel."""
    _, places = cv2.distanceTransformWithLabels(
        (~known).astype(np.uint8), cv2.DIST_L2, 5, labelType=cv2.DIST_LABEL_PIXEL
    )
    owner = np.zeros(int(places.max()) + 1, np.float32)
    owner[places[known]] = values[known]
    filled: Float = np.where(known, values, owner[places])
    return filled


def read_normals(path: Path, frame: str) -> Float:
    """Unit vectors (H, W, 3) in the optical frame, NaN = unknown (no length near 1).
    PNG: (n + 1) / 2 in the given frame, 8 bits; .npy: vectors. frame: a key of FRAMES."""
    if path.suffix.lower() == ".npy":
        values = load_array(path).astype(np.float32)
    else:
        values = read_rgb(path).astype(np.float32) / 127.5 - 1
    if values.ndim != 3 or values.shape[2] != 3:
        raise ValueError(f"expected normals (H, W, 3), found {values.shape}")
    vectors = values * np.array(FRAMES[frame], np.float32)
    length = np.linalg.norm(vectors, axis=2, keepdims=True)
    known = (length > UNIT[0]) & (length < UNIT[1])
    if not known.any():
        raise ValueError("no normal has a length near 1")
    if np.median(vectors[known[..., 0], 2]) > 0:
        others = " or ".join(name for name in FRAMES if name != frame)
        raise ValueError(
            f"most normals point away from the camera: is their frame {others}, not {frame}?"
        )
    unit: Float = np.where(known, vectors / np.where(known, length, 1), np.float32(np.nan))
    return unit


def read_mask(path: Path) -> npt.NDArray[np.bool_]:
    """White on black, cut in the middle: (H, W)."""
    picture = open_picture(path)
    if picture.mode not in EIGHT_BIT:
        raise ValueError(f"expected 8 bits, white (255) on black, found mode {picture.mode}")
    values = np.asarray(picture.convert("L"))
    if 0 < values.max(initial=0) < WHITE:
        raise ValueError(f"expected white (255) on black, the brightest is {values.max()}")
    return values >= WHITE


def read_map(path: Path) -> Float:
    """Relative values 0..1, near or strong = 1, (H, W): .npy of floats, or a grey PNG over its
    largest value (255 or 65535)."""
    if path.suffix.lower() == ".npy":
        values = load_array(path)
    else:
        picture = open_picture(path)
        if picture.mode in ("1", "P"):  # bits and palettes: what is stored are indices
            picture = picture.convert("L")
        values = np.asarray(picture) / (255 if picture.mode in EIGHT_BIT else 65535)
    if values.ndim != 2 or values.dtype.kind != "f":
        raise ValueError(f"expected a map (H, W) of floats or grey, found {values.shape}")
    if not (values.min() >= 0 and values.max() <= 1):
        raise ValueError(f"expected values in 0..1, found {values.min():g} to {values.max():g}")
    return values.astype(np.float32)


def as_mask(mask: npt.NDArray[np.bool_]) -> Mask:
    return Mask(mask, mask.astype(np.float32))

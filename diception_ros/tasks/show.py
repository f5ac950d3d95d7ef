# SPDX-License-Identifier: Apache-2.0
"""Results as pictures for people; the data itself is never read back from them."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence
from functools import cache

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.tasks.legend import (
    Colour,
    add_ball,
    add_bar,
    add_key,
    add_names,
    depth_marks,
    write,
)
from diception_ros.tasks.normal import encode as normal_colours
from diception_ros.tasks.types import (
    Colours,
    Disparity,
    Float,
    Instances,
    Keypoints,
    Mask,
    MetricDepth,
    Normals,
    Result,
)

__all__ = ["classes_picture", "colorize", "to_bytes", "write"]

Picture = npt.NDArray[np.uint8]
HUE_STEP = 0.618034
"""The golden ratio: neighbouring ids get far hues, however many there are."""
OPACITY = 0.6
MASK_COLOUR = (255, 64, 129)
ENOUGH = 10_000
"""Pixels that two percentiles are taken from."""
NAMED = 0.003
"""Share of the image from which an instance is big enough for its number."""


def colorize(
    result: Result | MetricDepth, image: Picture | None = None, meters: Float | None = None
) -> Picture:
    """Picture of a result, RGB uint8 (H, W, 3).

    Depth: near warm, far cold, unknown black, with a bar; with `meters` (H, W; NaN unknown) those
    are shown instead of relative disparity. Normals: the paper's colours (n + 1) / 2 with x left,
    y up, z towards the viewer (a floor is green, a wall that faces the camera blue), and a ball as
    their key. Instances (with their ids), masks and keypoints: over `image` (H, W, 3) uint8 where
    it is given, else over black. Pictures too small for words have none.
    ValueError for another type of result or an image of another size.
    """
    match result:
        case Disparity():
            return disparity_picture(result) if meters is None else depth_picture(meters)
        case MetricDepth():
            return depth_picture(np.where(result.valid, result.meters, np.nan))
        case Normals():
            picture = normals_picture(result)
            add_ball(picture)
            return picture
        case Instances():
            return instances_picture(result, over(image, result.ids.shape))
        case Mask():
            return mask_picture(result, over(image, result.mask.shape))
        case Keypoints():
            return keypoints_picture(result, over(image, result.size))
        case Colours():
            return to_bytes(result.rgb)
    raise ValueError(f"no picture is known for a {type(result).__name__}")


def over(image: Picture | None, size: tuple[int, ...]) -> Picture:
    """What a result is drawn over: the image, or black without one."""
    if image is None:
        return np.zeros((*size, 3), np.uint8)
    if image.shape != (*size, 3):
        raise ValueError(
            f"the image is {image.shape[1]}x{image.shape[0]}, the result {size[1]}x{size[0]}: "
            "give the image that the result belongs to"
        )
    return image


def to_bytes(colours: Float) -> Picture:
    """0..1 -> 0..255; unknown (NaN) is 0."""
    return levels(colours, 255).reshape(colours.shape)


def levels(values: Float, scale: float, offset: float = 0.0) -> Picture:
    """scale * values + offset as bytes in one pass, cut off at 0 and 255; unknown (NaN) is 0."""
    found = cv2.addWeighted(values, scale, values, 0, offset, dtype=cv2.CV_8U)
    return np.asarray(found, np.uint8)


def ramp(values: Float) -> Picture:
    """0..1 -> colours, 1 warm."""
    return warmth(to_bytes(values))


def warmth(grey: Picture) -> Picture:
    """Bytes (H, W) -> colours, 255 warm."""
    return np.asarray(cv2.applyColorMap(grey, turbo()), np.uint8)


@cache
def turbo() -> Picture:
    """OpenCV's table (256, 1, 3), in RGB."""
    every = np.arange(256, dtype=np.uint8)[:, None]
    return np.asarray(cv2.applyColorMap(every, cv2.COLORMAP_TURBO)[..., ::-1].copy())


def normals_picture(result: Normals) -> Picture:
    """The colours of `tasks.normal`, in one pass where all are known."""
    if not np.isfinite(result.vectors).all():
        return to_bytes(normal_colours(result))
    scaled = cv2.convertScaleAbs(result.vectors, alpha=-127.5, beta=127.5)
    return np.asarray(scaled, np.uint8)


def disparity_picture(result: Disparity) -> Picture:
    """Relative disparity with a bar that gives no metres, because it has none."""
    picture = ramp(result.values)
    add_bar(picture, [(0.0, "near"), (1.0, "far")], ramp)
    return picture


def depth_picture(meters: Float) -> Picture:
    """Inverse depth between the 2nd and 98th percentile, and a bar in metres."""
    known = np.isfinite(meters) & (meters > 0)
    if not known.any():
        return np.zeros((*meters.shape, 3), np.uint8)
    step = max(1, int(np.sqrt(meters.size / ENOUGH)))
    some = meters[::step, ::step][known[::step, ::step]]
    near, far = np.percentile(some if len(some) else meters[known], (2, 98))
    scale = 255 / max(1 / near - 1 / far, 1e-6)
    with np.errstate(divide="ignore"):
        inverse = np.reciprocal(meters, dtype=np.float32)
    picture = warmth(levels(inverse, scale, -scale / far))
    picture[~known] = 0
    add_bar(picture, depth_marks(picture, float(near), float(far)), ramp)
    return picture


def distinct_colours(count: int) -> Picture:
    """(count + 1, 3): row 0 black, then hues far from their neighbours'."""
    rows = [(0.0, 0.0, 0.0)]
    for i in range(count):
        rows.append(colorsys.hsv_to_rgb((i * HUE_STEP) % 1, 0.75 - 0.25 * (i % 2), 1.0))
    return to_bytes(np.array(rows, np.float32))


def instances_picture(result: Instances, image: Picture) -> Picture:
    """Distinct colours by id, white outlines, the ids of the larger ones and the category."""
    colours = distinct_colours(int(result.ids.max(initial=0)))
    picture = outlined(result.ids, colours, image)
    big = [item for item in result.instances if item.area >= NAMED * result.ids.size]
    add_names(picture, [(str(item.id), item.centroid) for item in big])
    if result.category is not None and len(colours) > 1:
        count = len(result.instances)
        add_key(picture, [(f"{result.category}: {count}", (255, 255, 255))])
    return picture


def classes_picture(
    ids: npt.NDArray[np.uint8], names: Sequence[str], image: Picture | None = None
) -> Picture:
    """Class ids (H, W), 0 none and i + 1 for names[i] -> one colour per class, always the same, and
    a key of the classes seen, the largest first. ValueError for an image of another size."""
    colours = distinct_colours(max(len(names), int(ids.max(initial=0))))
    picture = outlined(ids.astype(np.uint16), colours, over(image, ids.shape))
    areas = np.bincount(ids.ravel(), minlength=len(names) + 1)[1 : len(names) + 1]
    seen = [i for i in np.argsort(-areas, kind="stable") if areas[i]]
    add_key(picture, [(names[i], colour_of(colours[i + 1])) for i in seen])
    return picture


def colour_of(row: Picture) -> Colour:
    """A row of colours as OpenCV takes it."""
    red, green, blue = (int(part) for part in row)
    return red, green, blue


def outlined(ids: npt.NDArray[np.uint16], colours: Picture, image: Picture) -> Picture:
    """colours[id] over the image where there is an id, with white outlines."""
    picture = blend(painted(ids, colours), ids > 0, image)
    small = ids.astype(np.uint8) if len(colours) <= 256 else ids
    edges = cv2.morphologyEx(small, cv2.MORPH_GRADIENT, np.ones((3, 3), np.uint8))
    whiten(picture, (edges > 0) & (ids > 0))
    return picture


def whiten(picture: Picture, where: npt.NDArray[np.bool_]) -> None:
    """In place; many times as fast as an index."""
    cv2.copyTo(np.full_like(picture, 255), where.view(np.uint8), picture)


def painted(ids: npt.NDArray[np.uint16], colours: Picture) -> Picture:
    """The colour of every id (H, W, 3); colours (N, 3), more than the greatest id."""
    if len(colours) > 256:
        return np.asarray(colours[ids], np.uint8)
    table = np.zeros((256, 1, 3), np.uint8)  # ten times as fast as indexing
    table[: len(colours), 0] = colours
    return np.asarray(cv2.applyColorMap(ids.astype(np.uint8), table), np.uint8)


def mask_picture(result: Mask, image: Picture) -> Picture:
    """One colour over the mask, with a white outline."""
    colours = np.broadcast_to(np.array(MASK_COLOUR, np.uint8), image.shape)
    picture = blend(colours, result.mask, image)
    inner = cv2.erode(result.mask.astype(np.uint8), np.ones((3, 3), np.uint8), borderValue=1)
    whiten(picture, result.mask & (inner == 0))
    return picture


def keypoints_picture(result: Keypoints, image: Picture) -> Picture:
    """Red disks with white rims over the darkened image."""
    picture = np.asarray(cv2.convertScaleAbs(image, alpha=0.6), np.uint8)
    radius = max(3, round(0.01 * min(result.size)))
    for x, y in result.points:
        centre = round(float(x)), round(float(y))
        cv2.circle(picture, centre, radius, (255, 40, 40), -1, cv2.LINE_AA)
        cv2.circle(picture, centre, radius, (255, 255, 255), 1, cv2.LINE_AA)
    return picture


def blend(colours: Picture, where: npt.NDArray[np.bool_], image: Picture) -> Picture:
    """Colours over the image where asked for; over black they keep their full strength."""
    share = OPACITY if image.any() else 1.0
    mixed = cv2.addWeighted(np.ascontiguousarray(colours), share, image, 1 - share, 0)
    chosen = where.astype(np.uint8)
    return np.asarray(cv2.copyTo(mixed, chosen, image.copy()), np.uint8)

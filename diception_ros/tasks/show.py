# SPDX-License-Identifier: Apache-2.0
"""Results as pictures for people; the data itself is never read back from them."""

from __future__ import annotations

import colorsys

import cv2
import numpy as np
import numpy.typing as npt

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

Picture = npt.NDArray[np.uint8]
HUE_STEP = 0.618034
"""The golden ratio: neighbouring ids get far hues, however many there are."""
OPACITY = 0.6
MASK_COLOUR = (255, 64, 129)


def colorize(
    result: Result | MetricDepth, image: Picture | None = None, meters: MetricDepth | None = None
) -> Picture:
    """RGB uint8 (H, W, 3). Depth: near warm, far cold, unknown black, with a bar in metres where
    metric depth is given. Normals: the paper's colours (a floor is green). Instances, masks and
    keypoints: over `image` where it is given, else over black."""
    match result:
        case Disparity():
            return depth_picture(meters) if meters is not None else ramp(result.values)
        case MetricDepth():
            return depth_picture(result)
        case Normals():
            return to_bytes(normal_colours(result))
        case Instances():
            return instances_picture(result, image)
        case Mask():
            return mask_picture(result, image)
        case Keypoints():
            return keypoints_picture(result, image)
        case Colours():
            return to_bytes(result.rgb)
    raise ValueError(f"no picture is known for a {type(result).__name__}")


def to_bytes(colours: Float) -> Picture:
    return (np.clip(np.nan_to_num(colours), 0, 1) * 255 + 0.5).astype(np.uint8)


def ramp(values: Float) -> Picture:
    """0..1 -> colours, 1 warm."""
    grey = to_bytes(values)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB))


def depth_picture(depth: MetricDepth) -> Picture:
    """Inverse depth between the 2nd and 98th percentile, and a bar with metres at its ends."""
    known = depth.valid & np.isfinite(depth.meters)
    if not known.any():
        return np.zeros((*depth.meters.shape, 3), np.uint8)
    near, far = np.percentile(depth.meters[known], (2, 98))
    inverse = np.zeros(depth.meters.shape, np.float32)
    np.divide(1, depth.meters, out=inverse, where=known)
    span = max(1 / near - 1 / far, 1e-6)
    picture = ramp(((inverse - 1 / far) / span).astype(np.float32))
    picture[~known] = 0
    return add_bar(picture, float(near), float(far))


def add_bar(picture: Picture, near: float, far: float) -> Picture:
    """A colour bar on the right with the metres of both ends."""
    height, width = picture.shape[:2]
    if height < 100 or width < 160:
        return picture
    bar = np.repeat(np.linspace(1, 0, height - 20, dtype=np.float32)[:, None], 10, axis=1)
    picture[10 : height - 10, width - 16 : width - 6] = ramp(bar)
    for text, row in ((f"{near:.1f} m", 22), (f"{far:.1f} m", height - 14)):
        size, _ = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)
        at = (width - 20 - size[0], row)
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.putText(picture, text, at, cv2.FONT_HERSHEY_SIMPLEX, 0.4, (255,) * 3, 1, cv2.LINE_AA)
    return picture


def distinct_colours(count: int) -> Picture:
    """(count + 1, 3): row 0 black, then hues far from their neighbours'."""
    rows = [(0.0, 0.0, 0.0)]
    for i in range(count):
        rows.append(colorsys.hsv_to_rgb((i * HUE_STEP) % 1, 0.75 - 0.25 * (i % 2), 1.0))
    return to_bytes(np.array(rows, np.float32))


def instances_picture(result: Instances, image: Picture | None) -> Picture:
    colours = distinct_colours(int(result.ids.max(initial=0)))[result.ids]
    picture = blend(colours, result.ids > 0, image)
    ids = result.ids.astype(np.float32)
    kernel = np.ones((3, 3), np.uint8)
    picture[(cv2.dilate(ids, kernel) != cv2.erode(ids, kernel)) & (result.ids > 0)] = 255
    return picture


def mask_picture(result: Mask, image: Picture | None) -> Picture:
    colours = np.broadcast_to(np.array(MASK_COLOUR, np.uint8), (*result.mask.shape, 3))
    return blend(colours, result.mask, image)


def keypoints_picture(result: Keypoints, image: Picture | None) -> Picture:
    picture = np.zeros((*result.size, 3), np.uint8) if image is None else (image * 0.6)
    picture = np.ascontiguousarray(picture.astype(np.uint8))
    radius = max(3, round(0.01 * min(result.size)))
    for x, y in result.points:
        cv2.circle(picture, (round(float(x)), round(float(y))), radius, (255, 40, 40), -1, 16)
        cv2.circle(picture, (round(float(x)), round(float(y))), radius, (255,) * 3, 1, 16)
    return picture


def blend(colours: Picture, where: npt.NDArray[np.bool_], image: Picture | None) -> Picture:
    if image is None:
        return np.where(where[..., None], colours, 0).astype(np.uint8)
    picture = image.copy()
    picture[where] = (OPACITY * colours[where] + (1 - OPACITY) * image[where]).astype(np.uint8)
    return picture

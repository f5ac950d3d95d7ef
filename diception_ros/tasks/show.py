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
    result: Result | MetricDepth, image: Picture | None = None, meters: Float | None = None
) -> Picture:
    """Picture of a result, RGB uint8 (H, W, 3).

    Depth: near warm, far cold, unknown black; with `meters` (H, W; NaN unknown) those are shown
    instead of relative disparity, with a bar. Normals: the paper's colours (n + 1) / 2 with x left,
    y up, z towards the viewer (a floor is green, a wall that faces the camera blue). Instances,
    masks and keypoints: over `image` (H, W, 3) uint8 where it is given, else over black.
    ValueError for another type of result or an image of another size.
    """
    match result:
        case Disparity():
            return depth_picture(meters) if meters is not None else ramp(result.values)
        case MetricDepth():
            return depth_picture(np.where(result.valid, result.meters, np.nan))
        case Normals():
            return to_bytes(normal_colours(result))
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
    scaled = cv2.convertScaleAbs(np.fmax(colours, np.float32(0)), alpha=255)
    return np.asarray(scaled, np.uint8).reshape(colours.shape)


def ramp(values: Float) -> Picture:
    """0..1 -> colours, 1 warm."""
    grey = to_bytes(values)
    return np.asarray(cv2.cvtColor(cv2.applyColorMap(grey, cv2.COLORMAP_TURBO), cv2.COLOR_BGR2RGB))


def depth_picture(meters: Float) -> Picture:
    """Inverse depth between the 2nd and 98th percentile, and a bar with metres at its ends."""
    known = np.isfinite(meters) & (meters > 0)
    if not known.any():
        return np.zeros((*meters.shape, 3), np.uint8)
    some = meters[::4, ::4][known[::4, ::4]]  # a sixteenth is enough for two percentiles
    near, far = np.percentile(some if len(some) else meters[known], (2, 98))
    inverse = np.zeros(meters.shape, np.float32)
    np.divide(1, meters, out=inverse, where=known)
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
        write(picture, text, (width - 20 - size[0], row))
    return picture


def write(picture: Picture, text: str, at: tuple[int, int], scale: float = 0.4) -> None:
    """White letters with a black rim, drawn in place; at (x, y): their lower left corner."""
    # Moved copies, not a thicker one: OpenCV 5 sets thicker letters wider apart.
    for x, y in ((-1, 0), (1, 0), (0, -1), (0, 1), (0, 0)):
        colour = (0, 0, 0) if x or y else (255, 255, 255)
        place = (at[0] + x, at[1] + y)
        cv2.putText(picture, text, place, cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)


def distinct_colours(count: int) -> Picture:
    """(count + 1, 3): row 0 black, then hues far from their neighbours'."""
    rows = [(0.0, 0.0, 0.0)]
    for i in range(count):
        rows.append(colorsys.hsv_to_rgb((i * HUE_STEP) % 1, 0.75 - 0.25 * (i % 2), 1.0))
    return to_bytes(np.array(rows, np.float32))


def instances_picture(result: Instances, image: Picture) -> Picture:
    """Distinct colours by id with white outlines."""
    colours = painted(result.ids, distinct_colours(int(result.ids.max(initial=0))))
    picture = blend(colours, result.ids > 0, image)
    kernel = np.ones((3, 3), np.uint8)
    outline = cv2.dilate(result.ids, kernel) != cv2.erode(result.ids, kernel)
    picture[outline & (result.ids > 0)] = 255
    return picture


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
    picture[result.mask & (inner == 0)] = 255
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

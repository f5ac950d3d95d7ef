# SPDX-License-Identifier: Apache-2.0
"""A camera's cloud as a picture for people, seen from beside and above the camera. Needs no viewer
and no display."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from diception_ros.tasks.show import distinct_colours

Rgb = npt.NDArray[np.uint8]
Float = npt.NDArray[np.float32]

SIZE = (288, 384)
"""Height and width in pixels."""
YAW, PITCH = 18.0, 12.0
"""Degrees by which the viewer stands to the side and above, seen from the middle of the cloud."""
FOCAL = 1.1
"""Focal length in widths of the picture."""
MARGIN = 0.9
"""Share of the picture that the cloud fills."""
CLOSEST = 0.1
"""Metres from the viewer to the nearest point, at least."""
LARGEST = 7
"""Radius of a point in pixels, at most."""
GROUND = (241, 243, 245)
UNLABELLED = (173, 178, 184)
MOST = 255
"""Different colours of labels."""
OPACITY = 0.65
"""Of a label's colour over the points' brightness."""


def cloud_picture(points: Float, colours: Rgb, size: tuple[int, int] = SIZE) -> Rgb:
    """Picture (H, W, 3) of points (N, 3), metres in the optical frame of the camera that saw them,
    in their colours (N, 3). Each is as large as the part of the surface that it stands for. What is
    behind the camera is left out."""
    picture = np.full((size[0] * size[1], 3), GROUND, np.uint8)
    ahead = points[:, 2] > 0
    points, colours = points[ahead], colours[ahead]
    if len(points):
        seen = turned(points)
        seen[:, 2] += distance_to(seen, size)
        radius = 0.75 * FOCAL * size[1] * gaps(points) / seen[:, 2] + 0.6  # closed, rounding too
        pixels, source = splats(projected(seen, size), np.minimum(radius, LARGEST), size)
        far_first = np.argsort(-seen[source, 2], kind="stable")
        picture[pixels[far_first]] = colours[source[far_first]]
    return picture.reshape(*size, 3)


def label_colours(labels: npt.NDArray[np.uint32], colours: Rgb | None = None) -> Rgb:
    """The colours (N, 3) of class ids (N,), those of the semantic picture, grey for none; over the
    points' own, where they have some, so that their shape stays."""
    labels = np.where(labels > 0, (labels - 1) % MOST + 1, 0)  # ids may be any 32 bits
    table = distinct_colours(int(labels.max(initial=0)))
    table[0] = UNLABELLED
    grey = UNLABELLED[0] if colours is None else colours.mean(axis=1, keepdims=True)
    return np.asarray(np.rint(OPACITY * table[labels] + (1 - OPACITY) * grey), np.uint8)


def turned(points: Float) -> Float:
    """The points (N, 3) as the viewer sees them, about a place before the camera in their middle
    distance."""
    yaw, pitch = np.radians((YAW, PITCH))
    about_y = [[np.cos(yaw), 0, np.sin(yaw)], [0, 1, 0], [-np.sin(yaw), 0, np.cos(yaw)]]
    about_x = [[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]]
    middle = np.array((0, 0, np.median(points[:, 2])))
    return np.asarray((points - middle) @ (np.array(about_x) @ about_y).T, np.float32)


def distance_to(seen: Float, size: tuple[int, int]) -> float:
    """How far back the viewer must stand to have all but a few of the points in the picture, and
    none behind."""
    half = MARGIN * np.array((size[1], size[0])) / (2 * FOCAL * size[1])
    fits = np.percentile((np.abs(seen[:, :2]) / half).max(axis=1) - seen[:, 2], 99.5)
    return float(max(fits, CLOSEST - seen[:, 2].min()))


def gaps(points: Float) -> Float:
    """Metres between each point and its neighbours, if the camera's pixels are spread evenly."""
    rays = points[:, :2] / points[:, 2:]
    area = np.prod(np.ptp(rays, axis=0))
    return np.asarray(np.sqrt(area / len(points)) * points[:, 2], np.float32)


def projected(seen: Float, size: tuple[int, int]) -> npt.NDArray[np.int64]:
    """Pixels (N, 2) as x, y, the cloud in the middle of the picture."""
    places = FOCAL * size[1] * seen[:, :2] / seen[:, 2:]
    centre = np.percentile(places, (1, 99), axis=0).mean(axis=0)
    return np.asarray(np.rint(places - centre + np.array((size[1], size[0])) / 2), np.int64)


def splats(
    pixels: npt.NDArray[np.int64], radius: Float, size: tuple[int, int]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    """Every pixel (flat) that a point covers, and which point it is."""
    covered, source = [], []
    for dy in range(-LARGEST, LARGEST + 1):
        for dx in range(-LARGEST, LARGEST + 1):
            x, y = pixels[:, 0] + dx, pixels[:, 1] + dy
            inside = (x >= 0) & (x < size[1]) & (y >= 0) & (y < size[0])
            (chosen,) = np.nonzero(inside & (np.hypot(dx, dy) <= radius))
            covered.append(y[chosen] * size[1] + x[chosen])
            source.append(chosen)
    return np.concatenate(covered), np.concatenate(source)

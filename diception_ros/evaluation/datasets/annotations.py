# SPDX-License-Identifier: Apache-2.0
"""COCO's JSON: polygons, run-length masks and keypoints as arrays at the image's size.

Formats: https://cocodataset.org/#format-data; run lengths as in pycocotools' maskApi.c. Polygon
corners are in the continuous frame whose origin is the top-left pixel's corner, keypoints are pixel
indices, that is (x, y) with the origin at the top-left pixel's centre.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from skimage.measure import points_in_poly

from diception_ros.tasks import Keypoints

Bool = npt.NDArray[np.bool_]
Size = tuple[int, int]
Box = tuple[float, float, float, float]
SUBPIXEL = 4
"""Fractional bits of the coordinates that OpenCV draws at."""
RIM = 4
"""Pixels around an image within which OpenCV may fill wrongly what it cuts off."""
FARTHEST = 1e6
"""Pixels; OpenCV's fixed-point coordinates overflow beyond 1e8."""


@dataclass(frozen=True)
class Annotation:
    """One object: `segmentation` as in the file (polygons, or {counts, size}; None without one),
    keypoints (K, 3) x, y, visibility (0 not labelled); crowd: a group that nobody parted; bbox: x,
    y, width, height, None where there is none."""

    id: Any
    category: str
    segmentation: Any
    keypoints: npt.NDArray[np.float64]
    crowd: bool
    area: float = 0.0
    bbox: Box | None = None


@dataclass(frozen=True)
class Annotations:
    """images: every file name of the JSON and its objects; sizes: (height, width) where given;
    skeletons: per category pairs of keypoint rows, counted from 0."""

    path: Path
    images: dict[str, tuple[Annotation, ...]]
    sizes: dict[str, Size]
    categories: tuple[str, ...]
    skeletons: dict[str, tuple[tuple[int, int], ...]]

    def of(self, name: str, size: Size) -> tuple[Annotation, ...]:
        """The objects of an image (H, W), none where it is not listed. ValueError if they are of
        one of another size: their polygons would lie elsewhere."""
        height, width = self.sizes.get(name, size)
        if (height, width) != size:
            raise ValueError(
                f"{self.path}: {name} is annotated at {width}x{height}, but the image is {size[1]}x"
                f"{size[0]}: expected the same size"
            )
        return self.images.get(name, ())


def read_annotations(path: Path) -> Annotations:
    """A COCO JSON. Masks stay as they are until `instance_ids` or `category_mask` asks for them.
    ValueError in one line if the file itself does not hold what COCO's format says."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        names = {image["id"]: str(image["file_name"]) for image in content["images"]}
        categories = {entry["id"]: str(entry["name"]) for entry in content["categories"]}
        objects: dict[str, list[Annotation]] = {name: [] for name in names.values()}
        for entry in content["annotations"]:
            if entry["image_id"] in names:  # cut-down files keep the annotations of all images
                objects[names[entry["image_id"]]].append(read_object(entry, categories))
        return Annotations(
            path,
            {name: tuple(found) for name, found in objects.items()},
            {
                str(image["file_name"]): (int(image["height"]), int(image["width"]))
                for image in content["images"]
                if "height" in image and "width" in image
            },
            tuple(dict.fromkeys(categories.values())),
            {str(entry["name"]): read_skeleton(entry) for entry in content["categories"]},
        )
    except KeyError as error:
        raise ValueError(
            f"{path}: expected COCO annotations, found no entry for {error}"
        ) from error
    except (OSError, TypeError, AttributeError, ValueError) as error:
        raise ValueError(f"{path}: cannot be read as COCO annotations: {error}") from error


def read_object(entry: dict[str, Any], categories: dict[Any, str]) -> Annotation:
    if entry["category_id"] not in categories:
        raise ValueError(
            f"annotation {entry.get('id')}: category_id {entry['category_id']} is not a category"
        )
    keypoints = np.asarray(entry.get("keypoints") or [], float)
    if keypoints.size % 3:
        raise ValueError(
            f"annotation {entry.get('id')}: expected keypoints x, y, v each, got {keypoints.size} "
            "numbers"
        )
    return Annotation(
        entry.get("id"),
        categories[entry["category_id"]],
        entry.get("segmentation") or None,
        keypoints.reshape(-1, 3),
        bool(entry.get("iscrowd", 0)),
        float(entry.get("area") or 0.0),
        read_box(entry),
    )


def read_box(entry: dict[str, Any]) -> Box | None:
    numbers = [float(value) for value in entry.get("bbox") or ()]
    if len(numbers) not in (0, 4):
        raise ValueError(
            f"annotation {entry.get('id')}: expected a bbox x, y, width, height, got "
            f"{len(numbers)} numbers"
        )
    return (numbers[0], numbers[1], numbers[2], numbers[3]) if numbers else None


def read_skeleton(category: dict[str, Any]) -> tuple[tuple[int, int], ...]:
    limbs = tuple((int(a) - 1, int(b) - 1) for a, b in category.get("skeleton") or ())
    count = len(category.get("keypoints") or ())
    if not all(0 <= end < count for limb in limbs for end in limb):
        raise ValueError(
            f"category '{category['name']}': expected a skeleton of pairs in 1..{count}, the "
            "number of its keypoints"
        )
    return limbs


def instance_ids(objects: tuple[Annotation, ...], size: Size) -> npt.NDArray[np.uint16]:
    """Ids (H, W), 0 = none: the row in `objects` plus 1. Where masks overlap the smaller is seen.
    ValueError names the annotation that has no mask or a bad one."""
    ids, areas = np.zeros(size, np.uint16), np.full(size, np.inf, np.float32)
    for number, entry in enumerate(objects, start=1):
        mask = object_mask(entry, size)
        area = np.float32(mask.sum())
        seen = mask & (area < areas)
        ids[seen], areas[seen] = number, area
    return ids


def category_mask(objects: tuple[Annotation, ...], category: str, size: Size) -> Bool:
    """Where any object of the category is, crowds included: (H, W). ValueError names the annotation
    without a good mask, whatever its category: an image is broken for all categories or none."""
    union = np.zeros(size, bool)
    for entry in objects:
        mask = object_mask(entry, size)
        if entry.category == category:
            union |= mask
    return union


def object_mask(annotation: Annotation, size: Size) -> Bool:
    """Mask (H, W) of one object; ValueError says what is wrong with it."""
    shape = annotation.segmentation
    try:
        if isinstance(shape, list):
            union = np.zeros(size, bool)
            for polygon in shape:
                union |= fill_polygon(polygon, size)
            return union
        if isinstance(shape, dict) and {"counts", "size"} <= set(shape):
            return decode_runs(shape["counts"], shape["size"], size)
        raise ValueError("expected a segmentation: polygons or {counts, size}")
    except (TypeError, ValueError, OverflowError) as error:
        raise ValueError(f"annotation {annotation.id}: {error}") from error


def fill_polygon(polygon: Any, size: Size) -> Bool:
    """x0, y0, x1, y1, ... -> pixels (H, W) whose centre lies inside."""
    corners = np.asarray(polygon, float)
    if corners.ndim != 1 or corners.size < 6 or corners.size % 2:
        raise ValueError("expected polygons, each a list of three or more x, y")
    if not (np.abs(corners) <= FARTHEST).all():
        raise ValueError(f"expected polygons of finite x, y up to {FARTHEST:g}")
    corners = corners.reshape(-1, 2) + RIM
    filled = np.zeros((size[0] + 2 * RIM, size[1] + 2 * RIM), np.uint8)
    edge = filled.copy()
    fixed = [np.round((corners - 0.5) * 2**SUBPIXEL).astype(np.int32)]
    cv2.fillPoly(filled, fixed, 1, cv2.LINE_8, SUBPIXEL)
    # OpenCV fills every pixel that the outline touches: half a pixel too much on each side.
    cv2.polylines(edge, fixed, True, 1, 3, cv2.LINE_8, SUBPIXEL)
    rows, columns = np.nonzero(edge)
    if len(rows):
        centres = np.stack([columns, rows], axis=1) + 0.5
        filled[rows, columns] = points_in_poly(centres, corners)  # type: ignore[no-untyped-call]
    return filled[RIM:-RIM, RIM:-RIM].astype(bool)


def decode_runs(counts: Any, own_size: Any, size: Size) -> Bool:
    """Lengths of runs of 0, 1, 0, ... down the columns, as a list or as COCO's string -> (H, W)."""
    if list(own_size) != list(size):
        raise ValueError(f"the mask's size (height, width) is {own_size}, the image's {list(size)}")
    runs = np.asarray(decode_counts(counts) if isinstance(counts, str) else counts, np.int64)
    if runs.ndim != 1 or (runs < 0).any() or runs.sum() != size[0] * size[1]:
        raise ValueError(f"expected run lengths that add up to {size[0] * size[1]} pixels")
    flat = np.repeat(np.arange(len(runs)) % 2 == 1, runs)
    return np.ascontiguousarray(flat.reshape(size[::-1]).T)


def decode_counts(text: str) -> list[int]:
    """COCO's string of run lengths: characters from '0' on hold 5 bits of a signed number, lowest
    first, and in the sixth bit whether more follow; from the fourth number on it is the difference
    to the one two before (rleFrString in maskApi.c)."""
    counts: list[int] = []
    value, bits = 0, 0
    for character in text:
        code = ord(character) - 48
        if not 0 <= code < 64:
            raise ValueError(f"'{character}' is not a character of compressed run lengths")
        value |= (code & 31) << bits
        bits += 5
        if not code & 32:
            value -= (code & 16) << (bits - 4)  # the sign: 2 ** bits if the highest bit is set
            counts.append(value + (counts[-2] if len(counts) > 2 else 0))
            value, bits = 0, 0
    if bits:
        raise ValueError("the compressed run lengths end in the middle of a number")
    return counts


def posed(
    objects: tuple[Annotation, ...], skeletons: dict[str, tuple[tuple[int, int], ...]], size: Size
) -> list[tuple[Keypoints, list[tuple[int, int]]]]:
    """The labelled keypoints (visibility 1, hidden, and 2, seen: those that COCO evaluates) of each
    object and the limbs between them. ValueError for a point that lies outside the image."""
    found = []
    for entry in objects:
        labelled = entry.keypoints[:, 2] > 0
        points = entry.keypoints[labelled, :2].astype(np.float32)
        # Rounding may leave the image by one.
        inside = (points >= -1) & (points <= np.array(size[::-1], np.float32))
        if not inside.all():
            x, y = points[~inside.all(axis=1)][0]
            raise ValueError(
                f"annotation {entry.id}: keypoint ({x:g}, {y:g}) lies outside the "
                f"{size[1]}x{size[0]} image"
            )
        row, rows = np.cumsum(labelled) - 1, range(len(labelled))
        limbs = [
            (int(row[a]), int(row[b]))
            for a, b in skeletons.get(entry.category, ())
            if a in rows and b in rows and labelled[a] and labelled[b]  # some files cut them short
        ]
        if len(points):
            found.append((Keypoints(points, np.ones(len(points), np.float32), size), limbs))
    return found

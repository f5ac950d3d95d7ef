# SPDX-License-Identifier: Apache-2.0
"""What a user names on the command line: files, points, requests. All errors are ValueError."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.tasks import Request, Task

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".webp", ".tif", ".tiff", ".ppm")


@dataclass(frozen=True)
class Settings:
    """What applies to every request of one call; None is the bundle's own choice."""

    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    categories: tuple[str, ...] = ()
    steps: int | None = None
    guidance: float | None = None


def find_images(paths: Sequence[Path]) -> list[Path]:
    """Files as they are, folders as their image files by name. ValueError for a path that is not
    there, a folder without images, or two images that would write the same output.
    """
    found: list[Path] = []
    for path in paths:
        if path.is_dir():
            files = (file for file in path.iterdir() if file.is_file())
            inside = sorted(file for file in files if file.suffix.lower() in SUFFIXES)
            if not inside:
                raise ValueError(f"{path} holds no image: expected {', '.join(SUFFIXES)} files")
            found += inside
        else:
            found.append(path)
    stems: dict[str, Path] = {}
    for path in found:
        other = stems.setdefault(path.stem, path)
        if other != path:
            raise ValueError(
                f"{other} and {path} would both write {path.stem}.*: give them in two calls with "
                "different --out"
            )
    return list(stems.values())


def read_image(path: Path) -> npt.NDArray[np.uint8]:
    """RGB uint8 (H, W, 3), turned as its EXIF orientation says. ValueError if it cannot be read."""
    if not path.is_file():
        raise ValueError(f"{path}: no such file")
    encoded = np.frombuffer(path.read_bytes(), np.uint8)
    try:
        image = cv2.imdecode(encoded, cv2.IMREAD_COLOR) if encoded.size else None
    except cv2.error as error:  # of a header that claims too many pixels
        raise ValueError(f"{path}: OpenCV cannot read it: {error.err}") from error
    if image is None:
        raise ValueError(
            f"{path}: not an image that OpenCV can read ({encoded.size} bytes): "
            "save it as PNG or JPEG"
        )
    return np.ascontiguousarray(cv2.cvtColor(image, cv2.COLOR_BGR2RGB).astype(np.uint8))


def parse_points(text: str) -> tuple[tuple[tuple[float, float], ...], tuple[int, ...]]:
    """Pixels and labels of "x,y;x,y,0" (label 1 inside, the default, or 0 outside)."""
    points, labels = [], []
    for part in filter(None, (part.strip() for part in text.split(";"))):
        try:
            x, y, *label = (float(value) for value in part.split(","))
        except ValueError:
            x, y, label = np.nan, np.nan, []
        if not np.isfinite([x, y]).all() or len(label) > 1 or any(v not in (0, 1) for v in label):
            raise ValueError(
                f"--points '{part}': expected x,y or x,y,label in pixels (label 1 inside, "
                'or 0 outside), several as "x,y;x,y"'
            )
        points.append((x, y))
        labels.append(int(label[0]) if label else 1)
    return tuple(points), tuple(labels)


def requests_for(
    names: Sequence[str], tasks: Mapping[str, Task], settings: Settings
) -> dict[str, Request]:
    """One request per task, and per category where the task takes one, by output name.

    ValueError for an unknown task, a category or points that a task needs and nobody gave, or that
    no asked task takes.
    """
    unknown = [name for name in names if name not in tasks]
    if unknown:
        raise ValueError(f"unknown task '{unknown[0]}': expected one of {', '.join(tasks)}")
    asked = [tasks[name] for name in dict.fromkeys(names)]
    _check_given("--category", settings.categories, [t.name for t in asked if t.takes_category])
    _check_given("--points", settings.points, [t.name for t in asked if t.takes_points])
    requests: dict[str, Request] = {}
    for task in asked:
        for category in settings.categories if task.takes_category else (None,):
            output = task.name
            if category is not None and len(settings.categories) > 1:
                output += f"-{category.replace(' ', '_')}"
            requests[output] = Request(
                task=task.name,
                points=settings.points if task.takes_points else (),
                labels=settings.labels if task.takes_points else (),
                category=category,
                steps=settings.steps,
                guidance=settings.guidance,
            )
    return requests


def _check_given(option: str, values: Sequence[object], takers: Sequence[str]) -> None:
    if takers and not values:
        example = "--category person" if option == "--category" else '--points "320,240"'
        raise ValueError(f"task '{takers[0]}' needs {option}, for example {example}")
    if values and not takers:
        raise ValueError(f"{option} was given but no asked task takes it: add the task or drop it")

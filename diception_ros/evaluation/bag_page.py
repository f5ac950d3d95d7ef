# SPDX-License-Identifier: Apache-2.0
"""A bag as one HTML page: its pictures side by side, and a film."""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.bags import message_types, read_all, warn_once
from diception_ros.evaluation.cloud_picture import cloud_picture, label_colours
from diception_ros.evaluation.depth_bags import (
    CLOUD,
    COMPRESSED,
    IMAGE,
    INFO,
    sibling,
    stamp_of,
)
from diception_ros.evaluation.page import PICTURE_WIDTH, Page, write_page
from diception_ros.evaluation.sheet import Row
from diception_ros.evaluation.views import Depth, Picture, Points, view_of
from diception_ros.tasks import MetricDepth
from diception_ros.tasks.show import colorize

Rgb = npt.NDArray[np.uint8]
FRAMES = 60
ROWS = 8
TWIN = "image_color"


def write_bag_page(bag: Path, out: Path) -> tuple[Path, int]:
    """Writes out/index.html; its path and the number of images shown. Colour images, colour twins,
    depth where it has no twin, and clouds; at most FRAMES moments, evenly spread.
    ValueError if the folder is no bag or holds no picture."""
    kinds = message_types(bag)
    infos = {topic for topic, kind in kinds.items() if kind == INFO}
    wanted = {topic for topic, kind in kinds.items() if kind in (IMAGE, COMPRESSED)}
    wanted -= {topic for topic in wanted if sibling(topic, TWIN) in wanted - {topic}}
    stamps = _moments(bag, wanted)
    clouds = {topic for topic, kind in kinds.items() if kind == CLOUD}
    pictures: dict[int, dict[str, Rgb]] = defaultdict(dict)
    for topic, message in read_all(bag, wanted | clouds):
        stamp = stamp_of(message.header)
        if stamp in stamps:
            try:
                pictures[stamp] |= _pictures(topic, message, sibling(topic) in infos)
            except ValueError as error:
                warn_once(bag, topic, str(error))
    columns = sorted({topic for found in pictures.values() for topic in found}, key=_order)
    if not columns:
        raise ValueError(f"{bag} holds no picture: expected colour images or metric depth")
    out.mkdir(parents=True, exist_ok=True)
    page = out / "index.html"
    write_page(page, _page(bag, pictures, columns))
    return page, len(pictures)


def _moments(bag: Path, topics: set[str]) -> set[int]:
    """At most FRAMES stamps of the topic with the most images, the first and last among them."""
    by_topic: dict[str, list[int]] = defaultdict(list)
    for topic, message in read_all(bag, topics):
        by_topic[topic].append(stamp_of(message.header))
    known = [sorted(set(stamps)) for stamps in by_topic.values()]
    longest = max(known, key=lambda stamps: len(stamps), default=[])
    chosen = np.unique(np.linspace(0, len(longest) - 1, FRAMES).round().astype(int))
    return {longest[i] for i in chosen if longest}


def _pictures(topic: str, message: Any, has_camera: bool) -> dict[str, Rgb]:
    """RGB by column, no wider than the page shows it."""
    view = view_of(topic, message, has_camera)
    if isinstance(view, Depth):
        known = np.isfinite(view.meters)
        return {topic: narrowed(colorize(MetricDepth(view.meters, known, 0.0)))}
    if isinstance(view, Picture):
        return {topic: narrowed(view.rgb)}
    if isinstance(view, Points):
        by = {"rgb": view.colours} if view.colours is not None else {}
        if view.labels is not None:
            by["label"] = label_colours(view.labels, view.colours)
        return {f"{topic} by {name}": cloud_picture(view.points, by[name]) for name in by}
    return {}


def narrowed(rgb: Rgb) -> Rgb:
    """No wider than the page shows it."""
    height, width = rgb.shape[:2]
    if width <= PICTURE_WIDTH:
        return rgb
    size = (PICTURE_WIDTH, round(height * PICTURE_WIDTH / width))
    return np.asarray(cv2.resize(rgb, size, interpolation=cv2.INTER_AREA), np.uint8)


def _order(topic: str) -> tuple[bool, bool, str]:
    """Inputs first, then the colour twins, then clouds."""
    return " by " in topic, topic.endswith(TWIN), topic


def _page(bag: Path, pictures: dict[int, dict[str, Rgb]], columns: list[str]) -> Page:
    stamps = sorted(pictures)
    start = stamps[0]
    chosen = np.unique(np.linspace(0, len(stamps) - 1, ROWS).round().astype(int))
    rows = [
        Row(f"{(stamps[i] - start) * 1e-9:.2f} s", f"stamp {stamps[i]}", pictures[stamps[i]])
        for i in chosen
    ]
    whole = [c for c in columns if sum(c in found for found in pictures.values()) > len(stamps) / 2]
    full = [stamp for stamp in stamps if all(column in pictures[stamp] for column in whole)]
    film = {column: [pictures[stamp][column] for stamp in full] for column in whole}
    seconds = (stamps[-1] - start) * 1e-9
    text = f"{len(stamps)} moments over {seconds:.1f} s, {len(columns)} topics with pictures."
    return Page(f"Bag {bag.name}", [text], rows, columns, film if len(full) > 1 else {}, [])

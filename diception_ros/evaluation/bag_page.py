# SPDX-License-Identifier: Apache-2.0
"""A bag as one HTML page: its pictures side by side, and a film."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.bags import message_types, read_all, read_stamps, warn_once
from diception_ros.evaluation.cloud_picture import cloud_picture, label_colours
from diception_ros.evaluation.depth_bags import (
    CLOUD,
    COMPRESSED,
    IMAGE,
    INFO,
)
from diception_ros.evaluation.page import PICTURE_WIDTH, Page, write_page
from diception_ros.evaluation.sheet import Row
from diception_ros.evaluation.views import Depth, Picture, Points, view_of
from diception_ros.ros.camera import sibling_topic, stamp_ns
from diception_ros.tasks import MetricDepth
from diception_ros.tasks.show import colorize

Rgb = npt.NDArray[np.uint8]
FRAMES = 60
ROWS = 8
TWIN = "image_color"
NEAR = 50_000_000
"""ns from a moment within which a topic is shown that shares its stamps with no other."""


def write_bag_page(bag: Path, out: Path) -> tuple[Path, int]:
    """Writes out/index.html; its path and the number of moments shown. Images in colour or grey,
    colour twins, depth where it has no twin, and clouds; at most FRAMES moments, those of which
    most topics tell.
    ValueError if the folder is no bag or holds no picture."""
    kinds = message_types(bag)
    infos = {topic for topic, kind in kinds.items() if kind == INFO}
    wanted = {topic for topic, kind in kinds.items() if kind in (IMAGE, COMPRESSED)}
    wanted -= {topic for topic in wanted if sibling_topic(topic, TWIN) in wanted - {topic}}
    wanted |= {topic for topic, kind in kinds.items() if kind == CLOUD}
    shown = _shown(bag, wanted)
    pictures: dict[int, dict[str, Rgb]] = defaultdict(dict)
    for topic, message in read_all(bag, wanted):
        moment = shown.get((topic, stamp_ns(message.header)))
        if moment is not None:
            try:
                pictures[moment] |= _pictures(topic, message, sibling_topic(topic) in infos)
            except ValueError as error:
                warn_once(bag, topic, str(error))
    columns = sorted({topic for found in pictures.values() for topic in found}, key=_order)
    if not columns:
        raise ValueError(f"{bag} holds no picture: expected colour images or metric depth")
    out.mkdir(parents=True, exist_ok=True)
    page = out / "index.html"
    write_page(page, _page(bag, pictures, columns))
    return page, len(pictures)


def _shown(bag: Path, topics: set[str]) -> dict[tuple[str, int], int]:
    """The moments of the messages that are shown, by topic and stamp. Outputs have their image's
    stamp; a topic that has none of the moments', as another camera's, is shown by what is near."""
    stamps = {topic: known for topic, known in read_stamps(bag, topics).items() if known}
    counts = Counter(stamp for known in stamps.values() for stamp in known)
    lone = {topic for topic, known in stamps.items() if all(counts[one] == 1 for one in known)}
    if lone == stamps.keys():
        lone -= {max(stamps, key=lambda topic: len(stamps[topic]), default="")}
    moments = _richest({s: counts[s] for topic in stamps.keys() - lone for s in stamps[topic]})
    shown = {(topic, one): one for one in moments for topic in stamps if one in stamps[topic]}
    for topic in (topic for topic in stamps if stamps[topic].isdisjoint(moments)):
        known = np.array(sorted(stamps[topic]))
        nearest = {one: int(known[np.abs(known - one).argmin()]) for one in moments}
        shown |= {(topic, s): one for one, s in nearest.items() if abs(s - one) <= NEAR}
    return shown


def _richest(counts: Mapping[int, int]) -> list[int]:
    """At most FRAMES stamps, evenly spread over those with more than half as many topics as the
    best: a slow node answers few of its camera's images."""
    most = max(counts.values(), default=0)
    rich = np.array(sorted(stamp for stamp, count in counts.items() if count > most / 2))
    parts = [part.tolist() for part in np.array_split(rich, FRAMES) if len(part)]
    return [max(part, key=lambda stamp: counts[stamp]) for part in parts]


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

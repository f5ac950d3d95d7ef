# SPDX-License-Identifier: Apache-2.0
"""SA-1B (Kirillov et al. 2023), as its archives extract: `sa_<id>.jpg` beside `sa_<id>.json`,
in one folder or several. The masks overlap and have no category.
"""

from __future__ import annotations

import json
from functools import partial
from pathlib import Path

from diception_ros.evaluation.datasets.annotations import decode_runs
from diception_ros.evaluation.datasets.readers import below, read_rgb
from diception_ros.evaluation.datasets.sample import DataSet, Item, Sample, object_of


def fits_segment_anything(path: Path) -> bool:
    return next(below(path, "**/sa_*.json"), None) is not None


def open_segment_anything(path: Path) -> DataSet:
    """path: a folder with images and their JSON at any depth."""
    items = [
        Item(file.stem, partial(_load, file))
        for file in sorted(below(path, "**/sa_*.json"))
        if file.with_suffix(".jpg").is_file()
    ]
    return DataSet("sa1b", path, tuple(items), ("entity", "point"))


def _load(file: Path) -> Sample:
    rgb = read_rgb(file.with_suffix(".jpg"))
    size = (rgb.shape[0], rgb.shape[1])
    try:
        entries = json.loads(file.read_text("utf-8"))["annotations"]
        masks = [entry["segmentation"] for entry in entries]
        objects = tuple(object_of(decode_runs(m["counts"], m["size"], size)) for m in masks)
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{file}: cannot be read as SA-1B's annotations: {error}") from error
    return Sample(file.stem, rgb, file.parent.name, objects=objects)

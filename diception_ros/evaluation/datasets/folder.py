# SPDX-License-Identifier: Apache-2.0
"""Any folder with a manifest (docs/training.md), read as truth to judge against."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from diception_ros.evaluation.datasets.annotations import Annotation, object_mask
from diception_ros.evaluation.datasets.manifest import Coco, Files, Manifest, read_manifest
from diception_ros.evaluation.datasets.readers import read_rgb
from diception_ros.evaluation.datasets.sample import DataSet, Item, Object, Sample, Size, object_of
from diception_ros.tasks import TASKS

JUDGED = ("depth", "normal", "entity", "semantic", "point", "pose")


def manifest_of(path: Path) -> Path | None:
    """The manifest: the YAML itself, or the only YAML in a folder that names images. ValueError
    for several."""
    if path.is_file():
        return path if path.suffix in (".yaml", ".yml") else None
    found = [p for p in sorted(path.glob("*.y*ml")) if "images:" in p.read_text(errors="replace")]
    if len(found) > 1:
        raise ValueError(
            f"{path} holds the manifests {' and '.join(one.name for one in found)}: name one, "
            "or the --form of what else is there"
        )
    return found[0] if found else None


def open_folder(path: Path) -> DataSet:
    """The images for which the manifest has a truth of a built-in task. ValueError says what in the
    manifest is wrong."""
    file = manifest_of(path)
    if file is None:
        raise ValueError(f"{path}: expected a manifest (YAML, docs/training.md), found none")
    manifest = read_manifest(file, TASKS)
    sources = {task: manifest.sources[task] for task in JUDGED if task in manifest.sources}
    names = {
        name
        for source in sources.values()
        for name in (source.paths if isinstance(source, Files) else source.names)
    }
    items = [
        Item(name, partial(_load, manifest, name)) for name in manifest.images if name in names
    ]
    return DataSet("folder", path, tuple(items), tuple(sources))


def _load(manifest: Manifest, name: str) -> Sample:
    rgb = read_rgb(manifest.images[name])
    size = (rgb.shape[0], rgb.shape[1])
    known: dict[str, Any] = {}
    for task, field in (("depth", "depth_m"), ("normal", "normals")):
        source = manifest.sources.get(task)
        if isinstance(source, Files) and name in source.paths:
            known[field] = (source.truth or source.read)(source.paths[name])
    annotated = {
        id(source.annotations): source.annotations.of(source.names[name], size)
        for source in manifest.sources.values()
        if isinstance(source, Coco) and name in source.names
    }
    objects = None
    if annotated:
        entries = merged(list(annotated.values()))
        objects = tuple(object_from(entry, size) for entry in entries)
    return Sample(name, rgb, str(Path(name).parent), objects=objects, **known)


def merged(sources: Sequence[Sequence[Annotation]]) -> list[Annotation]:
    """Annotations of one image, of one JSON or of two that part masks and keypoints as COCO does:
    those with an id in common are one object."""
    found: dict[Any, Annotation] = {}
    for source in sources:
        for number, entry in enumerate(source):
            key = (len(found), number) if entry.id is None else entry.id
            known = found.get(key)
            if known is not None and not len(entry.keypoints):
                continue
            found[key] = entry if known is None else replace(known, keypoints=entry.keypoints)
    return list(found.values())


def object_from(entry: Annotation, size: Size) -> Object:
    """An annotated object; without a segmentation its mask is empty."""
    known = {
        "category": entry.category,
        "crowd": entry.crowd,
        "keypoints": entry.keypoints,
        "area": entry.area,
        "bbox": entry.bbox,
    }
    mask = object_mask(entry, size) if entry.segmentation else np.zeros(size, np.bool_)
    return object_of(mask, **known)

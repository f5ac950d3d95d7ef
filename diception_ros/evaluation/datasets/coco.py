# SPDX-License-Identifier: Apache-2.0
"""COCO (Lin et al. 2014), as published: `<split>/<image>.jpg` and, in `annotations/`,
`instances_<split>.json` with, where it is there, `person_keypoints_<split>.json`.

The path is the folder of both, or the split's images (`coco/val2017`) to choose a split.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from diception_ros.evaluation.datasets.annotations import Annotations, read_annotations
from diception_ros.evaluation.datasets.folder import merged, object_from
from diception_ros.evaluation.datasets.readers import read_rgb
from diception_ros.evaluation.datasets.sample import DataSet, Item, Sample

PREFIX = "instances_"


def fits_coco(path: Path) -> bool:
    return bool(_splits(path))


def _splits(path: Path) -> list[tuple[Path, Path]]:
    """(images, instances.json) of every split whose images are there; val first."""
    found = []
    for root, wanted in ((path, "*"), (path.parent, path.name)):
        for file in sorted((root / "annotations").glob(f"{PREFIX}{wanted}.json")):
            images = root / file.stem.removeprefix(PREFIX)
            if images.is_dir():
                found.append((images, file))
    return sorted(found, key=lambda pair: not pair[0].name.startswith("val"))


def open_coco(path: Path) -> DataSet:
    """Of several splits the validation's. ValueError for no split with images, or a bad JSON."""
    splits = _splits(path)
    if not splits:
        raise ValueError(f"{path}: expected annotations/{PREFIX}<split>.json and a folder <split>")
    images, file = splits[0]
    sources = [read_annotations(file)]
    people = file.with_name(f"person_keypoints_{images.name}.json")
    if people.is_file():
        sources.append(read_annotations(people))
    items = [
        Item(_called(name), partial(_load, images / name, sources, name))
        for name in sorted(sources[0].images)
        if (images / name).is_file()
    ]
    tasks = ("entity", "semantic", "point", *(("pose",) if len(sources) > 1 else ()))
    return DataSet("coco", path, tuple(items), tasks)


def _load(image: Path, sources: list[Annotations], name: str) -> Sample:
    rgb = read_rgb(image)
    size = (rgb.shape[0], rgb.shape[1])
    entries = merged([source.of(name, size) for source in sources])
    objects = tuple(object_from(entry, size) for entry in entries)
    return Sample(_called(name), rgb, objects=objects)


def _called(name: str) -> str:
    return Path(name).with_suffix("").as_posix()

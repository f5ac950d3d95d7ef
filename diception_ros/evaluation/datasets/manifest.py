# SPDX-License-Identifier: Apache-2.0
"""The YAML beside a user's images: which files are targets of which task. docs/training.md has
the format. Whatever is wrong with the file as a whole is a ValueError in one line."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import yaml

from diception_ros.evaluation.datasets.annotations import Annotation, Annotations, read_annotations
from diception_ros.evaluation.datasets.readers import (
    FRAMES,
    MAPS,
    PICTURES,
    Array,
    as_mask,
    find_files,
    known_depth,
    read_depth,
    read_map,
    read_mask,
    read_normals,
    read_rgb,
)
from diception_ros.tasks import Colours, Disparity, Mask, Normals, Task, disparity_from_depth

LOG = logging.getLogger(__name__)
COLOURS = ("random", "placed")
SECTIONS: dict[str, tuple[type, Any, Any, tuple[str, ...]]] = {
    "masks": (Mask, read_mask, as_mask, (".png",)),
    "maps": (Disparity, read_map, Disparity, MAPS),
    "pictures": (Colours, read_rgb, Colours, PICTURES),
}
"""What a section's tasks result in, how a file is read, what it means, its suffixes."""
KEYS = ("images", "depth", "normal", "coco", *SECTIONS, "colours", "mirror")


@dataclass(frozen=True)
class Files:
    """One file per image: `read` gives its array (H, W[, C]), `target` what the task encodes.
    truth: as `read`, but unknown depth stays NaN."""

    paths: dict[str, Path]
    read: Callable[[Path], Array]
    target: Callable[[Array], Any]
    truth: Callable[[Path], Array] | None = None

    def label(self, name: str) -> str:
        return str(self.paths[name])


@dataclass(frozen=True)
class Coco:
    """Objects in a COCO JSON; names: image name -> the JSON's file_name."""

    annotations: Annotations
    names: dict[str, str]

    def label(self, name: str) -> str:
        return f"{self.annotations.path} ({self.names[name]})"

    def objects(self, name: str) -> tuple[Annotation, ...]:
        return self.annotations.images[self.names[name]]


@dataclass(frozen=True)
class Manifest:
    """images: path by name, the path in the folder without the suffix; sources: by task; colours:
    of entities, a member of COLOURS; mirror: whether left and right may be swapped."""

    path: Path
    images: dict[str, Path]
    sources: dict[str, Files | Coco]
    colours: str = "random"
    mirror: bool = True


def read_manifest(path: Path, tasks: Mapping[str, Task]) -> Manifest:
    """Reads the manifest and looks for the files; images and targets are not opened yet. ValueError
    for unknown settings or tasks, missing folders, and targets that belong to no image."""
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(
            f"{path}: cannot be read as YAML: {' '.join(str(error).split())}"
        ) from error
    try:
        check_fields("the manifest", content, ("images",), KEYS)
        colours, mirror = content.get("colours", "random"), content.get("mirror", True)
        if colours not in COLOURS:
            raise ValueError(f"colours: expected {' or '.join(COLOURS)}, found {colours!r}")
        if not isinstance(mirror, bool):
            raise ValueError(f"mirror: expected true or false, found {mirror!r}")
        images = find_files(path.parent / str(content["images"]), PICTURES)
        sources = find_sources(path.parent, content, images, tasks)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    return Manifest(path, images, sources, colours, mirror)


def check_fields(where: str, entry: Any, needed: Iterable[str], known: Iterable[str]) -> None:
    """ValueError unless the entry is a mapping with all of the needed and none but known fields."""
    if not isinstance(entry, dict):
        raise ValueError(f"{where}: expected {', '.join(known)}, found {entry!r}")
    unknown = [str(key) for key in entry if key not in known]
    if unknown:
        raise ValueError(f"{where}: unknown '{unknown[0]}', expected {', '.join(known)}")
    missing = [key for key in needed if key not in entry]
    if missing:
        raise ValueError(f"{where}: '{missing[0]}' is missing")


def find_sources(
    root: Path, content: dict[str, Any], images: dict[str, Path], tasks: Mapping[str, Task]
) -> dict[str, Files | Coco]:
    """The sources by task, in the order of `tasks`."""
    found: list[tuple[str, Files | Coco]] = []
    if "depth" in content:
        found.append(("depth", depth_files(root, content["depth"], images)))
    if "normal" in content:
        found.append(("normal", normal_files(root, content["normal"], images)))
    if "coco" in content:
        found += coco_sources(root, content["coco"], images)
    for section in SECTIONS:
        for name, entry in mapping(section, content.get(section, {})).items():
            found.append((name, section_files(section, root, name, entry, images, tasks)))
    names = [name for name, _ in found]
    for name in names:
        if names.count(name) > 1:
            raise ValueError(f"task '{name}' has two sources: keep one")
        if name not in tasks:
            raise ValueError(f"unknown task '{name}', expected one of {', '.join(tasks)}")
    if not found:
        raise ValueError(f"no targets: expected one or more of {', '.join(KEYS[1:-2])}")
    sources = dict(found)
    return {name: sources[name] for name in tasks if name in sources}


def mapping(section: str, entries: Any) -> dict[str, Any]:
    if not isinstance(entries, dict):
        raise ValueError(f"{section}: expected 'task: {{folder: ...}}', found {entries!r}")
    return entries


def depth_files(root: Path, entry: Any, images: dict[str, Path]) -> Files:
    check_fields("depth", entry, ("folder",), ("folder", "scale"))
    scale = entry.get("scale", 0.001)
    if isinstance(scale, bool) or not isinstance(scale, int | float) or not 0 < scale < 1e6:
        raise ValueError(
            f"depth: expected a scale over 0 (metres = value * scale), found {scale!r}"
        )
    paths = paired("depth", root / str(entry["folder"]), MAPS, images)
    read, truth = (partial(how, scale=float(scale)) for how in (read_depth, known_depth))
    return Files(paths, read, disparity_from_depth, truth)


def normal_files(root: Path, entry: Any, images: dict[str, Path]) -> Files:
    check_fields("normal", entry, ("folder", "frame"), ("folder", "frame"))
    if entry["frame"] not in FRAMES:
        raise ValueError(f"normal: expected a frame {', '.join(FRAMES)}, found {entry['frame']!r}")
    paths = paired("normal", root / str(entry["folder"]), MAPS, images)
    return Files(paths, partial(read_normals, frame=entry["frame"]), Normals)


def section_files(
    section: str,
    root: Path,
    name: str,
    entry: Any,
    images: dict[str, Path],
    tasks: Mapping[str, Task],
) -> Files:
    """Files of a task that a user described, or of a built-in one with such a result."""
    result, read, target, suffixes = SECTIONS[section]
    fitting = [
        task.name for task in tasks.values() if task.result is result and not task.takes_points
    ]
    if name not in fitting:
        raise ValueError(
            f"{section}: unknown task '{name}', expected one of those that result in a "
            f"{result.__name__}: {', '.join(fitting) or 'none is known, name one in a task file'}"
        )
    where = f"{section}: {name}"
    check_fields(where, entry, ("folder",), ("folder",))
    return Files(paired(where, root / str(entry["folder"]), suffixes, images), read, target)


def paired(
    where: str, folder: Path, suffixes: tuple[str, ...], images: dict[str, Path]
) -> dict[str, Path]:
    """The target files whose names are those of images."""
    try:
        files = find_files(folder, suffixes)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from error
    alone = [path for name, path in files.items() if name not in images]
    if len(alone) == len(files):
        raise ValueError(
            f"{where}: no file in {folder} has the name of an image, as {alone[0].name}"
        )
    if alone:
        LOG.warning("%s: %d files without an image, as %s", where, len(alone), alone[0])
    LOG.info("%s: %d of %d images", where, len(files) - len(alone), len(images))
    return {name: path for name, path in files.items() if name in images}


def coco_sources(root: Path, entry: Any, images: dict[str, Path]) -> list[tuple[str, Coco]]:
    """One JSON for everything, or {instances: JSON, keypoints: JSON} as COCO itself parts them."""
    roles = {"instances": entry, "keypoints": entry} if isinstance(entry, str) else entry
    check_fields("coco", roles, (), ("instances", "keypoints"))
    listed = {
        file: listed_images(read_annotations(root / file), images)
        for file in dict.fromkeys(map(str, roles.values()))
    }
    sources: list[tuple[str, Coco]] = []
    for role, file in roles.items():
        shows = segments if role == "instances" else keypoints
        of_role = [(name, source) for name, source in shows(listed[str(file)]) if source.names]
        if not of_role and roles is entry:
            raise ValueError(f"coco: {file} has no {role} for any image")
        sources += of_role
    if not sources:
        raise ValueError(f"coco: {entry} has neither segmentations nor keypoints for any image")
    return sources


def listed_images(annotations: Annotations, images: dict[str, Path]) -> Coco:
    """The images of the JSON that are there."""
    stems = {Path(file).with_suffix("").as_posix(): file for file in annotations.images}
    names = {stem: file for stem, file in stems.items() if stem in images}
    absent = [file for stem, file in stems.items() if stem not in images]
    if not names:
        raise ValueError(
            f"coco: {annotations.path} lists no image of the images folder (file_name is the path "
            f"in that folder), as {absent[0] if absent else 'it lists none at all'}"
        )
    if absent:
        LOG.warning("%s: %d images are not there, as %s", annotations.path, len(absent), absent[0])
    return Coco(annotations, names)


def segments(coco: Coco) -> list[tuple[str, Coco]]:
    """Sources for entity (images with objects), point (with objects that are no crowd) and semantic
    (all: an image without the category is an example of black)."""
    if not any(one.segmentation for name in coco.names for one in coco.objects(name)):
        return []
    parted = only(coco, lambda one: not one.crowd)
    return [("entity", only(coco, lambda one: True)), ("semantic", coco), ("point", parted)]


def keypoints(coco: Coco) -> list[tuple[str, Coco]]:
    return [("pose", only(coco, lambda one: bool((one.keypoints[:, 2] > 0).any())))]


def only(coco: Coco, fits: Callable[[Annotation], bool]) -> Coco:
    """The images with an object that fits."""
    names = {n: file for n, file in coco.names.items() if any(map(fits, coco.objects(n)))}
    return Coco(coco.annotations, names)

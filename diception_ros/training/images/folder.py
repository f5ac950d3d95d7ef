# SPDX-License-Identifier: Apache-2.0
"""Training examples from a user's own images, as a manifest describes them.

An image is resized as at serving (bilinear, antialiased, aspect ratio not kept), its targets by
nearest neighbour, so that no depth, normal or id is made up; keypoints keep their place in it.
"""

from __future__ import annotations

import logging
import math
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from diception_ros.evaluation.datasets.annotations import category_mask, instance_ids, posed
from diception_ros.evaluation.datasets.manifest import Coco, Files, Manifest, read_manifest
from diception_ros.evaluation.datasets.readers import Array, as_mask, read_rgb
from diception_ros.imaging import Canvas
from diception_ros.tasks import (
    TASKS,
    Colours,
    Instances,
    Keypoints,
    Mask,
    Normals,
    Task,
    disparity_from_depth,
    farthest_disparity,
)
from diception_ros.tasks.colours import Palette
from diception_ros.training.targets import (
    Example,
    draw_points,
    entity_colours,
    least_area,
    pick_instance,
    soft,
)

LOG = logging.getLogger(__name__)
Float = npt.NDArray[np.float32]
Rng = np.random.Generator
Size = tuple[int, int]
ABSENT = 0.15
"""Share of semantic examples that draw any image: mostly the category is not there."""
SMALLEST = {"random": Palette().smallest, "placed": least_area(1)}
"""Share of the picture under which an entity is not drawn."""


class Folder:
    """A manifest's samples. tasks: those with data; prompts: every prompt that examples may have;
    skipped: samples given up so far, each with a warning that names the file.

    Files are read when they are asked for. One that is broken, or does not fit its image, is never
    asked for again; a broken image is given up for every task. What an rng draws does not depend on
    which files have been found broken before.
    """

    def __init__(self, manifest: Manifest, canvas: Canvas, tasks: Mapping[str, Task]) -> None:
        self.manifest, self.canvas, self.known = manifest, canvas, tasks
        self.tasks = tuple(manifest.sources)
        self.skipped = 0
        self.names = {task: names_of(source) for task, source in manifest.sources.items()}
        self.bad: dict[str, set[str]] = {task: set() for task in self.tasks}
        self.by_category: dict[str, list[str]] = {}
        if isinstance(coco := manifest.sources.get("semantic"), Coco):
            self.by_category = names_by_category(coco)
        self.prompts = tuple(prompt for task in self.tasks for prompt in self.prompts_of(task))

    @classmethod
    def open(cls, manifest: Path, canvas: Canvas, tasks: Mapping[str, Task] = TASKS) -> Folder:
        """tasks: TASKS and those of a task file. ValueError says what in the manifest is wrong."""
        return cls(read_manifest(manifest, tasks), canvas, tasks)

    def prompts_of(self, task: str) -> tuple[str, ...]:
        """Those of the task's examples; none for a task without data."""
        if task not in self.tasks:
            return ()
        row = self.known[task]
        categories = self.by_category if row.takes_category else [None]
        return tuple(row.prompt_for(category) for category in categories)

    def example(self, task: str, rng: Rng) -> Example:
        """A random example at the canvas' size. ValueError if the manifest has no data for the
        task, or all of it is broken."""
        if task not in self.tasks:
            raise ValueError(
                f"{self.manifest.path}: no data for the task '{task}', only for "
                f"{', '.join(self.tasks)}"
            )
        while len(self.bad[task]) < len(self.names[task]):
            name, category = self.draw(task, rng)
            if name in self.bad[task]:
                continue
            found = self.load(task, name, category)
            if found is not None:
                return self.make(task, category, *found, rng)
        raise ValueError(
            f"{self.manifest.path}: all {len(self.names[task])} samples of the task '{task}' are "
            "broken: the warnings name them"
        )

    def draw(self, task: str, rng: Rng) -> tuple[str, str]:
        """An image's name, and for the semantic task a category, each as likely as any other."""
        names, category = self.names[task], ""
        if self.known[task].takes_category:
            category = str(rng.choice(list(self.by_category)))
            names = self.by_category[category] if rng.random() >= ABSENT else names
        return names[rng.integers(len(names))], category

    def load(self, task: str, name: str, category: str) -> tuple[npt.NDArray[np.uint8], Any] | None:
        """Image (h, w, 3) and target at the canvas' size; None, after a warning, if it is broken.
        Nothing is random here."""
        source, path = self.manifest.sources[task], self.manifest.images[name]
        label, tasks = str(path), self.tasks
        try:
            image = read_rgb(path)
            label, tasks = source.label(name), (task,)
            size = image.shape[:2]
            if isinstance(source, Files):
                target = load_file(source, name, size, self.canvas)
            else:
                target = self.load_objects(source, task, name, category, size)
        except ValueError as error:
            self.skipped += 1
            LOG.warning("skipped %s: %s", label, " ".join(str(error).split()))
            for one in tasks:
                if name in self.names[one]:
                    self.bad[one].add(name)
            return None
        return np.round(smooth(image, self.canvas) * 255).astype(np.uint8), target

    def load_objects(self, source: Coco, task: str, name: str, category: str, size: Size) -> Any:
        """People for the pose task, a mask (h, w) for the semantic one, for the others ids (h, w);
        crowds are objects of all but the point task."""
        objects = source.objects(name)
        check_size(source.annotations.sizes.get(source.names[name], size), size)
        if task == "pose":
            people = posed(objects, source.annotations.skeletons, size)
            return [(scaled(person, self.canvas), limbs) for person, limbs in people]
        if task == "semantic":
            return nearest(category_mask(objects, category, size), self.canvas)
        if task == "point":
            objects = tuple(one for one in objects if not one.crowd)
        ids = nearest(instance_ids(objects, size), self.canvas)
        share = 2 * least_area(1) if task == "point" else SMALLEST[self.manifest.colours]
        least = share * ids.size
        if np.bincount(ids.ravel())[1:].max(initial=0) < least:
            width, height = self.canvas.width, self.canvas.height
            raise ValueError(f"no object covers {least:.0f} pixels at {width}x{height}")
        return ids

    def make(
        self, task: str, category: str, image: npt.NDArray[np.uint8], target: Any, rng: Rng
    ) -> Example:
        """The example, in half of the cases left-right (if the manifest allows it)."""
        if self.manifest.mirror and rng.random() < 0.5:
            image = np.ascontiguousarray(image[:, ::-1])
            target = mirrored(target, self.known[task].result is Normals)
        points, labels = np.zeros((5, 2), np.float32), np.zeros(5, np.int64)
        if task == "point":
            target = target == pick_instance(target, rng)
            points, labels = draw_points(target, rng)
        colours = self.paint(task, target, rng)
        prompt = self.known[task].prompt_for(category or None)
        source = self.manifest.sources[task]
        is_depth = isinstance(source, Files) and source.target is disparity_from_depth
        base = farthest_disparity(target) if is_depth else math.nan
        return Example(image, colours, prompt, points, labels, base=base)

    def paint(self, task: str, target: Any, rng: Rng) -> Float:
        """What the network is to generate, (h, w, 3) in [0, 1]."""
        source, encode = self.manifest.sources[task], self.known[task].encode
        if task == "pose":
            return np.max([encode(person, limbs=limbs) for person, limbs in target], axis=0)
        if task == "entity":
            return self.entities(target, rng)
        shown = source.target(target) if isinstance(source, Files) else as_mask(target)
        if task == "semantic":
            shown = Instances(target.astype(np.uint16), ())
        return soft(encode(shown)) if isinstance(shown, Mask | Instances) else encode(shown)

    def entities(self, ids: npt.NDArray[np.uint16], rng: Rng) -> Float:
        """Colours (h, w, 3), drawn anew each time as the paper does, or by place; the background
        and what the decoder drops for its size is black."""
        if self.manifest.colours == "placed":
            return entity_colours(ids)
        large = np.bincount(ids.ravel()) >= SMALLEST["random"] * ids.size
        return self.known["entity"].encode(Instances(np.where(large[ids], ids, 0), ()), rng)


def names_of(source: Files | Coco) -> list[str]:
    return list(source.paths if isinstance(source, Files) else source.names)


def names_by_category(coco: Coco) -> dict[str, list[str]]:
    """The images that show each category; categories without any are left out."""
    found: dict[str, list[str]] = defaultdict(list)
    for name in coco.names:
        for category in {one.category: None for one in coco.objects(name)}:
            found[category].append(name)
    return dict(found)


def load_file(source: Files, name: str, size: Size, canvas: Canvas) -> Array:
    """The file's array at the canvas' size; ValueError if it is not of the image's size."""
    values = source.read(source.paths[name])
    check_size(values.shape[:2], size)
    fitted = smooth(values, canvas) if source.target is Colours else nearest(values, canvas)
    source.target(fitted)  # raises where the smaller size has lost all that was known
    return fitted


def check_size(found: tuple[int, ...], size: Size) -> None:
    if tuple(found) != tuple(size):
        raise ValueError(f"is {found[1]}x{found[0]}, but its image {size[1]}x{size[0]}")


def smooth(picture: npt.NDArray[np.uint8], canvas: Canvas) -> Float:
    """(H, W, 3) -> (h, w, 3) in [0, 1], as Canvas resizes an image."""
    return ((canvas.to_model(picture).permute(1, 2, 0) + 1) / 2).contiguous().numpy()


def nearest(values: Array, canvas: Canvas) -> Array:
    """(H, W[, C]) -> (h, w[, C]): each pixel that whose centre is nearest."""
    height, width = values.shape[:2]
    rows = ((np.arange(canvas.height) + 0.5) * height / canvas.height).astype(int)
    columns = ((np.arange(canvas.width) + 0.5) * width / canvas.width).astype(int)
    return values[rows[:, None], columns]


def scaled(person: Keypoints, canvas: Canvas) -> Keypoints:
    ratio = np.float32([canvas.width / person.size[1], canvas.height / person.size[0]])
    points = (person.points + np.float32(0.5)) * ratio - np.float32(0.5)
    return Keypoints(points, person.scores, (canvas.height, canvas.width))


def mirrored(target: Any, normals: bool) -> Any:
    """A target left-right: maps (h, w[, C]) or people; the normals' x changes sign."""
    if isinstance(target, list):
        return [(mirrored_person(person), limbs) for person, limbs in target]
    flipped = np.ascontiguousarray(target[:, ::-1])
    return flipped * np.float32([-1, 1, 1]) if normals else flipped


def mirrored_person(person: Keypoints) -> Keypoints:
    points = person.points * np.float32([-1, 1]) + np.float32([person.size[1] - 1, 0])
    return Keypoints(points, person.scores, person.size)

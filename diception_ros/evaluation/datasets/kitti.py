# SPDX-License-Identifier: Apache-2.0
"""KITTI depth (Uhrig et al. 2017) in its two published forms.

- `depth_selection/val_selection_cropped/`: `image/<drive>_image_<frame>_image_02.png` beside
  `groundtruth_depth/<drive>_groundtruth_depth_<frame>_image_02.png`; 1000 crops of 1216x352.
- `data_depth_annotated`: `{train,val}/<drive>/proj_depth/groundtruth/image_02/<frame>.png`,
  with the raw images anywhere below the same folder as `<date>/<drive>/image_02/data/<frame>.png`.

Depth: 16 bits, metres = value / 256, 0 unknown. Names are those of the Eigen split's lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

from diception_ros.evaluation.datasets.readers import below, known_depth, read_rgb
from diception_ros.evaluation.datasets.sample import DataSet, Item, Sample

METRES = 1 / 256
MARK = "_groundtruth_depth_"


def fits_kitti(path: Path) -> bool:
    return _selection(path) is not None or next(_annotated(path), None) is not None


def open_kitti(path: Path) -> DataSet:
    """path: a folder that holds either form. ValueError if there are depths but no images."""
    folder = _selection(path)
    items = _selected_items(folder) if folder is not None else _raw_items(path)
    return DataSet("kitti", path, tuple(items), ("depth",), "kitti-garg")


def _selection(path: Path) -> Path | None:
    for folder in (
        path,
        path / "val_selection_cropped",
        path / "depth_selection/val_selection_cropped",
    ):
        if any((folder / "groundtruth_depth").glob(f"*{MARK}*.png")):
            return folder
    return None


def _selected_items(folder: Path) -> list[Item]:
    items = []
    for depth in sorted((folder / "groundtruth_depth").glob(f"*{MARK}*.png")):
        drive, _, rest = depth.stem.partition(MARK)
        image = folder / "image" / f"{drive}_image_{rest}.png"
        if image.is_file():
            items.append(Item(image.stem, partial(_load, image.stem, drive, image, depth)))
    return items


def _annotated(path: Path) -> Iterator[Path]:
    return below(path, "**/proj_depth/groundtruth/image_0[23]/*.png")


def _raw_items(path: Path) -> list[Item]:
    drives = {
        folder.parent.parent.name: folder.parent.parent
        for folder in below(path, "**/image_0[23]/data")
    }
    items, without = [], 0
    for depth in sorted(_annotated(path)):
        camera, drive = depth.parent.name, depth.parents[3].name
        raw = drives.get(drive, path / drive) / camera / "data" / depth.name
        images = [image for image in (raw, raw.with_suffix(".jpg")) if image.is_file()]
        name = f"{drive[:10]}/{drive}/{camera}/data/{depth.stem}"
        items += [Item(name, partial(_load, name, drive, image, depth)) for image in images[:1]]
        without += not images
    if not items:
        raise ValueError(
            f"{path}: {without} depth maps but none of their raw images: expected "
            "<date>/<drive>/image_02/data/<frame>.png below the same folder"
        )
    return items


def _load(name: str, group: str, image: Path, depth: Path) -> Sample:
    return Sample(name, read_rgb(image), group, depth_m=known_depth(depth, METRES))

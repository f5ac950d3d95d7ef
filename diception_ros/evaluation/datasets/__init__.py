# SPDX-License-Identifier: Apache-2.0
"""Data sets in the folder forms in which they are published. docs/evaluation.md draws each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from diception_ros.evaluation.datasets.coco import fits_coco, open_coco
from diception_ros.evaluation.datasets.diode import fits_diode, open_diode
from diception_ros.evaluation.datasets.eth3d import fits_eth3d, open_eth3d
from diception_ros.evaluation.datasets.folder import manifest_of, open_folder
from diception_ros.evaluation.datasets.hypersim import fits_hypersim, open_hypersim
from diception_ros.evaluation.datasets.kitti import fits_kitti, open_kitti
from diception_ros.evaluation.datasets.nyu import fits_nyu, open_nyu
from diception_ros.evaluation.datasets.sample import (
    DataSet,
    Item,
    Object,
    Sample,
    every,
    read_list,
)
from diception_ros.evaluation.datasets.scannet import fits_scannet, open_scannet
from diception_ros.evaluation.datasets.segment_anything import (
    fits_segment_anything,
    open_segment_anything,
)

Reader = Callable[[Path], DataSet]
FORMS: dict[str, tuple[Callable[[Path], bool], Reader]] = {
    "folder": (lambda path: manifest_of(path) is not None, open_folder),
    "coco": (fits_coco, open_coco),
    "nyu": (fits_nyu, open_nyu),
    "kitti": (fits_kitti, open_kitti),
    "diode": (fits_diode, open_diode),
    "eth3d": (fits_eth3d, open_eth3d),
    "hypersim": (fits_hypersim, open_hypersim),
    "scannet": (fits_scannet, open_scannet),
    "sa1b": (fits_segment_anything, open_segment_anything),
}
"""By name: whether a path looks like this form, and its reader. The first that fits is taken."""


def open_dataset(path: Path, form: str = "") -> DataSet:
    """form: a key of FORMS, or empty to look at the folder. ValueError for a path that is not
    there, an unknown form, or a folder that looks like none."""
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if form:
        if form not in FORMS:
            raise ValueError(f"unknown form '{form}': expected one of {', '.join(FORMS)}")
        return FORMS[form][1](path)
    for fits, reader in FORMS.values():
        if fits(path):
            return reader(path)
    raise ValueError(
        f"{path} looks like none of {', '.join(FORMS)} (docs/evaluation.md shows their folders): "
        "name it with --form, or describe it in a manifest (docs/training.md)"
    )


@dataclass(frozen=True)
class Opening:
    """What a data set is opened from, here or in a worker. form: see open_dataset; images: a file
    of the names to take; limit: that many at most, evenly spread; 0 for all."""

    path: Path
    form: str = ""
    images: Path | None = None
    limit: int = 0

    def __call__(self) -> DataSet:
        data = open_dataset(self.path, self.form)
        data = data.only(read_list(self.images)) if self.images else data
        return replace(data, items=every(data.items, self.limit))


__all__ = ["FORMS", "DataSet", "Item", "Object", "Opening", "Sample", "open_dataset"]

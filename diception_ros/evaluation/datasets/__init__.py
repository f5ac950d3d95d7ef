# SPDX-License-Identifier: Apache-2.0
"""Data sets in the folder forms in which they are published. docs/evaluation.md draws each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from diception_ros.evaluation.datasets.folder import manifest_of, open_folder
from diception_ros.evaluation.datasets.nyu import fits_nyu, open_nyu
from diception_ros.evaluation.datasets.sample import DataSet, Item, Object, Sample

Reader = Callable[[Path], DataSet]
FORMS: dict[str, tuple[Callable[[Path], bool], Reader]] = {
    "folder": (lambda path: manifest_of(path) is not None, open_folder),
    "nyu": (fits_nyu, open_nyu),
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
        "name it with --form, or describe it in a manifest (docs/training-data.md)"
    )


__all__ = ["FORMS", "DataSet", "Item", "Object", "Sample", "open_dataset"]

# SPDX-License-Identifier: Apache-2.0
"""Point clouds as PLY and PCD files, written piece by piece: a map need not fit into memory."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import IO

import numpy as np
import numpy.typing as npt

from diception_ros.geometry.cloud_filter import Cloud

SUFFIXES = (".ply", ".pcd")
DIGITS = 12
"""Places kept in the header for the number of points, which is known only at the end."""

PLY = """ply
format binary_little_endian 1.0
comment metres, frame {frame}
element vertex {count}
property float x
property float y
property float z
property uchar red
property uchar green
property uchar blue
end_header
"""
PLY_ROW = np.dtype([("xyz", "<f4", 3), ("rgb", "u1", 3)])

PCD = """# .PCD v0.7 - metres, frame {frame}
VERSION 0.7
FIELDS x y z rgb
SIZE 4 4 4 4
TYPE F F F F
COUNT 1 1 1 1
WIDTH {count}
HEIGHT 1
VIEWPOINT 0 0 0 1 0 0 0
POINTS {count}
DATA binary
"""
PCD_ROW = np.dtype([("xyz", "<f4", 3), ("bgr0", "u1", 4)])
"""rgb: 0x00RRGGBB in the bits of a float, so blue comes first."""


class CloudWriter:
    """Writes a file of finite points; it appears under its name only when it is complete.
    ValueError for a suffix other than .ply and .pcd."""

    def __init__(self, path: Path, frame: str) -> None:
        if path.suffix.lower() not in SUFFIXES:
            raise ValueError(f"{path}: expected a name that ends in {' or '.join(SUFFIXES)}")
        self.path, self.count = path, 0
        self._frame = " ".join(frame.split())
        self._template, self._row = (
            (PLY, PLY_ROW) if path.suffix.lower() == ".ply" else (PCD, PCD_ROW)
        )
        self._part = path.with_name(path.name + ".part")
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: IO[bytes] = self._part.open("wb")
        self._file.write(self._header())

    def write(self, cloud: Cloud) -> None:
        """Appends; points without colours are grey."""
        rows = np.zeros(len(cloud.points), self._row)
        rows["xyz"] = cloud.points
        colours: npt.NDArray[np.uint8] = (
            np.full(cloud.points.shape, 128, np.uint8) if cloud.colours is None else cloud.colours
        )
        if "rgb" in (self._row.names or ()):
            rows["rgb"] = colours
        else:
            rows["bgr0"][:, :3] = colours[:, ::-1]
        self._file.write(rows.tobytes())
        self.count += len(rows)

    def __enter__(self) -> CloudWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None:
        if kind is None:
            self._file.seek(0)
            self._file.write(self._header())
        self._file.close()
        if kind is None:
            self._part.replace(self.path)
        else:
            self._part.unlink(missing_ok=True)

    def _header(self) -> bytes:
        # Leading zeros are legal numbers in both formats, and keep the header's length.
        text = self._template.format(frame=self._frame, count=f"{self.count:0{DIGITS}d}")
        return text.encode("ascii", "replace")

# SPDX-License-Identifier: Apache-2.0
"""`diception export-cloud`: a bag's depth images as one cloud of coloured points."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from diception_ros.evaluation.cloud_map import MapReport


def export_cloud(
    bag: Annotated[Path, typer.Argument(help="Folder of an MCAP or sqlite3 bag.")],
    out: Annotated[Path, typer.Option(help="File to write: .ply or .pcd.")],
    depth: Annotated[str, typer.Option(help="Depth topic in metres; default: found.")] = "",
    camera_info: Annotated[str, typer.Option(help="Its camera info; default: its sibling.")] = "",
    picture: Annotated[str, typer.Option(help="Image for the colours; default: found.")] = "",
    frame: Annotated[str, typer.Option(help="Frame of the map; default: the top of TF.")] = "",
    every: Annotated[int, typer.Option(min=1, help="Take each n-th image.")] = 1,
    stride: Annotated[int, typer.Option(min=1, help="Take each n-th row and column.")] = 1,
    max_depth: Annotated[float, typer.Option(min=0, help="m; 0: all.")] = 0.0,
    voxel: Annotated[float, typer.Option(min=0, help="m, one point per cube; needs open3d.")] = 0.0,
    outliers: Annotated[
        int,
        typer.Option(min=0, help="Neighbours for outlier removal, about 20; needs open3d."),
    ] = 0,
    ratio: Annotated[
        float, typer.Option(min=0.01, help="Outliers: standard deviations allowed.")
    ] = 2.0,
) -> None:
    """A map from a bag's depth images, with poses where TF is in the bag."""
    from diception_ros.evaluation.cloud_map import MapSettings, export_map

    settings = MapSettings(
        depth, camera_info, picture, frame, every, stride, max_depth, voxel, outliers, ratio
    )
    print("\n".join(lines(export_map(bag, out, settings), out)))


def lines(report: MapReport, out: Path) -> list[str]:
    """What was written, then what a user should know about it."""
    said = [f"{report.points} points of {report.images} images in {out}, frame '{report.frame}'"]
    if not report.posed:
        said.append(
            f"no TF above '{report.frame}': the camera is taken as still; record /tf and /tf_static"
        )
    if report.unposed:
        said.append(f"{report.unposed} images left out: TF does not know their time")
    if report.plain:
        said.append(f"{report.plain} images without a picture of their stamp, so grey")
    return said

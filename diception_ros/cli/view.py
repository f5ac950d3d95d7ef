# SPDX-License-Identifier: Apache-2.0
"""`diception view`: a bag or a running node, for people without RViz and Foxglove."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

TOPICS = "^/diception/|^/camera/"


def view(
    bag: Annotated[Path | None, typer.Argument(help="Folder of an MCAP or sqlite3 bag.")] = None,
    live: Annotated[bool, typer.Option("--live", help="Subscribe to a running node.")] = False,
    topics: Annotated[
        str, typer.Option(help="--live: regular expression; outputs heard are computed.")
    ] = TOPICS,
    save: Annotated[Path | None, typer.Option(help="Write this .rrd file, open nothing.")] = None,
    html: Annotated[
        Path | None, typer.Option(help="Folder for a page of the bag; needs no rerun-sdk.")
    ] = None,
) -> None:
    """Look at a bag or a running node: images, depth, masks, clouds and cameras in Rerun."""
    if (bag is None) != live:
        raise ValueError("give either a bag or --live: diception view demo/bag")
    if html is not None and (bag is None or save is not None):
        raise ValueError("--html needs a bag and goes without --live and --save")
    if bag is not None and html is not None:
        from diception_ros.evaluation.bag_page import write_bag_page

        page, moments = write_bag_page(bag, html)
        print(f"{moments} moments in {page}")
        return
    counts = _bag(bag, save) if bag is not None else _live(topics, save)
    shown = ", ".join(f"{topic} {count}" for topic, count in sorted(counts.items()))
    print(f"shown: {shown or 'nothing, no topic matched'}" + (f"; in {save}" if save else ""))


def _bag(bag: Path, save: Path | None) -> dict[str, int]:
    from diception_ros.evaluation.rerun_view import show_bag

    return show_bag(bag, save)


def _live(topics: str, save: Path | None) -> dict[str, int]:
    try:
        re.compile(topics)
    except re.error as error:
        raise ValueError(f"--topics '{topics}' is no regular expression: {error}") from error
    from diception_ros.evaluation.rerun_view import RerunLog

    log = RerunLog(save, live=True)
    try:
        from diception_ros.ros.follow import follow
    except ImportError as error:
        raise ValueError(
            f"--live needs ROS ({error}): source a ROS 2 install, or view a bag"
        ) from error
    print("following until Ctrl-C")
    follow(topics, log.handle)
    log.close()
    return log.counts

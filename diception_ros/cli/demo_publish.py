# SPDX-License-Identifier: Apache-2.0
"""`diception demo-publish`: the demo's images as a camera, for a node and viewers of your own."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer


def demo_publish(
    frames: Annotated[
        Path | None, typer.Option(help="Folder of demo frames; default: made afresh.")
    ] = None,
    rate: Annotated[float, typer.Option(min=0.1, help="Hz.")] = 5.0,
    seconds: Annotated[float, typer.Option(help="How long; default: until Ctrl-C.")] = float("inf"),
) -> None:
    """Publish /camera/image, camera_info, reference_depth and point_prompts in a loop."""
    import tempfile

    from diception_ros.cli.demo import check_ros, demo_frames
    from diception_ros.evaluation.material import save_frames

    check_ros()
    from diception_ros.ros import demo_publisher

    # Ctrl-C is how it ends; ros2 launch may send that twice.
    with suppress(KeyboardInterrupt), tempfile.TemporaryDirectory() as made:
        if frames is None:
            save_frames(demo_frames(), Path(made))
        domain = os.environ.get("ROS_DOMAIN_ID", "0")
        print(f"publishing /camera/* at {rate:g} Hz in ROS domain {domain}; Ctrl-C ends it")
        arguments = ["--frames", str(frames or made), "--rate", str(rate)]
        options = demo_publisher.parse([*arguments, "--seconds", str(seconds)])
        demo_publisher.publish(options, report=lambda **_: None)

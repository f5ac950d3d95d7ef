# SPDX-License-Identifier: Apache-2.0
"""`diception <command>`: parse, call, print. Nothing heavy is imported before a command runs."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from diception_ros.cli import (
    adapt,
    bag,
    bench,
    convert,
    demo,
    demo_publish,
    doctor,
    evaluate,
    export_cloud,
    infer,
    prompts,
    scenes,
    train,
    view,
)
from diception_ros.cli.cluster import with_address

USER_ERROR = 2
STOPPED = 130
INSTALLS = {
    "rosbags": "rosbags rosbags-image",
    "accelerate": "accelerate peft",
    "peft": "accelerate peft",
    "skimage": "scikit-image",
    "cv2": "opencv-python-headless",
}
"""What pip calls the modules that a ROS install may lack, where that is another name."""

app = typer.Typer(
    name="diception",
    help="One network, every dense perception task: depth, normals, masks, keypoints.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
prompts_app = typer.Typer(help="The prompts a bundle knows.", no_args_is_help=True)
prompts_app.command("add")(prompts.add)
app.add_typer(prompts_app, name="prompts")
app.add_typer(scenes.app, name="scenes")
app.command("infer")(infer.infer)
app.command("bag")(bag.bag)
app.command("doctor")(doctor.doctor)
app.command("bench")(bench.bench)
app.command("convert")(convert.convert)
app.command("train")(train.train)
app.command("export")(train.export)
app.command("adapt")(adapt.adapt)
app.command("view")(view.view)
app.command("export-cloud")(export_cloud.export_cloud)
app.command("demo")(demo.demo)
app.command("evaluate")(evaluate.evaluate)
app.command("demo-publish")(demo_publish.demo_publish)


@app.callback()
def options(
    debug: Annotated[bool, typer.Option(help="Show where an error was raised.")] = False,
) -> None:
    """One network, every dense perception task: depth, normals, masks, keypoints."""


def run(arguments: Sequence[str]) -> int:
    """Runs one command; the exit status. What a user did wrong is one line on stderr and 2."""
    try:
        status = app(with_address(arguments), prog_name="diception", standalone_mode=False) or 0
    except (typer.TyperException, ValueError, OSError) as error:
        if "--debug" in arguments:
            raise
        print(one_line(error), file=sys.stderr)
        return USER_ERROR
    except ModuleNotFoundError as error:
        if "--debug" in arguments or (error.name or "").startswith("diception_ros"):
            raise
        print(f"diception: {error}: {how_to_install(error.name or '')}", file=sys.stderr)
        return USER_ERROR
    except typer.Abort:
        status = STOPPED
    if status == STOPPED:  # what typer makes of Ctrl-C
        print("diception: stopped", file=sys.stderr)
    return int(status)


def how_to_install(module: str) -> str:
    """What to do where a module is missing: a robot's ROS install has what its node needs, not
    what every command does."""
    package = module.partition(".")[0]
    if package == "rclpy" or package.endswith(("_msgs", "_interfaces")):
        return "source a ROS 2 install, or run 'make build' in a checkout without ROS"
    return f"pip install {INSTALLS.get(package, package)}"


def one_line(error: Exception) -> str:
    """What a user reads of an error. A bare `diception` is answered with the help, as it is."""
    text = error.format_message() if isinstance(error, typer.TyperException) else str(error)
    if isinstance(error, OSError) and error.filename and error.strerror:
        of_folder = isinstance(error, FileExistsError | NotADirectoryError)
        reason = "expected a folder, found a file" if of_folder else error.strerror
        text = f"{error.filename}: {reason}"
    if type(error).__name__ == "NoArgsIsHelpError":
        return text
    return f"diception: {' '.join(text.split()) or type(error).__name__}"


def main() -> None:
    """The console script."""
    sys.exit(run(sys.argv[1:]))

# SPDX-License-Identifier: Apache-2.0
"""The node for one camera: ros2 launch diception_ros diception.launch.py image:=/camera/image

The other launch files include this one, so they take its arguments, too.
"""

from pathlib import Path

import yaml
from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import Action, LaunchContext, LaunchDescription

SHARE = FindPackageShare("diception_ros")
PARAMETERS = {
    "bundle": str,
    "device": str,
    "image_transport": str,
    "autostart": bool,
    "bond": bool,
    "use_sim_time": bool,
}
"""Arguments that are parameters of the node, with their types."""
TOPICS = (
    "image",
    "reference/depth",
    "reference/points",
    "point_prompts",
    "point_click",
    "clicked_point",
)
"""Inputs; the argument's name has _ for /."""

ARGUMENTS = (
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
    DeclareLaunchArgument("name", default_value="diception", description="Name of the node."),
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([SHARE, "config", "diception.yaml"]),
        description="Parameter file; the default documents every parameter.",
    ),
    DeclareLaunchArgument(
        "image",
        default_value="image",
        description="Image topic; camera_info is its sibling. With cameras, this and the other "
        "topics are below each camera's name, for example image_raw; one that begins with / "
        "serves all of them, a lidar's for example.",
    ),
    DeclareLaunchArgument(
        "reference_depth",
        default_value="reference/depth",
        description="Depth image that scale.source:=reference is fitted to.",
    ),
    DeclareLaunchArgument(
        "reference_points",
        default_value="reference/points",
        description="Cloud (lidar, ToF) that scale.source:=reference is fitted to.",
    ),
    DeclareLaunchArgument(
        "point_prompts",
        default_value="point_prompts",
        description="PointPrompts that the point task is asked about, in pixels of the image.",
    ),
    DeclareLaunchArgument(
        "point_click",
        default_value="point_click",
        description="A single such point as PointStamped, in pixels, from a click on the image.",
    ),
    DeclareLaunchArgument(
        "clicked_point",
        default_value="clicked_point",
        description="A point in space as PointStamped, in metres: RViz's Publish Point.",
    ),
    DeclareLaunchArgument(
        "cameras",
        default_value="",
        description="Names of several cameras on one engine, separated by commas; empty: as "
        "params_file says.",
    ),
    DeclareLaunchArgument(
        "bundle",
        default_value="",
        description="Folder of the model bundle; empty: as params_file says, and the small one "
        "that comes along where that says nothing.",
    ),
    DeclareLaunchArgument(
        "device",
        default_value="",
        description="Where the network runs: auto (CUDA where it is, else the CPU), cpu, cuda or "
        "cuda:N; empty: as params_file says.",
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="",
        description="How images come: raw takes <image>, compressed takes <image>/compressed; "
        "empty: as params_file says.",
        choices=["", "raw", "compressed"],
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="",
        description="Configure and activate at start; false with a lifecycle manager; empty: as "
        "params_file says.",
    ),
    DeclareLaunchArgument(
        "bond",
        default_value="",
        description="Let Nav2's lifecycle manager watch the node as it does its own; empty: as "
        "params_file says.",
    ),
    DeclareLaunchArgument(
        "use_sim_time",
        default_value="",
        description="Time from /clock (simulation, bags); empty: as params_file says.",
    ),
    DeclareLaunchArgument(
        "respawn", default_value="false", description="Start the node again when its process ends."
    ),
    DeclareLaunchArgument("rviz", default_value="false", description="Start RViz as well."),
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        description="Least severity that the node logs.",
        choices=["debug", "info", "warn", "error", "fatal"],
    ),
)


def viewer(context: LaunchContext) -> list[Action]:
    """RViz where it is asked for; without it the node works all the same."""
    if not IfCondition(LaunchConfiguration("rviz")).evaluate(context):
        return []
    try:
        get_package_prefix("rviz2")
    except PackageNotFoundError:
        advice = "rviz2 is not installed, so RViz does not start: apt install ros-$ROS_DISTRO-rviz2"
        return [LogInfo(msg=f"{advice}, or look with Foxglove or 'diception view --live'")]
    file = PathJoinSubstitution([SHARE, "config", "diception.rviz"])
    return [Node(package="rviz2", executable="rviz2", arguments=["-d", file])]


def remappings(context: LaunchContext, cameras: list[str]) -> list[tuple[str, str]]:
    """From the node's names to those asked for, for each camera."""
    found = []
    for topic in TOPICS:
        asked = LaunchConfiguration(topic.replace("/", "_")).perform(context)
        for prefix in [f"{camera}/" for camera in cameras] or [""]:
            wanted = asked if asked.startswith("/") else f"{prefix}{asked}"
            if wanted != f"{prefix}{topic}":
                found.append((f"{prefix}{topic}", wanted))
    return found


def cameras_in(file: Path, node: str) -> list[str]:
    """Names of the cameras that a parameter file gives the node of this name, in any namespace."""
    found: list[str] = []
    for section, content in (yaml.safe_load(file.read_text()) or {}).items():
        if section.rpartition("/")[2] in (node, "*", "**"):
            parameters = (content or {}).get("ros__parameters") or {}
            found = parameters.get("cameras", found)
    return [camera for camera in found if camera]


def node(context: LaunchContext) -> list[Node]:
    names = LaunchConfiguration("cameras").perform(context).split(",")
    cameras = [name.strip() for name in names if name.strip()]
    file = Path(LaunchConfiguration("params_file").perform(context))
    named = cameras or cameras_in(file, LaunchConfiguration("name").perform(context))
    parameters = {
        name: ParameterValue(LaunchConfiguration(name), value_type=kind)
        for name, kind in PARAMETERS.items()
        if LaunchConfiguration(name).perform(context)
    }
    started = Node(
        package="diception_ros",
        executable="diception_node",
        namespace=LaunchConfiguration("namespace"),
        name=LaunchConfiguration("name"),
        output="screen",
        respawn=LaunchConfiguration("respawn"),
        respawn_delay=2.0,
        parameters=[
            LaunchConfiguration("params_file"),
            {**parameters, **({"cameras": cameras} if cameras else {})},
        ],
        remappings=remappings(context, named),
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
    )
    return [started]


def generate_launch_description() -> LaunchDescription:
    # The viewer first: what fails after a node has started leaves that node behind.
    steps = [OpaqueFunction(function=viewer), OpaqueFunction(function=node)]
    return LaunchDescription([*ARGUMENTS, *steps])

# SPDX-License-Identifier: Apache-2.0
"""Several cameras, one engine: ros2 launch diception_ros multi_camera.launch.py cameras:=front,left

Each camera has its topics: <camera>/image, <camera>/camera_info, <camera>/reference/depth in,
~/<camera>/depth/image and so on out. What differs between them is in params_file.
"""

from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

SHARE = FindPackageShare("diception_ros")

ARGUMENTS = (
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
    DeclareLaunchArgument("name", default_value="diception", description="Name of the node."),
    DeclareLaunchArgument(
        "cameras",
        default_value="front,left,right",
        description="Names of the cameras, separated by commas; they come before every topic.",
    ),
    DeclareLaunchArgument(
        "image",
        default_value="image",
        description="Name of each image topic below its camera's, for example image_raw; "
        "camera_info is its sibling.",
    ),
    DeclareLaunchArgument(
        "reference_depth",
        default_value="reference/depth",
        description="Name below the camera's of the depth image for scale.source reference.",
    ),
    DeclareLaunchArgument(
        "reference_points",
        default_value="reference/points",
        description="Name below the camera's of the cloud for scale.source reference; one that "
        "begins with / serves all cameras, a lidar for example.",
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([SHARE, "config", "cameras.yaml"]),
        description="Parameter file; below each camera's name what only it has, as its scale.",
    ),
    DeclareLaunchArgument(
        "bundle",
        default_value="",
        description="Folder of the model bundle; empty: the small one that comes along.",
    ),
    DeclareLaunchArgument(
        "device",
        default_value="auto",
        description="Where the network runs: auto (CUDA where it is, else the CPU), cpu, cuda or "
        "cuda:N.",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="true",
        description="Configure and activate at start; false with a lifecycle manager.",
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", description="Time from /clock (simulation, bags)."
    ),
    DeclareLaunchArgument(
        "log_level",
        default_value="info",
        description="Least severity that the node logs.",
        choices=["debug", "info", "warn", "error", "fatal"],
    ),
)


def parameter(name: str, kind: type) -> ParameterValue:
    """A launch argument as a parameter of the right type."""
    return ParameterValue(LaunchConfiguration(name), value_type=kind)


def remappings(context: LaunchContext, cameras: list[str]) -> list[tuple[str, str]]:
    """From the node's names to those asked for, for each camera."""
    found = []
    for camera in cameras:
        for topic, argument in (
            ("image", LaunchConfiguration("image")),
            ("reference/depth", LaunchConfiguration("reference_depth")),
            ("reference/points", LaunchConfiguration("reference_points")),
        ):
            name = argument.perform(context)
            wanted = name if name.startswith("/") else f"{camera}/{name}"
            if wanted != f"{camera}/{topic}":
                found.append((f"{camera}/{topic}", wanted))
    return found


def start(context: LaunchContext) -> list[Node]:
    names = LaunchConfiguration("cameras").perform(context).split(",")
    cameras = [name.strip() for name in names if name.strip()]
    node = Node(
        package="diception_ros",
        executable="diception_node",
        namespace=LaunchConfiguration("namespace"),
        name=LaunchConfiguration("name"),
        output="screen",
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "cameras": cameras,
                "bundle": parameter("bundle", str),
                "device": parameter("device", str),
                "autostart": parameter("autostart", bool),
                "use_sim_time": parameter("use_sim_time", bool),
            },
        ],
        remappings=remappings(context, cameras),
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=start)])

# SPDX-License-Identifier: Apache-2.0
"""The node for one camera: ros2 launch diception_ros diception.launch.py image:=/camera/image"""

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, LogInfo, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import Action, LaunchContext, LaunchDescription

SHARE = FindPackageShare("diception_ros")

ARGUMENTS = (
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
    DeclareLaunchArgument("name", default_value="diception", description="Name of the node."),
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([SHARE, "config", "diception.yaml"]),
        description="Parameter file; the default documents every parameter.",
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
        "image", default_value="image", description="Image topic; camera_info is its sibling."
    ),
    DeclareLaunchArgument(
        "image_transport",
        default_value="raw",
        description="How images come: raw takes <image>, compressed takes <image>/compressed.",
        choices=["raw", "compressed"],
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
        "autostart",
        default_value="true",
        description="Configure and activate at start; false with a lifecycle manager.",
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", description="Time from /clock (simulation, bags)."
    ),
    DeclareLaunchArgument("rviz", default_value="false", description="Start RViz as well."),
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


def generate_launch_description() -> LaunchDescription:
    node = Node(
        package="diception_ros",
        executable="diception_node",
        namespace=LaunchConfiguration("namespace"),
        name=LaunchConfiguration("name"),
        output="screen",
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "bundle": parameter("bundle", str),
                "device": parameter("device", str),
                "image_transport": parameter("image_transport", str),
                "autostart": parameter("autostart", bool),
                "use_sim_time": parameter("use_sim_time", bool),
            },
        ],
        remappings=[
            ("image", LaunchConfiguration("image")),
            ("reference/depth", LaunchConfiguration("reference_depth")),
            ("reference/points", LaunchConfiguration("reference_points")),
            ("point_prompts", LaunchConfiguration("point_prompts")),
            ("point_click", LaunchConfiguration("point_click")),
            ("clicked_point", LaunchConfiguration("clicked_point")),
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
    )
    # The viewer first: what fails after a node has started leaves that node behind.
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=viewer), node])

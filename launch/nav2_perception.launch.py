# SPDX-License-Identifier: Apache-2.0
"""Depth, classes and a cloud for Nav2: ros2 launch diception_ros nav2_perception.launch.py

The node with config/nav2.yaml and a lifecycle manager of its own. The other half of that file, the
costmap layers and the collision monitor's source, goes into your Nav2 parameters.
"""

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, OpaqueFunction
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

ARGUMENTS = (
    DeclareLaunchArgument(
        "namespace", default_value="", description="Namespace of the node, as Nav2's own."
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution(
            [FindPackageShare("diception_ros"), "config", "nav2.yaml"]
        ),
        description="Parameter file: camera height and pitch, classes, size of mask and cloud.",
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
        description="Depth image, where params_file says scale.source reference.",
    ),
    DeclareLaunchArgument(
        "reference_points",
        default_value="reference/points",
        description="Cloud (lidar), where params_file says scale.source reference.",
    ),
    DeclareLaunchArgument(
        "manager",
        default_value="true",
        description="Start a lifecycle manager for the node; false where diception is among the "
        "node_names of Nav2's.",
    ),
    DeclareLaunchArgument(
        "bond",
        default_value="true",
        description="The manager watches the node as it does Nav2's own; needs the messages of the "
        "package bond, which come with Nav2.",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="true",
        description="The manager configures and activates the node at once.",
    ),
    DeclareLaunchArgument(
        "respawn", default_value="false", description="Start the node again when its process ends."
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


def manager(context: LaunchContext) -> list[Node]:
    """The lifecycle manager, unless Nav2's does its work. RuntimeError without the package."""
    if not IfCondition(LaunchConfiguration("manager")).evaluate(context):
        return []
    try:
        get_package_prefix("nav2_lifecycle_manager")
    except PackageNotFoundError:
        raise RuntimeError(
            "manager:=true needs the package nav2_lifecycle_manager, which is not installed: "
            "apt install ros-$ROS_DISTRO-nav2-lifecycle-manager, or pass manager:=false and "
            "configure and activate the node yourself"
        ) from None
    bonded = IfCondition(LaunchConfiguration("bond")).evaluate(context)
    node = Node(
        package="nav2_lifecycle_manager",
        executable="lifecycle_manager",
        namespace=LaunchConfiguration("namespace"),
        name="lifecycle_manager_perception",
        output="screen",
        parameters=[
            {
                "node_names": ["diception"],
                "autostart": parameter("autostart", bool),
                "use_sim_time": parameter("use_sim_time", bool),
                "bond_timeout": 4.0 if bonded else 0.0,
            }
        ],
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    node = Node(
        package="diception_ros",
        executable="diception_node",
        namespace=LaunchConfiguration("namespace"),
        name="diception",  # as in params_file and in the topics of Nav2's part of it
        output="screen",
        respawn=LaunchConfiguration("respawn"),
        respawn_delay=2.0,
        parameters=[
            LaunchConfiguration("params_file"),
            {
                "bundle": parameter("bundle", str),
                "device": parameter("device", str),
                "image_transport": parameter("image_transport", str),
                "autostart": False,  # the manager's work
                "bond": parameter("bond", bool),
                "use_sim_time": parameter("use_sim_time", bool),
            },
        ],
        remappings=[
            ("image", LaunchConfiguration("image")),
            ("reference/depth", LaunchConfiguration("reference_depth")),
            ("reference/points", LaunchConfiguration("reference_points")),
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
    )
    # The manager first: what fails after a node has started leaves that node behind.
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=manager), node])

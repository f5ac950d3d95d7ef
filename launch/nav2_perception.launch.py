# SPDX-License-Identifier: Apache-2.0
"""Depth, classes and a cloud for Nav2: ros2 launch diception_ros nav2_perception.launch.py

The node with config/nav2.yaml and a lifecycle manager of its own. The other half of that file, the
costmap layers and the collision monitor's source, goes into your Nav2 parameters.
"""

from ament_index_python.packages import PackageNotFoundError, get_package_prefix
from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription, OpaqueFunction
from launch.conditions import IfCondition
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.substitutions import FindPackageShare

from launch import LaunchContext, LaunchDescription

SHARE = FindPackageShare("diception_ros")

ARGUMENTS = (
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([SHARE, "config", "nav2.yaml"]),
        description="Parameter file: camera height and pitch, classes, size of mask and cloud.",
    ),
    DeclareLaunchArgument(
        "manager",
        default_value="true",
        description="Start a lifecycle manager for the node; false where diception is among the "
        "node_names of Nav2's.",
    ),
    DeclareLaunchArgument(
        "autostart",
        default_value="true",
        description="The manager configures and activates the node at once.",
    ),
    DeclareLaunchArgument(
        "bond",
        default_value="true",
        description="The manager watches the node as it does Nav2's own; needs the messages of the "
        "package bond, which come with Nav2.",
    ),
    DeclareLaunchArgument(
        "name",
        default_value="diception",
        description="Stays diception here, whatever is given: params_file and the topics of Nav2's "
        "part of it say so.",
    ),
    DeclareLaunchArgument(
        "use_sim_time", default_value="false", description="Time from /clock (simulation, bags)."
    ),
)


def is_true(context: LaunchContext, name: str) -> bool:
    return bool(IfCondition(LaunchConfiguration(name)).evaluate(context))


def manager(context: LaunchContext) -> list[Node]:
    """The lifecycle manager, unless Nav2's does its work. RuntimeError without the package."""
    if not is_true(context, "manager"):
        return []
    try:
        get_package_prefix("nav2_lifecycle_manager")
    except PackageNotFoundError:
        raise RuntimeError(
            "manager:=true needs the package nav2_lifecycle_manager, which is not installed: "
            "apt install ros-$ROS_DISTRO-nav2-lifecycle-manager, or pass manager:=false and "
            "configure and activate the node yourself"
        ) from None
    node = Node(
        package="nav2_lifecycle_manager",
        executable="lifecycle_manager",
        namespace=LaunchConfiguration("namespace", default=""),
        name="lifecycle_manager_perception",
        output="screen",
        parameters=[
            {
                "node_names": ["diception"],
                "autostart": is_true(context, "autostart"),
                "use_sim_time": is_true(context, "use_sim_time"),
                "bond_timeout": 4.0 if is_true(context, "bond") else 0.0,
            }
        ],
    )
    return [node]


def generate_launch_description() -> LaunchDescription:
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([SHARE, "launch", "diception.launch.py"])
        ),
        launch_arguments={
            "autostart": "false",  # the manager's work
            "name": "diception",  # as in params_file and in the topics of Nav2's part of it
        }.items(),
    )
    # The manager first: what fails after a node has started leaves that node behind.
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=manager), node])

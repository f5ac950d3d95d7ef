# SPDX-License-Identifier: Apache-2.0
"""The node for one camera: ros2 launch diception_ros diception.launch.py image:=/camera/image"""

from launch.actions import DeclareLaunchArgument
from launch.conditions import IfCondition
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.actions import Node
from launch_ros.parameter_descriptions import ParameterValue
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

CONFIG = PathJoinSubstitution([FindPackageShare("diception_ros"), "config"])

ARGUMENTS = (
    DeclareLaunchArgument("namespace", default_value="", description="Namespace of the node."),
    DeclareLaunchArgument("name", default_value="diception", description="Name of the node."),
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([CONFIG, "diception.yaml"]),
        description="Parameter file; the default documents every parameter.",
    ),
    DeclareLaunchArgument(
        "bundle", default_value="", description="Folder of the model bundle; empty: the small one."
    ),
    DeclareLaunchArgument("device", default_value="auto", description="auto, cpu, cuda or cuda:N."),
    DeclareLaunchArgument(
        "image", default_value="image", description="Image topic; camera_info is its sibling."
    ),
    DeclareLaunchArgument("image_transport", default_value="raw", description="raw or compressed."),
    DeclareLaunchArgument(
        "reference_depth",
        default_value="reference/depth",
        description="Depth image that scale.source:=reference is fitted to.",
    ),
    DeclareLaunchArgument(
        "point_prompts",
        default_value="point_prompts",
        description="Topic with the points that the point task is asked about.",
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
        "log_level", default_value="info", description="debug, info, warn, error or fatal."
    ),
)


def parameter(name: str, kind: type) -> ParameterValue:
    """A launch argument as a parameter of the right type."""
    return ParameterValue(LaunchConfiguration(name), value_type=kind)


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
            ("point_prompts", LaunchConfiguration("point_prompts")),
        ],
        arguments=["--ros-args", "--log-level", LaunchConfiguration("log_level")],
    )
    rviz = Node(
        package="rviz2",
        executable="rviz2",
        arguments=["-d", PathJoinSubstitution([CONFIG, "diception.rviz"])],
        condition=IfCondition(LaunchConfiguration("rviz")),
    )
    return LaunchDescription([*ARGUMENTS, node, rviz])

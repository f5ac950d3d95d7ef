# SPDX-License-Identifier: Apache-2.0
"""Several cameras, one engine: ros2 launch diception_ros multi_camera.launch.py cameras:=front,left

Each camera has its topics: <camera>/image, <camera>/camera_info, <camera>/reference/depth in,
~/<camera>/depth/image and so on out. What differs between them is in params_file.
"""

from launch.actions import DeclareLaunchArgument, IncludeLaunchDescription
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

SHARE = FindPackageShare("diception_ros")

ARGUMENTS = (
    DeclareLaunchArgument(
        "cameras",
        default_value="",
        description="Names of the cameras, separated by commas; they come before every topic; "
        "empty: as params_file says.",
    ),
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([SHARE, "config", "cameras.yaml"]),
        description="Parameter file; below each camera's name what only it has, as its scale.",
    ),
)


def generate_launch_description() -> LaunchDescription:
    file = PathJoinSubstitution([SHARE, "launch", "diception.launch.py"])
    return LaunchDescription(
        [*ARGUMENTS, IncludeLaunchDescription(PythonLaunchDescriptionSource(file))]
    )

# SPDX-License-Identifier: Apache-2.0
"""The node on the demo's images, no camera needed: ros2 launch diception_ros demo.launch.py"""

from launch.actions import (
    DeclareLaunchArgument,
    EmitEvent,
    ExecuteProcess,
    IncludeLaunchDescription,
    RegisterEventHandler,
)
from launch.event_handlers import OnProcessExit
from launch.events import Shutdown
from launch.launch_description_sources import PythonLaunchDescriptionSource
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

SHARE = FindPackageShare("diception_ros")

ARGUMENTS = (
    DeclareLaunchArgument("rate", default_value="5.0", description="Images per second."),
    DeclareLaunchArgument(
        "params_file",
        default_value=PathJoinSubstitution([SHARE, "config", "demo.yaml"]),
        description="Parameter file; the default turns every task on.",
    ),
    DeclareLaunchArgument(
        "rviz", default_value="true", description="Start RViz as well, where it is installed."
    ),
)


def generate_launch_description() -> LaunchDescription:
    camera = ExecuteProcess(
        cmd=[
            "python3",  # the path's, as the node's is: ros2's own may know nothing of a venv
            "-m",
            "diception_ros.cli",
            "demo-publish",
            "--rate",
            LaunchConfiguration("rate"),
        ],
        name="demo_camera",
        output={"stdout": "log", "stderr": "screen"},  # one line per image goes to the log
    )
    node = IncludeLaunchDescription(
        PythonLaunchDescriptionSource(
            PathJoinSubstitution([SHARE, "launch", "diception.launch.py"])
        ),
        launch_arguments={
            "image": "/camera/image",
            "reference_depth": "/camera/reference_depth",
            "point_prompts": "/camera/point_prompts",
        }.items(),
    )
    # Without the camera there is nothing to show.
    end = RegisterEventHandler(
        OnProcessExit(
            target_action=camera, on_exit=[EmitEvent(event=Shutdown(reason="camera ended"))]
        )
    )
    return LaunchDescription([*ARGUMENTS, camera, node, end])

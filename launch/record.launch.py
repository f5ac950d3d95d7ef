# SPDX-License-Identifier: Apache-2.0
"""Records what `diception bag` and `diception evaluate` need later, inputs and outputs:

ros2 launch diception_ros record.launch.py image:=/camera/image reference:=/camera/depth/image
"""

from launch.actions import DeclareLaunchArgument, ExecuteProcess, OpaqueFunction
from launch.substitutions import LaunchConfiguration, PathJoinSubstitution
from launch_ros.substitutions import FindPackageShare

from launch import LaunchDescription

EXACT = (
    "depth/image",
    "depth/camera_info",
    "depth/confidence",
    "disparity_relative/image",
    "normals/image",
    "entity/mask",
    "semantic/mask",
    "semantic/confidence",
    "semantic/label_info",
    "point/prompts",
    "point/mask",
    "pose/keypoints",
    "instances",
    "frame_report",
)
"""Outputs with the values themselves (32FC1, 32FC3, mono16). Pictures for people (image_color) and
points are left out: both follow from these."""

ARGUMENTS = (
    DeclareLaunchArgument(
        "image", default_value="/camera/image", description="Image topic; camera_info beside it."
    ),
    DeclareLaunchArgument(
        "reference",
        default_value="",
        description="Topic of a depth image or cloud in metres; empty: none.",
    ),
    DeclareLaunchArgument(
        "node", default_value="/diception", description="Full name of the node; empty: inputs only."
    ),
    DeclareLaunchArgument(
        "extra", default_value="/tf /tf_static", description="More topics, separated by spaces."
    ),
    DeclareLaunchArgument(
        "out", default_value="", description="Folder of the bag; empty: rosbag2_<date and time>."
    ),
    DeclareLaunchArgument(
        "qos_overrides",
        default_value=PathJoinSubstitution(
            [FindPackageShare("diception_ros"), "config", "record_qos.yaml"]
        ),
        description="QoS overrides of the recorder's subscriptions, by topic.",
    ),
    DeclareLaunchArgument(
        "preset",
        default_value="zstd_fast",
        description="How MCAP compresses, without loss. fastwrite does not, for a busy CPU, and "
        "leaves out the index: diception reads it as it is, others after 'ros2 bag convert'.",
        choices=["zstd_fast", "zstd_small", "fastwrite"],
    ),
    DeclareLaunchArgument(
        "split_mb", default_value="4000", description="A new file after so many MB; 0: never."
    ),
)


def command(values: dict[str, str]) -> list[str]:
    """The recorder's command line for these arguments."""
    image = values["image"]
    topics = [image, f"{image.removesuffix('/compressed').rpartition('/')[0]}/camera_info"]
    topics += [values["reference"]] if values["reference"] else []
    topics += [f"{values['node']}/{topic}" for topic in EXACT] if values["node"] else []
    topics += values["extra"].split()
    found = ["ros2", "bag", "record", "--storage", "mcap"]
    found += ["--storage-preset-profile", values["preset"]]
    found += ["--qos-profile-overrides-path", values["qos_overrides"]]
    # Large messages: what the disk does not take at once must wait somewhere.
    found += ["--max-cache-size", str(500 * 2**20)]
    if int(values["split_mb"]):
        found += ["--max-bag-size", str(int(values["split_mb"]) * 10**6)]
    found += ["--output", values["out"]] if values["out"] else []
    return [*found, "--topics", *topics]


def record(context) -> list[ExecuteProcess]:
    names = ("image", "reference", "node", "extra", "out", "qos_overrides", "preset", "split_mb")
    values = {name: LaunchConfiguration(name).perform(context) for name in names}
    # SIGINT, and time to write the index, when the launch ends.
    return [ExecuteProcess(cmd=command(values), output="screen", sigterm_timeout="30")]


def generate_launch_description() -> LaunchDescription:
    return LaunchDescription([*ARGUMENTS, OpaqueFunction(function=record)])

# SPDX-License-Identifier: Apache-2.0
"""What other packages take without glue: shapes, encodings and stamps, with config/nav2.yaml."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField

CONFIG = Path(__file__).parents[2] / "config"


@pytest.fixture
def sized(peer):
    """The node with the published size of config/nav2.yaml."""
    trees = yaml.safe_load((CONFIG / "nav2.yaml").read_text())
    size = trees["/**/diception"]["ros__parameters"]["output"]
    assert peer.set(output__width=size["width"], output__height=size["height"]) == ""
    yield peer, (size["height"], size["width"])
    assert peer.set(output__width=0, output__height=0) == ""


def test_nav2_gets_mask_confidence_and_cloud_of_one_size_and_stamp(sized, image_of, picture, info):
    peer, size = sized
    topics = {
        "~/semantic/mask": Image,
        "~/semantic/confidence": Image,
        "~/points": PointCloud2,
    }
    mask, confidence, cloud = peer.ask(image_of(picture), topics, info).values()
    assert (mask.encoding, confidence.encoding) == ("mono8", "mono8")
    assert {(item.height, item.width) for item in (mask, confidence, cloud)} == {size}
    assert mask.header == confidence.header == cloud.header
    assert np.frombuffer(mask.data, np.uint8).max() <= 1  # one category: background and chair


def test_clouds_are_what_costmaps_and_octomaps_read(sized, image_of, picture, info):
    peer, size = sized
    cloud = peer.ask(image_of(picture), {"~/points": PointCloud2}, info)["~/points"]
    fields = {field.name: (field.offset, field.datatype, field.count) for field in cloud.fields}
    for i, name in enumerate("xyz"):
        assert fields[name] == (4 * i, PointField.FLOAT32, 1)
    assert len(cloud.data) == cloud.row_step * cloud.height
    assert cloud.row_step == cloud.point_step * size[1]
    assert cloud.header.frame_id == "camera_optical_frame"


def test_depth_image_consumers_get_depth_camera_and_mask_of_one_size(peer, image_of, picture, info):
    """depth_image_proc, rtabmap_ros, nvblox: the size of the colour image they take with it."""
    topics = {
        "~/depth/image": Image,
        "~/depth/camera_info": CameraInfo,
        "~/semantic/mask": Image,
    }
    depth, camera, mask = peer.ask(image_of(picture), topics, info).values()
    assert depth.encoding == "32FC1"
    assert {(item.height, item.width) for item in (depth, camera, mask)} == {picture.shape[:2]}
    assert depth.header == camera.header == mask.header
    meters = np.frombuffer(depth.data, np.float32)
    known = meters[np.isfinite(meters)]
    assert (known >= peer.get("min_depth") * 0.999).all()
    assert (known <= peer.get("max_depth") * 1.001).all()


@pytest.mark.parametrize(
    ("file", "path"),
    [
        ("nav2.yaml", ("local_costmap", "local_costmap", "ros__parameters", "voxel_layer")),
        ("nav2.yaml", ("collision_monitor", "ros__parameters")),
        ("moveit_sensors_3d.yaml", ()),
    ],
)
def test_consumers_are_given_topics_that_exist(peer, file, path):
    part = yaml.safe_load((CONFIG / file).read_text())
    for key in path:
        part = part[key]
    source = part["diception"]
    topic = source.get("topic") or source["point_cloud_topic"]
    name = topic.replace("/diception/", "/robot/diception/")
    peer.wait(lambda: peer.node.count_publishers(name) == 1)

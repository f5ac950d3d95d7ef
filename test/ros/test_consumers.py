# SPDX-License-Identifier: Apache-2.0
"""What other packages take without glue: shapes, encodings and stamps, with config/nav2.yaml."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import yaml
from sensor_msgs.msg import CameraInfo, Image, PointCloud2, PointField

from diception_ros.ros.messages import label_info
from diception_ros.ros.parameters import from_values, specs

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


def test_the_cloud_is_depth_image_procs_of_the_same_depth_and_camera(peer, image_of, picture, info):
    """In float32 and in its order: (u - cx) * z * (1 / fx) (depth_image_proc/conversions.hpp)."""
    topics = {
        "~/depth/image": Image,
        "~/depth/camera_info": CameraInfo,
        "~/points": PointCloud2,
    }
    for size in ((0, 0), (40, 20)):
        assert peer.set(output__width=size[0], output__height=size[1]) == ""
        width, height = size if size[0] else (picture.shape[1], picture.shape[0])
        depth, camera, cloud = peer.ask(
            image_of(picture),
            topics,
            info,
            until=lambda answers, wide=width: answers["~/points"].width == wide,
        ).values()
        assert (cloud.height, cloud.width) == (depth.height, depth.width) == (height, width)
        z = np.frombuffer(depth.data, np.float32).reshape(height, width)
        v, u = np.mgrid[:height, :width].astype(np.float32)
        step = [np.float32(1 / camera.p[0]), np.float32(1 / camera.p[5])]
        x = (u - np.float32(camera.p[2])) * z * step[0]
        y = (v - np.float32(camera.p[6])) * z * step[1]
        table = np.frombuffer(cloud.data, np.float32).reshape(height, width, -1)
        assert np.isfinite(z).mean() > 0.5
        for found, expected in zip(np.moveaxis(table, 2, 0), (x, y, z), strict=False):
            np.testing.assert_allclose(found, expected, rtol=1e-6, equal_nan=True)
    assert peer.set(output__width=0, output__height=0) == ""


def test_rtabmap_and_nvblox_pair_by_equal_stamps(peer, image_of, picture, info):
    """Exact synchronisation of the camera's image and info with depth, its info and the mask."""
    image = image_of(picture)
    topics = {"~/depth/image": Image, "~/depth/camera_info": CameraInfo, "~/semantic/mask": Image}
    answers = peer.ask(image, topics, info)
    headers = [message.header for message in answers.values()]
    assert headers[0] == headers[1] == headers[2]
    assert headers[0].frame_id == image.header.frame_id
    camera = answers["~/depth/camera_info"]
    assert (camera.width, camera.height) == (image.width, image.height)
    np.testing.assert_allclose(camera.k, info.k)  # unscaled: the colour image's info serves, too


def test_the_collision_monitor_waits_longer_than_the_node_lets_images_age():
    trees = nav2()
    node = trees["/**/diception"]["ros__parameters"]
    monitor = trees["collision_monitor"]["ros__parameters"]
    assert 0 < node["max_age"] < monitor["source_timeout"]
    assert monitor["observation_sources"] == ["diception"]


def test_the_semantic_layer_knows_every_class_of_label_info(monkeypatch):
    """It reports a class that no class type names as an error, the background included."""
    trees = nav2()
    module = SimpleNamespace(LabelInfo=SimpleNamespace, VisionClass=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "vision_msgs", SimpleNamespace(msg=module))
    monkeypatch.setitem(sys.modules, "vision_msgs.msg", module)
    categories = trees["/**/diception"]["ros__parameters"]["categories"]
    published = [item.class_name for item in label_info(None, categories, 0.0).class_map]
    layer = part_of(trees, LAYERS["semantic_layer"][0])["diception"]
    named = [name for group in layer["class_types"] for name in layer[group]["classes"]]
    assert sorted(named) == sorted(published)


def test_the_node_takes_its_own_part_of_the_nav2_file():
    values = {}

    def flatten(part, prefix=""):
        for key, value in part.items():
            if isinstance(value, dict):
                flatten(value, f"{prefix}{key}.")
            else:
                values[prefix + key] = tuple(value) if isinstance(value, list) else value

    flatten(nav2()["/**/diception"]["ros__parameters"])
    assert set(values) <= {spec.name for spec in specs()}
    parameters = from_values(values)
    assert parameters.metric
    assert parameters.cloud.decimation == 1  # cloud and mask of one size


def nav2():
    return yaml.safe_load((CONFIG / "nav2.yaml").read_text())


def part_of(tree, path):
    for key in path:
        tree = tree[key]
    return tree


COSTMAP = ("local_costmap", "local_costmap", "ros__parameters")
LAYERS = {
    # nav2_costmap_2d, obstacle_layer.cpp and voxel_layer.cpp.
    "voxel_layer": (
        (*COSTMAP, "voxel_layer"),
        {"plugin": str, "enabled": bool, "observation_sources": str},
        {
            "topic": str,
            "data_type": str,
            "marking": bool,
            "clearing": bool,
            "min_obstacle_height": float,
            "max_obstacle_height": float,
            "obstacle_max_range": float,
            "obstacle_min_range": float,
            "raytrace_max_range": float,
            "raytrace_min_range": float,
            "expected_update_rate": float,
            "observation_persistence": float,
            "inf_is_valid": bool,
        },
    ),
    # kiwicampus/semantic_segmentation_layer, semantic_segmentation_layer.cpp.
    "semantic_layer": (
        (*COSTMAP, "semantic_layer"),
        {"plugin": str, "enabled": bool, "observation_sources": str},
        {
            **dict.fromkeys(
                ("segmentation_topic", "confidence_topic", "labels_topic", "pointcloud_topic"), str
            ),
            "max_obstacle_distance": float,
            "min_obstacle_distance": float,
            "tile_map_decay_time": float,
            "use_cost_selection": bool,
            "class_types": list,
            "free": dict,
            "danger": dict,
        },
    ),
    # nav2_collision_monitor, source.cpp and pointcloud.cpp.
    "collision_monitor": (
        ("collision_monitor", "ros__parameters"),
        {"observation_sources": list, "source_timeout": float},
        {
            "type": str,
            "topic": str,
            "min_height": float,
            "max_height": float,
            "min_range": float,
            "enabled": bool,
        },
    ),
}


@pytest.mark.parametrize("name", LAYERS)
def test_nav2_is_given_parameters_that_it_declares_in_their_types(name):
    """A whole number for a decimal parameter stops a Nav2 node at start."""
    path, own, of_source = LAYERS[name]
    part = dict(part_of(nav2(), path))
    source = part.pop("diception")
    for values, declared in ((part, own), (source, of_source)):
        for key, value in values.items():
            assert type(value) is declared[key], f"{name}: {key}"
    for group in source.get("class_types", []):
        types = {key: type(value) for key, value in source[group].items()}
        numbers = ("base_cost", "max_cost", "mark_confidence", "samples_to_max_cost")
        expected = {"classes": list, "dominant_priority": bool, **dict.fromkeys(numbers, int)}
        assert types == expected


def test_moveit_is_given_all_that_its_updater_insists_on():
    """PointCloudOctomapUpdater::setParams fails when one of them is missing or of another type."""
    tree = yaml.safe_load((CONFIG / "moveit_sensors_3d.yaml").read_text())
    assert tree["sensors"] == ["diception"]
    types = {key: type(value) for key, value in tree["diception"].items()}
    assert types == {
        "sensor_plugin": str,
        "point_cloud_topic": str,
        "filtered_cloud_topic": str,
        "point_subsample": int,
        **dict.fromkeys(("max_range", "padding_offset", "padding_scale", "max_update_rate"), float),
    }
    assert tree["diception"]["sensor_plugin"] == "occupancy_map_monitor/PointCloudOctomapUpdater"


FILES = ("nav2.yaml", "moveit_sensors_3d.yaml", "rtabmap.yaml", "nvblox.yaml")
FILES += ("depth_image_proc.yaml", "../docs/compose.md")


@pytest.mark.parametrize("file", FILES)
def test_consumers_are_given_topics_that_exist(peer, file):
    """In parameters, remaps and prose; label_info exists only where vision_msgs is installed."""
    names = set(re.findall(r"/diception/[a-z_]+(?:/[a-z_]+)*", (CONFIG / file).read_text()))
    names -= {"/diception/semantic/label_info"}
    assert names
    for name in names:
        peer.wait(lambda name=name: peer.node.count_publishers(f"/robot{name}") == 1)


@pytest.mark.parametrize("file", ["rtabmap.yaml", "nvblox.yaml", "depth_image_proc.yaml"])
def test_parameter_files_without_a_node_name_are_for_any(file):
    tree = yaml.safe_load((CONFIG / file).read_text())
    assert list(tree) == ["/**"]
    assert tree["/**"]["ros__parameters"]

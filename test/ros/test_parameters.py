# SPDX-License-Identifier: Apache-2.0
"""Parameters without ROS: ranges, company, what a bundle allows, and the documenting file."""

from __future__ import annotations

import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from diception_ros.ros.offer import bundle_path, resolve
from diception_ros.ros.parameter_groups import TaskParameters
from diception_ros.ros.parameters import (
    NodeParameters,
    camera_specs,
    from_values,
    specs,
)
from diception_ros.tasks import TASKS

CONFIG = Path(__file__).parents[2] / "config"
SEMANTIC = TASKS["semantic"].prompt
PROMPTS = ("", TASKS["depth"].prompt, TASKS["normal"].prompt, f"{SEMANTIC} cup", f"{SEMANTIC} bed")


def test_defaults_are_the_specs_defaults():
    given = from_values({spec.name: spec.default for spec in specs()})
    assert replace(given, per_task={}) == from_values({}) == NodeParameters()
    assert set(given.per_task.values()) == {TaskParameters()}


def test_every_parameter_is_described():
    assert all(len(spec.text) > 10 for spec in specs())
    names = [spec.name for spec in specs()]
    assert len(set(names)) == len(names) > 50


def test_nested_and_task_parameters_arrive():
    found = from_values(
        {
            "scale.fixed.scale": 2.0,
            "scale.source": "fixed",
            "depth.steps": 3,
            "cloud.decimation": 4,
            "tasks": ["depth", ""],
        }
    )
    assert found.scale.fixed.scale == 2.0
    assert found.of_task("depth").steps == 3
    assert found.of_task("pose").steps == 0
    assert found.cloud.decimation == 4
    assert found.tasks == ("depth",)
    assert found.metric


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"max_rate": -1.0}, "max_rate must be within 0 and 1000 Hz, got -1.0"),
        ({"depth.steps": 101}, "depth.steps must be within 0 and 100"),
        ({"scale.source": "lidar"}, "scale.source must be one of none, fixed, .*got 'lidar'"),
        ({"min_depth": 5.0, "max_depth": 5.0}, "min_depth 5 m must be less than max_depth 5 m"),
        ({"scale.source": "fixed", "scale.fixed.scale": 0.0}, "scale.fixed.scale > 0"),
        ({"scale.source": "fixed", "tasks": ["normal"]}, "needs 'depth' among the tasks"),
        ({"cloud.label": True, "tasks": ["depth"]}, "cloud.label needs 'semantic'"),
        (
            {"cloud.label": True, "cloud.voxel": 0.05},
            "cloud.label needs a cloud of rows and columns, which cloud.voxel 0.05 m leaves",
        ),
        ({"cloud.normals": True, "cloud.voxel": 0.05}, "cloud.normals needs a cloud of rows"),
        ({"cloud.outlier_ratio": 0.0}, "cloud.outlier_ratio must be within 0.1 and 100"),
        ({"categories": ["cup", "cup"]}, "categories: a name is given twice"),
        ({"adapters": ["a", "a"]}, "adapters: a name is given twice"),
        ({"categories": [str(i) for i in range(256)]}, "at most 255, got 256"),
        ({"scale.reference.extrinsics": [0.0] * 7}, "a unit quaternion"),
        ({"scale.reference.extrinsics": [0.0] * 6 + [float("nan")]}, "a unit quaternion"),
        ({"scale.reference.extrinsics": [float("inf")] + [0.0] * 5 + [1.0]}, "a unit quaternion"),
        ({"cameras": ["left", "left"]}, "cameras: a name is given twice"),
        ({"cameras": ["a/b"]}, "cameras: 'a/b' is no name: expected letters, digits and _"),
        ({"cameras": ["left"], "left.min_depth": 99.0}, "camera left: min_depth 99 m must be less"),
        ({"device": "tpu"}, "device must be auto, cpu, cuda or cuda:N, got 'tpu'"),
    ],
)
def test_wrong_values_are_refused_with_the_reason(values, text):
    with pytest.raises(ValueError, match=text):
        from_values(values)


@pytest.mark.parametrize(
    ("values", "given", "wanted"),
    [
        ({}, (640, 480), (640, 480)),
        ({"output.width": 400}, (640, 480), (400, 300)),
        ({"output.height": 240}, (640, 480), (320, 240)),
        ({"output.width": 400, "output.height": 200}, (640, 480), (400, 200)),
        ({"output.width": 4}, (640, 2), (4, 1)),
        ({"output.width": 8192}, (2, 480), (8192, 8192)),
    ],
)
def test_a_side_of_the_output_given_alone_takes_the_other_along(values, given, wanted):
    assert from_values(values).output.size(*given) == wanted


def test_all_becomes_what_the_bundle_can_answer():
    found = resolve(from_values({"categories": ["all"]}), TASKS, PROMPTS)
    assert found.tasks == ("depth", "normal", "semantic")
    assert found.categories == ("cup", "bed")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"tasks": ["flow"]}, "tasks: 'flow' is unknown, expected some of depth"),
        ({"tasks": ["pose"]}, "no prompt for 'pose', only for depth, normal, semantic"),
        ({"categories": ["cup", "yak"]}, "'yak' is not in the bundle's prompt bank.*cup, bed"),
    ],
)
def test_what_the_bundle_cannot_answer_is_refused(values, text):
    with pytest.raises(ValueError, match=text):
        resolve(from_values(values), TASKS, PROMPTS)


@pytest.mark.parametrize("values", [{"cloud.outliers": True}, {"cloud.voxel": 0.05}])
def test_filters_of_the_cloud_without_open3d_are_refused(monkeypatch, values):
    monkeypatch.setitem(sys.modules, "open3d", None)
    (name,) = values
    with pytest.raises(ValueError, match=f"{name} needs open3d, which is not installed: pip"):
        resolve(from_values({"categories": ["cup"], **values}), TASKS, PROMPTS)


def test_the_tasks_of_adapters_are_always_on_offer():
    tasks = {**TASKS, "crack": replace(TASKS["depth"], name="crack", prompt="[[image2crack]]")}
    for asked, wanted in (
        (["depth"], ("depth", "crack")),
        (["crack", "depth"], ("crack", "depth")),
        (["all"], ("depth", "normal", "semantic", "crack")),
        ([], ("crack",)),
    ):
        values = from_values({"tasks": asked, "categories": ["cup"]})
        assert resolve(values, tasks, PROMPTS, ["crack"]).tasks == wanted
    for asked in ("crack", "all"):  # whoever describes a task wants it
        with pytest.raises(ValueError, match="no prompt for 'crack'"):
            resolve(from_values({"tasks": [asked], "categories": ["cup"]}), tasks, PROMPTS)


def test_an_empty_list_is_declared_as_one_empty_text():
    (adapters,) = [spec for spec in specs() if spec.name == "adapters"]
    assert adapters.declared == [""]
    assert from_values({"adapters": [""]}).adapters == ()


def test_categories_do_not_matter_without_the_semantic_task():
    asked = from_values({"tasks": ["depth"], "categories": ["yak"]})
    assert resolve(asked, TASKS, PROMPTS).categories == ("yak",)


def test_the_embedded_bundle_is_the_default():
    assert bundle_path(NodeParameters(), Path("/embedded")) == Path("/embedded")
    assert bundle_path(NodeParameters(bundle="~/b"), Path("/e")) == Path.home() / "b"


def test_cameras_have_values_of_their_own():
    values = {
        "cameras": ["front", "left"],
        "max_rate": 5.0,
        "front.max_rate": 9.0,
        "left.scale.source": "ground_plane",
        "left.scale.ground_plane.height": 0.7,
        "depth.max_rate": 2.0,
    }
    found = from_values(values)
    front, left = found.of_camera("front"), found.of_camera("left")
    assert (front.max_rate, left.max_rate) == (9.0, 5.0)
    assert (front.metric, left.metric) == (False, True)
    assert left.scale.ground_plane.height == 0.7
    assert front.of_task("depth").max_rate == left.of_task("depth").max_rate == 2.0
    assert found.of_camera("") is found
    offered = resolve(found, TASKS, PROMPTS[:2])
    assert offered.tasks == offered.of_camera("left").tasks == ("depth",)
    assert offered.of_camera("front").max_rate == 9.0


def test_the_parameters_of_cameras_begin_with_the_nodes():
    found = from_values({"cameras": ["front"], "scale.hold": 3.0, "front.max_rate": 9.0})
    declared = {spec.name: spec.default for spec in camera_specs(found)}
    assert declared["front.scale.hold"] == 3.0
    assert declared["front.image_transport"] == "raw"
    assert {"front.output.width", "front.scale.ground_plane.pitch", "front.max_depth"} <= set(
        declared
    )
    assert not {"front.tasks", "front.depth.max_rate", "front.bundle"} & set(declared)
    assert camera_specs(from_values({})) == ()


def flat(tree, prefix=""):
    for key, value in tree.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def test_the_config_file_has_every_parameter_at_its_default():
    tree = yaml.safe_load((CONFIG / "diception.yaml").read_text())["/**"]["ros__parameters"]
    found = dict(flat(tree))
    wanted = {spec.name: spec.declared for spec in specs()}
    assert found == wanted
    assert {name: type(value) for name, value in found.items()} == {
        name: type(value) for name, value in wanted.items()
    }


CONSUMERS = ("depth_image_proc.yaml", "nvblox.yaml", "rtabmap.yaml")
"""Parameters of other packages' nodes alone; test_consumers.py looks at those."""
FILES = [
    file
    for file in sorted(CONFIG.glob("*.yaml"))
    if "ros__parameters" in file.read_text() and file.name not in CONSUMERS
]


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_ready_parameter_files_hold_known_parameters_that_fit_together(file):
    trees = yaml.safe_load(file.read_text())
    ours = [trees[name] for name in ("/**", "/**/diception") if name in trees]
    assert ours
    for tree in ours:
        values = dict(flat(tree["ros__parameters"]))
        found = from_values(values)
        known = (*specs(), *camera_specs(found))
        assert set(values) <= {spec.name for spec in known}


def test_every_field_has_a_spec_or_is_a_group():
    groups = {"output", "scale", "cloud", "filter", "per_task", "per_camera"}
    loose = {item.name for item in fields(NodeParameters) if "spec" not in item.metadata}
    assert loose == groups

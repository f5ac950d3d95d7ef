# SPDX-License-Identifier: Apache-2.0
"""The launch files, where launch_ros is installed (it is not on PyPI)."""

from __future__ import annotations

import ast
import importlib.util
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from diception_ros.ros.parameters import specs

LAUNCH = Path(__file__).parents[2] / "launch"
FILES = sorted(LAUNCH.glob("*.launch.py"))
BASE = LAUNCH / "diception.launch.py"


def calls(file, name):
    """The keyword arguments of every call of a function in a file."""
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "id", "") == name:
            yield node.args, {item.arg: item.value for item in node.keywords}


def declared_in(file):
    """Names of a file's arguments, and of those of the file that it includes."""
    names = {args[0].value for args, _ in calls(file, "DeclareLaunchArgument")}
    included = any(calls(file, "IncludeLaunchDescription"))
    return names | (declared_in(BASE) if included else set())


def constant(name):
    """A constant of the file that the others include; types stay names."""
    for node in ast.parse(BASE.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == name:
            return node.value
    raise AssertionError(name)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_argument_is_described(file):
    declared = list(calls(file, "DeclareLaunchArgument"))
    assert declared
    for _, keywords in declared:
        assert len(keywords["description"].value) > 10
        assert "default_value" in keywords


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_every_configuration_used_is_declared(file):
    used = {getattr(args[0], "value", None) for args, _ in calls(file, "LaunchConfiguration")}
    assert {name for name in used if isinstance(name, str)} <= declared_in(file)


def test_arguments_that_are_parameters_are_those_of_the_node_in_their_types():
    types = {spec.name: type(spec.default).__name__ for spec in specs()}
    types["use_sim_time"] = "bool"  # rclpy's own
    given = constant("PARAMETERS")
    found = {key.value: kind.id for key, kind in zip(given.keys, given.values, strict=True)}
    assert found == {name: types[name] for name in found}
    assert set(found) <= declared_in(BASE)


@pytest.mark.parametrize(
    ("script", "module"),
    [("diception_node", "torch"), ("diception_node", "skimage"), ("diception", "typer")],
)
def test_what_pip_has_not_installed_is_one_line(script, module):
    check = (
        f"import runpy, sys; sys.modules['{module}'] = None; sys.argv = ['{script}', 'doctor']; "
        f"runpy.run_path({str(LAUNCH / script)!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 1
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"{script}: ")
    assert module in line
    assert line.endswith("'Run it' in README.md says what pip installs")


def test_every_input_has_an_argument():
    topics = ast.literal_eval(constant("TOPICS"))
    assert {topic.replace("/", "_") for topic in topics} <= declared_in(BASE)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_files_that_are_named_exist(file):
    text = ast.unparse(ast.parse(file.read_text()))
    for name in re.findall(r"'(\w+\.(?:yaml|rviz))'", text):
        assert (LAUNCH.parent / "config" / name).is_file()


@pytest.mark.parametrize("name", ["demo", "nav2_perception"])
def test_only_arguments_that_exist_are_passed_on(name):
    ((_, keywords),) = calls(LAUNCH / f"{name}.launch.py", "IncludeLaunchDescription")
    passed = {key.value for key in keywords["launch_arguments"].func.value.keys}
    assert passed <= declared_in(BASE)


FILE = """
/**: {ros__parameters: {cameras: [cam0, cam1], cam0: {max_rate: 5.0}}}
/robot/other: {ros__parameters: {cameras: [rear]}}
/robot/alone: {ros__parameters: {cameras: [""]}}
/robot/**:
"""


@pytest.mark.parametrize(
    ("name", "argument", "wanted"),
    [
        ("diception", "", ["cam0", "cam1"]),
        ("other", "", ["rear"]),
        ("alone", "", []),
        ("diception", "front, left", ["front", "left"]),
    ],
)
def test_cameras_that_only_the_parameter_file_names_are_remapped_too(
    tmp_path, name, argument, wanted
):
    (tmp_path / "mine.yaml").write_text(FILE)
    given = {"params_file": f"{tmp_path}/mine.yaml", "name": name, "cameras": argument}
    started = node_of(**given, image="image_raw")
    pairs = {(f"{camera}/image", f"{camera}/image_raw") for camera in wanted}
    assert set(started.remappings) == (pairs or {("image", "image_raw")})
    cameras = {"cameras": wanted} if argument else {}  # otherwise the file's hold by themselves
    assert started.parameters[1:] == [cameras]


def test_the_file_for_several_cameras_names_those_that_start_without_an_argument(tmp_path):
    included = LAUNCH / "multi_camera.launch.py"
    defaults = {
        args[0].value: getattr(keywords["default_value"], "value", None)
        for args, keywords in calls(included, "DeclareLaunchArgument")
    }
    assert defaults["cameras"] == ""
    file = LAUNCH.parent / "config" / "cameras.yaml"
    named = yaml.safe_load(file.read_text())["/**"]["ros__parameters"]["cameras"]
    started = node_of(params_file=str(file), image="image_raw", cameras=defaults["cameras"])
    assert {name for name, _ in started.remappings} == {f"{camera}/image" for camera in named}


def node_of(**configurations):
    """What the file that the others include gives its Node, by the functions of that file; it needs
    launch_ros to be imported as a whole."""
    names = ("PARAMETERS", "TOPICS", "cameras_in", "remappings", "node")
    kept = [
        item
        for item in ast.parse(BASE.read_text()).body
        if getattr(item, "name", None) in names
        or (isinstance(item, ast.Assign) and item.targets[0].id in names)
    ]
    given = {"params_file": "", "name": "diception", "cameras": "", **configurations}
    for topic in ast.literal_eval(constant("TOPICS")):
        given.setdefault(topic.replace("/", "_"), topic)
    found = {
        "Path": Path,
        "yaml": yaml,
        "Node": lambda **values: SimpleNamespace(**values),
        "LaunchConfiguration": lambda name: SimpleNamespace(perform=lambda _: given.get(name, "")),
    }
    exec(compile(ast.Module(kept, []), BASE.name, "exec"), found)
    (started,) = found["node"](None)
    return started


needs_launch = pytest.mark.skipif(
    importlib.util.find_spec("launch_ros") is None,
    reason="needs launch_ros of a ROS 2 install",
)


def module_of(file):
    spec = importlib.util.spec_from_file_location("description", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@needs_launch
@pytest.mark.parametrize("file", FILES, ids=lambda file: file.name)
def test_the_description_is_built(file):
    description = module_of(file).generate_launch_description()
    wanted = {args[0].value for args, _ in calls(file, "DeclareLaunchArgument")}
    assert {item.name for item in description.get_launch_arguments()} >= wanted


@needs_launch
def test_without_rviz_the_node_starts_all_the_same(monkeypatch):
    module, context = launch_of("diception.launch.py", monkeypatch, rviz="true")
    (line,) = module.viewer(context)
    assert "rviz2 is not installed" in line.msg[0].text
    context.launch_configurations["rviz"] = "false"
    assert module.viewer(context) == []


@needs_launch
def test_without_the_manager_the_launch_ends_before_a_node_starts(monkeypatch):
    module, context = launch_of("nav2_perception.launch.py", monkeypatch, manager="true")
    with pytest.raises(RuntimeError, match="lifecycle_manager, which is not installed: apt"):
        module.manager(context)
    *_, before, node = module.generate_launch_description().entities
    assert type(before).__name__ == "OpaqueFunction"
    assert type(node).__name__ == "IncludeLaunchDescription"


@needs_launch
def test_each_camera_has_its_topics_and_one_lidar_serves_all(monkeypatch):
    given = {"image": "image_raw", "reference_points": "/lidar"}
    module, context = launch_of("diception.launch.py", monkeypatch, **given)
    context.launch_configurations.update(
        {name: name.replace("_", "/", 1) for name in ("reference_depth",)}
        | {name: name for name in ("point_prompts", "point_click", "clicked_point")}
    )
    assert module.remappings(context, []) == [
        ("image", "image_raw"),
        ("reference/points", "/lidar"),
    ]
    assert module.remappings(context, ["front", "left"]) == [
        ("front/image", "front/image_raw"),
        ("left/image", "left/image_raw"),
        ("front/reference/points", "/lidar"),
        ("left/reference/points", "/lidar"),
    ]


def launch_of(file, monkeypatch, **configurations):
    """The launch file as a module, on a system without the packages it looks for."""
    from ament_index_python.packages import PackageNotFoundError

    from launch import LaunchContext

    def absent(name):
        raise PackageNotFoundError(name)

    module, context = module_of(LAUNCH / file), LaunchContext()
    monkeypatch.setattr(module, "get_package_prefix", absent)
    context.launch_configurations.update(configurations)
    return module, context

# SPDX-License-Identifier: Apache-2.0
"""What `diception demo` decides before it starts anything, and how it fails."""

from dataclasses import replace
from pathlib import Path

import pytest
from rich.console import Console

from diception_ros.cli import run
from diception_ros.cli.demo import (
    MARK,
    OWN,
    bundle_categories,
    check_ros,
    describe,
    node_parameters,
    prepare,
)
from diception_ros.evaluation.demo import DemoError
from diception_ros.model import BundleInfo

INFO = BundleInfo("small", (64, 96), training="rooms\n")


def test_the_embedded_model_says_what_it_is_not():
    text = describe(INFO, embedded=True)
    assert "small" in text
    assert "96x64" in text
    assert "trained on: rooms" in text
    assert "not DICEPTION itself" in text
    assert "diception convert" in text
    assert "not DICEPTION" not in describe(INFO, embedded=False)


def test_a_long_story_is_told_by_its_first_and_its_last_line():
    told = describe(replace(INFO, training="Rooms.\nAll of it.\n\nNo people.\n"), embedded=False)
    assert told.endswith("trained on: Rooms.\nNo people.")
    untold = describe(replace(INFO, training=""), embedded=False)
    assert untold.endswith("trained on: not said in its card")


def test_brackets_of_a_card_are_no_markup(capsys):
    info = replace(INFO, name="small [/v2]", training="rooms of [my house] only\n")
    Console().print(describe(info, embedded=False), highlight=False)
    shown = capsys.readouterr().out
    assert "small [/v2], 96x64" in shown
    assert "rooms of [my house] only" in shown


def test_only_what_a_demo_wrote_is_removed(tmp_path):
    prepare(tmp_path)
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "bag.mcap").touch()
    (tmp_path / "sheet.png").touch()
    (tmp_path / "holiday.png").touch()
    prepare(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {"holiday.png", MARK}
    assert "bag" in OWN


def test_a_recording_of_the_users_own_is_not_taken_for_a_demos(tmp_path):
    (tmp_path / "bag").mkdir()
    (tmp_path / "bag" / "drive_0.mcap").touch()
    with pytest.raises(ValueError, match="holds bag, which no demo wrote: choose another --out"):
        prepare(tmp_path)
    assert (tmp_path / "bag" / "drive_0.mcap").is_file()


def test_categories_are_those_the_bundle_knows(bundle):
    assert bundle_categories(bundle) == ("person", "chair")


def test_a_bundle_without_categories_has_no_semantic_task():
    without = node_parameters(None, "auto", ())
    assert "semantic" not in without["tasks"]
    assert "categories" not in without
    assert "bundle" not in without
    given = node_parameters(Path("b"), "cpu", ("person",))
    assert given["categories"] == ["person"]
    assert Path(given["bundle"]).is_absolute()
    assert given["scale.source"] == "reference"


def test_without_ros_it_says_what_to_do(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("diception_ros.cli.demo.is_installed", lambda name: False)
    with pytest.raises(ValueError, match=r"the demo needs rclpy, .* source a ROS 2 install"):
        check_ros()
    for command in (["demo", "--out", str(tmp_path / "demo")], ["demo-publish"]):
        assert run(command) == 2
        error = capsys.readouterr().err
        assert error.startswith("diception: the demo needs rclpy")
        assert error.count("\n") == 1
    assert not (tmp_path / "demo").exists()


@pytest.fixture
def with_ros(monkeypatch):
    """As if ROS were there: nothing of it is started in these tests."""
    monkeypatch.setattr("diception_ros.cli.demo.is_installed", lambda name: True)
    monkeypatch.setattr("diception_ros.cli.demo.demo_frames", list)


@pytest.mark.usefixtures("with_ros")
def test_a_demo_without_outputs_is_one_line_and_exit_one(monkeypatch, capsys, tmp_path, bundle):
    def fail(plan, on_event):
        raise DemoError("the node process ended early: no memory")

    monkeypatch.setattr("diception_ros.evaluation.demo.run_demo", fail)
    assert run(["demo", "--out", str(tmp_path / "demo"), "--bundle", str(bundle)]) == 1
    assert capsys.readouterr().err == "diception: the node process ended early: no memory\n"


@pytest.mark.usefixtures("with_ros")
def test_an_absent_bundle_is_one_line_and_nothing_is_removed(capsys, tmp_path):
    (tmp_path / "sheet.png").touch()
    assert run(["demo", "--out", str(tmp_path), "--bundle", str(tmp_path / "absent")]) == 2
    assert "absent is not a bundle" in capsys.readouterr().err
    assert (tmp_path / "sheet.png").exists()

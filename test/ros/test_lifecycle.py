# SPDX-License-Identifier: Apache-2.0
"""States, transitions and parameters of a running node, by its services."""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import time

import cv2
import pytest
from lifecycle_msgs.msg import Transition
from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from rclpy.qos import ReliabilityPolicy
from sensor_msgs.msg import CompressedImage, Image

from diception_ros.ros.images import backend
from diception_ros.tasks import TASKS

DISPARITY = {"~/disparity_relative/image": Image}


@pytest.fixture
def unconfigured(peer, bundle):
    """The node before configure; brought back to work afterwards."""
    assert peer.change("deactivate")
    assert peer.change("cleanup")
    yield peer
    if peer.lifecycle() == "active":
        peer.change("deactivate")
    if peer.lifecycle() == "inactive":
        peer.change("cleanup")
    assert peer.set(bundle=str(bundle), device="cpu", image_transport="raw") == ""
    assert peer.change("configure")
    assert peer.change("activate")
    peer.until_health("ready")


def test_a_round_trip(unconfigured, image_of, picture):
    peer = unconfigured
    assert peer.lifecycle() == "unconfigured"
    peer.until_health("unconfigured")
    depth = "/robot/diception/depth/image"
    peer.wait(lambda: peer.node.count_publishers(depth) == 0)
    started = time.monotonic()
    assert peer.change("configure")
    assert time.monotonic() - started < 1.0
    peer.wait(lambda: peer.node.count_publishers(depth) == 1)
    assert peer.node.count_subscribers("/robot/camera/image") == 0
    assert peer.change("activate")
    assert peer.ask(image_of(picture), DISPARITY)
    assert peer.change("deactivate")
    peer.until_health("inactive")
    peer.wait(lambda: peer.node.count_subscribers("/robot/camera/image") == 0)
    assert peer.change("cleanup")
    peer.wait(lambda: peer.node.count_publishers(depth) == 0)


CONFIGURE, ACTIVATE = Transition.TRANSITION_CONFIGURE, Transition.TRANSITION_ACTIVATE
DEACTIVATE, CLEANUP = Transition.TRANSITION_DEACTIVATE, Transition.TRANSITION_CLEANUP
MISFITS = {
    "unconfigured": (ACTIVATE, DEACTIVATE, CLEANUP, Transition.TRANSITION_ACTIVE_SHUTDOWN),
    "inactive": (CONFIGURE, DEACTIVATE, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN),
    "active": (CONFIGURE, ACTIVATE, CLEANUP, Transition.TRANSITION_UNCONFIGURED_SHUTDOWN, 200),
}


def test_a_transition_that_does_not_fit_is_refused(unconfigured, image_of, picture):
    """By its number, as Nav2's manager asks on a retry, a reset or a node that has autostarted."""
    peer, request = unconfigured, ChangeState.Request()
    for state, wanted in (("unconfigured", CONFIGURE), ("inactive", ACTIVATE), ("active", None)):
        for request.transition.id in MISFITS[state]:
            assert not peer.call("change_state", ChangeState, request).success
            assert peer.lifecycle() == state
        if wanted:
            request.transition.id = wanted
            assert peer.call("change_state", ChangeState, request).success
    assert peer.ask(image_of(picture), DISPARITY)


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"bundle": "/nowhere"}, "/nowhere is not a bundle: missing bundle.yaml"),
        ({"device": "cuda:7"}, "device 'cuda:7' was asked for"),
        ({"bundle": "~no-user/bundle"}, "~no-user/bundle: Could not determine home directory"),
    ],
)
def test_what_cannot_be_is_a_failed_configure_with_its_cause(unconfigured, values, text):
    peer = unconfigured
    assert peer.set(**values) == ""
    assert not peer.change("configure")
    assert peer.lifecycle() == "unconfigured"
    peer.wait(lambda: peer.log.having("cannot configure", text))
    peer.until_health("error", text)


def test_damaged_weights_are_an_error_with_its_cause(unconfigured, bundle, tmp_path):
    peer = unconfigured
    for file in bundle.rglob("*"):
        if file.is_file():
            copy = tmp_path / file.relative_to(bundle)
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(file.read_bytes())
    weights = next((tmp_path / "transformer").glob("*.safetensors"))
    weights.write_bytes(weights.read_bytes()[:100])
    assert peer.set(bundle=str(tmp_path)) == ""
    assert peer.change("configure")
    peer.until_health("error", "loading failed", "damaged")
    assert not peer.change("activate")
    assert peer.lifecycle() == "inactive"


def test_a_damaged_prompt_bank_is_a_failed_configure(unconfigured, bundle, tmp_path):
    peer = unconfigured
    for name in bundle.iterdir():
        (tmp_path / name.name).symlink_to(name)
    (tmp_path / "prompts.safetensors").unlink()
    (tmp_path / "prompts.safetensors").write_bytes(b"rubbish")
    assert peer.set(bundle=str(tmp_path)) == ""
    assert not peer.change("configure")
    peer.wait(lambda: peer.log.having("cannot configure", "prompts.safetensors is damaged"))


def test_compressed_images_are_taken(unconfigured, picture):
    peer = unconfigured
    assert peer.set(image_transport="compressed") == ""
    assert peer.change("configure")
    assert peer.change("activate")
    data = cv2.imencode(".jpg", picture)[1].tobytes()
    message = CompressedImage(format="bgr8; jpeg compressed bgr8", data=data)
    assert peer.ask(message, DISPARITY)
    # Their size is known only once they are decoded.
    message.data = cv2.imencode(".jpg", cv2.resize(picture, (48, 40)))[1].tobytes()
    topic = next(iter(DISPARITY))
    peer.ask(message, DISPARITY, until=lambda answers: answers[topic].width == 48)
    assert peer.log.having("images changed from ((32, 24), ", " to ((48, 40), ")


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"max_rate": -1.0}, "max_rate"),
        # rclpy's own words: names of the types in Jazzy, their numbers in Kilted.
        ({"max_rate": "fast"}, "expected '(Type.DOUBLE|3)' got '(Type.STRING|4)'"),
        ({"min_depth": 9.0, "max_depth": 3.0}, "min_depth 9 m must be less than max_depth 3 m"),
        ({"tasks": ["depth", "flow"]}, "tasks: 'flow' is unknown"),
        ({"categories": ["yak"]}, "'yak' is not in the bundle's prompt bank"),
        ({"device": "cuda"}, "device takes effect at configure"),
        ({"autostart": False}, "read-only|read only"),
        ({"scale__source": "lidar"}, "scale.source must be one of none, fixed"),
    ],
)
def test_changes_that_do_not_fit_are_refused_with_the_reason(peer, values, text):
    names = [name.replace("__", ".") for name in values]
    before = [peer.get(name) for name in names]
    assert re.search(text, peer.set(**values))
    assert [peer.get(name) for name in names] == before


def test_topics_come_and_go_with_tasks_and_scale(peer):
    def published(topic):
        return peer.node.count_publishers(f"/robot/diception/{topic}") == 1

    assert peer.set(tasks=["normal"], scale__source="none") == ""
    peer.wait(lambda: not published("disparity_relative/image"))
    peer.wait(lambda: not published("points"))
    assert published("normals/image")
    assert peer.set(tasks=["all"], scale__source="fixed") == ""
    peer.wait(lambda: published("disparity_relative/image"))
    peer.wait(lambda: published("points"))


def test_steps_change_between_frames(peer, image_of, picture):
    from diception_ros.msg import FrameReport

    topics = {**DISPARITY, "~/frame_report": FrameReport}
    for steps in (2, 1):
        assert peer.set(depth__steps=steps) == ""
        peer.ask(image_of(picture), topics, until=lambda a, n=steps: a["~/frame_report"].steps == n)
    assert peer.set(depth__steps=0) == ""


def test_parameters_are_described(peer):
    from rcl_interfaces.srv import DescribeParameters

    request = DescribeParameters.Request(names=["max_rate", "cloud.decimation", "autostart"])
    rate, decimation, autostart = peer.call(
        "describe_parameters", DescribeParameters, request
    ).descriptors
    assert "Unit: Hz" in rate.description
    assert (rate.floating_point_range[0].to_value, decimation.integer_range[0].to_value) == (
        1000.0,
        64,
    )
    assert (rate.read_only, autostart.read_only) == (False, True)


def test_a_missing_camera_info_is_named_and_the_rest_goes_on(unconfigured, image_of, picture):
    peer = unconfigured
    assert peer.change("configure")
    assert peer.change("activate")
    peer.hear("~/depth/image", Image)
    named = ("/robot/camera/camera_info", "no camera info has come")
    assert peer.ask(image_of(picture), DISPARITY, until=lambda _: bool(peer.log.having(*named)))
    assert peer.received["~/depth/image"] == []


@pytest.mark.parametrize(
    ("values", "text"),
    [
        ({"max_rate": 5}, "parameter max_rate: .*INTEGER.*DOUBLE"),
        ({"cloud__decimation": 0}, "parameter cloud.decimation: "),
        ({"min_depth": 60.0}, "min_depth 60 m must be less than max_depth 50 m"),
        ({"task_file": "/nowhere.yaml"}, "task_file: /nowhere.yaml is missing"),
        ({"task_file": "~no-user/a.yaml"}, "~no-user/a.yaml: Could not determine home"),
    ],
)
def test_wrong_values_at_start_fail_the_configure(new_node, bundle, caplog, values, text):
    node = new_node(bundle=str(bundle), device="cpu", **values)
    logging.getLogger("diception_ros").addHandler(caplog.handler)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert re.search(f"cannot configure: {text}", caplog.text)


def test_a_bundle_that_cannot_be_read_fails_the_configure(new_node, bundle, tmp_path, caplog):
    for file in bundle.iterdir():
        (tmp_path / file.name).symlink_to(file)
    (tmp_path / "bundle.yaml").unlink()
    (tmp_path / "bundle.yaml").symlink_to("/proc/self/mem")  # as without the permission
    node = new_node(bundle=str(tmp_path), device="cpu")
    logging.getLogger("diception_ros").addHandler(caplog.handler)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "cannot configure: [Errno 5] Input/output error" in caplog.text


def test_without_a_library_that_converts_images_it_fails_the_configure(
    new_node, bundle, caplog, monkeypatch
):
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    monkeypatch.setitem(sys.modules, "rosbags.image", None)
    backend.cache_clear()
    node = new_node(bundle=str(bundle), device="cpu")
    logging.getLogger("diception_ros").addHandler(caplog.handler)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "cannot configure: images cannot be converted: cv_bridge is not" in caplog.text
    monkeypatch.undo()  # installed meanwhile
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS


def test_a_wrong_value_can_be_mended(new_node, bundle):
    node = new_node(bundle=str(bundle), device="cpu", max_rate=5)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert node.set_parameters([Parameter("max_rate", value=5.0)])[0].successful
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS


def test_a_task_of_ones_own_has_topics_and_parameters(new_node, bundle, tmp_path):
    own = tmp_path / "tasks.yaml"
    prompt = TASKS["depth"].prompt  # one that the bundle's bank has
    own.write_text(f"- {{name: floor, prompt: '{prompt}', kind: mask}}")
    node = new_node(bundle=str(bundle), device="cpu", task_file=str(own))
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.get_parameter("floor.steps").value == 0
    # Its own list: the graph may answer for a node of this name that an earlier test has destroyed.
    topics = {publisher.topic_name: publisher.msg_type for publisher in node.publishers}
    assert topics["/diception/floor/mask"] is Image


def test_a_name_of_another_parameter_is_no_task(new_node, bundle, tmp_path, caplog):
    own = tmp_path / "tasks.yaml"
    own.write_text("- {name: cloud, prompt: '[[x]]', kind: mask}")
    node = new_node(bundle=str(bundle), device="cpu", task_file=str(own))
    logging.getLogger("diception_ros").addHandler(caplog.handler)
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE
    assert "the name 'cloud' belongs to other parameters or topics" in caplog.text


def test_a_wrong_reliability_fails_the_activation(new_node, bundle, caplog):
    override = {"qos_overrides./image.subscription.reliability": "maybe"}
    node = new_node(bundle=str(bundle), device="cpu", **override)
    logging.getLogger("diception_ros").addHandler(caplog.handler)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
    assert "must be auto, reliable or best_effort, got 'maybe'" in caplog.text


@pytest.mark.parametrize(
    ("override", "cause"),
    [
        ({"reference/points.subscription.reliability": 1}, "/reference/points: "),
        ({"reference/points.subscription.depth": -1}, "/reference/points: "),
        ({"clicked_point.subscription.depth": "many"}, "/clicked_point: "),
        ({"clicked_point.subscription.history": "some"}, "/clicked_point: "),
    ],
)
def test_a_wrong_override_is_named_with_its_topic(new_node, bundle, caplog, override, cause):
    given = {f"qos_overrides./{name}": value for name, value in override.items()}
    node = new_node(bundle=str(bundle), device="cpu", **given)
    logging.getLogger("diception_ros").addHandler(caplog.handler)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    for _ in range(2):
        assert node.trigger_activate() == TransitionCallbackReturn.FAILURE
        assert "/image" not in [subscription.topic_name for subscription in node.subscriptions]
    assert f"cannot activate: {cause}" in caplog.text


def test_a_failed_activation_leaves_nothing_and_says_why(start_node, bundle):
    override = {"qos_overrides./robot/clicked_point.subscription.reliability": "maybe"}
    parameters = {"bundle": bundle, "device": "cpu", **override}
    with start_node("/robot/wrong", parameters, {}, health="/robot/clicked_point: ") as peer:
        for _ in range(2):
            assert peer.lifecycle() == "inactive"
            values = peer.until_health("error", "/robot/clicked_point: ", "maybe")
            assert values["state"] == "error"
            peer.wait(lambda: peer.node.count_subscribers("/robot/image") == 0)
            assert not peer.change("activate")
        assert peer.change("cleanup")
        peer.until_health("unconfigured")
        assert peer.change("configure")
        peer.until_health("inactive")


def test_a_failed_configure_leaves_nothing_and_says_why(start_node, bundle):
    """Nor does a change end the process that brings the topic back, or one of its kind."""
    override = {"qos_overrides./robot/wrong/points.publisher.reliability": "maybe"}
    parameters = {"bundle": bundle, "device": "cpu", "scale.source": "fixed", **override}
    with start_node("/robot/wrong", parameters, {}, health="~/points: ") as peer:
        for _ in range(2):
            assert peer.lifecycle() == "unconfigured"
            peer.until_health("error", "~/points: ", "maybe")
            peer.wait(lambda: peer.node.count_publishers("/robot/wrong/normals/image") == 0)
            assert not peer.change("configure")
        assert peer.set(scale__source="none") == ""
        assert peer.change("configure")
        peer.until_health("inactive")
        peer.log.lines.clear()
        assert peer.set(scale__source="fixed") == ""
        peer.wait(lambda: peer.log.having("~/points: ", "maybe"))
        assert peer.lifecycle() == "inactive"


def test_a_given_reliability_is_kept(new_node, bundle):
    override = {"qos_overrides./image.subscription.reliability": "reliable"}
    node = new_node(bundle=str(bundle), device="cpu", **override)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.trigger_activate() == TransitionCallbackReturn.SUCCESS
    (found,) = node.get_subscriptions_info_by_topic("/image")
    assert found.qos_profile.reliability == ReliabilityPolicy.RELIABLE


def test_the_qos_of_an_output_can_be_overridden(new_node, bundle):
    topic = "/diception/disparity_relative/image"
    override = {
        f"qos_overrides.{topic}.publisher.reliability": "best_effort",
        f"qos_overrides.{topic}.publisher.depth": 7,
    }
    node = new_node(bundle=str(bundle), device="cpu", **override)
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    (publisher,) = [item for item in node.publishers if item.topic_name == topic]
    (found,) = node.get_publishers_info_by_topic(topic)
    assert found.qos_profile.reliability == ReliabilityPolicy.BEST_EFFORT
    assert publisher.qos_profile.depth == 7


def test_an_unexpected_error_in_a_transition_is_logged(new_node, bundle, caplog, monkeypatch):
    def broken(*_):
        raise RuntimeError("something nobody thought of")

    node = new_node(bundle=str(bundle), device="cpu")
    monkeypatch.setattr("diception_ros.ros.node.plan", broken)
    logging.getLogger("diception_ros").addHandler(caplog.handler)
    assert node.trigger_configure() == TransitionCallbackReturn.ERROR
    assert "on_configure failed unexpectedly" in caplog.text
    assert "something nobody thought of" in caplog.text


def test_ctrl_c_while_libraries_load_ends_the_process_at_once():
    """As Python's exception it could meet a __del__, which swallows it: the node then started."""
    process = subprocess.Popen(
        [sys.executable, "-m", "diception_ros.ros.node"],
        env={**os.environ, "PYTHONPROFILEIMPORTTIME": "1"},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    for line in process.stderr:
        if line.endswith(" numpy\n"):
            break
    process.send_signal(signal.SIGINT)
    rest = process.communicate(timeout=60)[1]
    assert process.returncode == -signal.SIGINT
    assert "KeyboardInterrupt" not in rest

# SPDX-License-Identifier: Apache-2.0
"""The parameter `adapters` of a running node: a task and its topics come and go."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from diception_ros.msg import FrameReport
from random_adapter import adapter_of
from rclpy.lifecycle import TransitionCallbackReturn
from rclpy.parameter import Parameter
from sensor_msgs.msg import Image

from diception_ros.model import Diception, make_random_bundle
from diception_ros.ros.node import DiceptionNode

MASK = "/robot/diception/crack/mask"
DISPARITY = {"~/disparity_relative/image": Image}


@pytest.fixture(scope="module")
def model(bundle):
    return Diception.load(bundle)


@pytest.fixture(scope="module")
def crack(model, tmp_path_factory):
    path = tmp_path_factory.mktemp("adapters") / "crack.safetensors"
    adapter_of(model).save(path)
    return str(path)


@pytest.fixture
def without(peer):
    """The node without adapters, afterwards as well."""
    yield peer
    assert peer.set(adapters=[""], tasks=["all"]) == ""


def test_a_task_comes_and_goes_at_run_time(without, crack, image_of, picture):
    peer = without
    before = array_of(peer.ask(image_of(picture), DISPARITY)["~/disparity_relative/image"])
    assert peer.node.count_publishers(MASK) == 0
    assert peer.set(adapters=[crack]) == ""
    peer.wait(lambda: peer.node.count_publishers(MASK) == 1)
    assert peer.get("crack.steps") == 0
    topics = {**DISPARITY, "~/crack/mask": Image, "~/crack/image_color": Image}
    answers = peer.ask(image_of(picture), {**topics, "~/frame_report": FrameReport})
    assert (answers["~/crack/mask"].height, answers["~/crack/mask"].width) == (24, 32)
    assert "crack" in answers["~/frame_report"].tasks
    beside = array_of(answers["~/disparity_relative/image"])
    np.testing.assert_allclose(beside, before, atol=1e-4)
    assert peer.set(crack__steps=2) == ""
    assert peer.set(adapters=[""]) == ""
    peer.wait(lambda: peer.node.count_publishers(MASK) == 0)
    after = array_of(peer.ask(image_of(picture), DISPARITY)["~/disparity_relative/image"])
    np.testing.assert_allclose(after, before, atol=1e-4)
    assert "undeclared" in peer.set(crack__steps=1)


def array_of(message):
    return np.frombuffer(message.data, "f4")


def test_it_can_come_again(without, crack, image_of, picture):
    for _ in range(2):
        assert without.set(adapters=[crack]) == ""
        assert without.ask(image_of(picture), {"~/crack/mask": Image})
        assert without.set(adapters=[""]) == ""


def test_a_file_that_was_written_again_is_read_when_it_is_set_again(
    without, model, image_of, picture, tmp_path
):
    path, topics = tmp_path / "crack.safetensors", {"~/crack/image_color": Image}
    adapter_of(model).save(path)
    assert without.set(adapters=[str(path)]) == ""
    before = without.ask(image_of(picture), topics)["~/crack/image_color"].data
    path.write_text("rubbish")
    assert "is damaged or not a safetensors file" in without.set(adapters=[str(path)])
    assert without.ask(image_of(picture), topics)["~/crack/image_color"].data == before
    adapter_of(model, seed=1).save(path)
    assert without.set(adapters=[str(path)]) == ""
    without.ask(
        image_of(picture), topics, until=lambda found: found["~/crack/image_color"].data != before
    )
    path.unlink()
    assert without.set(adapters=[str(path)]) == ""  # its weights are in place


def test_an_adapter_is_offered_beside_chosen_tasks(without, crack, image_of, picture):
    assert without.set(adapters=[crack], tasks=["depth"]) == ""
    assert without.ask(image_of(picture), {**DISPARITY, "~/crack/mask": Image})
    assert without.set(tasks=["crack", "depth"]) == ""
    assert "tasks: 'crack' is unknown" in without.set(adapters=[""])
    assert without.node.count_publishers(MASK) == 1


def test_adapters_that_cannot_be_are_refused_with_the_reason(without, model, crack, tmp_path):
    (tmp_path / "bad.safetensors").write_text("rubbish")
    adapter = adapter_of(model)
    for name in ("depth", "cloud"):
        taken = replace(adapter, info=replace(adapter.info, task=name))
        taken.save(tmp_path / f"{name}.safetensors")
    other = Diception.load(make_random_bundle(tmp_path / "other", seed=1))
    adapter_of(other, task="spill").save(tmp_path / "foreign.safetensors")
    for file, reason in (
        ("none", "none.safetensors is missing"),
        ("bad", "bad.safetensors is damaged or not a safetensors file"),
        ("depth", "the name 'depth' is taken"),
        ("cloud", "the name 'cloud' is taken"),
        ("foreign", "whose weights are not those of this one"),
    ):
        assert reason in without.set(adapters=[crack, str(tmp_path / f"{file}.safetensors")])
        assert without.get("adapters") == [""]
    for file, reason in (
        ("~no-user/crack.safetensors", "Could not determine home directory"),
        ("/proc/self/mem", "cannot be read: "),  # as without the permission
    ):
        assert re.search(f"{file}.*{reason}", without.set(adapters=[file]))
    assert without.node.count_publishers(MASK) == 0


def test_adapters_given_at_start_are_checked_at_configure(new_node, bundle, crack, tmp_path):
    node: DiceptionNode = new_node(bundle=str(bundle), device="cpu", adapters=[crack])
    assert node.trigger_configure() == TransitionCallbackReturn.SUCCESS
    assert node.count_publishers("/diception/crack/mask") == 1
    assert node.get_parameter("crack.guidance").value == 0.0
    assert node.trigger_cleanup() == TransitionCallbackReturn.SUCCESS
    wrong = Parameter("adapters", value=[str(tmp_path / "none.safetensors")])
    assert node.set_parameters([wrong])[0].successful  # nothing is looked at before configure
    assert node.trigger_configure() == TransitionCallbackReturn.FAILURE

# SPDX-License-Identifier: Apache-2.0
"""The bond with a lifecycle manager. Its messages are not on PyPI, so a stand-in carries them."""

from __future__ import annotations

import importlib.util
import logging
import sys
import time
from types import SimpleNamespace

import pytest
from rclpy.executors import SingleThreadedExecutor
from rclpy.lifecycle import TransitionCallbackReturn

from diception_ros.ros.native import class_of

SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


@pytest.fixture
def bonded(new_node, bundle, monkeypatch):
    """A node with a bond, and what it says on it."""
    module = SimpleNamespace(Status=SimpleNamespace)
    monkeypatch.setitem(sys.modules, "bond", SimpleNamespace(msg=module))
    monkeypatch.setitem(sys.modules, "bond.msg", module)
    node, said = new_node(bundle=str(bundle), device="cpu", bond=True), []
    create = node.create_publisher

    def create_publisher(kind, topic, *given, **named):
        if topic != "bond":
            return create(kind, topic, *given, **named)
        assert kind is SimpleNamespace
        return SimpleNamespace(publish=said.append)

    monkeypatch.setattr(node, "create_publisher", create_publisher)
    yield node, said
    class_of.cache_clear()


def spin(node, seconds):
    executor = SingleThreadedExecutor(context=node.context)
    executor.add_node(node)
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        executor.spin_once(timeout_sec=0.05)
    executor.remove_node(node)


def test_an_active_node_gives_signs_of_life_and_says_when_it_ends(bonded):
    node, said = bonded
    assert node.trigger_configure() == SUCCESS
    assert node._session.loading.join(60)  # it may keep a busy machine from counting seconds
    assert node.trigger_activate() == SUCCESS
    spin(node, 0.55)
    assert node.trigger_deactivate() == SUCCESS
    spin(node, 0.25)
    assert len(said) >= 4
    assert [status.active for status in said] == [True] * (len(said) - 1) + [False]
    assert {status.id for status in said} == {"diception"}
    assert len({status.instance_id for status in said}) == 1


def test_each_activation_is_a_bond_of_its_own(bonded):
    """The other end takes a second instance on one bond for a mistake."""
    node, said = bonded
    node.trigger_configure()
    for _ in range(2):
        assert node.trigger_activate() == SUCCESS
        assert node.trigger_deactivate() == SUCCESS
    assert len({status.instance_id for status in said}) == 2


def test_a_node_that_is_destroyed_says_so(bonded):
    node, said = bonded
    node.trigger_configure()
    node.trigger_activate()
    node.destroy_node()
    assert [status.active for status in said] == [False]


def test_where_ros_has_ended_there_is_nobody_to_tell(bonded):
    """A context of Kilted takes its nodes down before it ends, so there the end can be told."""
    node, said = bonded
    node.trigger_configure()
    node.trigger_activate()
    node.context.shutdown()
    node.destroy_node()
    assert [status.active for status in said] in ([], [False])


@pytest.mark.skipif(
    importlib.util.find_spec("bond") is not None, reason="the package bond is installed here"
)
def test_without_the_messages_the_configure_fails_and_says_what_to_do(new_node, bundle, caplog):
    node = new_node(bundle=str(bundle), device="cpu", bond=True)
    logging.getLogger("diception_ros").addHandler(caplog.handler)
    assert node.trigger_configure() == FAILURE
    assert "cannot configure: bond: true needs the messages of the package bond" in caplog.text
    assert "bond_timeout: 0.0" in caplog.text

# SPDX-License-Identifier: Apache-2.0
"""The node's end of a bond with Nav2's lifecycle manager, which so notices that the process has
ended or hangs. As nav2_util::LifecycleNode holds it: topic bond, the node's name as id, no time-out
at this end, so nothing needs to be heard. Of bond_core only the messages are taken: they come with
Nav2; bondpy does not, and speaks from a thread of its own, however long the node hangs.
"""

from __future__ import annotations

import uuid
from typing import Any

from rclpy.clock import Clock, ClockType
from std_msgs.msg import Header

from diception_ros.ros.content import BOND_STATUS, Content
from diception_ros.ros.native import class_of, native

PERIOD = 0.1
"""Seconds between two signs of life."""
TIMEOUT = 4.0
"""Seconds, told to the other end for people to compare; each end's own decides."""


def check_bond() -> None:
    """ValueError where the messages are not installed."""
    try:
        class_of(BOND_STATUS)
    except ImportError:
        raise ValueError(
            "bond: true needs the messages of the package bond, which are not installed: "
            "apt install ros-$ROS_DISTRO-bond, or set bond: false here and bond_timeout: 0.0 in "
            "the lifecycle manager"
        ) from None


class Bond:
    """Says "alive" from its making until `release`. The executor's thread does, so a node that
    hangs falls silent."""

    def __init__(self, node: Any) -> None:
        self._node = node
        self._instance = str(uuid.uuid4())
        self._publisher = node.create_publisher(class_of(BOND_STATUS), "bond", 1)
        # Not the node's clock: a paused simulation is no death.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._timer = node.create_timer(PERIOD, lambda: self._say(active=True), clock=steady)

    def release(self) -> None:
        """Ends the bond; the other end is told and does not have to wait for silence."""
        self._node.destroy_timer(self._timer)
        if self._node.context.ok():  # in a process that is not ours, ROS may have ended first
            self._say(active=False)
        self._node.destroy_publisher(self._publisher)

    def _say(self, active: bool) -> None:
        status = Content(
            BOND_STATUS,
            header=Header(stamp=self._node.get_clock().now().to_msg()),
            id=self._node.get_name(),
            instance_id=self._instance,
            active=active,
            heartbeat_timeout=TIMEOUT,
            heartbeat_period=PERIOD,
        )
        self._publisher.publish(native(status))

# SPDX-License-Identifier: Apache-2.0
"""`diception view --live`: the topics of a running node, as they come."""

from __future__ import annotations

from sensor_msgs.msg import Image, PointCloud2

from diception_ros.evaluation.views import Picture, Points, view_of
from diception_ros.ros.follow import Follower


def test_what_a_node_publishes_is_followed(peer, image_of, picture, info):
    heard = {}
    follower = Follower(
        "^/robot/diception/(points|depth/image_color)$",
        lambda topic, message: heard.update({topic: message}),
        context=peer._context,
    )
    peer._executor.add_node(follower)
    wanted = {"/robot/diception/points", "/robot/diception/depth/image_color"}
    try:
        peer.wait(lambda: follower.followed >= wanted)
        topics = {"~/points": PointCloud2, "~/depth/image_color": Image}
        peer.ask(image_of(picture), topics, info, until=lambda answers: set(heard) >= wanted)
    finally:
        peer._executor.remove_node(follower)
        follower.destroy_node()
    assert set(heard) == wanted  # nothing that does not match
    views = {topic: view_of(topic, message, True) for topic, message in heard.items()}
    assert isinstance(views["/robot/diception/points"], Points)
    assert views["/robot/diception/points"].colours is not None
    assert isinstance(views["/robot/diception/depth/image_color"], Picture)

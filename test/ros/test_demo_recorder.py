# SPDX-License-Identifier: Apache-2.0
"""The recorder against a publisher of this process: what is published is what the bag holds."""

import rclpy
from diception_ros.msg import Instance, InstanceArray
from rclpy.executors import SingleThreadedExecutor
from rclpy.qos import DurabilityPolicy, QoSProfile, ReliabilityPolicy
from rosbags.highlevel import AnyReader
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_typestore

from diception_ros.ros.demo_recorder import Recorder, bag_qos, define

LATCHED = QoSProfile(
    depth=3,
    reliability=ReliabilityPolicy.RELIABLE,
    durability=DurabilityPolicy.TRANSIENT_LOCAL,
)


def test_messages_of_this_package_are_recorded_with_their_definitions(tmp_path):
    context = rclpy.Context()
    rclpy.init(context=context, domain_id=98)
    executor = SingleThreadedExecutor(context=context)
    node = rclpy.create_node("source", context=context)
    publisher = node.create_publisher(InstanceArray, "/diception/instances", LATCHED)
    other = node.create_publisher(InstanceArray, "/elsewhere", LATCHED)
    sent = InstanceArray(task="entity", instances=[Instance(id=7, score=0.5, area=12)])
    bag = tmp_path / "bag"
    with Writer(bag, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        recorder = Recorder(writer, "^/diception/", context=context)
        executor.add_node(recorder)
        executor.add_node(node)
        publisher.publish(sent)
        other.publish(sent)
        for _ in range(300):
            executor.spin_once(timeout_sec=0.1)
            if recorder.counts.get("/diception/instances"):
                break
        recorder.destroy_node()
    node.destroy_node()
    rclpy.try_shutdown(context=context)
    with AnyReader([bag]) as reader:
        ((connection, _, data),) = reader.messages()
        message = reader.deserialize(data, connection.msgtype)
    assert connection.topic == "/diception/instances"
    assert (message.task, message.instances[0].id, message.instances[0].area) == ("entity", 7, 12)
    (qos,) = connection.ext.offered_qos_profiles
    assert (qos.durability.name, qos.reliability.name) == ("TRANSIENT_LOCAL", "RELIABLE")


def test_types_are_defined_with_those_they_are_made_of():
    types = get_typestore(Stores.ROS2_JAZZY)
    define(types, "diception_ros/msg/InstanceArray")
    assert "diception_ros/msg/Instance" in types.types
    define(types, "diception_ros/msg/InstanceArray")  # known by now: no error


def test_quality_of_service_of_a_sensor():
    sensor = QoSProfile(depth=1, reliability=ReliabilityPolicy.BEST_EFFORT)
    found = bag_qos(sensor)
    assert (found.depth, found.reliability.name) == (1, "BEST_EFFORT")
    assert found.durability.name == "VOLATILE"

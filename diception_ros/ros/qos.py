# SPDX-License-Identifier: Apache-2.0
"""Qualities of service, and what is said when two ends do not fit."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rcl_interfaces.msg import ParameterDescriptor
from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.exceptions import ParameterException
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSPolicyKind,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

OUTPUT_DEPTH = 2
AUTO = "auto"
Warn = Callable[[str, str], None]
"""warn(topic, cause)."""


def sensor(reliable: bool = False) -> QoSProfile:
    """Inputs: keeps the newest message only. Best effort takes all publishers; reliable takes only
    reliable ones, but loses no part of a large message."""
    reliability = ReliabilityPolicy.RELIABLE if reliable else ReliabilityPolicy.BEST_EFFORT
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=reliability,
        durability=DurabilityPolicy.VOLATILE,
    )


def prompts() -> QoSProfile:
    """Requests of people: none may be lost."""
    return QoSProfile(depth=5, reliability=ReliabilityPolicy.RELIABLE)


def output() -> QoSProfile:
    """Outputs: reliable, so that reliable and best-effort subscribers both hear them."""
    return QoSProfile(depth=OUTPUT_DEPTH, reliability=ReliabilityPolicy.RELIABLE)


def latched() -> QoSProfile:
    """Static information: late subscribers get the last message."""
    return QoSProfile(
        depth=1,
        reliability=ReliabilityPolicy.RELIABLE,
        durability=DurabilityPolicy.TRANSIENT_LOCAL,
    )


def overrides() -> QoSOverridingOptions:
    """Lets `qos_overrides.<topic>.<publisher|subscription>.*` parameters change a profile."""
    return QoSOverridingOptions.with_default_policies()


def overrides_but_reliability() -> QoSOverridingOptions:
    """As `overrides`, for subscriptions whose reliability is `wanted_reliability`'s."""
    return QoSOverridingOptions((QoSPolicyKind.HISTORY, QoSPolicyKind.DEPTH))


@contextmanager
def named(topic: str) -> Iterator[None]:
    """ValueError with the topic for a wrong override: rclpy's errors are of several kinds, and most
    do not name it."""
    try:
        yield
    except (RuntimeError, ValueError, ParameterException) as error:
        raise ValueError(f"{topic}: {error}") from error


def wanted_reliability(node: Any, topic: str) -> str:
    """The parameter qos_overrides.<topic>.subscription.reliability: auto (the default), reliable
    or best_effort. ValueError for anything else."""
    name = f"qos_overrides.{topic}.subscription.reliability"
    if not node.has_parameter(name):
        text = "auto (reliable when every publisher is), reliable or best_effort"
        descriptor = ParameterDescriptor(description=text, read_only=True)
        with named(topic):
            node.declare_parameter(name, AUTO, descriptor)
    found = str(node.get_parameter(name).value)
    if found not in (AUTO, "reliable", "best_effort"):
        raise ValueError(f"{name} must be auto, reliable or best_effort, got '{found}'")
    return found


def all_reliable(node: Any, topic: str) -> bool:
    """Whether the topic has publishers, and every one of them is reliable."""
    offered = [found.qos_profile for found in node.get_publishers_info_by_topic(topic)]
    return bool(offered) and all(
        profile.reliability == ReliabilityPolicy.RELIABLE for profile in offered
    )


def publisher_events(topic: str, warn: Warn) -> PublisherEventCallbacks:
    def incompatible(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        warn(topic, f"a subscriber asks for an incompatible QoS ({policy}) and will get nothing")

    return PublisherEventCallbacks(incompatible_qos=incompatible)


def subscription_events(topic: str, warn: Warn, adapts: bool = False) -> SubscriptionEventCallbacks:
    """adapts: the subscription will follow the publisher's reliability, so that is no fault."""

    def incompatible(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        if adapts and policy == "RELIABILITY":
            return
        warn(
            topic,
            f"a publisher offers an incompatible QoS ({policy}), nothing will come from it: set "
            f"qos_overrides.{topic}.subscription.{policy.lower()}",
        )

    return SubscriptionEventCallbacks(incompatible_qos=incompatible)

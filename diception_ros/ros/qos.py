# SPDX-License-Identifier: Apache-2.0
"""Qualities of service, and what is said when two ends do not fit."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rclpy.event_handler import PublisherEventCallbacks, SubscriptionEventCallbacks
from rclpy.qos import (
    DurabilityPolicy,
    HistoryPolicy,
    QoSProfile,
    ReliabilityPolicy,
    qos_policy_name_from_kind,
)
from rclpy.qos_overriding_options import QoSOverridingOptions

OUTPUT_DEPTH = 2
Warn = Callable[[str, str], None]
"""warn(topic, cause)."""


def sensor() -> QoSProfile:
    """Inputs: takes best-effort and reliable publishers, keeps the newest message only."""
    return QoSProfile(
        history=HistoryPolicy.KEEP_LAST,
        depth=1,
        reliability=ReliabilityPolicy.BEST_EFFORT,
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


def publisher_events(topic: str, warn: Warn) -> PublisherEventCallbacks:
    def incompatible(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        warn(topic, f"a subscriber asks for an incompatible QoS ({policy}) and will get nothing")

    return PublisherEventCallbacks(incompatible_qos=incompatible)


def subscription_events(topic: str, warn: Warn) -> SubscriptionEventCallbacks:
    def incompatible(event: Any) -> None:
        policy = qos_policy_name_from_kind(event.last_policy_kind)
        warn(
            topic,
            f"a publisher offers an incompatible QoS ({policy}), nothing will come from it: set "
            f"qos_overrides.{topic}.subscription.{policy.lower()}",
        )

    return SubscriptionEventCallbacks(incompatible_qos=incompatible)

# SPDX-License-Identifier: Apache-2.0
"""Lifecycle transitions that neither fail in silence nor end the process."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any

from lifecycle_msgs.srv import ChangeState
from rclpy.lifecycle import LifecycleState, TransitionCallbackReturn

from diception_ros.ros.publishers import RCLError

logger = logging.getLogger(__name__)
SUCCESS, FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE
Transition = Callable[[Any, LifecycleState], TransitionCallbackReturn]


def logged(transition: Transition) -> Transition:
    """A transition whose unexpected errors are logged; rclpy swallows them."""

    @wraps(transition)
    def run(node: Any, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            return transition(node, state)
        except Exception:
            logger.exception("%s failed unexpectedly", transition.__name__)
            return TransitionCallbackReturn.ERROR

    return run


def refuse_misfits(node: Any) -> None:
    """From now on a transition that the state does not have is answered with no, as by rclcpp and
    Kilted: Jazzy's rclpy raises, and the process ends without an answer."""
    for service in node.services:
        if service.srv_type is ChangeState:
            service.callback = refusing(service.callback)


def refusing(change: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """The callback of a lifecycle service, see refuse_misfits."""

    @wraps(change)
    def answer(request: Any, response: Any) -> Any:
        try:
            return change(request, response)
        except RCLError as error:
            asked = request.transition.label or request.transition.id
            logger.error("transition %s is refused: %s", asked, error)
            response.success = False
            return response

    return answer

# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node of one camera, or of several on one engine."""

from __future__ import annotations

import logging
import os
import signal
import sys
import time
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

if __name__ == "__main__":  # as launch/diception_node does; see main
    signal.signal(signal.SIGINT, signal.SIG_DFL)

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from diception_ros.ros import declare
from diception_ros.ros.bond import Bond, check_bond
from diception_ros.ros.health import statuses
from diception_ros.ros.images import backend
from diception_ros.ros.lifecycle import FAILURE, SUCCESS, logged, refuse_misfits
from diception_ros.ros.loading import Plan, plan
from diception_ros.ros.logs import bridge, unbridge
from diception_ros.ros.parameters import (
    NodeParameters,
    camera_specs,
    is_per_camera,
    specs,
)
from diception_ros.ros.publishers import RCLError
from diception_ros.ros.session import Session
from diception_ros.ros.spec import CONFIGURE, Spec
from diception_ros.ros.stream import Notes
from diception_ros.ros.transforms import Transforms

logger = logging.getLogger("diception_ros.ros.node")  # also where this is __main__
EXIT_PATIENCE = 8.0
"""Seconds that all work in hand may take when the process ends; ros2 launch kills after ten."""
NOTICE = 0.2
"""Seconds within which an idle node notices a signal."""


class DiceptionNode(LifecycleNode):  # type: ignore[misc]  # rclpy is not typed
    """Declares the parameters, follows the lifecycle, reports its health once a second."""

    def __init__(self, name: str = "diception", **options: Any) -> None:
        super().__init__(name, **options)
        refuse_misfits(self)
        self._log_bridge = bridge(self.get_logger())  # type: ignore[no-untyped-call]
        self._session: Session | None = None
        self._ended: list[Session] = []
        self.at_work = False
        """Whether, once destroyed, something of it still computes."""
        self._find_pose = Transforms(self)
        self._bond: Bond | None = None
        self._cause = ""
        self._notes: dict[str, Notes] = defaultdict(lambda: Notes(logger.warning))
        self._declared: dict[str, Spec] = {}
        self._refused_at_start = self._declare(specs())
        self.add_on_set_parameters_callback(self._check_change)
        self.add_post_set_parameters_callback(self._apply_change)
        self._health = self.create_publisher(DiagnosticArray, "/diagnostics", 10)
        # Not the node's clock: a paused simulation must not silence the diagnostics.
        steady = Clock(clock_type=ClockType.STEADY_TIME)
        self._health_timer = self.create_timer(1.0, self._report_health, clock=steady)

    @property
    def autostart(self) -> bool:
        return bool(self.get_parameter("autostart").value)

    def start(self) -> None:
        """Configures and activates, as a lifecycle manager would; a failure stays in the log and
        in the diagnostics, and can be mended and tried again."""
        if self.trigger_configure() == SUCCESS:  # type: ignore[no-untyped-call]
            self.trigger_activate()  # type: ignore[no-untyped-call]

    @logged
    def on_configure(self, state: LifecycleState) -> TransitionCallbackReturn:
        try:
            found, parameters = self._plan()
            for notes in self._notes.values():
                notes.complain.clear()
            self._session = Session(self, parameters, found, self._notes, self._find_pose)
        except (OSError, ValueError) as error:
            return self._fail("configure", str(error))
        self._cause = ""
        logger.info(
            "configured: %s from %s, tasks %s",
            found.info.name,
            found.bundle,
            ", ".join(parameters.tasks),
        )
        return SUCCESS

    @logged
    def on_activate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._session is not None
        try:
            self._session.activate()
        except (RuntimeError, ValueError) as error:
            return self._fail("activate", str(error))
        self._cause = ""
        if self._session.settings.bond:
            self._bond = Bond(self)
        return SUCCESS

    @logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._session is not None
        self._release_bond()
        self._session.deactivate()
        return SUCCESS

    @logged
    def on_cleanup(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._close_session()
        return SUCCESS

    @logged
    def on_shutdown(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._close_session()
        return SUCCESS

    def on_error(self, state: LifecycleState) -> TransitionCallbackReturn:
        self._close_session()
        return SUCCESS

    def destroy_node(self) -> None:
        self._close_session()
        # A thread inside torch when the interpreter ends would bring the process down with a crash.
        end = time.monotonic() + EXIT_PATIENCE
        self.at_work = not all(one.join(max(0.0, end - time.monotonic())) for one in self._ended)
        if self.at_work:
            logger.warning("the work in hand did not end within %g s", EXIT_PATIENCE)
        unbridge(self._log_bridge)
        super().destroy_node()  # type: ignore[no-untyped-call]

    def _release_bond(self) -> None:
        if self._bond is not None:
            self._bond.release()
            self._bond = None

    def _close_session(self) -> None:
        self._release_bond()
        self._cause = ""
        if self._session is not None:
            self._session.close()
            # What it has in work goes on: a load of before, for example, or a frame.
            self._ended.append(self._session)
            self._session = None

    def _fail(self, transition: str, cause: str) -> TransitionCallbackReturn:
        self._cause = cause
        logger.error("cannot %s: %s", transition, cause)
        return FAILURE

    def _plan(self) -> tuple[Plan, NodeParameters]:
        """What the parameters ask for, checked against the bundle. ValueError with the cause."""
        if self._refused_at_start:
            raise ValueError("; ".join(self._refused_at_start.values()))
        parameters = declare.read(self, self._declared)
        if parameters.bond:
            check_bond()
        backend()
        found = plan(parameters)
        refused = self._declare_found(found)
        if refused:
            self._refused_at_start = refused
            raise ValueError("; ".join(refused.values()))
        return found, found.resolve(declare.read(self, self._declared))

    def _declare_found(self, found: Plan) -> dict[str, str]:
        """Each task and each camera has parameters; what was wrong with those given at start, by
        name."""
        parameters = declare.read(self, self._declared)
        return self._declare([*specs(tuple(found.tasks)), *camera_specs(parameters)])

    def _declare(self, wanted: Sequence[Spec]) -> dict[str, str]:
        """Declares these and takes all others back."""
        names = {spec.name: spec for spec in wanted}
        declare.undeclare(self, [name for name in self._declared if name not in names])
        self._declared = names
        return declare.declare(self, wanted)

    def _check_change(self, changes: Sequence[Any]) -> Any:
        renewed = ["adapters"] if self._session and self._session.plan.outdated else []
        return declare.answer(self, self._declared, changes, self._check_parameters, renewed)

    def _check_parameters(self, new: NodeParameters, changed: set[str]) -> None:
        """ValueError refuses the change."""
        for name in sorted(changed):
            own = f"{new.cameras[0]}.{name}" if new.cameras else ""
            if is_per_camera(name) and own in self._declared:
                raise ValueError(f"{name}: each camera has its own, set for example {own}")
        session = self._session
        if session is None:
            return
        late = [name for name in self._declared if self._is_late(name) and name in changed]
        if late:
            raise ValueError(
                f"{late[0]} takes effect at configure: deactivate and clean up the node first"
            )
        found = session.planned(new.adapters) if "adapters" in changed else session.plan
        found.resolve(new)

    def _is_late(self, name: str) -> bool:
        return self._declared[name].when == CONFIGURE

    def _apply_change(self, changes: Sequence[Any]) -> None:
        for item in changes:
            self._refused_at_start.pop(item.name, None)
        session = self._session
        if session is None or not declare.ours(changes, self._declared):
            return
        adapters = declare.read(self, self._declared).adapters
        if any(item.name == "adapters" for item in changes) and session.renews(adapters):
            self._change_adapters(session, adapters)
        try:
            session.apply(session.plan.resolve(declare.read(self, self._declared)))
        except ValueError as error:  # a wrong QoS override of a topic that comes only now
            logger.error("%s", error)

    def _change_adapters(self, session: Session, adapters: Sequence[str]) -> None:
        try:
            session.plan = session.planned(adapters)
        except ValueError as error:  # a file has changed since the check
            logger.error("%s", error)
        for complaint in self._declare_found(session.plan).values():
            logger.warning("%s; its default is used", complaint)

    def _state(self) -> tuple[str, str]:
        session = self._session
        if self._cause:
            return "error", self._cause
        if session is None:
            return "unconfigured", ""
        if session.loading.state != "ready":
            return session.loading.state, session.loading.cause
        return ("ready", "") if session.active else ("inactive", "")

    def _report_health(self) -> None:
        self._ended = [session for session in self._ended if not session.join(0)]
        state, cause = self._state()
        if self._session is not None:
            self._session.adapt()
        name = self.get_fully_qualified_name().lstrip("/")
        message = DiagnosticArray(status=statuses(name, state, cause, self._session, self._notes))
        message.header.stamp = self.get_clock().now().to_msg()
        self._health.publish(message)


def note_signals() -> list[int]:
    """The signals that have asked the process to end, empty so far. From then on Ctrl-C ends it at
    once, in the system's way; SIGTERM, which ros2 launch sends 5 s after SIGINT, does not."""
    came: list[int] = []

    def note(number: int, _: Any) -> None:
        came.append(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        # A handler would be taken away while the interpreter ends, which takes a second or two.
        signal.signal(signal.SIGTERM, signal.SIG_IGN)

    signal.signal(signal.SIGINT, note)
    signal.signal(signal.SIGTERM, note)
    return came


def main(args: list[str] | None = None) -> None:
    """Runs the node until it is interrupted.

    Until here, while libraries load, Ctrl-C is to end the process in the system's way. As Python's
    exception it can be lost: one that meets a __del__ is printed and ignored. rclpy's own handlers
    would end ROS under a frame that is being published.
    """
    asked = note_signals()
    try:
        rclpy.init(args=args, signal_handler_options=rclpy.SignalHandlerOptions.NO)
    except RCLError as error:  # of a parameter file that is not there, or of wrong arguments
        sys.exit(f"diception_node: {' '.join(str(error).split())}")
    executor = SingleThreadedExecutor()
    node = DiceptionNode()
    executor.add_node(node)
    try:
        if node.autostart:
            node.start()
        while not asked:
            executor.spin_once(timeout_sec=NOTICE)
    except ExternalShutdownException:
        pass
    finally:
        executor.remove_node(node)
        node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()
    if node.at_work:
        os._exit(0)  # past the interpreter's end, see destroy_node


if __name__ == "__main__":
    main()

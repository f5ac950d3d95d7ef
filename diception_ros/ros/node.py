# SPDX-License-Identifier: Apache-2.0
"""The lifecycle node of one camera."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import rclpy
from diagnostic_msgs.msg import DiagnosticArray
from rclpy.clock import Clock, ClockType
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, LifecycleState, TransitionCallbackReturn

from diception_ros.ros import declare
from diception_ros.ros.diagnostics import (
    Complaints,
    Health,
    Statistics,
    diagnostic_array,
    judge,
    memory,
)
from diception_ros.ros.loading import Plan, plan
from diception_ros.ros.logs import bridge, unbridge
from diception_ros.ros.parameters import CONFIGURE, NodeParameters, specs, task_specs
from diception_ros.ros.session import Session
from diception_ros.tasks import TASKS

logger = logging.getLogger(__name__)
EXIT_PATIENCE = 10.0
"""Seconds that a frame in work may take when the process ends."""
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


class DiceptionNode(LifecycleNode):  # type: ignore[misc]  # rclpy is not typed
    """Declares the parameters, follows the lifecycle, reports its health once a second."""

    def __init__(self, name: str = "diception", **options: Any) -> None:
        super().__init__(name, **options)
        self._log_bridge = bridge(self.get_logger())  # type: ignore[no-untyped-call]
        self._session: Session | None = None
        self._cause = ""
        self._task_names: tuple[str, ...] = tuple(TASKS)
        self._statistics = Statistics()
        self._complain = Complaints(logger.warning)
        self._refused_at_start = declare.declare(self, specs())
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
        except ValueError as error:
            return self._fail("configure", str(error))
        self._cause = ""
        self._complain.clear()
        self._session = Session(self, parameters, found, self._statistics, self._complain)
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
        return SUCCESS

    @logged
    def on_deactivate(self, state: LifecycleState) -> TransitionCallbackReturn:
        assert self._session is not None
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
        session = self._session
        self._close_session()
        # A thread inside torch when the interpreter ends would bring the process down with a crash.
        if session is not None and not session.join(EXIT_PATIENCE):
            logger.warning("the work in hand did not end within %g s", EXIT_PATIENCE)
        unbridge(self._log_bridge)
        super().destroy_node()  # type: ignore[no-untyped-call]

    def _close_session(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None

    def _fail(self, transition: str, cause: str) -> TransitionCallbackReturn:
        self._cause = cause
        logger.error("cannot %s: %s", transition, cause)
        return FAILURE

    def _plan(self) -> tuple[Plan, NodeParameters]:
        """What the parameters ask for, checked against the bundle. ValueError with the cause."""
        if self._refused_at_start:
            raise ValueError("; ".join(self._refused_at_start.values()))
        found = plan(declare.read(self, self._task_names))
        refused = self._declare_tasks(found)
        if refused:
            self._refused_at_start = refused
            raise ValueError("; ".join(refused.values()))
        return found, found.resolve(declare.read(self, self._task_names))

    def _declare_tasks(self, found: Plan) -> dict[str, str]:
        """Each task has parameters; what was wrong with those given at start, by name."""
        gone = [name for name in self._task_names if name not in found.tasks]
        declare.undeclare(self, [spec.name for spec in task_specs(gone)])
        self._task_names = tuple(found.tasks)
        return declare.declare(self, specs(self._task_names))

    def _check_change(self, changes: Sequence[Any]) -> Any:
        return declare.answer(self, self._task_names, changes, self._check_parameters)

    def _check_parameters(self, new: NodeParameters, changed: set[str]) -> None:
        """ValueError refuses the change."""
        session = self._session
        if session is None:
            return
        late = [spec.name for spec in specs() if spec.when == CONFIGURE and spec.name in changed]
        if late:
            raise ValueError(
                f"{late[0]} takes effect at configure: deactivate and clean up the node first"
            )
        found = session.planned(new.adapters) if "adapters" in changed else session.plan
        found.resolve(new)

    def _apply_change(self, changes: Sequence[Any]) -> None:
        for item in changes:
            self._refused_at_start.pop(item.name, None)
        session = self._session
        if session is None or not declare.ours(changes, self._task_names):
            return
        named = {item.name for item in changes}
        adapters = declare.read(self, self._task_names).adapters
        if "adapters" in named and adapters != session.settings.adapters:
            self._change_adapters(session, adapters)
        session.apply(session.plan.resolve(declare.read(self, self._task_names)))

    def _change_adapters(self, session: Session, adapters: Sequence[str]) -> None:
        try:
            session.plan = session.planned(adapters)
        except ValueError as error:  # a file has changed since the check
            logger.error("%s", error)
        for complaint in self._declare_tasks(session.plan).values():
            logger.warning("%s; its default is used", complaint)

    def _state(self) -> tuple[str, str]:
        session = self._session
        if session is None:
            return ("error", self._cause) if self._cause else ("unconfigured", "")
        if session.loading.state != "ready":
            return session.loading.state, session.loading.cause
        return ("ready", "") if session.active else ("inactive", "")

    def _report_health(self) -> None:
        state, cause = self._state()
        session, rates = self._session, self._statistics.snapshot()
        if session is not None:
            session.adapt()
        target = session.settings.target_rate if session is not None else 0.0
        judged = judge(state, cause, self._complain.recent(), rates, target)
        values = {"target rate (Hz)": target, **rates, **self._engine_values(), **memory()}
        engine = session.loading.engine if session is not None else None
        message = diagnostic_array(
            self.get_clock().now().to_msg(),
            self.get_fully_qualified_name().lstrip("/"),
            engine.device_name if engine is not None else "",
            Health(judged.state, judged.cause, values),
        )
        self._health.publish(message)

    def _engine_values(self) -> dict[str, object]:
        session = self._session
        if session is None:
            return {}
        values: dict[str, object] = {
            "bundle": session.plan.info.name,
            "tasks": ", ".join(session.settings.tasks),
            "scale source": session.settings.scale.source,
        }
        engine, pipeline = session.loading.engine, session.pipeline
        if engine is not None:
            values |= {"device": engine.device_name, "graphs": engine.graph_state}
        if pipeline is not None and session.settings.metric:
            values["scale residual"] = pipeline.scale.residual
        return values


def main(args: list[str] | None = None) -> None:
    """Runs the node until it is interrupted."""
    rclpy.init(args=args)
    executor = SingleThreadedExecutor()
    node = DiceptionNode()
    executor.add_node(node)
    try:
        if node.autostart:
            node.start()
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        executor.remove_node(node)
        node.destroy_node()
        executor.shutdown()
        rclpy.try_shutdown()


if __name__ == "__main__":
    main()

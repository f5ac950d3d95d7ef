# SPDX-License-Identifier: Apache-2.0
"""The node's health: one entry for the whole, and one per camera where there are several."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from diception_ros.ros.diagnostics import (
    WINDOW,
    Health,
    diagnostic_status,
    judge,
    memory,
)
from diception_ros.ros.session import Session
from diception_ros.ros.stream import Notes, Stream


def statuses(
    name: str, state: str, cause: str, session: Session | None, notes: Mapping[str, Notes]
) -> list[Any]:
    """DiagnosticStatus of the node, then of its cameras. notes: "" is that of the only camera."""
    engine = session.loading.engine if session is not None else None
    hardware = engine.device_name if engine is not None else ""
    if session is None or not session.settings.cameras:
        health = of_camera("", state, cause, session, notes[""])
        values = {**health.values, **engine_values(session), **memory()}
        return [diagnostic_status(name, hardware, Health(health.state, health.cause, values))]
    cameras = {
        camera: of_camera(camera, state, cause, session, notes[camera])
        for camera in session.settings.cameras
    }
    whole = of_all(state, cause, cameras)
    values = {**whole.values, **engine_values(session), **memory()}
    found = [diagnostic_status(name, hardware, Health(whole.state, whole.cause, values))]
    return found + [
        diagnostic_status(f"{name}: {camera}", camera, health) for camera, health in cameras.items()
    ]


def of_camera(camera: str, state: str, cause: str, session: Session | None, notes: Notes) -> Health:
    """One camera's health. A named one that is silent is degraded: the others hide its silence."""
    rates, complaint = notes.statistics.snapshot(), notes.complain.recent()
    if session is None:
        return judge(state, cause, complaint, {"target rate (Hz)": 0.0, **rates}, 0.0)
    parameters, stream = session.settings.of_camera(camera), session.streams[camera]
    silence = notes.statistics.silence()
    if camera and silence > WINDOW and stream.topics_in is not None:
        since = f"for {silence:.1f} s" if silence < float("inf") else "yet"
        complaint = complaint or f"{stream.topics_in.image_topic}: no image {since}"
    target = parameters.target_rate
    values = {"target rate (Hz)": target, **rates, **scale_values(stream, session)}
    return judge(state, cause, complaint, values, target)


def of_all(state: str, cause: str, cameras: Mapping[str, Health]) -> Health:
    """Degraded when one camera is; counts and rates are the cameras' together."""
    totals = {
        key: sum(health.values[key] for health in cameras.values())  # type: ignore[misc]
        for key in next(iter(cameras.values())).values
        if key.startswith(("input rate", "output rate", "received", "answered", "idle", "dropped"))
    }
    values: dict[str, object] = {"cameras": ", ".join(cameras), **totals}
    ill = [f"{name}: {health.cause}" for name, health in cameras.items() if health.state != state]
    return Health("degraded", "; ".join(ill), values) if ill else Health(state, cause, values)


def scale_values(stream: Stream, session: Session) -> dict[str, object]:
    """Where one camera's metres come from, and how well that fits."""
    parameters = session.settings.of_camera(stream.name)
    values: dict[str, object] = {"scale source": parameters.scale.source}
    if stream.pipeline is not None and parameters.metric:
        values |= stream.pipeline.scale.values()
    return values


def engine_values(session: Session | None) -> dict[str, object]:
    """What all cameras share."""
    if session is None:
        return {}
    engine = session.loading.engine
    values: dict[str, object] = {
        "bundle": session.plan.info.name,
        "tasks": ", ".join(session.settings.tasks),
    }
    if engine is not None:
        values |= {"device": engine.device_name, "graphs": engine.graph_state}
    return values

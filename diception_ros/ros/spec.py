# SPDX-License-Identifier: Apache-2.0
"""A parameter as a dataclass field: default, range, unit, effect; and how dataclasses of them,
nested, become ROS names and back. No ROS here."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

Value = bool | int | float | str | tuple[str, ...] | tuple[float, ...]

LIVE = "live"
CONFIGURE = "configure"
START = "start"
"""When a change takes effect: between two frames, at the next configure, or at the next start."""


@dataclass(frozen=True)
class Spec:
    """One parameter. bounds are inclusive; choices empty means any; unit "" means none."""

    name: str
    default: Value
    text: str
    unit: str = ""
    bounds: tuple[float, float] | None = None
    choices: tuple[str, ...] = ()
    when: str = LIVE

    @property
    def declared(self) -> Any:
        """The default as rclpy takes it. An empty list has no type in ROS: [""] stands for it."""
        return (list(self.default) or [""]) if isinstance(self.default, tuple) else self.default

    def describe(self) -> str:
        """One paragraph for `ros2 param describe`."""
        parts = [self.text]
        if self.unit:
            parts.append(f"Unit: {self.unit}.")
        if self.choices:
            parts.append(f"One of: {', '.join(self.choices)}.")
        if self.when == CONFIGURE:
            parts.append("A change takes effect at the next configure.")
        return " ".join(parts)


def parameter(default: Value, text: str, **details: Any) -> Any:
    """A dataclass field that carries its Spec."""
    return field(default=default, metadata={"spec": Spec("", default, text, **details)})


def specs_of(kind: Any, prefix: str) -> list[Spec]:
    """The Specs of a dataclass and of those within it, under their ROS names."""
    found: list[Spec] = []
    for item in dataclasses.fields(kind):
        if "spec" in item.metadata:
            found.append(dataclasses.replace(item.metadata["spec"], name=prefix + item.name))
        elif dataclasses.is_dataclass(item.default_factory):
            found += specs_of(item.default_factory, f"{prefix}{item.name}.")
    return found


def build(kind: Any, prefix: str, values: Mapping[str, Any], **given: Any) -> Any:
    """A dataclass from values by ROS name, those missing at their default; given: other fields."""
    arguments = dict(given)
    for item in dataclasses.fields(kind):
        if "spec" in item.metadata and prefix + item.name in values:
            arguments[item.name] = values[prefix + item.name]
        elif dataclasses.is_dataclass(item.default_factory):
            arguments[item.name] = build(item.default_factory, f"{prefix}{item.name}.", values)
    return kind(**arguments)


def values_of(part: Any, prefix: str) -> list[tuple[str, Any, Spec]]:
    """(ROS name, value, Spec) of every parameter of a dataclass and of those within it."""
    found = []
    for item in dataclasses.fields(part):
        value = getattr(part, item.name)
        if "spec" in item.metadata:
            found.append((prefix + item.name, value, item.metadata["spec"]))
        elif dataclasses.is_dataclass(value):
            found += values_of(value, f"{prefix}{item.name}.")
    return found

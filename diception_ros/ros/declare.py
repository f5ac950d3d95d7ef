# SPDX-License-Identifier: Apache-2.0
"""Carries the parameters of parameters.py to rclpy: declaring, reading, refusing."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

from rcl_interfaces.msg import (
    FloatingPointRange,
    IntegerRange,
    ParameterDescriptor,
    SetParametersResult,
)
from rclpy.exceptions import InvalidParameterTypeException, InvalidParameterValueException
from rclpy.parameter import Parameter

from diception_ros.ros.parameters import NodeParameters, from_values
from diception_ros.ros.spec import START, Spec

Check = Callable[[NodeParameters, set[str]], None]
"""check(new, changed names): ValueError refuses the change with its reason."""


def declare(node: Any, wanted: Sequence[Spec]) -> dict[str, str]:
    """Declares every parameter and returns what was wrong with the values given at start, by name;
    such a parameter has its default, so that the node can say so and be corrected."""
    complaints = {}
    for spec in wanted:
        if node.has_parameter(spec.name):
            continue
        try:
            node.declare_parameter(spec.name, spec.declared, descriptor(spec))
        except (InvalidParameterTypeException, InvalidParameterValueException) as error:
            complaints[spec.name] = f"parameter {spec.name}: {error}"
            node.declare_parameter(spec.name, spec.declared, descriptor(spec), ignore_override=True)
    return complaints


def undeclare(node: Any, names: Sequence[str]) -> None:
    """Takes back what `declare` has declared."""
    for name in names:
        if node.has_parameter(name):
            node.undeclare_parameter(name)


def descriptor(spec: Spec) -> Any:
    """ParameterDescriptor with the text, the range and whether it is read-only."""
    result = ParameterDescriptor(
        description=spec.describe(),
        additional_constraints=", ".join(spec.choices),
        read_only=spec.when == START,
    )
    if spec.bounds is None:
        return result
    low, high = spec.bounds
    if isinstance(spec.default, int):
        whole = IntegerRange(from_value=int(low), to_value=int(high), step=1)
        result.integer_range = [whole]
    else:
        real = FloatingPointRange(from_value=float(low), to_value=float(high))
        result.floating_point_range = [real]
    return result


def read(node: Any, names: Collection[str], changes: Sequence[Any] = ()) -> NodeParameters:
    """The parameters of these names, with some rclpy Parameters changed. ValueError if they do not
    fit."""
    values = {name: node.get_parameter(name).value for name in names if node.has_parameter(name)}
    values.update({item.name: item.value for item in ours(changes, names)})
    return from_values(values)


def answer(
    node: Any,
    names: Collection[str],
    changes: Sequence[Any],
    check: Check,
    renewed: Collection[str] = (),
) -> Any:
    """SetParametersResult for a change: all of it is checked as one, and refused with a reason.
    renewed: names whose values mean something else than before, though they be the same."""
    for item in changes:
        if item.type_ == Parameter.Type.NOT_SET:
            return SetParametersResult(successful=False, reason=f"{item.name} cannot be unset")
    changed = {
        item.name
        for item in ours(changes, names)
        if node.has_parameter(item.name)  # rclpy asks while a parameter is being declared, too
        and (
            item.name in renewed or _values_differ(node.get_parameter(item.name).value, item.value)
        )
    }
    if not changed:
        return SetParametersResult(successful=True)
    try:
        check(read(node, names, changes), changed)
    except ValueError as error:
        return SetParametersResult(successful=False, reason=str(error))
    return SetParametersResult(successful=True)


def ours(changes: Sequence[Any], names: Collection[str]) -> list[Any]:
    """Those of the changes that are parameters of this package, not of rclpy."""
    return [item for item in changes if item.name in names]


def _values_differ(old: Any, new: Any) -> bool:
    return bool(list(old) != list(new)) if isinstance(old, list | tuple) else bool(old != new)

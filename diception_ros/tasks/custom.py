# SPDX-License-Identifier: Apache-2.0
"""Tasks that a user describes in YAML: a name, a prompt and the kind of picture."""

from __future__ import annotations

import inspect
import math
import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from diception_ros.tasks import depth, entity, normal, point, pose, semantic
from diception_ros.tasks.types import Colours, Disparity, Float, Mask, Task

NAME = re.compile(r"[a-z][a-z0-9_]*")
FIELDS = {"name", "prompt", "kind", "steps", "guidance", "options"}
BUILT_IN = tuple(t.TASK.name for t in (depth, normal, entity, semantic, point, pose))


def encode_colours(target: Colours, rng: np.random.Generator | None = None) -> Float:
    return target.rgb.astype(np.float32)


def decode_colours(colours: Float) -> Colours:
    return Colours(colours.astype(np.float32))


KINDS: dict[str, tuple[Any, Any, type]] = {
    "mask": (point.encode, point.decode, Mask),
    "disparity": (depth.encode, depth.decode, Disparity),
    "colour": (encode_colours, decode_colours, Colours),
}


def load_tasks(path: str | Path, taken: Iterable[str] = BUILT_IN) -> dict[str, Task]:
    """Tasks of a YAML file: a list of {name, prompt, kind: mask | disparity | colour, and if wished
    steps, guidance, options for decoding}. taken: names that may not be used again.

    ValueError names the file, the entry and what is wrong with it.
    """
    path = Path(path)
    try:
        entries = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ValueError(f"{path}: cannot be read as YAML: {error}") from error
    if not isinstance(entries, list):
        raise ValueError(f"{path}: expected a list of tasks, found {type(entries).__name__}")
    tasks: dict[str, Task] = {}
    for number, entry in enumerate(entries, start=1):
        try:
            task = make_task(entry)
        except (TypeError, ValueError) as error:
            raise ValueError(f"{path}: task {number}: {error}") from error
        if task.name in tasks or task.name in taken:
            raise ValueError(f"{path}: task {number}: the name '{task.name}' is taken")
        tasks[task.name] = task
    return tasks


def make_task(entry: Any) -> Task:
    """One entry of the file as a Task."""
    if not isinstance(entry, dict) or not {"name", "prompt", "kind"} <= set(entry) <= FIELDS:
        raise ValueError(
            "expected the fields name, prompt, kind and if wished steps, guidance, options, "
            f"found {sorted(entry) if isinstance(entry, dict) else entry}"
        )
    if entry["kind"] not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, found '{entry['kind']}'")
    if not NAME.fullmatch(str(entry["name"])):
        raise ValueError(
            f"name '{entry['name']}' must be lower-case letters, digits and underscores: it "
            "becomes a topic"
        )
    if not isinstance(entry["prompt"], str) or not entry["prompt"].strip():
        raise ValueError(f"prompt must be a text that is not empty, found {entry['prompt']!r}")
    encode, decode, result = KINDS[entry["kind"]]
    options = check_options(entry.get("options") or {}, decode, entry["kind"])
    steps, guidance = entry.get("steps", 1), float(entry.get("guidance", 1.0))
    if type(steps) is not int or steps < 1:
        raise ValueError(f"steps must be a whole number and at least 1, found {steps!r}")
    if not 0 <= guidance < math.inf:
        raise ValueError(f"guidance must be 0 or more, found {guidance:g}")
    return Task(
        entry["name"],
        entry["prompt"],
        encode,
        decode,
        result,
        steps=steps,
        guidance=guidance,
        options=options,
    )


def check_options(options: Any, decode: Callable[..., Any], kind: str) -> dict[str, Any]:
    """The options, if all of them are parameters of this decode and it takes their values;
    ValueError otherwise."""
    known = tuple(inspect.signature(decode).parameters)[1:]
    if not isinstance(options, Mapping) or not set(options) <= set(known):
        expected = ", ".join(known) or "none"
        raise ValueError(f"options of kind {kind} are {expected}, found {options}")
    try:
        decode(np.zeros((8, 8, 3), np.float32), **options)
    except TypeError as error:
        raise ValueError(f"options {dict(options)}: {error}") from error
    return dict(options)

# SPDX-License-Identifier: Apache-2.0
"""What a bundle can be asked, and parameters brought in line with it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from diception_ros.geometry.cloud_filter import require_open3d
from diception_ros.ros.parameter_checks import MAX_CATEGORIES
from diception_ros.ros.parameters import ALL, NodeParameters
from diception_ros.tasks import TASKS, Task


def bundle_path(parameters: NodeParameters, embedded: Path) -> Path:
    """The bundle asked for; `~` is expanded."""
    return expanded(parameters.bundle) if parameters.bundle else embedded


def expanded(path: str) -> Path:
    """With `~` expanded. ValueError for the home of a user who does not exist."""
    try:
        return Path(path).expanduser()
    except RuntimeError as error:
        raise ValueError(f"{path}: {error}") from error


def resolve(
    parameters: NodeParameters,
    tasks: Mapping[str, Task],
    prompts: Sequence[str],
    adapted: Sequence[str] = (),
) -> NodeParameters:
    """`all` replaced by what a bundle with these prompts can answer. adapted: the tasks that
    adapters bring, which are always on offer.
    ValueError naming a task or category that it cannot, or that does not exist, or a filter of the
    cloud whose library is not installed."""
    for name in parameters.cloud.filters:
        require_open3d(f"cloud.{name}")
    unknown = [name for name in parameters.tasks if name not in tasks and name != ALL]
    if unknown:
        raise ValueError(f"tasks: '{unknown[0]}' is unknown, expected some of {', '.join(tasks)}")
    able = {name: found for name, task in tasks.items() if (found := answers(task, prompts))}
    able |= {name: (tasks[name].prompt,) for name in adapted}
    # Whoever described a task wants it: `all` leaves out only what bundles may do without.
    own = tasks.keys() - TASKS.keys() if ALL in parameters.tasks else set()
    wanted = {*parameters.tasks, *own}
    missing = [name for name in tasks if name in wanted and name not in able]
    if missing:
        raise ValueError(
            f"tasks: this bundle has no prompt for '{missing[0]}', only for {', '.join(able)}"
        )
    names = tuple(able) if ALL in parameters.tasks else parameters.tasks
    names += tuple(name for name in adapted if name not in names)
    categories = parameters.categories
    if "semantic" in names:
        categories = _resolve_categories(categories, able["semantic"])
    return parameters.with_offer(tasks=names, categories=categories)


def answers(task: Task, prompts: Sequence[str]) -> tuple[str, ...]:
    """What a bundle with these prompts can be asked of this task: its categories, or just its
    prompt; empty if nothing."""
    if not task.takes_category:
        return (task.prompt,) if task.prompt in prompts else ()
    prefix = f"{task.prompt} "
    return tuple(name.removeprefix(prefix) for name in prompts if name.startswith(prefix))


def _resolve_categories(wanted: tuple[str, ...], known: tuple[str, ...]) -> tuple[str, ...]:
    if ALL in wanted:
        return known[:MAX_CATEGORIES]
    missing = [name for name in wanted if name not in known]
    if missing:
        raise ValueError(
            f"categories: '{missing[0]}' is not in the bundle's prompt bank, which has "
            f"{', '.join(known)}; 'diception prompts add' adds it"
        )
    return wanted

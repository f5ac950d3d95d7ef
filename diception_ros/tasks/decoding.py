# SPDX-License-Identifier: Apache-2.0
"""From colours as a bundle generates them to a task's result, in serving and evaluation alike."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from diception_ros.tasks.colours import is_colourless
from diception_ros.tasks.depth import mean_channel
from diception_ros.tasks.edges import Guide
from diception_ros.tasks.regions import find_instances
from diception_ros.tasks.types import Float, Instances, Mask, Refinement, Result, Task


def refinement(card: Mapping[str, Mapping[str, float]], task: Task) -> Refinement:
    """What `refine` of a bundle's card, which has been checked, says of a task: by its name or, for
    a user's or an adapter's masks, under "mask". ValueError for regions of a task that has none."""
    values = card.get(task.name, card.get("mask", {}) if task.result is Mask else {})
    edges, regions, gain = values.get("edges", 0), values.get("regions", 0), values.get("gain", 1)
    placed = values.get("placed", 0)
    if (regions or placed) and (task.result is not Instances or task.takes_category):
        raise ValueError(f"refine of '{task.name}': regions are for entities, leave them out")
    return Refinement(int(edges), float(regions), float(gain), float(placed))


def decoded(colours: Float, guide: Guide, task: Task) -> Result:
    """What colours (H, W, 3) in [0, 1] mean, as generated for the guide's image, with the task's
    `refine` and options."""
    shown = refined(colours, guide, task.refine)
    if task.refine.regions:
        return find_instances(shown, guide, task.refine.regions, task.refine.placed)
    return task.decode(shown, **task.options)


def refined(colours: Float, guide: Guide, how: Refinement) -> Float:
    """Colours with gain, brought to the guide's edges."""
    if how.gain != 1:
        colours = np.minimum(colours * np.float32(how.gain), 1)
    if not how.edges:
        return colours
    if is_colourless(colours):
        found = guide.filtered(mean_channel(colours), how.edges)
        return np.broadcast_to(found[..., None], colours.shape)
    planes = np.moveaxis(colours, -1, 0)
    return np.stack([guide.filtered(plane, how.edges) for plane in planes], axis=-1)

# SPDX-License-Identifier: Apache-2.0
"""What a bundle's card says of its pictures is done before they are decoded."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from diception_ros.tasks import TASKS, Keypoints, Refinement
from diception_ros.tasks.custom import make_task
from diception_ros.tasks.decoding import refined, refinement
from diception_ros.tasks.edges import Guide


def test_off_means_untouched() -> None:
    colours = np.random.default_rng(0).random((16, 24, 3)).astype(np.float32)
    assert refined(colours, Guide(np.zeros((16, 24, 3), np.uint8)), Refinement()) is colours


def test_a_bundles_card_says_how_each_task_is_refined() -> None:
    entity = {"regions": 60.0, "edges": 2.0, "placed": 0.1}
    card = {"point": {"edges": 3}, "entity": entity, "mask": {"edges": 1}}
    assert refinement(card, TASKS["point"]) == Refinement(edges=3)
    assert refinement(card, TASKS["entity"]) == Refinement(2, 60.0, placed=0.1)
    assert refinement({"pose": {"gain": 1.6}}, TASKS["pose"]) == Refinement(gain=1.6)
    assert refinement(card, TASKS["depth"]) == Refinement()
    added = make_task({"name": "handle", "prompt": "[[image2handle]]", "kind": "mask"})
    assert refinement(card, added) == Refinement(edges=1)
    assert refinement({}, added) == Refinement()


@pytest.mark.parametrize("name", ["regions", "placed"])
@pytest.mark.parametrize("task", ["depth", "semantic", "point", "pose"])
def test_regions_of_what_is_no_entity_are_refused(task: str, name: str) -> None:
    with pytest.raises(ValueError, match=f"refine of '{task}': regions are for entities"):
        refinement({task: {name: 20.0}}, TASKS[task])


def test_faint_disks_are_found_where_the_card_gives_them_gain() -> None:
    truth = Keypoints(np.float32([[20, 30], [40, 12]]), np.ones(2, np.float32), (64, 64))
    faint = 0.4 * TASKS["pose"].encode(truth)
    guide = Guide(np.zeros((64, 64, 3), np.uint8))
    assert not len(TASKS["pose"].decode(faint).points)
    shown = refined(faint, guide, Refinement(gain=1.6))
    found = TASKS["pose"].decode(shown)
    np.testing.assert_allclose(sorted(found.points.tolist()), sorted(truth.points.tolist()), atol=1)
    assert refined(np.ones_like(faint), guide, Refinement(gain=1.6)).max() == 1


@pytest.mark.parametrize(
    "values", [{"edges": -1}, {"regions": -0.5}, {"gain": 0.0}, {"placed": -0.1}]
)
def test_what_is_no_refinement_is_refused(values: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="and a gain over it, found edges"):
        Refinement(**values)

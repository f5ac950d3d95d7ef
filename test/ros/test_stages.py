# SPDX-License-Identifier: Apache-2.0
"""The stopwatch of a frame, with a clock of its own."""

from __future__ import annotations

import pytest

from diception_ros.ros import stages
from diception_ros.ros.stages import Stages


@pytest.fixture
def clock(monkeypatch):
    """The time, for tests to move: clock[0] in seconds."""
    now = [100.0]
    monkeypatch.setattr(stages.time, "monotonic", lambda: now[0])
    return now


def test_a_stage_within_a_stage_is_counted_once(clock):
    found = Stages(received=99.5)
    with found.stage("publish"):
        clock[0] += 0.25
        with found.stage("cloud"):
            clock[0] += 2.0
        clock[0] += 0.5
    assert found.durations == pytest.approx({"queue": 500, "cloud": 2000, "publish": 750})
    clock[0] += 1.0
    found.add_rest("other cameras")
    assert found.durations["other cameras"] == pytest.approx(1000)
    assert sum(found.durations.values()) == pytest.approx(found.total_ms())

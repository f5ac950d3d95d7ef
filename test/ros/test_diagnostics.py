# SPDX-License-Identifier: Apache-2.0
"""Counts, rates, complaints and what is made of them."""

from __future__ import annotations

import pytest
from diagnostic_msgs.msg import DiagnosticStatus

from diception_ros.ros.diagnostics import (
    LEVELS,
    RECENT,
    Complaints,
    Health,
    Statistics,
    diagnostic_status,
    judge,
    memory,
)
from diception_ros.ros.health import of_all


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


@pytest.fixture
def clock():
    return Clock()


def test_a_complaint_is_said_once_and_again_after_a_while(clock):
    said = []
    complain = Complaints(said.append, clock)
    for _ in range(5):
        complain("/image", "truncated image: needs 10 bytes, got 3")
        complain("/image", "truncated image: needs 10 bytes, got 4")
    complain("/camera_info", "no camera info")
    assert said == [
        "/image: truncated image: needs 10 bytes, got 3",
        "/camera_info: no camera info",
    ]
    clock.now = RECENT
    complain("/image", "/image: truncated image: needs 10 bytes, got 3")
    assert said[2:] == ["/image: truncated image: needs 10 bytes, got 3"]


def test_a_complaint_is_recent_for_a_while(clock):
    complain = Complaints(lambda text: None, clock)
    assert complain.recent() == ""
    complain("/a", "first")
    clock.now = 1.0
    complain("/b", "second")
    assert complain.recent() == "/b: second"
    clock.now = RECENT + 0.5
    assert complain.recent() == "/b: second"
    clock.now = RECENT + 2
    assert complain.recent() == ""


def test_rates_and_percentiles(clock):
    statistics = Statistics(clock)
    for i in range(50):
        clock.now = i / 10
        statistics.received()
        if i % 2 == 0:
            statistics.answered(latency_ms=100.0 + i, age_ms=7.0)
        if i % 5 == 0:
            statistics.idle()
    found = statistics.snapshot()
    assert found["input rate (Hz)"] == pytest.approx(10, rel=0.1)
    assert found["output rate (Hz)"] == pytest.approx(5, rel=0.1)
    assert found["idle rate (Hz)"] == pytest.approx(2, rel=0.1)
    assert found["latency p50 (ms)"] == pytest.approx(124)
    assert found["latency p95 (ms)"] > 140
    assert found["age at publish p95 (ms)"] == 7.0
    assert (found["received"], found["answered"]) == (50, 25)
    clock.now = 100.0
    assert statistics.snapshot()["input rate (Hz)"] == 0
    assert statistics.snapshot()["idle rate (Hz)"] == 0
    assert statistics.snapshot()["received"] == 50


def test_drops_are_counted_by_cause_and_since_the_last_report(clock):
    statistics = Statistics(clock)
    for cause in ("newer frame", "newer frame", "max_age"):
        statistics.dropped(cause)
    statistics.idle()
    assert statistics.dropped_since_report() == 3
    statistics.dropped("bad input")
    assert statistics.dropped_since_report() == 1
    found = statistics.snapshot()
    assert found["dropped: newer frame"] == 2
    assert found["dropped: failed"] == 0
    assert found["idle"] == 1


RATES = {"output rate (Hz)": 4.0, "idle rate (Hz)": 0.0, "received": 10.0}


@pytest.mark.parametrize(
    ("state", "complaint", "target", "wanted"),
    [
        ("ready", "", 0.0, ("ready", "")),
        ("ready", "", 4.2, ("ready", "")),
        ("ready", "", 10.0, ("degraded", "output rate 4.00 Hz, target_rate 10 Hz")),
        ("ready", "/image: bad", 0.0, ("degraded", "/image: bad")),
        ("loading", "/image: bad", 10.0, ("loading", "why")),
        ("error", "", 10.0, ("error", "why")),
    ],
)
def test_ready_becomes_degraded(state, complaint, target, wanted):
    found = judge(state, "" if state == "ready" else "why", complaint, RATES, target)
    assert (found.state, found.cause) == wanted


def test_a_camera_that_never_spoke_is_not_too_slow():
    rates = RATES | {"output rate (Hz)": 0.0, "received": 0.0}
    assert judge("ready", "", "", rates, 10.0).state == "ready"


@pytest.mark.parametrize(("idle", "state"), [(10.0, "ready"), (6.0, "ready"), (2.0, "degraded")])
def test_a_node_that_nobody_asks_is_not_too_slow(idle, state):
    assert judge("ready", "", "", RATES | {"idle rate (Hz)": idle}, 10.0).state == state


def test_the_message_says_it_all():
    health = Health("degraded", "why", {"rate": 1.23456, "count": 3, "nan": float("nan")})
    status = diagnostic_status("robot/diception", "CPU", health)
    assert status.level == DiagnosticStatus.WARN == LEVELS["loading"]
    assert (status.name, status.message, status.hardware_id) == (
        "robot/diception",
        "degraded: why",
        "CPU",
    )
    values = {item.key: item.value for item in status.values}
    assert values == {"state": "degraded", "rate": "1.235", "count": "3", "nan": "nan"}


def test_memory_is_that_of_a_process():
    assert 10 < memory()["memory (MiB)"] < 100_000


def test_the_whole_is_as_ill_as_its_cameras():
    rates = {"input rate (Hz)": 10.0, "dropped: failed": 1, "latency p50 (ms)": 5.0}
    well, ill = Health("ready", "", rates), Health("degraded", "no image for 9.0 s", rates)
    found = of_all("ready", "", {"front": well, "left": ill, "right": ill})
    assert found.state == "degraded"
    assert found.cause == "left: no image for 9.0 s; right: no image for 9.0 s"
    assert found.values["cameras"] == "front, left, right"
    assert (found.values["input rate (Hz)"], found.values["dropped: failed"]) == (30.0, 3)
    assert "latency p50 (ms)" not in found.values
    loading = Health("loading", "reading the bundle", rates)
    assert of_all("loading", "reading the bundle", {"front": loading}).cause == "reading the bundle"

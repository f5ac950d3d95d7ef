# SPDX-License-Identifier: Apache-2.0
"""One slot, one thread, and rates that do not drift."""

from __future__ import annotations

import queue
import threading

import pytest

from diception_ros.ros.worker import RateLimiter, Slot, Worker


def test_the_newest_item_takes_the_slot():
    slot: Slot[int] = Slot()
    assert not slot.put(1)
    assert slot.put(2)
    assert slot.take() == 2
    assert not slot.put(3)
    assert slot.clear()
    assert not slot.clear()


def test_a_closed_slot_gives_nothing():
    slot: Slot[int] = Slot()
    slot.put(1)
    slot.close()
    assert slot.take() is None


def test_what_comes_while_the_worker_is_busy_is_only_the_newest():
    busy, release, seen = threading.Event(), threading.Event(), queue.Queue()

    def handle(item):
        seen.put(item)
        busy.set()
        assert release.wait(5)

    worker = Worker(handle, lambda error: None, "test")
    worker.slot.put(1)
    assert busy.wait(5)
    assert [worker.slot.put(item) for item in (2, 3, 4)] == [False, True, True]
    release.set()
    assert [seen.get(timeout=5), seen.get(timeout=5)] == [1, 4]
    worker.stop()
    assert worker.join(5)


def test_a_failing_item_is_reported_and_the_next_one_handled():
    failures, done = queue.Queue(), threading.Event()

    def handle(item):
        if item == 0:
            raise RuntimeError("boom")
        done.set()

    worker = Worker(handle, failures.put, "test")
    worker.slot.put(0)
    assert str(failures.get(timeout=5)) == "boom"
    worker.slot.put(1)
    assert done.wait(5)
    worker.stop()
    assert worker.join(5)


@pytest.mark.parametrize(
    ("camera", "rate", "passed"), [(30, 10, 100), (30, 20, 200), (30, 30, 300)]
)
def test_the_average_rate_is_kept(camera, rate, passed):
    now = 0.0
    limiter = RateLimiter(lambda: now)
    count = 0
    for i in range(10 * camera):
        now = i / camera + (0.001 if i % 2 else 0.0)  # a millisecond of jitter
        if limiter.due(rate):
            limiter.passed(rate)
            count += 1
    assert abs(count - passed) <= 1


def test_after_a_pause_there_is_no_burst():
    now = 0.0
    limiter = RateLimiter(lambda: now)
    limiter.passed(1.0)
    now = 100.0
    assert limiter.due(1.0)
    limiter.passed(1.0)
    now = 100.5
    assert not limiter.due(1.0)


def test_rate_zero_is_no_limit():
    limiter = RateLimiter(lambda: 0.0)
    limiter.passed(0.0)
    assert limiter.due(0.0)

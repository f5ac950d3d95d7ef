# SPDX-License-Identifier: Apache-2.0
"""One slot, one thread, and rates that do not drift."""

from __future__ import annotations

import queue
import threading
import time
from collections import Counter

import pytest

from diception_ros.ros.worker import SILENT, Behind, RateLimiter, Slots, Worker


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def test_the_newest_item_takes_the_slot():
    slots: Slots[int] = Slots()
    assert not slots.put("", 1)
    assert slots.put("", 2)
    assert slots.take() == [("", 2)]
    assert not slots.put("", 3)


def test_closed_slots_give_nothing():
    slots: Slots[int] = Slots()
    slots.put("", 1)
    slots.close()
    assert slots.take() is None


def test_sources_take_turns():
    slots: Slots[int] = Slots("abc")
    for source in "cba":
        slots.put(source, 1)
    assert slots.take(2) == [("a", 1), ("b", 1)]
    slots.put("a", 2)
    slots.put("b", 2)
    assert slots.take(2) == [("c", 1), ("a", 2)]
    assert slots.take(2) == [("b", 2)]


def test_all_that_wait_come_together():
    slots: Slots[int] = Slots("abc")
    for source in "abc":
        slots.put(source, 1)
    assert slots.take() == [("a", 1), ("b", 1), ("c", 1)]


def test_the_others_are_waited_for_as_long_as_asked():
    """All are there: at once. One is missing: until the first has waited long enough, however
    often it was replaced by a newer one. One is silent: not at all."""
    clock = Clock()
    slots: Slots[int] = Slots("ab", clock)
    slots.put("a", 1)
    slots.put("b", 1)
    assert len(slots.take(wait=1000)) == 2
    slots.put("a", 2)
    clock.now = 0.5
    slots.put("a", 3)
    assert slots.take(wait=0.5) == [("a", 3)]
    slots.put("a", 4)
    assert slots.take(limit=1, wait=1000) == [("a", 4)]
    clock.now = SILENT
    slots.put("a", 5)
    assert slots.take(wait=1000) == [("a", 5)]


def test_a_late_source_ends_the_wait():
    slots: Slots[int] = Slots("ab")
    slots.put("b", 1)
    slots.take()
    taken = queue.Queue()
    thread = threading.Thread(target=lambda: taken.put(slots.take(wait=30)))
    slots.put("a", 1)
    thread.start()
    slots.put("b", 2)
    assert taken.get(timeout=5) == [("a", 1), ("b", 2)]
    thread.join(5)


def jain(shares):
    """Fairness from 1 / n to 1 (Jain, Chiu and Hawe 1984)."""
    return sum(shares) ** 2 / (len(shares) * sum(share**2 for share in shares))


@pytest.mark.parametrize(("limit", "least"), [(1, 3.3), (2, 3.7), (0, 4.1)])
def test_under_overload_each_camera_gets_its_share(limit, least):
    """Cameras of 60, 30 and 5 Hz, 100 ms per frame of a pass: three times what can be answered."""
    clock, rates = Clock(), {"fast": 60, "usual": 30, "slow": 5}
    slots: Slots[int] = Slots(tuple(rates), clock)
    due = dict.fromkeys(rates, 0.0)
    answered: Counter[str] = Counter()
    while clock.now < 60:
        for camera, rate in rates.items():
            while due[camera] <= clock.now:
                slots.put(camera, 0)
                due[camera] += 1 / rate
        batch = slots.take(limit)
        answered.update(camera for camera, _ in batch)
        clock.now += 0.1 if limit == 1 else 0.08 * len(batch)  # a batch is a little cheaper
    hertz = {camera: count / 60 for camera, count in answered.items()}
    print(f"limit {limit}: {hertz} Hz, Jain's index {jain(hertz.values()):.3f}")
    assert min(hertz.values()) > least
    assert jain(hertz.values()) > 0.97


def started(handle, failed=lambda error: None):
    slots = Slots()
    return slots, Worker(slots.take, lambda items: handle(items[0][1]), failed, "test")


def test_what_comes_while_the_worker_is_busy_is_only_the_newest():
    busy, release, seen = threading.Event(), threading.Event(), queue.Queue()

    def handle(item):
        seen.put(item)
        busy.set()
        assert release.wait(5)

    slots, worker = started(handle)
    slots.put("", 1)
    assert busy.wait(5)
    assert [slots.put("", item) for item in (2, 3, 4)] == [False, True, True]
    release.set()
    assert [seen.get(timeout=5), seen.get(timeout=5)] == [1, 4]
    slots.close()
    assert worker.join(5)


def test_a_failing_item_is_reported_and_the_next_one_handled():
    failures, done = queue.Queue(), threading.Event()

    def handle(item):
        if item == 0:
            raise RuntimeError("boom")
        done.set()

    slots, worker = started(handle, failures.put)
    slots.put("", 0)
    assert str(failures.get(timeout=5)) == "boom"
    slots.put("", 1)
    assert done.wait(5)
    slots.close()
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


def test_a_new_rate_does_not_wait_for_the_old_ones_period():
    now = 0.0
    limiter = RateLimiter(lambda: now)
    limiter.passed(0.01)
    now = 1.0
    assert not limiter.due(0.01)
    assert limiter.due(10.0)
    limiter.passed(10.0)
    now = 1.05
    assert not limiter.due(10.0)
    now = 2.0
    assert not limiter.due(0.5)  # two seconds from the last one that passed
    now = 3.0
    assert limiter.due(0.5)


def test_rate_zero_is_no_limit():
    limiter = RateLimiter(lambda: 0.0)
    limiter.passed(0.0)
    assert limiter.due(0.0)


def test_what_is_behind_has_one_item_and_the_next_one_waits():
    release, seen = threading.Semaphore(0), queue.Queue()

    def handle(item):
        assert release.acquire(timeout=5)
        seen.put(item)

    behind, put = Behind(handle, pytest.fail, "test"), threading.Event()
    behind.put(1)
    thread = threading.Thread(target=lambda: (behind.put(2), put.set()))
    thread.start()
    assert not put.wait(0.1)
    release.release()
    assert put.wait(5)
    release.release()
    behind.wait()
    assert [seen.get_nowait(), seen.get_nowait()] == [1, 2]
    behind.close()
    thread.join(5)


def test_a_failure_behind_is_reported_and_closing_waits_for_what_is_in_work():
    failures, seen = queue.Queue(), []

    def handle(item):
        time.sleep(0.05)
        seen.append(1 / item)

    behind = Behind(handle, failures.put, "test")
    for item in (0, 2, 4):
        behind.put(item)
    behind.close()
    assert seen == [0.5, 0.25]
    assert isinstance(failures.get_nowait(), ZeroDivisionError)


def test_the_workers_last_act_is_done_before_it_has_ended():
    ended = []
    slots: Slots[int] = Slots()
    worker = Worker(slots.take, print, pytest.fail, "test", lambda: ended.append(True))
    slots.close()
    assert worker.join(5)
    assert ended == [True]

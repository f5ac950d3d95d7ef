# SPDX-License-Identifier: Apache-2.0
"""What is counted, complained about and made of it: the entries of /diagnostics."""

from __future__ import annotations

import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diagnostic_msgs.msg import DiagnosticStatus, KeyValue

WINDOW = 5.0
"""Seconds that rates and percentiles look back."""
RECENT = 10.0
"""Seconds for which a complaint keeps the node degraded, and within which it is not repeated."""
TARGET_SHARE = 0.9
"""Below this share of the target rate the node is degraded."""

LEVELS = {
    "unconfigured": DiagnosticStatus.OK,
    "inactive": DiagnosticStatus.OK,
    "loading": DiagnosticStatus.WARN,
    "ready": DiagnosticStatus.OK,
    "degraded": DiagnosticStatus.WARN,
    "error": DiagnosticStatus.ERROR,
}
MISSED = "deadline missed"
DROPS = ("newer frame", "max_age", "max_rate", "bad input", "failed", "loading")
"""Why an image was not worked on; images that nobody asked anything of are 'idle', not drops."""


class Complaints:
    """One warning per topic and cause in RECENT seconds, however often it happens."""

    def __init__(self, warn: Callable[[str], None], clock: Callable[[], float] = time.monotonic):
        self._warn, self._clock = warn, clock
        self._said: dict[tuple[str, str], float] = {}
        self._seen: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def __call__(self, topic: str, cause: str) -> None:
        """Warns, naming both. The cause without its figures decides what counts as the same."""
        now = self._clock()
        key = topic, "".join(letter for letter in cause if not letter.isdigit())
        with self._lock:
            due = now - self._said.get(key, float("-inf")) >= RECENT
            if due:
                self._said[key] = now
            self._seen[topic, cause] = now
            for old in [k for k, when in self._seen.items() if now - when > RECENT]:
                del self._seen[old]
        if due:
            self._warn(cause if cause.startswith(topic) else f"{topic}: {cause}")

    def recent(self) -> str:
        """The newest complaint not older than RECENT seconds, "" when all is well."""
        now = self._clock()
        with self._lock:
            fresh = {key: when for key, when in self._seen.items() if now - when <= RECENT}
        if not fresh:
            return ""
        topic, cause = max(fresh, key=lambda key: fresh[key])
        return cause if cause.startswith(topic) else f"{topic}: {cause}"

    def clear(self) -> None:
        with self._lock:
            self._said.clear()
            self._seen.clear()


class Statistics:
    """Counts and times of one camera. Any thread may add, any may read."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._received: deque[float] = deque()
        self._answered: deque[tuple[float, float, float]] = deque()
        self._idle: deque[float] = deque()
        self._counts: Counter[str] = Counter()
        self._reported = 0
        self._first: float | None = None
        self._last: float | None = None

    def received(self) -> None:
        with self._lock:
            self._counts["received"] += 1
            self._last = self._clock()
            self._first = self._last if self._first is None else self._first
            self._received.append(self._last)
            self._trim()

    def answered(self, latency_ms: float, age_ms: float) -> None:
        with self._lock:
            self._counts["answered"] += 1
            self._answered.append((self._clock(), latency_ms, age_ms))
            self._trim()

    def idle(self) -> None:
        with self._lock:
            self._counts["idle"] += 1
            self._idle.append(self._clock())
            self._trim()

    def dropped(self, cause: str) -> None:
        assert cause in DROPS
        with self._lock:
            self._counts[f"dropped: {cause}"] += 1

    def missed_deadline(self) -> None:
        with self._lock:
            self._counts[MISSED] += 1

    def dropped_since_report(self) -> int:
        """Drops since the last call."""
        with self._lock:
            total = sum(self._counts[f"dropped: {cause}"] for cause in DROPS)
            since, self._reported = total - self._reported, total
        return since

    def silence(self) -> float:
        """Seconds since the last image; infinite before the first."""
        with self._lock:
            return self._clock() - self._last if self._last is not None else float("inf")

    def snapshot(self) -> dict[str, float]:
        """Rates in Hz, percentiles in ms over WINDOW seconds, counts since the start."""
        with self._lock:
            self._trim()
            counts, received, idle = dict(self._counts), len(self._received), len(self._idle)
            elapsed = self._clock() - self._first if self._first is not None else WINDOW
            latencies = [item[1] for item in self._answered]
            ages = [item[2] for item in self._answered]
        span = min(WINDOW, max(1.0, elapsed))
        result: dict[str, float] = {
            "input rate (Hz)": received / span,
            "output rate (Hz)": len(latencies) / span,
            "idle rate (Hz)": idle / span,
        }
        if latencies:
            result["latency p50 (ms)"] = float(np.percentile(latencies, 50))
            result["latency p95 (ms)"] = float(np.percentile(latencies, 95))
            result["age at publish p95 (ms)"] = float(np.percentile(ages, 95))
        drops = (f"dropped: {cause}" for cause in DROPS)
        for name in ("received", "answered", "idle", MISSED, *drops):
            result[name] = counts.get(name, 0)
        return result

    def _trim(self) -> None:
        oldest = self._clock() - WINDOW
        for times in (self._received, self._idle):
            while times and times[0] < oldest:
                times.popleft()
        while self._answered and self._answered[0][0] < oldest:
            self._answered.popleft()


@dataclass(frozen=True)
class Health:
    """One look at the node. state: a key of LEVELS; cause: why, for people; values: the rest."""

    state: str
    cause: str
    values: Mapping[str, object] = field(default_factory=dict)


def judge(
    state: str, cause: str, complaint: str, rates: Mapping[str, Any], target: float
) -> Health:
    """Turns "ready" into "degraded" when there is a complaint or the output is too slow. Images
    that nobody asked anything of are not late."""
    if state == "ready" and complaint:
        return Health("degraded", complaint, rates)
    rate = rates["output rate (Hz)"]
    served = rate + rates["idle rate (Hz)"]
    if state == "ready" and served < TARGET_SHARE * target and rates["received"]:
        return Health("degraded", f"output rate {rate:.2f} Hz, target_rate {target:g} Hz", rates)
    return Health(state, cause, rates)


def memory() -> dict[str, object]:
    """Memory of this process and of the GPU, in MiB."""
    values: dict[str, object] = {}
    status = Path("/proc/self/status")
    if status.is_file():
        lines = dict(line.split(":", 1) for line in status.read_text().splitlines() if ":" in line)
        values["memory (MiB)"] = int(lines["VmRSS"].split()[0]) // 1024
    if torch.cuda.is_available():
        values["GPU memory (MiB)"] = torch.cuda.memory_allocated() // 2**20
        values["GPU memory reserved (MiB)"] = torch.cuda.memory_reserved() // 2**20
    return values


def diagnostic_status(name: str, hardware: str, health: Health) -> Any:
    """Health -> DiagnosticStatus."""
    return DiagnosticStatus(
        level=LEVELS[health.state],
        name=name,
        message=f"{health.state}: {health.cause}" if health.cause else health.state,
        hardware_id=hardware,
        values=[
            KeyValue(key=key, value=_text(value))
            for key, value in {"state": health.state, **health.values}.items()
        ],
    )


def _text(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)

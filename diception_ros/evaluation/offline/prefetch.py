# SPDX-License-Identifier: Apache-2.0
"""An iterator that runs ahead in a thread of its own."""

from __future__ import annotations

import queue
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
POLL = 0.1
"""s between two looks whether anybody still wants the items."""


@contextmanager
def ahead(items: Iterable[T], size: int, name: str) -> Iterator[Iterator[T]]:
    """Up to `size` items wait to be taken; an exception of theirs is raised where they are taken.
    Leaving the context ends the thread."""
    waiting: queue.Queue[tuple[str, Any]] = queue.Queue(maxsize=size)
    stopped = threading.Event()

    def offer(kind: str, value: Any) -> bool:
        while not stopped.is_set():
            try:
                waiting.put((kind, value), timeout=POLL)
            except queue.Full:
                continue
            return True
        return False

    def work() -> None:
        try:
            for item in items:
                if not offer("item", item):
                    return
        except BaseException as error:  # handed over, whatever it is
            offer("error", error)
        else:
            offer("end", None)

    def take() -> Iterator[T]:
        while True:
            kind, value = waiting.get()
            if kind == "error":
                raise value
            if kind == "end":
                return
            yield value

    thread = threading.Thread(target=work, name=name, daemon=True)
    thread.start()
    try:
        yield take()
    finally:
        stopped.set()
        thread.join()

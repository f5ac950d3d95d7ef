# SPDX-License-Identifier: Apache-2.0
"""Bags without ROS: messages by the stamp of the image they answer."""

from __future__ import annotations

import logging
import struct
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from rosbags.typesys import Stores, get_types_from_msg, get_typestore
from rosbags.typesys.store import Typestore

from diception_ros.evaluation.offline.definitions import typestore
from diception_ros.evaluation.offline.sources import HEADER, Bag, Raw, Topic, decode, opened
from diception_ros.ros.images import packed_rows

logger = logging.getLogger(__name__)
ENCODINGS = {
    "rgb8": ("u1", 3),
    "mono8": ("u1", 1),
    "mono16": ("u2", 1),
    "32FC1": ("f4", 1),
    "32FC3": ("f4", 3),
}


@dataclass(frozen=True)
class Recorded:
    """One message, or why there is none. stamp: of its header, received: by the recorder; both in
    nanoseconds."""

    topic: str
    stamp: int
    received: int
    raw: Raw | str
    store: Typestore

    @cached_property
    def message(self) -> Any:
        """ValueError where it is damaged or its type is not known."""
        if isinstance(self.raw, str):
            raise ValueError(self.raw)
        return decode(self.raw, self.store)


def read_messages(bag: Path, topics: Collection[str] | None = None) -> Iterator[Recorded]:
    """The messages that have a header, in the order of recording; None means every topic. What
    cannot be read of a bag comes among them, under one of the topics. ValueError if the folder is
    no bag.
    """
    left_out: list[Recorded] = []

    def report(topic: str, time: int, cause: str) -> None:
        left_out.append(Recorded(topic, time, time, cause, typestore()))

    with _opened(bag) as found:
        stores = {
            one.name: _store(one)
            for one in found.topics.values()
            if (topics is None or one.name in topics) and _has_header(one.msgtype, _store(one))
        }
        for note in found.notes if stores else ():
            report(min(stores), found.span[0], note)
        for raw in found.messages(stores, report):
            yield from left_out
            left_out.clear()
            store = stores[raw.topic]
            yield Recorded(raw.topic, _stamp(raw, store), raw.received, raw, store)
        yield from left_out


def read_stamps(bag: Path, topics: Collection[str]) -> dict[str, set[int]]:
    """The stamps (ns) of these topics' messages by topic; none of them is decoded."""
    found: dict[str, set[int]] = {topic: set() for topic in topics}
    for item in read_messages(bag, topics):
        if not isinstance(item.raw, str):
            found[item.topic].add(item.stamp)
    return found


def read_all(bag: Path, topics: Collection[str]) -> Iterator[tuple[str, Any]]:
    """(topic, message) of these topics in the order of recording, with a header or without. What
    cannot be read is left out, with one warning a topic. ValueError if the folder is no bag."""

    def report(topic: str, _: int, cause: str) -> None:
        warn_once(bag, topic, cause)

    with _opened(bag) as found:
        stores = {one.name: _store(one) for one in found.topics.values() if one.name in topics}
        for note in found.notes:
            report("", 0, note)
        for raw in found.messages(stores, report):
            try:
                message = decode(raw, stores[raw.topic])
            except ValueError as error:
                report(raw.topic, raw.received, str(error))
            else:
                yield raw.topic, message


def first_messages(bag: Path, kinds: Collection[str]) -> dict[str, tuple[str, Any]]:
    """Type and first whole message by topic, of topics of these types. ValueError if the folder is
    no bag."""
    found: dict[str, tuple[str, Any]] = {}
    with _opened(bag) as source:
        for one in source.topics.values():
            wanted = {one.name} if one.messages and one.msgtype in kinds else set()
            for raw in source.messages(wanted, _ignored):
                with suppress(ValueError):
                    found[one.name] = one.msgtype, decode(raw, _store(one))
                    break
    return found


def _ignored(*_: object) -> None:
    """What is damaged is named when it is read."""


_WARNED: set[tuple[Path, str]] = set()


def warn_once(bag: Path, topic: str, cause: str) -> None:
    """A bag is read several times, and what is damaged is often damaged throughout."""
    if (bag, topic) not in _WARNED:
        _WARNED.add((bag, topic))
        named = cause.startswith(topic)
        logger.warning("%s: %s", bag if named else f"{bag}: {topic}", cause)


def count_messages(bag: Path) -> dict[str, int]:
    """Messages per topic, from the bag's index. ValueError if the folder is no bag."""
    with _opened(bag) as found:
        return {one.name: one.messages for one in found.topics.values()}


def message_types(bag: Path) -> dict[str, str]:
    """Type by topic of those that hold messages. ValueError if the folder is no bag."""
    with _opened(bag) as found:
        return {one.name: one.msgtype for one in found.topics.values() if one.messages}


@contextmanager
def _opened(bag: Path) -> Iterator[Bag]:
    if not bag.exists():
        raise ValueError(f"{bag} cannot be read as a bag: it does not exist")
    with opened(bag) as found:
        yield found


def _store(topic: Topic) -> Typestore:
    """With the topic's type as its bag defines it, which another version of a package may have
    recorded. (Messages of ROS 1 come as ROS 2's.)"""
    return typestore() if topic.ros1 else _defined(topic.msgtype, topic.definition)


@cache
def _defined(msgtype: str, definition: str) -> Typestore:
    """This package's types where there is no definition, or none in the form of .msg files."""
    store = get_typestore(Stores.EMPTY)
    try:
        store.register(get_types_from_msg(definition, msgtype))
    except Exception:  # rosbags' parser raises its own
        return typestore()
    return store if msgtype in store.types else typestore()


def _has_header(msgtype: str, store: Typestore) -> bool:
    """Whether a type begins with a header; a type that is not known is left to its reader."""
    if msgtype not in store.types:
        return True
    fields = store.fielddefs[msgtype][1]
    return bool(fields) and fields[0][1][1] == HEADER


def _stamp(raw: Raw, store: Typestore) -> int:
    """Of the header, read without the rest; the time of reception where the message is too short
    or no header is known to be there."""
    if len(raw.data) < 12 or raw.msgtype not in store.types:
        return raw.received
    seconds, rest = struct.unpack_from("<iI" if raw.data[1] & 1 else ">iI", raw.data, 4)
    return int(seconds) * 1_000_000_000 + int(rest)


def image_array(message: Any) -> npt.NDArray[Any]:
    """sensor_msgs/Image -> (H, W) or (H, W, 3) of its own type, rows unpadded. ValueError for an
    encoding that no output of this package has, or too little data.
    """
    if message.encoding not in ENCODINGS:
        raise ValueError(
            f"image encoding '{message.encoding}': expected one of {', '.join(ENCODINGS)}"
        )
    code, channels = ENCODINGS[message.encoding]
    dtype = np.dtype(code).newbyteorder(">" if message.is_bigendian else "<")
    rows = packed_rows(message, channels * dtype.itemsize, message.height)
    size = (message.height, message.width, channels)
    values: npt.NDArray[Any] = rows.view(dtype).reshape(size[:2] if channels == 1 else size)
    return values


def answer_array(message: Any) -> npt.NDArray[Any]:
    """An image as it is, a KeypointArray as (N, 2) float32 pixels (x, y)."""
    if hasattr(message, "keypoints"):
        points = [(point.x, point.y) for point in message.keypoints]
        return np.array(points, np.float32).reshape(-1, 2)
    return image_array(message)

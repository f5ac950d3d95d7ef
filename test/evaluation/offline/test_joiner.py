# SPDX-License-Identifier: Apache-2.0
"""Parts become one file, behind the run, and never at its cost."""

from __future__ import annotations

from collections import namedtuple

import pytest
from recorded import Types, picture, read

from diception_ros.evaluation.offline import joiner
from diception_ros.evaluation.offline.definitions import definition
from diception_ros.evaluation.offline.joiner import Joiner
from diception_ros.evaluation.offline.mcap import McapFile, Topic

IMAGE = "sensor_msgs/msg/Image"
TOPICS = (Topic("/a", IMAGE, *definition(IMAGE)),)
Usage = namedtuple("Usage", "total used free")


@pytest.fixture
def parts(tmp_path):
    """Three, and their messages."""
    types, made, written = Types(), [], []
    for number in range(3):
        file = McapFile(tmp_path / f"{number}.mcap", TOPICS)
        for i in range(4):
            at = 10 * number + i
            image = types.image(at, picture(at))
            written.append((at, bytes(types.store.serialize_cdr(image, IMAGE))))
            file.write("/a", *written[-1])
        file.close({})
        made.append(file.path)
    return made, written


def disk_with(free, monkeypatch):
    monkeypatch.setattr(joiner.shutil, "disk_usage", lambda _: Usage(0, 0, free))


@pytest.mark.parametrize("free", [2**40, 2**20], ids=["behind the run", "at the end"])
def test_all_parts_in_their_order(parts, tmp_path, monkeypatch, free):
    disk_with(free, monkeypatch)
    one = Joiner(tmp_path / "out.mcap", TOPICS)
    for part in parts[0]:
        one.add(part)
    one.close({"run": {"a": "b"}})
    assert read(tmp_path / "out.mcap")["/a"] == parts[1]


def test_a_disk_that_gets_short_gets_its_room_back(parts, tmp_path, monkeypatch):
    disk_with(2**40, monkeypatch)
    one = Joiner(tmp_path / "out.mcap", TOPICS)
    one.add(parts[0][0])
    one._added[0].result()
    assert (tmp_path / ".out.mcap.tmp").exists()
    disk_with(100, monkeypatch)
    one.add(parts[0][1])
    one._added[1].result()
    assert not (tmp_path / ".out.mcap.tmp").exists()
    with pytest.raises(OSError, match=r"has 0.0 GB free, joining the parts needs .* --resume"):
        one.close({})
    assert not list(tmp_path.glob("*out*"))
    assert all(part.exists() for part in parts[0])


def test_what_was_not_finished_leaves_nothing(parts, tmp_path):
    one = Joiner(tmp_path / "out.mcap", TOPICS)
    one.add(parts[0][0])
    one.abandon()
    assert not list(tmp_path.glob("*out*")) + list(tmp_path.glob(".*"))

# SPDX-License-Identifier: Apache-2.0
"""The files, as another library reads them."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from recorded import Types, messages, read

from diception_ros.evaluation.offline import records
from diception_ros.evaluation.offline.definitions import definition, message_files
from diception_ros.evaluation.offline.mcap import McapFile, Topic
from diception_ros.evaluation.offline.output import finished
from diception_ros.evaluation.offline.summary import read_summary

IMAGE, REPORT = "sensor_msgs/msg/Image", "diception_ros/msg/FrameReport"
TOPICS = (
    Topic("/a", IMAGE, *definition(IMAGE)),
    Topic("/b", REPORT, *definition(REPORT), latched=True),
)


def image(types, number):
    pixels = np.full((300, 400, 3), number, np.uint8)
    return bytes(types.store.serialize_cdr(types.image(number, pixels), IMAGE))


def fill(path, numbers):
    types, file = Types(), McapFile(path, TOPICS)
    written = [(1000 + number, image(types, number)) for number in numbers]
    for time, data in written:
        file.write("/a", time, data)
    file.close({"run": {"numbers": str(numbers)}})
    return written


def test_rosbags_reads_what_was_written(tmp_path):
    written = fill(tmp_path / "one.mcap", range(30))  # 11 MB: several chunks
    assert read(tmp_path / "one.mcap")["/a"] == written
    assert messages(tmp_path / "one.mcap")["/a"][7].data[0] == 7
    summary = read_summary(tmp_path / "one.mcap")
    assert len(summary.chunks) > 1
    assert summary.topics == (("/a", IMAGE), ("/b", REPORT))
    assert (summary.counts, summary.metadata["run"]) == ({1: 30, 2: 0}, {"numbers": "range(0, 30)"})


def test_parts_are_joined_as_they_are(tmp_path):
    written = [fill(tmp_path / f"{i}.mcap", range(10 * i, 10 * i + 15)) for i in range(2)]
    fill(tmp_path / "empty.mcap", [])
    whole = McapFile(tmp_path / "whole.mcap", TOPICS)
    for name in ("0", "empty", "1"):
        whole.append(tmp_path / f"{name}.mcap")
    whole.close({})
    assert read(tmp_path / "whole.mcap")["/a"] == sorted(written[0] + written[1])
    with pytest.raises(ValueError, match="has other topics than"):
        McapFile(tmp_path / "other.mcap", TOPICS[:1]).append(tmp_path / "0.mcap")


def test_a_file_has_its_name_only_when_it_is_complete(tmp_path):
    file = McapFile(tmp_path / "late.mcap", TOPICS)
    assert not (tmp_path / "late.mcap").exists()
    file.abandon()
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "cut.mcap").write_bytes(b"\x89MCAP0\r\n" + bytes(100))
    with pytest.raises(ValueError, match="is no complete MCAP file: Unexpected record"):
        read_summary(tmp_path / "cut.mcap")


def test_a_file_without_an_index_is_anothers(tmp_path):
    """As rosbag2's preset fastwrite leaves it."""
    head = records.record(records.HEADER, records.string("ros2") + records.string("fastwrite"))
    foot = records.record(records.FOOTER, struct.pack("<QQI", 0, 0, 0))
    (tmp_path / "fast.mcap").write_bytes(records.MAGIC + head + foot + records.MAGIC)
    with pytest.raises(ValueError, match=r"fast\.mcap exists and was not written by diception bag"):
        finished(tmp_path / "fast.mcap", resume=True)


def test_this_packages_messages_explain_themselves():
    assert {file.stem for file in message_files()} >= {"FrameReport", "InstanceArray"}
    text, digest = definition("diception_ros/msg/InstanceArray")
    assert "MSG: diception_ros/Instance" in text
    assert "MSG: geometry_msgs/Point" in text
    assert digest.startswith("RIHS01_")

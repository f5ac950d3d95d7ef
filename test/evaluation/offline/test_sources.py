# SPDX-License-Identifier: Apache-2.0
"""Bags whole, unfinished and damaged."""

from __future__ import annotations

import shutil
import sqlite3
import struct
import sys
from contextlib import closing

import pytest
from recorded import CAMERA, INFO, START, Line, Types, camera_lines, picture, write
from rosbags.rosbag1 import Writer as Writer1
from rosbags.rosbag2 import CompressionFormat, CompressionMode, StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from diception_ros.evaluation.offline import records
from diception_ros.evaluation.offline.definitions import definition
from diception_ros.evaluation.offline.mcap import McapFile, Topic
from diception_ros.evaluation.offline.sources import decode, opened
from diception_ros.evaluation.offline.summary import read_summary
from diception_ros.evaluation.offline.unfinished import log_of

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def images(path, reports):
    with opened(path) as bag:
        found = [decode(raw) for raw in bag.messages({CAMERA}, lambda *one: reports.append(one))]
        return found, bag.notes


@pytest.mark.parametrize("kind", ["mcap", "sqlite3", "ros1"])
def test_every_kind_gives_the_same(tmp_path, kind):
    path = write(tmp_path / "bag", camera_lines(Types(kind == "ros1"), 4), kind)
    found, notes = images(path, reports := [])
    assert (len(found), notes, reports) == (4, (), [])
    assert found[3].header.stamp.nanosec == 300_000_000
    assert bytes(found[3].data) == picture(3).tobytes()
    with opened(path) as bag:
        assert bag.topics[INFO].messages == 4
        assert decode(next(bag.messages({INFO}, print))).k[0] == 30.0


def test_a_recorder_that_was_killed_leaves_what_was_whole(tmp_path):
    path = write(tmp_path / "bag", camera_lines(Types(), 40 * 30))
    file = path / "bag.mcap"
    file.write_bytes(file.read_bytes()[: file.stat().st_size * 3 // 5])
    (path / "metadata.yaml").unlink()
    found, notes = images(path, reports := [])
    assert notes == ("unfinished bag, read without its index",)
    assert 300 < len(found) < 1200
    assert reports == []
    assert bytes(found[-1].data) == picture(len(found) - 1).tobytes()


def test_sqlite_without_metadata(tmp_path):
    path = write(tmp_path / "bag", camera_lines(Types(), 3), "sqlite3")
    (path / "metadata.yaml").unlink()
    found, notes = images(path, [])
    assert (len(found), len(notes)) == (3, 1)


def test_sqlite_with_the_log_of_a_killed_recorder(tmp_path):
    """As rosbag2's preset resilient leaves it: what came last is in the log alone."""
    path, late = write(tmp_path / "bag", camera_lines(Types(), 2), "sqlite3"), tmp_path / "late"
    (path / "metadata.yaml").unlink()
    image = next(line for line in camera_lines(Types(), 1, first=2) if line.topic == CAMERA)
    data = bytes(Types().store.serialize_cdr(image.message, image.msgtype))
    with closing(sqlite3.connect(path / "bag.db3")) as database:
        database.execute("PRAGMA journal_mode=WAL")
        row = "INSERT INTO messages(topic_id, timestamp, data) SELECT id, ?, ? FROM topics"
        database.execute(f"{row} WHERE name = ?", (image.received, data, CAMERA))
        database.commit()
        shutil.copytree(path, late)
    before = (late / "bag.db3").read_bytes()
    for one in (late, late / "bag.db3"):
        found, _ = images(one, reports := [])
        assert [bytes(one.data) for one in found] == [picture(n).tobytes() for n in range(3)]
        assert reports == []
    assert (late / "bag.db3").read_bytes() == before


def test_a_finished_file_beside_an_empty_log_is_read_where_it_lies(tmp_path, monkeypatch):
    """As it is left where a bag in that mode was only looked at: no copy, which may be huge."""
    path = write(tmp_path / "bag", camera_lines(Types(), 2), "sqlite3") / "bag.db3"
    log_of(path).touch()
    monkeypatch.setattr(shutil, "copyfile", None)
    with opened(path) as bag:
        assert bag.notes == ()
        assert [reader.path for reader in bag._readers] == [path]


def test_the_log_of_a_file_that_nobody_may_write_is_read(tmp_path):
    path = write(tmp_path / "bag", camera_lines(Types(), 2), "sqlite3") / "bag.db3"
    with opened(path) as bag:
        before = bag.span
    with closing(sqlite3.connect(path)) as database:
        database.execute("PRAGMA journal_mode=WAL")
        database.execute("UPDATE messages SET timestamp = timestamp + 1")
        database.commit()
        shutil.copytree(path.parent, tmp_path / "late")
    path = tmp_path / "late/bag.db3"
    for one in (path, log_of(path)):
        one.chmod(0o444)
    with opened(path) as bag:
        (reader,) = bag._readers
        assert reader.path.stat().st_mode & 0o200  # even if who runs this is never refused
        assert bag.span == (before[0] + 1, before[1] + 1)


def test_an_unfinished_file_is_read_up_to_a_chunk_that_a_power_cut_tore(tmp_path):
    types, kind = Types(), "sensor_msgs/msg/Image"
    file = McapFile(tmp_path / "bag.mcap", [Topic(CAMERA, kind, *definition(kind))])
    for number in range(12):
        image = types.image(number, picture(number, (400, 1200)))
        file.write(CAMERA, number, types.store.serialize_cdr(image, kind))
    file.close({})
    last = read_summary(file.path).chunks[-1]
    whole = file.path.read_bytes()
    file.path.write_bytes(whole[: last.chunk_start_offset + 100] + bytes(last.chunk_length))
    found, notes = images(file.path, reports := [])
    assert 0 < len(found) < 12
    assert len(notes) == 1
    assert f"left out: bag.mcap from byte {last.chunk_start_offset} on: " in notes[0]
    assert reports == []


def test_of_several_types_on_a_topic_that_of_most_counts(tmp_path):
    types = Types()
    other = types.compressed(START + 1, picture(1))
    line = Line(CAMERA, "sensor_msgs/msg/CompressedImage", START + 1, other)
    path = write(tmp_path / "bag", [*camera_lines(types, 3), line])
    with opened(path) as bag:
        assert bag.topics[CAMERA].msgtype == "sensor_msgs/msg/Image"
        assert bag.topics[CAMERA].messages == 3
    found, _ = images(path, reports := [])
    assert len(found) == 3
    assert [(topic, time) for topic, time, _ in reports] == [(CAMERA, START + 1)]
    assert "type sensor_msgs/msg/CompressedImage, where most are sensor_msgs/msg/Image" in str(
        reports
    )


def test_transforms_of_old_ros_1_bags(tmp_path):
    types, old = Types(ros1=True), "tf/msg/tfMessage"
    for name in (old, "tf2_msgs/msg/TFMessage"):
        types.store.register(
            get_types_from_msg("geometry_msgs/TransformStamped[] transforms\n", name)
        )
    new = types.transforms("map", "base", (1.0, 2.0, 3.0), (0.0, 0.0, 0.0, 1.0))
    with Writer1(tmp_path / "old.bag") as writer:
        topic = writer.add_connection("/tf", old, typestore=types.store)
        data = types.store.serialize_ros1(types(old, new.transforms), old)
        writer.write(topic, START, data)
    with opened(tmp_path / "old.bag") as bag:
        assert bag.topics["/tf"].msgtype == "tf2_msgs/msg/TFMessage"
        (raw,) = bag.messages({"/tf"}, print)
        (found,) = decode(raw).transforms
    assert (found.child_frame_id, found.transform.translation.z) == ("base", 3.0)


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
def test_files_that_were_packed_before_the_recorder_was_killed(tmp_path, kind):
    """rosbag2 packs a file when it begins the next: the last one lies there as it is."""
    types, folder = Types(), tmp_path / "bag"
    folder.mkdir()
    for number in (9, 10):
        name = f"bag_{number}"
        part = write(tmp_path / name, camera_lines(types, 3, first=3 * number), kind)
        (file,) = (file for file in part.iterdir() if file.stem == name)
        shutil.move(file, folder / file.name)
    early = next(folder.glob("bag_9.*"))
    packed = early.with_name(f"{early.name}.zstd")
    packed.write_bytes(zstd.compress(early.read_bytes()))
    packed.with_name(f"bag_8{early.suffix}.zstd").write_bytes(packed.read_bytes()[:-9])
    assert len(images(folder, [])[0]) == 6  # killed while it packed: both are there
    early.unlink()
    found, notes = images(folder, reports := [])
    assert [bytes(one.data) for one in found] == [picture(n).tobytes() for n in range(27, 33)]
    assert reports == []
    assert len(notes) == 1
    assert f"left out: bag_8{early.suffix}.zstd: " in notes[0]
    found, notes = images(packed, reports)
    assert (len(found), notes, reports) == (3, (), [])


@pytest.mark.parametrize("plugin", list(StoragePlugin))
def test_messages_packed_one_by_one_without_metadata(tmp_path, plugin):
    store, kind = get_typestore(Stores.ROS2_JAZZY), "sensor_msgs/msg/Image"
    writer = Writer(tmp_path / "bag", version=9, storage_plugin=plugin)
    writer.set_compression(CompressionMode.MESSAGE, CompressionFormat.ZSTD)
    with writer:
        topic = writer.add_connection(CAMERA, kind, typestore=store)
        for line in camera_lines(Types(), 2):
            if line.topic == CAMERA:
                writer.write(topic, line.received, store.serialize_cdr(line.message, kind))
    for left in ("with", "without"):
        found, _ = images(tmp_path / "bag", reports := [])
        assert [bytes(one.data) for one in found] == [picture(n).tobytes() for n in (0, 1)], left
        assert reports == []
        (tmp_path / "bag" / "metadata.yaml").unlink(missing_ok=True)


def unchunked(path, lines):
    """An MCAP as rosbag2's preset fastwrite leaves it: messages as they came, and no index."""
    store, numbers = get_typestore(Stores.ROS2_JAZZY), {CAMERA: 1, INFO: 2}
    body = [records.record(records.HEADER, records.string("ros2") + records.string("fastwrite"))]
    for topic, kind in {(line.topic, line.msgtype) for line in lines}:
        number = numbers[topic]
        schema = struct.pack("<H", number) + records.string(kind) + records.string("ros2msg")
        body.append(records.record(records.SCHEMA, schema + records.string(definition(kind)[0])))
        channel = struct.pack("<HH", number, number) + records.string(topic)
        channel += records.string("cdr") + records.table({"offered_qos_profiles": ""})
        body.append(records.record(records.CHANNEL, channel))
    for line in lines:
        head = struct.pack("<HIQQ", numbers[line.topic], 0, line.received, line.received)
        data = bytes(store.serialize_cdr(line.message, line.msgtype))
        body.append(records.record(records.MESSAGE, head + data))
    end = records.record(records.DATA_END, bytes(4)) + records.record(records.FOOTER, bytes(20))
    path.write_bytes(records.MAGIC + b"".join(body) + end + records.MAGIC)
    return path


@pytest.mark.parametrize("cut", [0, 1000], ids=["whole", "killed"])
def test_without_chunks_messages_come_in_order_all_the_same(tmp_path, cut):
    """A recorder takes from one topic after another; its times are those of reception."""
    lines = camera_lines(Types(), 40)
    taken = [line for first in range(0, 80, 8) for line in reversed(lines[first : first + 8])]
    path = unchunked(tmp_path / "bag.mcap", taken)
    path.write_bytes(path.read_bytes()[: path.stat().st_size - cut])
    with opened(path) as bag:
        reports = []
        found = list(bag.messages({CAMERA, INFO}, lambda *one: reports.append(one)))
    times = [raw.received for raw in found]
    assert times == sorted(line.received for line in (taken[:-1] if cut else taken))
    assert reports == []


def test_a_damaged_chunk_costs_only_itself(tmp_path):
    path = write(tmp_path / "bag", camera_lines(Types(), 3000))
    kind = "sensor_msgs/msg/Image"
    whole = McapFile(tmp_path / "whole.mcap", [Topic(CAMERA, kind, *definition(kind))])
    with opened(path) as bag:
        for raw in bag.messages({CAMERA}, print):
            whole.write(CAMERA, raw.received, raw.data)
    whole.close({})
    chunk = read_summary(whole.path).chunks[0]
    data = bytearray(whole.path.read_bytes())
    data[chunk.chunk_start_offset + 200 : chunk.chunk_start_offset + 240] = bytes(40)
    whole.path.write_bytes(data)
    found, _ = images(whole.path, reports := [])
    assert 0 < len(found) < 3000
    ((topic, time, cause),) = reports
    assert (topic, time) == (CAMERA, chunk.message_start_time)
    assert "a damaged chunk of the bag" in cause


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("absent", None, "absent: no such bag"),
        ("a.mcap", b"", "cannot be read as a bag"),
        ("a.db3", b"no database", "cannot be read as a bag"),
        ("a.bag", b"#ROSBAG V2.0\n", "rosbag reindex"),
        ("a.txt", b"", "cannot be read as a bag"),
    ],
)
def test_what_is_no_bag_is_named(tmp_path, name, content, words):
    if content is not None:
        (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words), opened(tmp_path / name):
        pass


def test_messages_of_unknown_type_and_too_short(tmp_path):
    lines = camera_lines(Types(), 1)
    cut = bytes(Types().store.serialize_cdr(lines[0].message, lines[0].msgtype))[:60]
    path = write(tmp_path / "bag", [type(lines[0])(CAMERA, lines[0].msgtype, 5, cut)])
    with opened(path) as bag:
        (raw,) = bag.messages({CAMERA}, print)
        with pytest.raises(ValueError, match="damaged sensor_msgs/msg/Image of 60 bytes"):
            decode(raw)
        other = type(raw)(CAMERA, "vendor_msgs/msg/Blob", 5, raw.data)
        with pytest.raises(ValueError, match="type vendor_msgs/msg/Blob is not known"):
            decode(other)

# SPDX-License-Identifier: Apache-2.0
"""Bags through a random network: what comes out, what is left out, and going on after a kill."""

from __future__ import annotations

import errno
from itertools import count
from types import SimpleNamespace

import numpy as np
import pytest
from recorded import (
    CAMERA,
    DEPTH,
    INFO,
    PERIOD,
    Line,
    Types,
    camera_lines,
    messages,
    picture,
    read,
    stamp_of,
    write,
)

from diception_ros.engine import Engine, EngineConfig
from diception_ros.evaluation.bags import image_array
from diception_ros.evaluation.offline import output
from diception_ros.evaluation.offline.mcap import McapFile
from diception_ros.evaluation.offline.plan import Plan, parameters_from
from diception_ros.evaluation.offline.run import DiskFullError, Run
from diception_ros.model import make_random_bundle

IMAGE = "sensor_msgs/msg/Image"
REPORT = "/diception/frame_report"
DISPARITY = "/diception/disparity_relative/image"


@pytest.fixture(scope="module")
def engine(tmp_path_factory):
    bundle = make_random_bundle(tmp_path_factory.mktemp("bundle") / "random")
    return Engine.load(bundle, EngineConfig(device="cpu"), progress=lambda _: None)


@pytest.fixture
def go(engine, tmp_path):
    """Runs bags into out.mcap; the summary and the problems."""

    def run(*bags, resume=False, out="out.mcap", on_progress=lambda *_: None, **options):
        values = {"tasks": ["depth"], **options.pop("values", {})}
        plan = Plan(bags, tmp_path / out, parameters_from(values), settings=values, **options)
        problems = []
        summary = Run(plan, engine, problems.append, on_progress)(resume=resume)
        return summary, problems

    return run


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.mcap"


def same(first, second):
    """Equal but for the reports, which hold how long it took."""
    first, second = read(first), read(second)
    assert {topic: len(found) for topic, found in first.items()} == {
        topic: len(found) for topic, found in second.items()
    }
    first.pop(REPORT), second.pop(REPORT)
    assert first == second


def reference(types, number, meters=2.0):
    depth = np.full((24, 32), meters, np.float32)
    depth[::2] = meters * 2
    at = stamp_of(number)
    return Line(DEPTH, IMAGE, at + 4_000_000, types.image(at, depth, "32FC1"))


@pytest.mark.parametrize("kind", ["sqlite3", "mcap", "ros1"])
def test_every_kind_of_bag_gives_the_same_messages(go, out, tmp_path, kind):
    summary, problems = go(write(tmp_path / "bag", camera_lines(Types(kind == "ros1"), 3), kind))
    assert (summary.images, summary.answered, problems) == (3, 3, [])
    found = messages(out)
    assert [m.header.stamp.nanosec for m in found[DISPARITY]] == [0, 100_000_000, 200_000_000]
    assert found[DISPARITY][0].header.frame_id == "optical"
    assert image_array(found[DISPARITY][0]).shape == (24, 32)
    assert list(found[REPORT][0].tasks) == ["depth"]
    assert np.isnan(found[REPORT][0].age_ms)
    assert not (tmp_path / "out.mcap.parts").exists()
    # the time of reception is kept, so that outputs play beside the inputs
    assert [at for at, _ in read(out)[DISPARITY]] == [stamp_of(i) + 5_000_000 for i in range(3)]


def test_metres_from_a_reference_with_its_camera_info(go, out, tmp_path):
    types = Types()
    lines = camera_lines(types, 3)
    go(write(tmp_path / "plain", lines), out="plain.mcap")
    truth = []
    for number, message in enumerate(messages(tmp_path / "plain.mcap")[DISPARITY]):
        truth.append(1 / (0.5 * image_array(message) + 0.25))
        image = types.image(stamp_of(number), truth[-1], "32FC1")
        lines.append(Line(DEPTH, IMAGE, stamp_of(number) + 9_000_000, image))
    bag = write(tmp_path / "bag", lines)
    go(bag, values={"scale.source": "reference"}, reference=DEPTH, keep_inputs=True)
    found = messages(out)
    assert len(found["/diception/points"]) == 3
    for message, meters in zip(found["/diception/depth/image"], truth, strict=True):
        np.testing.assert_allclose(image_array(message), meters, rtol=1e-3)
    # the info comes 1 ms after its image: it is waited for
    assert [m.header.stamp for m in found["/diception/depth/camera_info"]] == [
        m.header.stamp for m in found[CAMERA]
    ]
    assert [len(found[topic]) for topic in (CAMERA, INFO, DEPTH)] == [3, 3, 3]
    assert bytes(found[CAMERA][2].data) == picture(2).tobytes()


@pytest.mark.parametrize("moving", [False, True])
def test_a_reference_in_another_frame_is_placed_by_tf(go, out, tmp_path, moving):
    types = Types()
    lines = camera_lines(types, 1)
    go(write(tmp_path / "plain", lines), out="plain.mcap")
    disparity = image_array(messages(tmp_path / "plain.mcap")[DISPARITY][0])
    truth = (1 / (0.5 * disparity + 0.25)).astype(np.float64)
    rows, columns = np.mgrid[:24, :32]
    points = np.stack([(columns - 15.5) * truth / 30, (rows - 11.5) * truth / 30, truth], axis=2)
    # the lidar looks along x, z up, half a metre behind the camera
    in_lidar = np.stack([points[..., 2] + 0.5, -points[..., 0], -points[..., 1]], axis=2)
    cloud = types.cloud(stamp_of(0), in_lidar.reshape(-1, 3).astype(np.float32), "lidar")
    lines.append(Line("/lidar", "sensor_msgs/msg/PointCloud2", stamp_of(0), cloud))
    turn, kind = (0.5, -0.5, 0.5, 0.5), "tf2_msgs/msg/TFMessage"
    if moving:  # half a metre at the time of the image, which lies between the two
        for number, back in ((-1, 0.25), (2, 1.0)):
            at = stamp_of(number)
            pose = types.transforms("optical", "lidar", (0.0, 0.0, -back), turn, at)
            lines.append(Line("/tf", kind, at, pose))
    else:
        pose = types.transforms("optical", "lidar", (0.0, 0.0, -0.5), turn)
        lines.append(Line("/tf_static", kind, stamp_of(0), pose))
    values = {"scale.source": "reference", "scale.reference.use_tf": True}
    _, problems = go(write(tmp_path / "bag", lines), values=values, reference="/lidar")
    assert problems == []
    (meters,) = messages(out)["/diception/depth/image"]
    np.testing.assert_allclose(image_array(meters), truth, rtol=0.01)
    lines = [line for line in lines if not line.topic.startswith("/tf")]
    _, problems = go(
        write(tmp_path / "no_tf", lines), values=values, reference="/lidar", out="no_tf.mcap"
    )
    assert "no transform from 'lidar' to 'optical' at 1700000000.000 s in" in problems[0].cause


def test_compressed_images_and_the_topic_is_found(go, tmp_path, out):
    types = Types()
    kind = "sensor_msgs/msg/CompressedImage"
    raw = camera_lines(types, 2)
    small = [
        Line(
            "/cam/image/compressed", kind, line.received, types.compressed(stamp_of(i), picture(i))
        )
        for i, line in enumerate(raw[::2])
    ]
    go(write(tmp_path / "small", small))
    first = messages(out)[DISPARITY]
    go(write(tmp_path / "raw", raw), out="raw.mcap")
    second = messages(tmp_path / "raw.mcap")[DISPARITY]
    assert [bytes(m.data) for m in first] == [bytes(m.data) for m in second]


def test_every_nth_and_from_to(go, out, tmp_path):
    bag = write(tmp_path / "bag", camera_lines(Types(), 10))
    told = []
    summary, _ = go(bag, every=2, start=0.25, stop=0.75, on_progress=lambda *one: told.append(one))
    assert summary.answered == 3
    assert told[-1] == (bag, 5, 6)  # of about as many as the window holds, not of ten
    at = [m.header.stamp.nanosec // PERIOD for m in messages(out)[DISPARITY]]
    assert at == [3, 5, 7]


CLICK = "geometry_msgs/msg/PointStamped"
CLICKED, MASK, DEPTH_OUT = "/clicked", "/diception/point/mask", "/diception/depth/image"
WINDOW = {"values": {"tasks": ["depth", "point"], "scale.source": "fixed"}, "prompts": CLICKED}


def said_once(types, count):
    """Images, one camera info and a click before all of them, and a click that is cut off."""
    click = types(CLICK, types.header(stamp_of(0)), types("geometry_msgs/msg/Point", 9.0, 9.0, 0.0))
    info = types.info(stamp_of(0))
    cut = bytes(types.store.serialize_cdr(click, CLICK))[:20]
    yield from (line for line in camera_lines(types, count) if line.topic == CAMERA)
    yield Line(INFO, "sensor_msgs/msg/CameraInfo", stamp_of(0), info)
    yield Line(CLICKED, CLICK, stamp_of(0), click)
    yield Line(CLICKED, CLICK, stamp_of(3), cut)


@pytest.mark.parametrize("kind", ["mcap", "sqlite3"])
@pytest.mark.parametrize("start", [0.5, 2.0, 2.5])
def test_what_was_said_before_the_window_still_holds(go, out, tmp_path, kind, start):
    bag = write(tmp_path / "bag", list(said_once(Types(), 30)), kind)
    go(bag, out="whole.mcap", **WINDOW)
    summary, problems = go(bag, start=start, **WINDOW)
    whole, found = read(tmp_path / "whole.mcap"), read(out)
    asked = 30 - round(10 * start)
    assert (summary.answered, len(found[MASK]), len(found[DEPTH_OUT])) == (asked, asked, asked)
    for topic in whole.keys() - {REPORT}:
        assert found[topic] == whole[topic][-asked:]
    ((topic, time, cause),) = [(one.topic, one.time, one.cause) for one in problems]
    assert (topic, time) == (CLICKED, stamp_of(3))
    assert cause.startswith(f"damaged {CLICK}")


def moving(types, count):
    """TF: 10 Hz of odom, received 2 ms behind the camera info; where the camera is mounted."""
    kind, straight = "tf2_msgs/msg/TFMessage", (0.0, 0.0, 0.0, 1.0)
    mounted = types.transforms("base", "optical", (0.0, 0.0, 1.0), straight)
    yield Line("/tf_static", kind, stamp_of(0), mounted)
    for number in range(count):
        at = stamp_of(number)
        pose = types.transforms("odom", "base", (number, 0.0, 0.0), straight, at)
        yield Line("/tf", kind, at + 8_000_000, pose)


def test_all_that_comes_with_the_images_is_copied(go, out, tmp_path):
    types = Types()
    bag = write(tmp_path / "bag", [*camera_lines(types, 5), *moving(types, 7)])
    go(bag, keep_inputs=True)
    whole, found = read(bag), read(out)
    assert {topic: found[topic] for topic in whole} == whole


def test_a_copy_of_a_window_plays_by_itself(go, out, tmp_path):
    types = Types()
    lines = [*said_once(types, 40), *moving(types, 40)]
    lines += [reference(types, number) for number in range(40)]
    bag = write(tmp_path / "bag", lines)
    # the last image comes half a millisecond before the end, its pose behind it
    go(bag, start=2.0, stop=3.0055, keep_inputs=True, **WINDOW)
    found = read(out)
    assert [at for at, _ in found[CAMERA]] == [stamp_of(i) + 5_000_000 for i in range(20, 31)]
    begin = stamp_of(10)  # a second earlier, for what belongs to the first image
    for topic in ("/tf_static", INFO, CLICKED):
        assert found[topic] == [(begin, read(bag)[topic][0][1])]
    assert [at for at, _ in found["/tf"]] == [stamp_of(i) + 8_000_000 for i in range(10, 32)]
    go(out, out="again.mcap", camera=CAMERA, **WINDOW)
    again = read(tmp_path / "again.mcap")
    assert len(again[MASK]) == len(again[DEPTH_OUT]) == 11
    for topic in again.keys() - {REPORT}:
        assert again[topic] == found[topic]


def test_of_a_bag_without_an_image_in_the_window_nothing_is_copied(go, out, tmp_path):
    types = Types()
    lines = [*camera_lines(types, 5), *moving(types, 30)]
    go(write(tmp_path / "bag", lines), start=2.0, keep_inputs=True)
    assert read(out) == {}


def test_bad_messages_are_left_out_and_counted(go, out, tmp_path):
    types, lines = Types(), camera_lines(Types(), 6)
    cut = types.image(stamp_of(6), picture(6), data=np.zeros(100, np.uint8))
    strange = types.image(stamp_of(7), picture(7), "vendor12")
    short = bytes(types.store.serialize_cdr(lines[0].message, IMAGE))[:50]
    back = types.image(stamp_of(2), picture(2))
    for number, message in enumerate((cut, strange, short, back), 6):
        lines.append(Line(CAMERA, IMAGE, stamp_of(number) + 5_000_000, message))
    summary, problems = go(write(tmp_path / "bag", lines))
    assert (summary.images, summary.answered) == (10, 7)
    causes = [(one.topic, one.time, one.cause) for one in problems]
    for number, words in enumerate(
        (
            "truncated image: 32x24 'rgb8' with step 96 needs 2304 bytes, got 100",
            "encoding 'vendor12' does not become rgb8",
            "damaged sensor_msgs/msg/Image of 50 bytes",
            "time jumped back by 0.500 s",
        ),
        6,
    ):
        topic, time, cause = causes[number - 6]
        assert (topic, time) == (CAMERA, stamp_of(number) + 5_000_000)
        assert words in cause
    assert sum(summary.problems.values()) == 4


def test_a_missing_camera_info_costs_the_metres_alone(go, out, tmp_path):
    lines = [line for line in camera_lines(Types(), 2) if line.topic == CAMERA]
    summary, problems = go(write(tmp_path / "bag", lines), values={"scale.source": "fixed"})
    assert summary.answered == 2
    assert set(read(out)) == {DISPARITY, REPORT, "/diception/depth/image_color"}
    assert ["no camera info has come" in one.cause for one in problems] == [True, True]
    assert {one.topic for one in problems} == {INFO}


def test_an_unreadable_bag_among_others_is_left_out(go, out, tmp_path):
    (tmp_path / "bad.mcap").write_bytes(b"")
    first = write(tmp_path / "one", camera_lines(Types(), 2))
    second = write(tmp_path / "two", camera_lines(Types(), 2, 5))
    summary, problems = go(first, tmp_path / "bad.mcap", second)
    assert summary.answered == 4
    assert "the bag is left out" in problems[0].cause
    with pytest.raises(ValueError, match=r"bad.mcap cannot be read as a bag"):
        go(tmp_path / "bad.mcap", out="other.mcap")


class Killed(BaseException):
    """As if the process had been killed: nothing is tidied up."""


def killer(stop):
    """on_progress that kills the run at image number `stop`."""
    answered = count(1)

    def kill(*_):
        if next(answered) == stop:
            raise Killed

    return kill


def test_the_next_bag_knows_nothing_of_the_scale_of_the_one_before(go, out, tmp_path):
    """Two drives, the second with another scale and a reference that is late."""
    types, bags = Types(), []
    for first, begin, scale in ((0, 0, 0.5), (8, 13, 5.0)):
        lines = camera_lines(types, 8, first)
        go(write(tmp_path / f"plain{first}", lines), out=f"plain{first}.mcap")
        plain = messages(tmp_path / f"plain{first}.mcap")[DISPARITY]
        for number, message in list(enumerate(plain, first))[begin - first :]:
            metres = 1 / (scale * image_array(message) + 0.25 * scale)
            image = types.image(stamp_of(number), metres.astype(np.float32), "32FC1")
            lines.append(Line(DEPTH, IMAGE, stamp_of(number) + 4_000_000, image))
        bags.append(write(tmp_path / f"bag{first}", lines))
    values = {"scale.source": "reference", "scale.smoothing": 0.8, "scale.hold": 5.0}
    options = {"values": values, "reference": DEPTH}
    go(*bags, **options)
    found = read(out)
    first, second = (go(bag, out=f"{bag.name}.mcap", **options)[0] for bag in bags)
    assert (first.answered, second.answered) == (8, 8)
    first, second = (read(tmp_path / f"{bag.name}.mcap") for bag in bags)
    assert len(second[DEPTH_OUT]) == 5  # from 11 on: a reference may come 0.2 s after its image
    for topic in found.keys() - {REPORT}:
        assert found[topic] == first[topic] + second[topic]


def test_a_killed_run_goes_on_and_writes_nothing_twice(go, out, tmp_path, monkeypatch):
    types = Types()
    lines = camera_lines(types, 12) + [reference(types, n) for n in range(5)]
    later = camera_lines(types, 12, 12) + [reference(types, n) for n in range(18, 23)]
    bags = [tmp_path / "looped", write(tmp_path / "later", later)]
    late = types.image(stamp_of(2), picture(2))
    write(bags[0], [*lines, Line(CAMERA, IMAGE, stamp_of(3) + 7_000_000, late)])
    # smoothing: the scale of an image depends on all before it, so its past must survive the kill
    values = {"scale.source": "reference", "scale.max_residual": 10.0, "scale.smoothing": 0.5}
    options = {"values": values, "reference": DEPTH}
    straight, _ = go(*bags, out="straight.mcap", **options)
    for bag in bags:  # the first is no past of the second
        go(bag, out=f"{bag.name}.mcap", **options)
    apart = [one for bag in bags for one in read(tmp_path / f"{bag.name}.mcap")[DEPTH_OUT]]
    assert sorted(read(tmp_path / "straight.mcap")[DEPTH_OUT]) == sorted(apart)

    monkeypatch.setattr(output, "PART_SECONDS", 0.0)  # a part an image
    before = 0
    for stop in (4, 15):
        with pytest.raises(Killed):
            go(*bags, resume=True, on_progress=killer(stop), **options)
        parts = sorted((tmp_path / "out.mcap.parts").glob("*.mcap"))
        before += stop
        assert len(parts) == before
        assert DISPARITY in read(parts[-1])  # each is whole
    summary, _ = go(*bags, resume=True, **options)
    same(out, tmp_path / "straight.mcap")
    assert (summary.answered, summary.problems) == (straight.answered, straight.problems)
    assert summary.answered == 25
    again, _ = go(*bags, resume=True, **options)
    assert again == summary


def test_a_run_killed_behind_the_last_image_goes_on_with_what_is_left(
    go, out, tmp_path, monkeypatch
):
    types = Types()
    bag = write(tmp_path / "bag", [*camera_lines(types, 5), *moving(types, 7)])
    go(bag, out="straight.mcap", keep_inputs=True)
    monkeypatch.setattr(output, "PART_SECONDS", 0.0)
    with pytest.raises(Killed):
        go(bag, on_progress=killer(5), keep_inputs=True)
    assert len(list(tmp_path.glob("out.mcap.parts/*.mcap"))) == 5
    go(bag, resume=True, keep_inputs=True)
    same(out, tmp_path / "straight.mcap")
    assert len(read(out)["/tf"]) == 7


def test_a_run_is_not_mixed_with_another(go, out, tmp_path, monkeypatch):
    bag = write(tmp_path / "bag", camera_lines(Types(), 3))

    monkeypatch.setattr(output, "PART_SECONDS", 0.0)
    with pytest.raises(Killed):
        go(bag, on_progress=killer(1))
    with pytest.raises(ValueError, match="holds an unfinished run: go on with --resume"):
        go(bag)
    with pytest.raises(ValueError, match=r"other settings \(seed was None, is 3\)"):
        go(bag, resume=True, values={"seed": 3})
    go(bag, resume=True)
    with pytest.raises(ValueError, match=r"out.mcap exists: choose another --out"):
        go(bag)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"values": {"tasks": ["normal"]}}, r"tasks was \['depth'\], is \['normal'\]"),
        ({"values": {"seed": 5}}, r"seed was None, is 5"),
        ({"bag": "other"}, r"bags was \['.*/bag'\], is \['.*/other'\]"),
        ({"start": 0.1}, r"start was None, is 0\.1"),
        ({"every": 2}, r"every was 1, is 2"),
        ({"keep_inputs": True}, r"keep_inputs was False, is True"),
        ({"batch": 2}, r"batch was 1, is 2"),
    ],
)
@pytest.mark.parametrize("complete", [True, False])
def test_another_job_is_not_taken_for_done(
    go, out, tmp_path, monkeypatch, complete, options, words
):
    write(tmp_path / "other", camera_lines(Types(), 4))
    bag, options = write(tmp_path / "bag", camera_lines(Types(), 3)), dict(options)
    monkeypatch.setattr(output, "PART_SECONDS", 0.0)
    if complete:
        done, _ = go(bag)
    else:
        with pytest.raises(Killed):
            go(bag, on_progress=killer(2))
    with pytest.raises(ValueError, match=rf"was written with other settings \({words}\): give the"):
        go(tmp_path / options.pop("bag", "bag"), resume=True, **options)
    monkeypatch.chdir(tmp_path)
    summary, _ = go(bag.relative_to(tmp_path), resume=True)  # the same bag by another name
    assert (summary.answered, len(read(out)[DISPARITY])) == (3, 3)
    assert not complete or summary == done


def test_a_full_disk_is_one_line_and_nothing_written_is_lost(go, out, tmp_path, monkeypatch):
    bag = write(tmp_path / "bag", camera_lines(Types(), 6))
    monkeypatch.setattr(output, "PART_SECONDS", 0.0)
    close = McapFile.close

    def full(self, metadata):
        if self.path.name == "00003.mcap":
            raise OSError(errno.ENOSPC, "No space left on device")
        close(self, metadata)

    monkeypatch.setattr(McapFile, "close", full)
    with pytest.raises(DiskFullError, match=r"is full after 3 images: the parts in .* are whole"):
        go(bag)
    parts = sorted(tmp_path.glob("out.mcap.parts/*"))
    assert [len(read(part)[DISPARITY]) for part in parts] == [1, 1, 1]
    monkeypatch.setattr(McapFile, "close", close)
    summary, _ = go(bag, resume=True)
    assert (summary.answered, len(read(out)[DISPARITY])) == (6, 6)


def test_a_nearly_full_disk_has_room_for_the_part_in_work(go, out, tmp_path, monkeypatch):
    bag = write(tmp_path / "bag", camera_lines(Types(), 6))
    free = (room for room in (2 * output.ROOM, output.ROOM, output.ROOM - 1))
    with monkeypatch.context() as patch:
        patch.setattr(output.shutil, "disk_usage", lambda _: SimpleNamespace(free=next(free, 0)))
        with pytest.raises(DiskFullError, match="is full after 3 images"):
            go(bag)
    (part,) = tmp_path.glob("out.mcap.parts/*")
    assert len(read(part)[DISPARITY]) == 3
    summary, _ = go(bag, resume=True)
    assert (summary.answered, len(read(out)[DISPARITY])) == (6, 6)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"camera": "/none"}, "--camera /none is not in the bag; of that kind it has /cam/image"),
        ({"camera": INFO}, "is of type sensor_msgs/msg/CameraInfo, expected sensor_msgs/msg/Image"),
        ({"reference": "/lidar"}, "--scale reference /lidar is not in the bag"),
        ({"every": 0}, "--every must be at least 1, got 0"),
        ({"start": 2.0, "stop": 1.0}, "--from must lie before --to"),
        ({"out": "out.bag"}, "--out must end in .mcap"),
        ({"node": "diception"}, "--node must be a full name like /robot/diception"),
        ({"batch": -1}, "--batch must be within 0 and 256"),
        ({"values": {"cameras": ["a", "b"]}}, "give one --camera a run instead"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_is_written(go, tmp_path, options, words):
    bag = write(tmp_path / "bag", camera_lines(Types(), 1))
    with pytest.raises(ValueError, match=words):
        go(bag, **options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bag"]


def test_two_cameras_must_be_told_apart(go, tmp_path):
    types = Types()
    other = Line("/rear/image", IMAGE, stamp_of(0), types.image(stamp_of(0), picture(0)))
    bag = write(tmp_path / "bag", [*camera_lines(types, 1), other])
    with pytest.raises(ValueError, match="say which --camera; it has /cam/image, /rear/image"):
        go(bag)
    summary, _ = go(bag, camera="/rear/image")
    assert summary.answered == 1

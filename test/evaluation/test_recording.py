# SPDX-License-Identifier: Apache-2.0
"""A bag as the node would write it, with known errors in it, judged against topic and folder."""

import json
import math
import weakref
from dataclasses import replace

import cv2
import numpy as np
import pytest
import yaml
from rosbags.rosbag2 import StoragePlugin, Writer
from rosbags.typesys import Stores, get_types_from_msg, get_typestore

from diception_ros.cli import run
from diception_ros.evaluation import recorded_truth
from diception_ros.evaluation.figures import Draws
from diception_ros.evaluation.offline.sources import is_bag
from diception_ros.evaluation.protocols.presets import find_preset
from diception_ros.evaluation.recorded_plan import BagPlan
from diception_ros.evaluation.recorded_truth import named_topics, stamp_of
from diception_ros.evaluation.recording import evaluate_bag
from diception_ros.evaluation.system import Report, frame_name, report_curves, report_figures
from diception_ros.evaluation.truths import Rules

MS, SECOND = 10**6, 10**9
SIZE = (24, 32)
FRAMES = 40
RULES = Rules(find_preset("plain"))
REPORT = """
std_msgs/Header header
string[] tasks
string[] stages
float32[] durations
float32 age_ms
uint16 batch
uint16 steps
bool graph_replayed
uint32 dropped
"""
TRUTH = np.linspace(1, 5, SIZE[0] * SIZE[1], dtype=np.float32).reshape(SIZE)


class Bag:
    """A bag under construction; frame i is stamped i tenths of a second after one second."""

    def __init__(self, writer):
        self.writer, self.connections = writer, {}
        self.types = get_typestore(Stores.ROS2_JAZZY)
        self.types.register(get_types_from_msg(REPORT, "diception_ros/msg/FrameReport"))

    def add(self, topic, kind, stamp, received=None, **fields):
        time = self.types.types["builtin_interfaces/msg/Time"](*divmod(stamp, SECOND))
        header = self.types.types["std_msgs/msg/Header"](time, "camera")
        message = self.types.types[kind](header=header, **fields)
        if topic not in self.connections:
            self.connections[topic] = self.writer.add_connection(topic, kind, typestore=self.types)
        data = self.types.serialize_cdr(message, kind)
        self.writer.write(self.connections[topic], received or stamp, data)

    def image(self, topic, values, encoding, stamp, received=None):
        data = np.ascontiguousarray(values).view(np.uint8).reshape(-1)
        shape = {"height": values.shape[0], "width": values.shape[1]}
        layout = {"encoding": encoding, "is_bigendian": 0, "step": data.size // shape["height"]}
        kind = "sensor_msgs/msg/Image"
        self.add(topic, kind, stamp, received, **shape, **layout, data=data)

    def report(self, stamp, age, dropped=0):
        stages = {"stages": ["denoise"], "durations": np.array([age / 2], np.float32)}
        self.add(
            "/diception/frame_report",
            "diception_ros/msg/FrameReport",
            stamp,
            tasks=["depth"],
            **stages,
            age_ms=age,
            batch=1,
            steps=1,
            graph_replayed=False,
            dropped=dropped,
        )


def stamp_at(i):
    return SECOND + i * 100 * MS


def write_bag(path, frames=FRAMES, *, scale=1.1, truth_shift=5 * MS, size=SIZE):
    """Depth is off by `scale`, the relative disparity right but for scale and shift; truth comes a
    little later than its image, in millimetres. Frame 3 holds a broken image."""
    millimetres = np.rint(TRUTH * 1000).astype(np.uint16)[: size[0], : size[1]]
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        bag = Bag(writer)
        for i in range(frames):
            stamp = stamp_at(i)
            rgb = np.full((*SIZE, 3), (10 * i) % 255, np.uint8)
            bag.image("/camera/image", rgb, "bgr8", stamp)
            depth = scale * TRUTH
            depth[0] = np.nan  # a row of 24 without an answer
            bag.image("/diception/depth/image", depth, "32FC1", stamp)
            disparity = (1 / TRUTH + 0.1) / 2
            bag.image("/diception/disparity_relative/image", disparity, "32FC1", stamp)
            bag.report(stamp, age=20.0 + i, dropped=int(i % 4 == 3))
            bag.image("/depth/truth", millimetres, "16UC1", stamp + truth_shift)
        bag.image("/diception/normals/image", np.zeros(SIZE, np.uint8), "8UC1", stamp_at(3))
    return path


def values(results):
    found = {}
    for figure in results.figures:
        metric, estimate = figure.metric, figure.estimate(results.draws)
        found[metric.task, metric.protocol.split(",")[0], metric.name] = estimate
    return found


@pytest.fixture(scope="module")
def bag(tmp_path_factory):
    return write_bag(tmp_path_factory.mktemp("recorded") / "bag")


@pytest.fixture(scope="module")
def judged(bag):
    return evaluate_bag(bag, BagPlan(RULES, topics=("/depth/truth",)))


def test_metres_and_relative_disparity_are_judged_apart(judged):
    found = values(judged[0])
    assert found["depth", "metric", "abs_rel"].value == pytest.approx(0.1, abs=1e-3)
    assert found["depth", "metric", "abs_rel"].frames == FRAMES
    assert found["depth", "metric", "coverage"].value == pytest.approx(23 / 24)
    assert found["depth", "affine disparity", "abs_rel"].value < 1e-3
    assert ("depth", "affine depth", "abs_rel") not in found


def test_how_the_node_ran(judged):
    found = values(judged[0])
    recorded = "frame reports of the recording"
    assert found["system", recorded, "latency mean"].value == pytest.approx(39.5)
    assert found["system", recorded, "latency p50"].value == pytest.approx(39.5)
    assert found["system", recorded, "latency p95"].value == pytest.approx(57.05, abs=0.01)
    assert found["system", recorded, "rate"].value == pytest.approx(10)
    assert found["system", recorded, "share of images dropped"].value == pytest.approx(10 / 50)
    assert found["system", recorded, "stage denoise"].value == pytest.approx(39.5 / 2)
    whole = found["system", "share of all pixels", "coverage of depth"]
    assert whole.value == pytest.approx(23 / 24)
    moved = "change between successive frames"
    assert found["system", moved, "flicker of disparity"].value == 0
    assert judged[0].curves["system"]["dropped"].count(1) == 10


def test_frames_are_drawn_by_the_second(judged):
    assert len(set(judged[0].draws.groups.values())) == 4
    assert isinstance(judged[0].draws, Draws)


def test_the_frames_shown_carry_the_cameras_picture(judged):
    ranks = [one.rank for one in judged[1] if one.task == "depth"]
    assert ranks == ["best", "median", "worst"]
    shown = judged[1][0]
    level = shown.panels.pictures[0][1]
    index = (int(shown.frame.replace(".", "")) - SECOND) // (100 * MS)
    assert (level == (10 * index) % 255).all()


def test_the_picture_is_a_cameras_whatever_its_rows_and_no_mask_of_others(tmp_path):
    padded = np.full((SIZE[0], SIZE[1] * 3 + 4), 77, np.uint8)
    padded[:, -4:] = 0
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        bag = Bag(writer)
        bag.image("/other/entity/mask", np.ones(SIZE, np.uint8), "mono8", SECOND)
        shape = {"height": SIZE[0], "width": SIZE[1], "step": padded.shape[1]}
        layout = {"encoding": "rgb8", "is_bigendian": 0, "data": padded.reshape(-1)}
        bag.add("/camera/image", "sensor_msgs/msg/Image", SECOND, **shape, **layout)
        for topic in ("/diception/depth/image", "/depth/truth"):
            bag.image(topic, TRUTH, "32FC1", SECOND)
    _, shown = evaluate_bag(tmp_path / "bag", BagPlan(RULES, topics=("/depth/truth",)))
    assert (shown[0].panels.pictures[0][1] == 77).all()


def test_a_broken_image_is_named_and_the_rest_is_judged(judged):
    (skipped,) = judged[0].skipped
    assert skipped.name == "1.300000000"
    assert "/diception/normals/image: image encoding '8UC1'" in skipped.cause


def test_without_truth_the_node_itself_is_judged(bag):
    results, shown = evaluate_bag(bag, BagPlan(RULES))
    assert {figure.metric.task for figure in results.figures} == {"system"}
    assert shown == []


def test_a_folder_named_by_stamps_is_truth_as_well(bag, tmp_path):
    from diception_ros.evaluation.datasets import open_dataset

    for folder in ("rgb", "depth"):
        (tmp_path / folder).mkdir()
    for i, name in ((2, "1.200000000"), (5, str(stamp_at(5)))):
        cv2.imwrite(str(tmp_path / f"rgb/{name}.png"), np.full((*SIZE, 3), i, np.uint8))
        np.save(tmp_path / f"depth/{name}.npy", TRUTH)
    content = {"images": "rgb", "depth": {"folder": "depth"}}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content))
    results, shown = evaluate_bag(bag, BagPlan(RULES, truth=open_dataset(tmp_path)))
    found = values(results)["depth", "metric", "abs_rel"]
    assert (found.frames, found.value) == (2, pytest.approx(0.1, abs=1e-6))
    assert results.subject["judged against it"] == 2
    assert {one.frame for one in shown} == {"1.200000000", "1.500000000"}


def test_names_without_a_stamp_say_so(bag, tmp_path):
    from diception_ros.evaluation.datasets import open_dataset

    for folder in ("rgb", "depth"):
        (tmp_path / folder).mkdir()
    cv2.imwrite(str(tmp_path / "rgb/first.png"), np.zeros((*SIZE, 3), np.uint8))
    np.save(tmp_path / "depth/first.npy", TRUTH)
    content = {"images": "rgb", "depth": {"folder": "depth"}}
    (tmp_path / "data.yaml").write_text(yaml.safe_dump(content))
    with pytest.raises(ValueError, match=r"named by their stamp.*found first"):
        evaluate_bag(bag, BagPlan(RULES, truth=open_dataset(tmp_path)))


def test_truth_too_far_in_time_is_none(bag):
    plan = BagPlan(RULES, topics=("/depth/truth",), slop=0.001)
    assert evaluate_bag(bag, plan)[0].subject["judged against it"] == 0


def test_another_size_says_what_to_do(tmp_path):
    bag = write_bag(tmp_path / "bag", 2, size=(12, 16))
    results, _ = evaluate_bag(bag, BagPlan(RULES, topics=("/depth/truth",)))
    causes = {one.cause for one in results.skipped}
    assert any("different sizes (16x12, 32x24): register the depth" in cause for cause in causes)


def test_the_command_judges_a_bag_and_names_what_it_skipped(bag, tmp_path, capsys):
    out = tmp_path / "out"
    options = ["--against", "/depth/truth", "--out", str(out)]
    assert run(["evaluate", str(bag), *options]) == 3  # one image was broken
    assert "1 frames skipped" in capsys.readouterr().out
    assert "1.300000000" in (out / "index.html").read_text("utf-8")
    again = tmp_path / "again"
    assert (
        run(["evaluate", str(bag), *options[:2], "--out", str(again), "--compare", str(out)]) == 3
    )
    text = (again / "index.html").read_text("utf-8")
    assert "0 of" in text
    assert "no difference shown" in text
    assert run(["evaluate", str(bag), "--against", str(tmp_path), *options]) == 2
    assert "--against takes one folder or some topics, not both" in capsys.readouterr().err


@pytest.mark.parametrize(
    "options", [["--bundle", "."], ["--answers", "."], ["--task", "depth"], ["--limit", "3"]]
)
def test_what_does_not_go_with_a_bag_is_not_passed_over(bag, tmp_path, capsys, options):
    """Or the recorded answers would be taken for those of the bundle that was named."""
    asked = ["evaluate", str(bag), "--against", "/depth/truth", "--out", str(tmp_path / "out")]
    assert run([*asked, *options]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert f"{options[0]} is for data sets: a bag is judged by what was recorded" in line
    assert not (tmp_path / "out").exists()


def test_on_ray_the_results_are_those_of_one_process(bag, tmp_path, ray_here):
    options = ["evaluate", str(bag), "--against", "/depth/truth", "--out"]
    assert run([*options, str(tmp_path / "here")]) == 3
    assert run([*options, str(tmp_path / "there"), "--ray"]) == 3
    texts = [(tmp_path / name / "results.json").read_text() for name in ("here", "there")]
    assert texts[0] == texts[1]


def test_mistakes_are_one_line(bag, tmp_path):
    with pytest.raises(ValueError, match=r"nothing on --against /nope, only on /camera/image"):
        evaluate_bag(bag, BagPlan(RULES, topics=("/nope",)))
    with pytest.raises(ValueError, match=r"holds no output of /other.*'diception bag'"):
        evaluate_bag(bag, BagPlan(RULES, node="/other"))
    with pytest.raises(ValueError, match="a relative disparity is no truth"):
        BagPlan(RULES, topics=("/a/disparity_relative/image",))
    with pytest.raises(ValueError, match="slop must be 0 s or more, got -1"):
        BagPlan(RULES, slop=-1)
    with pytest.raises(ValueError, match="cannot be read as a bag"):
        evaluate_bag(tmp_path, BagPlan(RULES))


def test_topics_and_folders_are_told_apart(bag, tmp_path):
    assert named_topics(["/depth", str(tmp_path)]) == (("/depth",), [tmp_path])
    with pytest.raises(ValueError, match="neither a folder nor a topic"):
        named_topics(["depth/image"])
    assert is_bag(bag)
    assert not is_bag(tmp_path)
    for name in ("a_0.db3", "a_0.mcap.zstd"):  # of recorders that were killed
        folder = tmp_path / f"of {name}"
        folder.mkdir()
        (folder / "photo.jpg").touch()
        assert not is_bag(folder)
        (folder / name).touch()
        assert is_bag(folder)
    assert stamp_of("a/1700000000123456789") == stamp_of("1700000000.123456789")
    assert stamp_of("1700000000_123456789") == 1700000000123456789
    assert (stamp_of("frame1"), stamp_of("12.5")) == (None, None)


def test_a_run_offline_has_stages_but_no_latency():
    """diception bag reports an age that is not a number: no camera waited."""
    stages = {"denoise": 20.0}
    offline = [Report(n * 10**8, math.nan, stages, 0, graph=False) for n in range(3)]
    draws = Draws({})
    (only,) = report_figures(offline)
    assert (only.metric.name, only.estimate(draws).value) == ("stage denoise", 20.0)
    assert "no latency" in only.metric.protocol
    assert report_curves(offline) == {}
    live = [replace(one, age_ms=30.0) for one in offline]
    figures = {one.metric.name: one.estimate(draws).value for one in report_figures(live)}
    assert (figures["latency p50"], figures["rate"]) == (30.0, pytest.approx(10.0))
    assert report_figures([]) == []


def test_percentiles_are_drawn_by_the_second():
    """The load changes by the second: ten frames of one are hardly more than one."""
    rng = np.random.default_rng(0)
    ages = np.repeat(rng.uniform(20, 80, 30), 10)
    reports = [Report(n * 10**8, float(a), {}, 0, graph=False) for n, a in enumerate(ages)]
    names = [frame_name(one.stamp) for one in reports]
    seconds = Draws({name: name.split(".")[0] for name in names})
    widths = []
    for draws in (Draws(), seconds):
        median = next(
            f for f in report_figures(reports, draws) if f.metric.name == "latency p50"
        ).estimate(draws)
        assert median.value == pytest.approx(np.median(ages))
        widths.append(median.high - median.low)
    assert widths[1] > 2 * widths[0]


def write_times(path, outputs, truths):
    """Depth, 1.1 times too far, and its truth at these times: (stamp, when recorded), ms."""
    every = [("/diception/depth/image", 1.1 * TRUTH, pair) for pair in outputs]
    every += [("/depth/truth", TRUTH, pair) for pair in truths]
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        bag = Bag(writer)
        for topic, values, (stamp, received) in sorted(every, key=lambda one: one[2][1]):
            bag.image(topic, values, "32FC1", stamp * MS, received * MS)
    return path


def judged_of(bag, slop=0.02):
    results, _ = evaluate_bag(bag, BagPlan(RULES, topics=("/depth/truth",), slop=slop))
    assert results.skipped == []
    return results.subject["judged against it"]


def test_a_clock_that_jumps_back_loses_no_frame(tmp_path):
    times = [100_000 + 100 * i for i in range(120)]
    stamps = [time - 50_000 * (i >= 60) for i, time in enumerate(times)]
    truths = [(stamp + 5, time + 20) for stamp, time in zip(stamps, times, strict=True)]
    bag = write_times(tmp_path / "bag", zip(stamps, times, strict=True), truths)
    assert judged_of(bag) == 120


@pytest.mark.parametrize(("rate", "images"), [(10, 121), (30, 361)])
def test_truth_may_be_as_far_as_slop_says(tmp_path, rate, images):
    """Every image has one within 1.5 s, half of them one that is yet to come."""
    stamps = [10_000 + i * 1000 // rate for i in range(images)]
    truths = [(10_000 + 3000 * i, 10_005 + 3000 * i) for i in range(5)]
    bag = write_times(tmp_path / "bag", zip(stamps, stamps, strict=True), truths)
    assert judged_of(bag, slop=1.5) == images


@pytest.mark.parametrize(
    ("answered", "late"),
    [
        (range(550, 600), 0),  # the node was started at the end
        (range(0, 600, 30), 0),  # a node that is much slower than the truth
        (range(0, 600, 100), 12_000),  # and one that needs 12 s an image
    ],
)
def test_only_truth_that_is_needed_is_held(tmp_path, monkeypatch, answered, late):
    held, most = [], []

    def watched(message, topic):
        values = truth_array(message, topic)
        held.append(weakref.ref(values))
        most.append(sum(one() is not None for one in held))
        return values

    truth_array = recorded_truth.truth_array
    monkeypatch.setattr(recorded_truth, "truth_array", watched)
    stamps = [10_000 + 100 * i for i in range(600)]
    outputs = [(stamps[i], stamps[i] + late) for i in answered]
    bag = write_times(tmp_path / "bag", outputs, [(stamp, stamp + 5) for stamp in stamps])
    assert judged_of(bag) == len(answered)
    assert max(most) < 60


def write_normals(path):
    """Three images of normals and of depth that are right, with both truths; of the first image no
    depth is known."""
    up = np.zeros((*SIZE, 3), np.float32)
    up[..., 1] = -1
    with Writer(path, version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        bag = Bag(writer)
        for i in range(3):
            depth = TRUTH * np.float32(i > 0)
            for topic, values, encoding in (
                ("/diception/depth/image", TRUTH, "32FC1"),
                ("/diception/normals/image", up, "32FC3"),
                ("/depth/truth", depth, "32FC1"),
                ("/normals/truth", up, "32FC3"),
            ):
                bag.image(topic, values, encoding, stamp_at(i))
    return path


def test_a_task_that_fails_costs_its_image_nothing_else(tmp_path):
    bag = write_normals(tmp_path / "bag")
    results, _ = evaluate_bag(bag, BagPlan(RULES, topics=("/depth/truth", "/normals/truth")))
    found = values(results)
    assert found["depth", "metric", "abs_rel"].frames == 2
    assert found["normal", "mean over images", "mean"].frames == 3
    assert results.subject["judged against it"] == 3
    (skipped,) = results.skipped
    assert (skipped.name, skipped.cause) == (
        "1.000000000",
        "depth: preset 'plain' leaves 0 valid pixels",
    )


def test_a_folder_of_another_size_is_named(tmp_path):
    bag, data, size = write_normals(tmp_path / "bag"), tmp_path / "data", (12, 16)
    up = np.zeros((*size, 3), np.float32)
    up[..., 1] = -1
    for folder in ("rgb", "normals"):
        (data / folder).mkdir(parents=True)
    cv2.imwrite(str(data / f"rgb/{stamp_at(1)}.png"), np.zeros((*size, 3), np.uint8))
    np.save(data / f"normals/{stamp_at(1)}.npy", up)
    content = {"images": "rgb", "normal": {"folder": "normals", "frame": "optical"}}
    (data / "data.yaml").write_text(yaml.safe_dump(content))
    out = tmp_path / "out"
    assert run(["evaluate", str(bag), "--against", str(data), "--out", str(out)]) == 3
    (skipped,) = json.loads((out / "results.json").read_text())["skipped"]
    assert skipped["name"] == "1.100000000"
    assert "different sizes (16x12, 32x24)" in skipped["cause"]


def test_compressed_truth_is_a_mistake_of_one_line(tmp_path, capsys):
    topic = "/camera/depth/compressedDepth"
    with Writer(tmp_path / "bag", version=9, storage_plugin=StoragePlugin.MCAP) as writer:
        bag = Bag(writer)
        bag.image("/diception/depth/image", TRUTH, "32FC1", stamp_at(0))
        packed = {"format": "16UC1; compressedDepth png", "data": np.zeros(9, np.uint8)}
        bag.add(topic, "sensor_msgs/msg/CompressedImage", stamp_at(0), **packed)
    options = ["--against", topic, "--out", str(tmp_path / "out")]
    assert run(["evaluate", str(tmp_path / "bag"), *options]) == 2
    expected = f"--against {topic} holds sensor_msgs/msg/CompressedImage: expected sensor_msgs"
    assert expected in capsys.readouterr().err

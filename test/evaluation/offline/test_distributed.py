# SPDX-License-Identifier: Apache-2.0
"""Bags on Ray's actors: the same as in one process, with a worker killed in the middle, too."""

from __future__ import annotations

import os
import signal
import sys

import numpy as np
import psutil
import pytest
from recorded import CAMERA, DEPTH, Line, Types, camera_lines, picture, read, stamp_of, write

from diception_ros.evaluation.cluster import Cluster, fitting, start
from diception_ros.evaluation.offline.distributed import DistributedRun, Job, _Item
from diception_ros.evaluation.offline.output import parts_folder
from diception_ros.evaluation.offline.plan import Plan, Slice
from diception_ros.evaluation.offline.run import Run, load, understood
from diception_ros.evaluation.workers import ATTEMPTS, connected
from diception_ros.model import make_random_bundle

IMAGE = "sensor_msgs/msg/Image"
REPORT = "/diception/frame_report"
DISPARITY = "/diception/disparity_relative/image"


@pytest.fixture(scope="module")
def values(tmp_path_factory):
    bundle = make_random_bundle(tmp_path_factory.mktemp("bundle") / "random")
    return {"tasks": ["depth"], "bundle": str(bundle), "device": "cpu", "threads": 1}


@pytest.fixture
def go(ray_here, tmp_path, values):
    """Runs bags on Ray (or here, for the same); the summary and the problems."""

    def run(*bags, out="out.mcap", here=False, resume=False, on_progress=lambda *_: None, **more):
        asked = {**values, **more.pop("values", {})}
        found, parameters = understood(asked)
        plan = Plan(bags, tmp_path / out, parameters, settings=asked, **more)
        problems = []
        if here:
            engine, _ = load(asked, lambda _: None)
            return Run(plan, engine, problems.append, on_progress)(resume=resume), problems
        job = Job.of(plan, asked, found.tasks)
        work = DistributedRun(job, Cluster(), problems.append, on_progress)
        return work(resume=resume), problems

    return run


def same(first, second):
    """Equal, and in the same order, but for the reports, which hold how long it took."""
    first, second = read(first), read(second)
    assert len(first.pop(REPORT)) == len(second.pop(REPORT))
    assert first == second


def workers():
    """Process ids of the actors."""
    mine = psutil.Process().children(recursive=True)
    return [one.pid for one in mine if "ray::_Actor" in " ".join(one.cmdline())]


def test_several_bags_and_a_worker_killed_in_the_middle(go, tmp_path):
    types, lines = Types(), camera_lines(Types(), 150)
    cut = types.image(stamp_of(3), picture(3), data=np.zeros(9, np.uint8))
    lines[6] = Line(CAMERA, IMAGE, lines[6].received, cut)
    (tmp_path / "bad.mcap").write_bytes(b"")
    bags = [write(tmp_path / "long", lines), tmp_path / "bad.mcap"]
    bags.append(write(tmp_path / "short", camera_lines(types, 30, 1000)))
    killed, seen = [], []

    def kill(path, done, total):
        seen.append((path.name, done, total))
        if not killed and done >= 20:
            killed.append(workers()[0])
            os.kill(killed[0], signal.SIGKILL)

    summary, problems = go(*bags, on_progress=kill, keep_inputs=True)
    assert killed and not psutil.pid_exists(killed[0])
    straight, expected = go(*bags, here=True, out="straight.mcap", keep_inputs=True)
    same(tmp_path / "out.mcap", tmp_path / "straight.mcap")
    assert (summary.images, summary.answered) == (straight.images, straight.answered) == (180, 179)
    assert summary.problems == straight.problems
    assert {one.cause for one in problems} == {one.cause for one in expected}
    assert seen[-1][0] == "out.mcap"
    assert seen[-1][1] <= seen[-1][2] == 180
    times = [at for at, _ in read(tmp_path / "out.mcap")[DISPARITY]]
    assert times == sorted(times)
    assert not parts_folder(tmp_path / "out.mcap").exists()


def test_a_scale_with_a_past_is_never_cut(go, tmp_path):
    types, bags = Types(), []
    for begin, late in ((0, 0), (70, 9)):  # what comes late would show a past that is another's
        lines = camera_lines(types, 70, begin)
        for number in range(begin + late, begin + 60):
            depth = np.full((24, 32), 2.0 + number % 7, np.float32)
            depth[::2] *= 2
            image = types.image(stamp_of(number), depth, "32FC1")
            lines.append(Line(DEPTH, IMAGE, stamp_of(number) + 4_000_000, image))
        bags.append(write(tmp_path / f"bag{begin}", lines))
    scale = {"scale.source": "reference", "scale.max_residual": 10.0, "scale.smoothing": 0.5}
    scale["scale.hold"] = 5.0
    options = {"values": scale, "reference": DEPTH}
    summary, _ = go(*bags, **options)
    straight, _ = go(*bags, here=True, out="straight.mcap", **options)
    same(tmp_path / "out.mcap", tmp_path / "straight.mcap")
    assert summary.problems == straight.problems
    assert "/diception/depth/image" in read(tmp_path / "out.mcap")


class Stopped(BaseException):
    """Ctrl-C."""


def test_a_stopped_run_goes_on(go, tmp_path, ray_here):
    bag = write(tmp_path / "bag", camera_lines(Types(), 150))

    def stop(path, done, total):
        raise Stopped

    with pytest.raises(Stopped):
        go(bag, on_progress=stop)
    parts = sorted(tmp_path.glob("out.mcap.parts/*.parts/*.mcap"))
    assert parts and DISPARITY in read(parts[0])
    with pytest.raises(ValueError, match="holds an unfinished run: go on with --resume"):
        go(bag)
    with pytest.raises(ValueError, match="was begun with --ray: go on with it, or remove it"):
        go(bag, here=True, resume=True)
    with pytest.raises(ValueError, match=r"other settings \(seed was None, is 3\)"):
        go(bag, resume=True, values={"seed": 3})
    before = {part: part.stat().st_mtime_ns for part in parts}
    kept, told = [], []

    def look(path, done, total):
        kept.append({part: part.stat().st_mtime_ns for part in parts})
        told.append((done, total))

    summary, _ = go(bag, resume=True, on_progress=look)
    assert kept[0] == before  # nothing was done twice
    assert told[-1] == (150, 150) and told == sorted(told)
    go(bag, here=True, out="straight.mcap")
    same(tmp_path / "out.mcap", tmp_path / "straight.mcap")
    assert summary.answered == 150
    assert go(bag, resume=True)[0] == go(bag, resume=True, here=True)[0] == summary
    with pytest.raises(
        ValueError, match=r"out.mcap was written with other .* \(seed was None, is 3\)"
    ):
        go(bag, resume=True, values={"seed": 3})


def test_begun_in_one_process_is_not_mixed_with_ray(go, tmp_path):
    bag = write(tmp_path / "bag", camera_lines(Types(), 3))

    def stop(*_):
        raise Stopped

    with pytest.raises(Stopped):
        go(bag, here=True, on_progress=stop)
    with pytest.raises(ValueError, match="was begun without --ray: go on without it"):
        go(bag, resume=True)


class Deadly:
    """Ends its own process, as a lack of memory would."""

    def work(self, item):
        if item == "poison":
            os.kill(os.getpid(), signal.SIGKILL)
        if item == "mistake":
            raise ValueError("one line")
        return item


def test_results_come_in_order_and_what_kills_every_worker_is_given_up(ray_here):
    with (
        pytest.raises(ValueError, match="no worker can be started: ModuleNotFoundError"),
        connected(Cluster(), Deadly) as pool,  # its module is not on the workers' path
    ):
        list(pool.map("work", range(3)))
    ray_here.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    with connected(Cluster(workers=2), Deadly) as pool:
        assert list(pool.map("work", range(50))) == list(range(50))
        with pytest.raises(ValueError, match=r"^one line$"):
            list(pool.map("work", [1, "mistake", 2]))
        with pytest.raises(ValueError, match=f"{ATTEMPTS} workers died of poison"):
            list(pool.map("work", ["poison"]))
        assert list(pool.map("work", [7])) == [7]


def test_a_machine_without_the_files_and_one_of_another_kind(go, tmp_path, values):
    found, parameters = understood(values)
    bag = write(tmp_path / "bag", camera_lines(Types(), 1))
    job = Job.of(Plan((bag,), tmp_path / "out.mcap", parameters), values, found.tasks)
    worker = job.worker()
    with pytest.raises(ValueError, match=r"answers on 'CPU.*', others on 'H100', and not with"):
        worker.answer(_Item(0, Slice(0), {"device": "H100"}))
    bag.rename(tmp_path / "moved")
    with pytest.raises(ValueError, match=r"does not see .*/bag: bags and --out must lie where"):
        job.worker()


@pytest.mark.parametrize(
    ("cluster", "resources", "expected"),
    [
        (Cluster(), {"CPU": 8}, (8, 0.0)),
        (Cluster(cpus=2), {"CPU": 8}, (4, 0.0)),
        (Cluster(), {"CPU": 64, "GPU": 4}, (4, 1.0)),
        (Cluster(gpus=0.25), {"CPU": 64, "GPU": 4}, (16, 0.25)),
        (Cluster(gpus=0.4), {"CPU": 64, "GPU": 4}, (8, 0.4)),
        (Cluster(gpus=0.0), {"CPU": 64, "GPU": 4}, (64, 0.0)),
        (Cluster(workers=3, gpus=2), {"CPU": 64, "GPU": 8}, (3, 2)),
    ],
)
def test_as_many_workers_as_fit(cluster, resources, expected):
    found = fitting(cluster, resources)
    assert (found.workers, found.gpus) == expected


def test_what_does_not_fit_is_said():
    with pytest.raises(ValueError, match=r"has room for 0 workers of 1 CPUs and 1 GPUs \(it has 2"):
        fitting(Cluster(gpus=1), {"CPU": 2})
    with pytest.raises(ValueError, match=r"room for 2 workers .* 3 were"):
        fitting(Cluster(workers=3), {"CPU": 2})
    with pytest.raises(ValueError, match=r"a share below 1 or a whole number, got 1\.5"):
        Cluster(gpus=1.5)


@pytest.mark.parametrize(
    ("address", "words"),
    [
        ("127.0.0.1:9", "nothing answers there"),
        ("ray://no.such.machine.invalid:1", "nothing answers there"),
        ("head", "expected auto, HOST:PORT or ray://HOST:PORT"),
    ],
)
def test_an_address_where_nothing_answers(address, words):
    with pytest.raises(ValueError, match=f"--ray {address}: {words}"):
        start(pytest.importorskip("ray", reason="Ray is not installed"), address)


def test_without_ray_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with (
        pytest.raises(ValueError, match=r"pip install ray"),
        connected(Cluster(), Deadly),
    ):
        pass

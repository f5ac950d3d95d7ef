# SPDX-License-Identifier: Apache-2.0
"""The orchestration, with stand-ins for the three processes: no ROS needed."""

import shutil
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from diception_ros.evaluation import demo
from diception_ros.evaluation.demo import DemoError, DemoPlan, Shown, node_arguments, run_demo

STARTED = """
import pathlib
pathlib.Path(__file__).with_suffix(".started").touch()
"""
CAMERA = """
import json, pathlib, time
while not pathlib.Path(__file__).with_name("stand_in_recorder.started").exists():
    time.sleep(0.01)  # the true camera waits for its recorder as well
print("a line that is not an event")
for event in {events!r}:
    print(json.dumps(event), flush=True)
"""
RECORDER = """
import pathlib, signal, sys, threading
ended = threading.Event()
signal.signal(signal.SIGINT, lambda *_: ended.set())
bag = pathlib.Path(sys.argv[sys.argv.index("--out") + 1])
pathlib.Path(__file__).with_suffix(".started").touch()
ended.wait()
bag.mkdir()
(bag / "metadata.yaml").touch()
"""
WAITING = "import threading; threading.Event().wait()"
ROOT = Path(__file__).parents[2]
FRAME = {"event": "frame", "frame": 1, "stamp": 5, "phase": "paced"}


@pytest.fixture
def stand_ins(tmp_path, monkeypatch):
    """Writes modules of the given sources and lets the demo start those."""

    def install(camera, node=WAITING, recorder=RECORDER):
        for name, source in (("camera", camera), ("node", node), ("recorder", recorder)):
            (tmp_path / f"stand_in_{name}.py").write_text(source)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(demo, "PUBLISHER", "stand_in_camera")
        monkeypatch.setattr(demo, "NODE", "stand_in_node")
        monkeypatch.setattr(demo, "RECORDER", "stand_in_recorder")
        return DemoPlan(out=tmp_path)

    return install


def test_events_become_what_was_shown(stand_ins):
    plan = stand_ins(CAMERA.format(events=[{"event": "ready"}, FRAME, {"event": "done"}]))
    seen = []
    assert run_demo(plan, lambda event: seen.append(event["event"])) == [Shown(1, 5, "paced")]
    assert seen == ["ready", "frame", "done"]


def test_it_runs_in_any_thread_and_leaves_signals_as_they_were(stand_ins):
    plan = stand_ins(CAMERA.format(events=[FRAME, {"event": "done"}]))
    before, shown = signal.getsignal(signal.SIGTERM), [Shown(1, 5, "paced")]
    assert run_demo(plan, lambda event: None) == shown
    assert signal.getsignal(signal.SIGTERM) == before
    shutil.rmtree(plan.bag)
    with ThreadPoolExecutor(1) as pool:
        assert pool.submit(run_demo, plan, lambda event: None).result() == shown


def test_a_node_that_dies_is_named_with_its_last_words(stand_ins):
    plan = stand_ins(WAITING, node="raise SystemExit('no such bundle')")
    with pytest.raises(DemoError, match="the node process ended early: no such bundle"):
        run_demo(plan, lambda event: None)


def test_an_error_of_the_camera_is_passed_on(stand_ins):
    plan = stand_ins(CAMERA.format(events=[{"event": "error", "text": "no answer within 3 s"}]))
    with pytest.raises(DemoError, match="no answer within 3 s"):
        run_demo(plan, lambda event: None)


def test_a_camera_that_stops_halfway_is_an_error(stand_ins):
    plan = stand_ins(CAMERA.format(events=[FRAME]) + "raise SystemExit('boom')")
    with pytest.raises(DemoError, match="the camera process ended early: boom"):
        run_demo(plan, lambda event: None)


def test_a_recorder_without_a_bag_is_an_error(stand_ins):
    plan = stand_ins(CAMERA.format(events=[{"event": "done"}]), recorder=STARTED + WAITING)
    with pytest.raises(DemoError, match="the recorder left no bag"):
        run_demo(plan, lambda event: None)


def test_a_recorder_that_dies_while_the_camera_plays_is_an_error(stand_ins):
    """A bag it leaves is whole, but of the first images only: figures would be made of those."""
    dies = RECORDER.replace("ended.wait()", "ended.wait(1)") + "raise SystemExit('disk full')"
    plays = CAMERA.format(events=[FRAME]) + (
        "for _ in range(40):\n"
        "    time.sleep(0.1)\n"
        f"    print(json.dumps({FRAME!r}), flush=True)\n"
        "print(json.dumps({'event': 'done'}), flush=True)\n"
    )
    with pytest.raises(DemoError, match="the recorder process ended early: disk full"):
        run_demo(stand_ins(plays, recorder=dies), lambda event: None)


UNWILLING = """
import pathlib, signal, time
signal.signal(signal.SIGINT, signal.SIG_IGN)
signal.signal(signal.SIGTERM, signal.SIG_IGN)
pathlib.Path(__file__).with_suffix(".pid").write_text(str(__import__("os").getpid()))
time.sleep(60)
"""
PARENT = """
import pathlib, signal, sys
from diception_ros.evaluation import demo
for number in (signal.SIGTERM, signal.SIGHUP):  # ignored where the tests run behind nohup
    signal.signal(number, signal.SIG_DFL)
signal.signal(signal.SIGINT, signal.default_int_handler)  # or in a shell's background
demo.PUBLISHER, demo.NODE, demo.RECORDER = ("stand_in_" + n for n in ("camera", "node", "recorder"))
demo.run_demo(demo.DemoPlan(out=pathlib.Path(sys.argv[1])), lambda event: None)
"""


def gone(pid):
    state = Path(f"/proc/{pid}/stat")
    return not state.exists() or state.read_text().rpartition(")")[2].split()[0] == "Z"


@pytest.mark.parametrize("signals", [[signal.SIGTERM], [signal.SIGHUP], [signal.SIGINT] * 2])
def test_nothing_goes_on_when_the_demo_is_ended(stand_ins, tmp_path, signals):
    """Its processes have a session of their own: a terminal's or a job's end does not reach them.
    SIGINT once more while they are waited for ends those that do not listen."""
    twice = len(signals) > 1
    node = UNWILLING if twice else UNWILLING.replace("signal.SIG_IGN", "signal.SIG_DFL")
    stand_ins(WAITING, node=node)
    parent = subprocess.Popen([sys.executable, "-c", PARENT, str(tmp_path)], cwd=ROOT)
    pid = tmp_path / "stand_in_node.pid"
    wait_until(lambda: pid.exists() and pid.read_text())
    for number in signals:
        parent.send_signal(number)
        time.sleep(1)
    assert parent.wait(10) != 0
    wait_until(lambda: gone(int(pid.read_text())))


def wait_until(done, seconds=20):
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_node_arguments_are_yaml_values():
    arguments = node_arguments({"tasks": ["depth"], "autostart": True, "scale.source": "reference"})
    assert arguments[0] == "--ros-args"
    assert "image:=/camera/image" in arguments
    assert 'tasks:=["depth"]' in arguments
    assert "autostart:=true" in arguments
    assert 'scale.source:="reference"' in arguments


def test_processes_run_in_this_python(stand_ins, tmp_path):
    source = (
        f"import sys, pathlib; pathlib.Path({str(tmp_path / 'who')!r}).write_text(sys.executable)\n"
    )
    plan = stand_ins(source + CAMERA.format(events=[{"event": "done"}]))
    run_demo(plan, lambda event: None)
    assert Path((tmp_path / "who").read_text()).resolve() == Path(sys.executable).resolve()

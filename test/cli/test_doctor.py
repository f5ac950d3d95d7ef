# SPDX-License-Identifier: Apache-2.0
import sys
import types

import pytest

from diception_ros.cli import run
from diception_ros.cli.doctor import (
    State,
    check_conversion,
    check_cuda,
    check_library,
    check_optional,
)
from diception_ros.cli.doctor import doctor as doctor_command
from diception_ros.ros.images import backend


def test_a_library_that_is_there():
    found = check_library("numpy")
    assert found.state is State.OK
    assert found.found[0].isdigit()


def test_a_library_that_is_not_there_fails_with_advice():
    found = check_library("no_such_library")
    assert found.state is State.FAILED
    assert "No module named 'no_such_library'" in found.found
    assert found.advice == "pip install ."


def test_an_optional_library_that_is_not_there_is_no_failure():
    for name in ("no_such_library", "no_such_package.msg"):
        found = check_optional(name, "viewing", "pip install it")
        assert found.state is State.OPTIONAL
        assert (found.found, found.advice) == ("serves viewing", "pip install it")


def test_an_optional_library_that_is_broken_is_a_failure(tmp_path, monkeypatch):
    (tmp_path / "half_installed.py").write_text("raise ImportError('libfoo.so: cannot open')")
    monkeypatch.syspath_prepend(tmp_path)
    found = check_optional("half_installed", "viewing", "reinstall it")
    assert found.state is State.FAILED
    assert "libfoo.so: cannot open" in found.found


def test_a_folder_of_that_name_is_no_installation(tmp_path, monkeypatch):
    (tmp_path / "some_launch").mkdir()
    monkeypatch.syspath_prepend(tmp_path)
    assert check_optional("some_launch", "launch files", "").state is State.OPTIONAL


def test_what_converts_images_is_named_and_what_to_do_without(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    backend.cache_clear()
    found = check_conversion()
    assert (found.state, found.found) == (State.OK, "rosbags-image (cv_bridge is not installed)")
    monkeypatch.setitem(sys.modules, "rosbags.image", None)
    backend.cache_clear()
    found = check_conversion()
    assert found.state is State.OPTIONAL
    assert found.advice == "apt install ros-$ROS_DISTRO-cv-bridge, or pip install rosbags-image"


@pytest.fixture
def with_bundle(monkeypatch, bundle):
    """The random bundle in place of the embedded one."""
    monkeypatch.setattr("diception_ros.model.EMBEDDED_BUNDLE", bundle)


@pytest.mark.usefixtures("with_bundle")
def test_doctor_runs_the_model(capsys):
    assert run(["doctor"]) == 0
    out = capsys.readouterr().out
    assert "random, 64x64" in " ".join(out.split())
    assert "The library can run" in out


def test_doctor_fails_without_a_bundle(monkeypatch, tmp_path, capsys):
    monkeypatch.setattr("diception_ros.model.EMBEDDED_BUNDLE", tmp_path)
    assert doctor_command() == 1
    assert "The library cannot run: see embedded bundle, inference" in capsys.readouterr().out


def test_without_cuda_everything_still_runs(monkeypatch):
    torch = types.SimpleNamespace(
        cuda=types.SimpleNamespace(is_available=lambda: False),
        version=types.SimpleNamespace(cuda=None),
    )
    monkeypatch.setitem(sys.modules, "torch", torch)
    found = check_cuda()
    assert found.state is State.OPTIONAL
    assert "CPU build" in found.advice

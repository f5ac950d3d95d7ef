# SPDX-License-Identifier: Apache-2.0
"""The command line as a whole, and the commands that call one function."""

import os
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress

import pytest
import torch
from typer.testing import CliRunner

from diception_ros.cli import app, run
from diception_ros.cli.convert import bundle_prompts, read_categories
from diception_ros.tasks import COCO_CATEGORIES

COMMANDS = ("infer", "doctor", "convert", "demo", "demo-publish", "prompts")
COMMANDS += ("scenes", "train", "export", "adapt", "export-cloud", "view")


def test_help_lists_every_command():
    result = CliRunner().invoke(app, ["--help"])
    assert result.exit_code == 0
    for name in COMMANDS:
        assert name in result.output


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_explains_itself(name):
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    assert "--help" in result.output


def test_help_imports_nothing_heavy():
    check = (
        "import sys; from diception_ros.cli import run; run(['--help']); "
        "print({'torch', 'diffusers', 'rclpy', 'matplotlib'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_an_unknown_command_is_one_line(capsys):
    assert run(["infre"]) == 2
    assert capsys.readouterr().err.startswith("diception: No such command 'infre'")


BAGS = "pip install rosbags rosbags-image"


@pytest.mark.parametrize(
    ("module", "arguments", "text"),
    [
        ("rosbags", ["bag", "info", "drive"], BAGS),
        ("rosbags", ["view", "drive", "--html", "page"], BAGS),
        ("rosbags", ["export-cloud", "drive", "--out", "a.ply"], BAGS),
        ("peft", ["adapt", "pairs", "--task", "floor"], "pip install accelerate peft"),
        ("accelerate", ["train", "--config", "x"], "pip install accelerate peft"),
        ("rclpy", ["demo-publish"], "source a ROS 2 install"),
    ],
)
def test_what_is_not_installed_is_one_line_with_what_to_do(module, arguments, text):
    check = (
        f"import sys; sys.modules['{module}'] = None; from diception_ros.cli import run; "
        f"sys.exit(run({arguments}))"
    )
    done = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True)
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith("diception: ")
    assert module in line
    assert text in line


def test_convert_hands_over_what_it_was_given(monkeypatch, tmp_path):
    calls = []

    def convert(*paths, **options):
        options["progress"]("working")
        calls.append((paths, options))

    monkeypatch.setattr("diception_ros.model.convert.convert", convert)
    (tmp_path / "names.txt").write_text("forklift\n\n# not this\npallet\nforklift\n")
    inputs = ["--sd3", "SD3", "--diception", "D.pth", "--categories", str(tmp_path / "names.txt")]
    wanted = ["--out", "B", "--dtype", "float16", "--point-order", "col-row"]
    code = run(["convert", *inputs, *wanted])
    assert code == 0
    ((paths, options),) = calls
    assert [str(path) for path in paths] == ["SD3", "D.pth", "B"]
    assert options["dtype"] == torch.float16
    assert options["point_order"] == "col-row"
    semantic = [prompt for prompt in options["prompts"] if "semantic" in prompt]
    assert semantic == ["[[image2semantic]] forklift", "[[image2semantic]] pallet"]


def test_convert_without_its_inputs_is_one_line(tmp_path, capsys):
    out = str(tmp_path / "out")
    code = run(["convert", "--sd3", str(tmp_path), "--diception", "absent.pth", "--out", out])
    assert code == 2
    assert "is not an SD3-medium directory" in capsys.readouterr().err.splitlines()[-1]


def test_convert_names_what_it_would_overwrite(tmp_path, capsys):
    out = str(tmp_path)
    assert run(["convert", "--sd3", "SD3", "--diception", "D.pth", "--out", out]) == 2
    expected = f"diception: {out} exists: remove it or choose another --out\n"
    assert capsys.readouterr().err == expected


def test_default_prompts_are_every_task_and_category_and_the_empty_one():
    prompts = bundle_prompts(read_categories(None))
    assert prompts[0] == ""
    assert "[[image2depth]]" in prompts
    assert len(prompts) == len(set(prompts)) == 1 + 5 + len(COCO_CATEGORIES)


def test_a_category_file_without_names_is_refused(tmp_path):
    (tmp_path / "none.txt").write_text("# nothing\n")
    with pytest.raises(ValueError, match="names no category: expected one a line"):
        read_categories(tmp_path / "none.txt")


def test_prompts_add_hands_over_what_it_was_given(monkeypatch, capsys):
    calls = []
    monkeypatch.setattr(
        "diception_ros.model.convert.add_prompts", lambda *given, **_: calls.append(given)
    )
    assert run(["prompts", "add", "B", "[[image2semantic]] forklift", "--sd3", "SD3"]) == 0
    ((bundle, prompts, sd3),) = calls
    assert (str(bundle), list(prompts), str(sd3)) == ("B", ["[[image2semantic]] forklift"], "SD3")
    assert "now knows '[[image2semantic]] forklift'" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("convert", ["convert", "--sd3=SD3", "--diception=D.pth", "--out=B"]),
        ("add_prompts", ["prompts", "add", "B", "[[image2depth]]", "--sd3=SD3"]),
    ],
)
def test_brackets_of_what_is_being_done_are_no_markup(monkeypatch, capsys, name, arguments):
    def said(*_, progress, **__):
        progress("reading [/old] weights[red].pth")

    monkeypatch.setattr(f"diception_ros.model.convert.{name}", said)
    assert run(arguments) == 0
    assert capsys.readouterr().err == "reading [/old] weights[red].pth\n"


def test_brackets_of_a_bundles_path_are_no_markup(bundle, pictures, tmp_path, capsys):
    shutil.copytree(bundle, path := tmp_path / "small[red]")
    asked = ["--bundle", str(path), "--task", "depth", "--device", "cpu"]
    assert run(["infer", str(pictures), "--out", str(tmp_path / "out"), *asked]) == 0
    assert "small[red]" in capsys.readouterr().err


CTRL_C = """
import signal, sys
from diception_ros.cli import run
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(run(sys.argv[1:]))
"""


def test_ctrl_c_is_one_line(tmp_path):
    """While it reads a file that somebody else has not ended yet."""
    os.mkfifo(pipe := tmp_path / "node.yaml")
    asked = ["bag", "drive", "--out", "out.mcap", "--params", str(pipe)]
    command = [sys.executable, "-c", CTRL_C, *asked]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            with suppress(OSError):  # until the other side opens it
                os.open(pipe, os.O_WRONLY | os.O_NONBLOCK)
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert (process.returncode, said) == (130, "diception: stopped\n")

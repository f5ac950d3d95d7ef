# SPDX-License-Identifier: Apache-2.0
"""`diception evaluate` as a user calls it: a bundle and a folder of answers, compared; mistakes."""

import json

import cv2
import numpy as np
import pytest
import torch
import yaml

from diception_ros.cli import run

SIZE = (48, 64)
RUNS = ("here", "there")


@pytest.fixture
def folder(tmp_path):
    """Three images with depth and one object each, as a manifest describes them."""
    rng = np.random.default_rng(0)
    data = tmp_path / "data"
    for name in ("rgb", "depth"):
        (data / name).mkdir(parents=True)
    images, annotations = [], []
    for i in range(3):
        cv2.imwrite(str(data / f"rgb/{i}.png"), rng.integers(0, 255, (*SIZE, 3), np.uint8))
        np.save(data / f"depth/{i}.npy", rng.uniform(1, 5, SIZE).astype(np.float32))
        images.append({"id": i, "file_name": f"{i}.png"})
        corners = [4, 4, 30, 4, 30, 40, 4, 40]
        annotation = {"id": i + 1, "image_id": i, "category_id": 1, "segmentation": [corners]}
        annotations.append(annotation)
    coco = {"images": images, "annotations": annotations}
    coco["categories"] = [{"id": 1, "name": "person"}]
    (data / "coco.json").write_text(json.dumps(coco))
    content = {"images": "rgb", "depth": {"folder": "depth"}, "coco": "coco.json"}
    (data / "data.yaml").write_text(yaml.safe_dump(content))
    return data


def one_line(capsys):
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("diception:")]
    assert len(lines) == 1
    return lines[0]


def test_a_bundle_then_a_folder_compared_with_it(folder, bundle, tmp_path, capsys):
    first = tmp_path / "first"
    options = ["--bundle", str(bundle), "--device", "cpu", "--clicks", "2"]
    assert run(["evaluate", str(folder), "--out", str(first), *options]) == 0
    assert "index.html" in capsys.readouterr().out
    content = json.loads((first / "results.json").read_text())
    assert content["subject"]["form"] == "folder"
    assert content["answers"]["hardware"].startswith("CPU")
    tasks = {figure["task"] for figure in content["figures"]}
    assert tasks == {"depth", "entity", "semantic", "point"}
    assert all(figure["frames"] == 3 for figure in content["figures"] if figure["name"] == "PQ")

    answers, second = tmp_path / "answers", tmp_path / "second"
    answers.mkdir()
    for i in range(3):
        np.save(answers / f"{i}.depth.npy", np.load(folder / f"depth/{i}.npy"))
    options = ["--answers", str(answers), "--kind", "metric", "--compare", str(first)]
    options += ["--protocol", "metric", "--protocol", "affine disparity", "--task", "depth"]
    assert run(["evaluate", str(folder), "--out", str(second), *options]) == 0
    content = json.loads((second / "results.json").read_text())
    protocols = {figure["protocol"] for figure in content["figures"]}
    assert protocols == {"metric, preset plain", "affine disparity, preset plain"}
    (abs_rel,) = [one for one in content["differences"] if one["metric"]["name"] == "abs_rel"]
    assert (abs_rel["verdict"], abs_rel["frames"]) == ("better", 3)
    assert "<h2>Against random (first)</h2>" in (second / "index.html").read_text("utf-8")
    folder = folder.rename(tmp_path / "other")
    assert run(["evaluate", str(folder), "--out", str(second), *options]) == 0
    assert "<h2>Against random (first) on data</h2>" in (second / "index.html").read_text("utf-8")


def test_a_broken_image_changes_the_exit_status(folder, tmp_path, capsys):
    answers = tmp_path / "answers"
    answers.mkdir()
    for i in range(2):
        np.save(answers / f"{i}.depth.npy", np.ones(SIZE, np.float32))
    out = tmp_path / "out"
    assert run(["evaluate", str(folder), "--out", str(out), "--answers", str(answers)]) == 3
    (skipped,) = json.loads((out / "results.json").read_text())["skipped"]
    assert skipped["name"] == "2"
    assert "1 frames skipped" in capsys.readouterr().out


def test_a_task_that_fails_changes_the_exit_status_and_is_named(folder, tmp_path, capsys):
    np.save(folder / "depth/0.npy", np.full(SIZE, 100, np.float32))  # m, farther than what counts
    answers, out = tmp_path / "answers", tmp_path / "out"
    answers.mkdir()
    for i in range(3):
        np.save(answers / f"{i}.depth.npy", np.ones(SIZE, np.float32))
        np.save(answers / f"{i}.entity.npy", np.ones(SIZE, np.uint16))
    assert run(["evaluate", str(folder), "--out", str(out), "--answers", str(answers)]) == 3
    assert "1 frames skipped" in capsys.readouterr().out
    content = json.loads((out / "results.json").read_text())
    cause = "depth: preset 'plain' leaves 0 valid pixels"
    assert content["skipped"] == [{"name": "0", "cause": cause}]
    assert "<th>0</th><td>depth: preset" in (out / "index.html").read_text("utf-8")
    frames = {one["name"]: one["frames"] for one in content["figures"]}
    assert (frames["coverage"], frames["PQ"]) == (2, 3)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--form", "nyu"], "no image with truth in the form 'nyu'"),
        (["--preset", "mars"], "unknown preset 'mars': expected one of plain"),
        (["--protocol", "relative"], "unknown protocol 'relative': expected one of metric"),
        (["--kind", "inverse"], "--kind 'inverse': expected one of disparity"),
        (["--task", "normal"], "no truth for the task 'normal', only for depth"),
        (["--compare", "nowhere"], "cannot be read, expected the results.json of an earlier"),
        (["--against", "/depth"], "--against is for bags"),
        (["--images", "nowhere"], "nowhere: cannot be read as a list of image names"),
        (["--images", "IMAGES"], "no image '7', but for example 0"),
        (["--answers", ".", "--bundle", "."], "--answers and --bundle: give one of them"),
    ],
)
def test_mistakes_are_one_line(folder, tmp_path, capsys, options, message):
    (tmp_path / "images.txt").write_text("0.png\n7.png\n")
    options = [str(tmp_path / "images.txt") if word == "IMAGES" else word for word in options]
    assert run(["evaluate", str(folder), "--out", str(tmp_path / "out"), *options]) == 2
    assert message in one_line(capsys)
    assert not (tmp_path / "out").exists()


def test_a_file_where_the_results_are_to_lie_is_told_before_any_work(folder, tmp_path, capsys):
    (tmp_path / "out").write_text("mine")
    assert run(["evaluate", str(folder), "--out", str(tmp_path / "out")]) == 2
    assert one_line(capsys).endswith("out: expected a folder, found a file")
    assert (tmp_path / "out").read_text() == "mine"


def test_on_ray_the_results_are_those_of_one_process(
    folder, bundle, tmp_path, ray_here, monkeypatch
):
    """All of them, to the last bit, with a broken image and relative names."""
    torch.set_num_threads(1)
    (folder / "rgb/1.png").write_bytes(b"broken")
    monkeypatch.chdir(folder.parent)
    options = [folder.name, "--bundle", str(bundle), "--device", "cpu", "--clicks", "2"]
    assert run(["evaluate", *options, "--out", str(tmp_path / "here")]) == 3
    assert run(["evaluate", *options, "--out", str(tmp_path / "there"), "--ray"]) == 3
    first, second = (json.loads((tmp_path / f"{n}/results.json").read_text()) for n in RUNS)
    assert first == second
    assert len(first["skipped"]) == 1
    assert {one["task"] for one in first["figures"]} == {"depth", "entity", "semantic", "point"}
    pages = [(tmp_path / f"{n}/index.html").read_text("utf-8") for n in RUNS]
    assert [page.count("<img") for page in pages] == [pages[0].count("<img")] * 2

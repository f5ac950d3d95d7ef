# SPDX-License-Identifier: Apache-2.0
"""The whole evaluation of an untrained model on a handful of frames."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from diception_ros.model import BundleInfo, Diception, save_bundle
from diception_ros.tasks import TASKS
from diception_ros.training import autoencoder, cache
from diception_ros.training.evaluate import (
    Plan,
    evaluate,
    main,
    network_scores,
    questions_of,
    sheet,
)
from diception_ros.training.measure.pictures import CELL
from diception_ros.training.measure.predict import predict
from diception_ros.training.measure.shards import only_held_out_kinds, read_scenes
from diception_ros.training.network import build
from diception_ros.training.pool import Pool
from diception_ros.training.scenes import Frame, known_instances, sample_world

SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Shards of four training scenes and of six held-out ones, side by side."""
    folder = tmp_path_factory.mktemp("scenes")
    for first, count in ((0, 4), (cache.HELD_OUT, 6)):
        frames = [cache.frame_of(first + i, SIZE) for i in range(count)]
        np.savez(folder / f"{first:09d}.npz", **cache.pack(frames))
    return folder


@pytest.fixture(scope="module")
def frames(folder: Path) -> list[Frame]:
    return read_scenes(folder, 6, held_out=True)[0]


@pytest.fixture(scope="module")
def other(folder: Path) -> list[Frame]:
    return read_scenes(folder, 6, held_out=False)[0]


@pytest.fixture(scope="module")
def model() -> Diception:
    torch.manual_seed(0)
    vae = autoencoder.build(autoencoder.AutoencoderRecipe())
    info = BundleInfo(name="untrained", canvas=(SIZE, SIZE))
    return build(vae, info, seed=0).eval().requires_grad_(False)


def test_seeds_decide_what_is_held_out(folder: Path, tmp_path: Path) -> None:
    unseen, seeds = read_scenes(folder, 5, held_out=True)
    assert seeds == [cache.HELD_OUT + i for i in range(5)] and len(unseen) == 5
    assert read_scenes(folder, 9, held_out=False)[1] == [0, 1, 2, 3]
    with pytest.raises(ValueError, match="no shards of seeds from 10000000 on in"):
        read_scenes(tmp_path, 5, held_out=True)
    with pytest.raises(ValueError, match="no shards of seeds below 10000000 in"):
        read_scenes(tmp_path, 5, held_out=False)


def test_things_of_known_kinds_are_left_out(frames: list[Frame]) -> None:
    seed = cache.HELD_OUT
    known = known_instances(sample_world(seed))
    kept = only_held_out_kinds(frames[0], seed).instances
    assert kept.any() and kept[kept > 0].min() > known
    np.testing.assert_array_equal(kept > 0, frames[0].instances > known)


def test_answers_have_the_frames_size_and_do_not_depend_on_the_batch(
    model: Diception, frames: list[Frame]
) -> None:
    questions = questions_of(frames)["depth"]
    together = predict(model, questions)
    wide = replace(
        frames[0], rgb=np.zeros((20, 48, 3), np.uint8), depth=np.ones((20, 48), np.float32)
    )
    alone = predict(model, [replace(questions[0], frame=wide), questions[1]])
    colours = alone[0].colours
    assert colours.shape == (20, 48, 3) and colours.min() >= 0 and colours.max() <= 1
    assert alone[0].result.values.shape == (20, 48)
    np.testing.assert_allclose(alone[1].colours, together[1].colours, atol=1e-4)


def test_the_answer_depends_on_the_click(model: Diception, frames: list[Frame]) -> None:
    question = questions_of(frames)["point"][0]
    places = (2, 3), (2, 3), (28, 30)
    answers = predict(model, [replace(question, click=place) for place in places])
    one, same, far = (answer.colours for answer in answers)
    np.testing.assert_allclose(one, same, atol=1e-5)
    assert np.abs(one - far).max() > 1e-4


def test_every_task_has_a_table_and_the_trainer_gets_its_network_row(
    model: Diception, frames: list[Frame], other: list[Frame]
) -> None:
    table = evaluate(model, frames, other, steps=(1, 2))
    shown = {task for task, questions in questions_of(frames).items() if questions}
    assert set(table) == shown >= {"depth", "normal", "entity", "point"}
    for rows in table.values():
        assert {"mean target", "exchanged", "network", "network, 2 steps"} <= set(rows)
        assert np.isfinite([v for scores in rows.values() for v in scores.values()]).all()
    watched = network_scores(model, frames)
    assert watched["depth abs_rel"] == pytest.approx(table["depth"]["network"]["abs_rel"])
    assert {name.split()[0] for name in watched} == shown


def test_the_sheet_has_three_rows_for_each_task(model: Diception, folder: Path) -> None:
    pool = Pool(folder)
    picture = sheet(model, pool, columns=3)
    frames = [pool.frame(place) for place in pool.frames]
    shown = [task for task, questions in questions_of(frames).items() if questions]
    assert picture.shape == (3 * len(shown) * CELL, 3 * CELL, 3) and picture.dtype == np.uint8
    image = cv2.resize(frames[0].rgb, (CELL, CELL), interpolation=cv2.INTER_NEAREST)
    np.testing.assert_array_equal(picture[:CELL, :CELL], image)


def test_the_command_writes_figures_and_sheets(
    model: Diception,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    save_bundle(model, tmp_path / "bundle", torch.float32)
    out = tmp_path / "out"
    arguments = ["--unseen", str(folder), "--seen", str(folder), "--out", str(out)]
    arguments += ["--scenes", "3", "--steps", "1", "9", "--scenes-many", "1"]
    command = ["evaluate", str(tmp_path / "bundle"), *arguments]
    monkeypatch.setattr(sys, "argv", command)
    with caplog.at_level("INFO"):
        main()
    found = json.loads((out / "metrics.json").read_text())
    assert found["scenes"] == 3 and found["torch"] == torch.__version__
    assert set(found["median_ms_one_image"]) == {"1", "9"}
    assert set(found["tables"]) == {"unseen scenes", "held-out kinds"}
    assert "network, 9 steps, first 1" in found["tables"]["unseen scenes"]["depth"]
    assert cv2.imread(str(out / "scenes.png")) is not None
    assert not (out / "real.png").exists()
    assert "| depth | δ1 | ≥ 0.9 |" in caplog.text


def test_a_plan_names_what_is_wrong(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"must be at least 1, got 0, \[1\] and 100"):
        Plan(tmp_path, tmp_path, tmp_path, scenes=0)
    with pytest.raises(ValueError, match=r"got 500, \[\] and 100"):
        Plan(tmp_path, tmp_path, tmp_path, steps=())


def test_every_task_is_asked_of_held_out_scenes(frames: list[Frame]) -> None:
    questions = questions_of(frames)
    assert set(questions) == set(TASKS)
    again = questions_of(frames)
    assert [q.click for q in again["point"]] == [q.click for q in questions["point"]]

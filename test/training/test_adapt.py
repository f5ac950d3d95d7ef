# SPDX-License-Identifier: Apache-2.0
"""Adapting a tiny random model: it learns with few parameters, and the model stays as it was."""

from __future__ import annotations

import json
from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch

from diception_ros.cli import run
from diception_ros.engine import EMBEDDED_BUNDLE, Engine, EngineConfig
from diception_ros.imaging import Canvas
from diception_ros.model import Diception, make_random_bundle
from diception_ros.model.bundle import write_bundle_info
from diception_ros.model.lora import Adapter, target_layers
from diception_ros.tasks import Request
from diception_ros.training.adapt import (
    Adaptation,
    adapt,
    choose_rank,
    ensure_prompt,
    fit,
    nearest_prompt,
    new_task,
)
from diception_ros.training.curve import draw, learning_curve
from diception_ros.training.from_scratch import answers_of, largest, size_of, train_unet
from diception_ros.training.pairs import Pair, Pairs, read_pairs, varied
from diception_ros.training.scoring import measured, score

TASK = new_task("square")
SHORT = Adaptation(max_share=0.05, steps=4, batch=2, variants=1)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """Random weights, and prompts that are random as the embedded model's."""
    path = make_random_bundle(tmp_path_factory.mktemp("bundle") / "random")
    write_bundle_info(replace(Diception.load(path).info, prompts="random"), path)
    return path


@pytest.fixture
def model(bundle):
    return Diception.load(bundle)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return make_pairs(tmp_path_factory.mktemp("pairs"), 4)


def make_pairs(folder, count):
    """White squares on dark noise."""
    rng = np.random.default_rng(0)
    for part in ("images", "targets"):
        (folder / part).mkdir()
    for number in range(count):
        target = np.zeros((64, 64), np.uint8)
        top, left = rng.integers(0, 32, 2)
        target[top : top + 32, left : left + 32] = 255
        image = rng.integers(0, 80, (64, 64, 3), np.uint8) | target[..., None]
        cv2.imwrite(str(folder / "images" / f"{number}.png"), image)
        cv2.imwrite(str(folder / "targets" / f"{number}.png"), target)
    return folder


def test_the_loss_falls_and_the_model_stays_as_it_was(model, folder):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    losses = []
    recipe = replace(SHORT, steps=60, rate=2e-2, full_noise=1.0, serving_noise=1.0)
    pairs = read_pairs(folder)
    adapter = adapt(model, pairs, TASK, recipe, lambda done, loss: losses.append(loss))
    assert np.mean(losses[-10:]) < 0.9 * np.mean(losses[:5])
    after = model.state_dict()
    assert set(after) == set(before)
    assert all(torch.equal(before[name], after[name]) for name in before)
    assert all(second.any() for _, second in adapter.pairs.values())  # each one is trained
    found = adapter.info
    assert (found.task, found.kind, found.images, found.steps) == ("square", "mask", 4, 60)
    assert found.seconds > 0
    assert "threads" in found.hardware
    trained = sum(a.numel() + b.numel() for a, b in adapter.pairs.values())
    total = sum(weight.numel() for weight in model.transformer.parameters())
    assert found.share == pytest.approx(trained / total)
    assert found.share <= 0.05


def test_the_seed_decides(model, folder):
    pairs = read_pairs(folder)
    one, same, other = (
        adapt(model, pairs, TASK, replace(SHORT, seed=seed)).pairs for seed in (3, 3, 4)
    )
    name = next(iter(one))
    assert torch.equal(one[name][1], same[name][1])
    assert not torch.equal(one[name][1], other[name][1])


def test_serving_answers_as_training_measured(model, bundle, folder, tmp_path):
    adapter = adapt(model, read_pairs(folder), TASK, replace(SHORT, steps=20, rate=2e-2))
    adapter.save(tmp_path / "square.safetensors")
    engine = Engine.load(bundle, EngineConfig(device="cpu", dtype="float32"))
    engine.load_adapter(tmp_path / "square.safetensors")
    pairs = read_pairs(folder)
    answers = engine.infer(pairs.images, [[Request("square")]] * 4)
    served = [np.repeat(found[0].score[..., None], 3, axis=-1) for found in answers]
    assert score(served, pairs, TASK) == pytest.approx(measured(model, adapter, pairs, TASK))


def test_the_rank_is_the_highest_that_one_percent_allows(model):
    total = sum(weight.numel() for weight in model.transformer.parameters())
    layers = target_layers(model.transformer).values()
    each = sum(layer.in_features + layer.out_features for layer in layers)
    rank, share = choose_rank(model, Adaptation(max_share=0.03))
    assert share == pytest.approx(rank * each / total)
    assert rank * each / total <= 0.03 < (rank + 1) * each / total
    assert choose_rank(model, Adaptation(max_share=9.0))[0] == 128
    assert choose_rank(model, Adaptation(rank=2, max_share=0.03))[0] == 2


def test_more_than_is_allowed_is_refused_until_it_is_allowed(model):
    with pytest.raises(ValueError, match=r"rank 40 trains .* take rank \d+ or less, or allow it w"):
        choose_rank(model, Adaptation(rank=40, max_share=0.03))
    with pytest.raises(
        ValueError, match=r"rank 1 trains .*, more than 0\.01%: allow it with --max-"
    ):
        choose_rank(model, Adaptation(max_share=0.0001))
    allowed = 0.01 * float(refusal(model).rpartition(" ")[2])
    assert choose_rank(model, Adaptation(rank=40, max_share=allowed))[0] == 40


def refusal(model):
    try:
        choose_rank(model, Adaptation(rank=40))
    except ValueError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("right", ["[[image2depth]]", "[[image2normal]]"])
def test_a_new_prompt_begins_as_the_known_one_that_is_answered_best(folder, right):
    model, task = Diception.load(EMBEDDED_BUNDLE), new_task("echo", "colour")
    names, pairs = model.prompts.names, read_pairs(folder).first(2)
    images = torch.stack([Canvas(*model.info.canvas).to_model(image) for image in pairs.images])
    answers = model.generate(images, [right] * 2, steps=1).permute(0, 2, 3, 1)
    targets = (answers * 255).round().byte().numpy()
    told = Pairs(tuple(map(Pair, "01", [resized(i, 128) for i in pairs.images], targets)))
    assert nearest_prompt(model, told, task) == right
    embeds, pooled = ensure_prompt(model, told, task)
    assert torch.equal(embeds, model.prompts.lookup([right])[0].float())
    assert torch.equal(pooled, model.prompts.lookup([right])[1].float())
    assert model.prompts.names == (*names, "[[image2echo]]")


def resized(image, side):
    return cv2.resize(image, (side, side))


def test_a_known_prompt_stays_its_own(model, folder):
    known, names = model.prompts.lookup(["[[image2depth]]"])[0], model.prompts.names
    task = new_task("range", "disparity", "[[image2depth]]")
    assert torch.equal(ensure_prompt(model, read_pairs(folder), task)[0], known)
    assert model.prompts.names == names


def test_a_variant_is_one_part_of_image_and_target():
    rng = np.random.default_rng(0)
    place = np.stack(np.indices((40, 60)), -1).astype(np.uint8)
    target = np.concatenate([place, place[..., :1]], -1)
    sizes = set()
    for _ in range(20):
        image, part = varied(np.where(target > 20, 200, 20).astype(np.uint8), target, rng)
        assert image.shape == part.shape
        sizes.add(part.shape)
        assert part.shape[0] >= 0.5 * 40 and part.shape[1] >= 0.5 * 60
        bright = image.astype(int) > 100
        assert (bright[part > 20]).mean() > 0.95 > 0.05 > bright[part <= 20].mean()
    assert len(sizes) > 5


def test_an_encoded_prompt_cannot_be_made_up(model, folder):
    model.info = replace(model.info, prompts="encoded")
    with pytest.raises(
        ValueError, match=r"'\[\[image2square\]\]' is not in .*diception prompts add"
    ):
        adapt(model, read_pairs(folder), TASK, SHORT)


@pytest.mark.parametrize("name", ["rank", "steps", "batch", "minutes", "rate", "max_share"])
def test_settings_are_validated(name):
    with pytest.raises(ValueError, match=f"{name} must be greater than 0, got 0"):
        Adaptation(**{name: 0})


@pytest.mark.parametrize("mirror", [True, False])
def test_a_batch_may_be_larger_than_what_there_is_and_none_of_it_mirrored(
    model, folder, monkeypatch, mirror
):
    fed = []
    monkeypatch.setattr(
        "diception_ros.training.adapt.fit",
        lambda model, data, *more: fed.append(len(data.images)) or fit(model, data, *more),
    )
    recipe = replace(SHORT, steps=1, batch=5, mirror=mirror)
    assert adapt(model, read_pairs(folder).first(2), TASK, recipe).info.steps == 1
    assert fed == [4 if mirror else 2]


def test_minutes_end_it_earlier(model, folder):
    recipe = replace(SHORT, steps=100_000, minutes=1 / 60)
    assert 0 < adapt(model, read_pairs(folder), TASK, recipe).info.steps < 100_000


def test_the_control_is_as_large_as_it_may_be():
    network = largest(80_000)
    assert 65_000 < size_of(network) <= 80_000
    assert network(torch.zeros(2, 3, 40, 48)).shape == (2, 3, 40, 48)


def test_the_control_learns(folder):
    pairs, canvas = read_pairs(folder), Canvas(64, 64)
    network = train_unet(pairs, TASK, canvas, parameters=8_000, seconds=8.0, seed=0)
    assert score(answers_of(network, pairs.images, canvas), pairs, TASK) > 0.3


def test_the_curve_has_a_row_per_count_and_a_picture(model, folder, tmp_path):
    pairs = read_pairs(folder)
    kept = []
    keep = lambda found: kept.append(json.dumps(found))  # noqa: E731
    found = learning_curve(model, pairs, pairs, TASK, SHORT, counts=(2, 4), keep=keep)
    assert [row["images"] for row in found["rows"]] == [2, 4]
    assert [len(json.loads(text)["rows"]) for text in kept] == [1, 2]
    for row in found["rows"]:
        assert 0 <= row["adapted"] <= 1
        assert 0 <= row["from scratch"] <= 1
        assert row["steps"] == 4
    assert json.loads(kept[-1]) == found
    draw(found, tmp_path / "curve.png")
    assert cv2.imread(str(tmp_path / "curve.png")).shape[2] == 3


def test_a_curve_with_too_few_pairs_is_refused_before_anything_is_learned(model, folder, caplog):
    caplog.set_level("INFO")
    pairs = read_pairs(folder)
    with pytest.raises(ValueError, match="expected at least 400 pairs"):
        learning_curve(model, pairs, pairs, TASK, SHORT, counts=(2, 400))
    assert not caplog.records


def command(folder, bundle, out, *more):
    given = ["--task", "square", "--bundle", str(bundle), "--out", str(out), "--device", "cpu"]
    return run(["adapt", str(folder), *given, *more])


def test_the_command_writes_an_adapter_and_its_card(folder, bundle, tmp_path, capsys):
    out = tmp_path / "square.safetensors"
    (tmp_path / "more").mkdir()
    make_pairs(tmp_path / "more", 3)
    (tmp_path / "more" / "images" / "0.png").write_text("no picture")
    more = ["--unseen", str(tmp_path / "more"), "--max-share", "3", "--steps", "3", "--batch", "2"]
    assert command(folder, bundle, out, *more) == 0
    said = capsys.readouterr()
    info = Adapter.load(out).info
    assert f"rank {info.rank} trains {info.share:.2%} of the network's parameters" in said.err
    assert "1 of 3 pairs skipped" in said.err
    assert "task square, 3 steps" in said.out
    assert set(info.metrics) == {"mean IoU unadapted", "mean IoU", "unseen images"}
    assert info.metrics["unseen images"] == 2
    assert (tmp_path / "square.yaml").read_text().startswith("task: square")


@pytest.mark.parametrize("more", [[], ["--no-mirror"]])
def test_the_command_may_leave_mirror_images_out(folder, bundle, tmp_path, monkeypatch, more):
    asked = []

    def adapt(model, pairs, task, recipe, report):
        asked.append(recipe.mirror)
        raise ValueError("that is all")

    monkeypatch.setattr("diception_ros.training.adapt.adapt", adapt)
    assert command(folder, bundle, tmp_path / "a.safetensors", "--max-share", "3", *more) == 2
    assert asked == [not more]


def test_where_nothing_can_be_written_nothing_is_learned(
    folder, bundle, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("diception_ros.training.adapt.adapt", None)
    assert command(folder, bundle, tmp_path, "--max-share", "3") == 2
    assert f"diception: {tmp_path}: Is a directory" in capsys.readouterr().err
    taken = tmp_path / "taken.safetensors"
    taken.write_text("mine")
    with pytest.raises(TypeError):  # the training, which there is none of
        command(folder, bundle, taken, "--max-share", "3")
    assert taken.read_text() == "mine"


def test_masks_of_class_numbers_are_refused_before_anything_is_learned(
    folder, bundle, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("diception_ros.training.adapt.adapt", None)
    for path in (make_pairs(tmp_path, 2) / "targets").iterdir():
        cv2.imwrite(str(path), cv2.imread(str(path)) // 255)
    asked = ["--max-share", "3", "--unseen", str(tmp_path)]
    assert command(folder, bundle, tmp_path / "a.safetensors", *asked) == 2
    assert "expected white (255) on black, the brightest is 1" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--task", "depth"], "'depth' is a task that the bundle has"),
        (["--seed", "-1"], "Invalid value for '--seed'"),
        (["--rank", "64"], "rank 64 trains"),
        (["--kind", "sound"], "kind must be one of mask, disparity, colour"),
        (["--task", "floor-crack"], "must be lower-case letters, digits and underscores"),
        (["--unseen", "/nowhere"], "no folder /nowhere/images"),
    ],
)
def test_user_errors_are_one_line(folder, bundle, tmp_path, capsys, more, message):
    assert command(folder, bundle, tmp_path / "a.safetensors", *more) == 2
    error = capsys.readouterr().err
    assert message in " ".join(error.split())
    assert error.startswith("diception:") and error.count("\n") == 1

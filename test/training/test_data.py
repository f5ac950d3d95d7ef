# SPDX-License-Identifier: Apache-2.0
import json
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
from torch.nn import functional

from diception_ros.model import Diception
from diception_ros.model.autoencoder import encode, projection
from diception_ros.tasks import TASKS
from diception_ros.training import cache
from diception_ros.training.autoencoder import AutoencoderRecipe, build, principal_components
from diception_ros.training.data import (
    Batches,
    Encoder,
    check_sources,
    load_ahead,
    load_autoencoder,
)
from diception_ros.training.pool import Pool
from diception_ros.training.recipe import Phase, Recipe
from diception_ros.training.scenes import make_frame
from diception_ros.training.targets import COPY, SPOT
from diception_ros.training.train import first_model

from .conftest import SIZE

MakeRecipe = Callable[..., Recipe]


@pytest.fixture
def model(recipe: MakeRecipe) -> Diception:
    return first_model(recipe())


def test_the_mixture_has_the_proportions_of_the_recipe(recipe: MakeRecipe) -> None:
    shares = {COPY: 0.5, "depth": 0.3, "normal": 0.2}
    batches = Batches(recipe(batch=16, phases=(Phase(40, shares),)), TASKS)
    counts = Counter(prompt for number in range(40) for prompt in batches[number].prompts)
    prompts = {COPY: "", "depth": "[[image2depth]]", "normal": "[[image2normal]]"}
    for task, share in shares.items():
        # Four standard deviations of a binomial with 640 draws are under 0.08.
        assert counts[prompts[task]] / 640 == pytest.approx(share, abs=0.08)


def test_a_batch_depends_on_its_number_and_the_process_only(recipe: MakeRecipe) -> None:
    made = recipe(phases=(Phase(8, dict.fromkeys(TASKS, 1.0)),))
    batches = Batches(made, TASKS)
    fifth = batches[5]
    again = list(load_ahead(Batches(made, TASKS), first=4, workers=1))
    assert len(again) == 4
    torch.testing.assert_close(again[1].images, fifth.images, rtol=0, atol=0)
    torch.testing.assert_close(again[1].targets, fifth.targets, rtol=0, atol=0)
    assert again[1].prompts == fifth.prompts
    assert not torch.equal(Batches(made, TASKS, rank=1)[5].images, fifth.images)


def test_phases_change_what_is_drawn(recipe: MakeRecipe) -> None:
    phases = (Phase(2, {COPY: 1.0}), Phase(4, {"depth": 1.0}))
    batches = Batches(recipe(phases=phases, accumulate=2), TASKS)
    assert len(batches) == 8
    prompts = [batches[number].prompts[0] for number in range(8)]
    assert prompts == [""] * 4 + ["[[image2depth]]"] * 4


def test_a_task_without_data_is_named(recipe: MakeRecipe, tmp_path: Path) -> None:
    task_file = tmp_path / "tasks.yaml"
    task_file.write_text("tasks: []\n")
    batches = Batches(recipe(phases=(Phase(2, {"crack": 1.0}),)), TASKS)
    with pytest.raises(ValueError, match="no source has data for the task 'crack': name one"):
        batches[0]


@pytest.mark.parametrize("workers", [0, 1])
def test_what_goes_wrong_in_another_process_is_told_as_in_this_one(
    recipe: MakeRecipe, workers: int
) -> None:
    batches = Batches(recipe(phases=(Phase(2, {"crack": 1.0}),)), TASKS)
    with pytest.raises(ValueError, match=r"^no source has data for the task 'crack': name one in"):
        list(load_ahead(batches, first=0, workers=workers))


def manifest(folder: Path) -> Path:
    """What a user has: an image with one object of a category."""
    (folder / "rgb").mkdir()
    cv2.imwrite(str(folder / "rgb" / "0.png"), np.zeros((SIZE, SIZE, 3), np.uint8))
    whole = [0, 0, 0, SIZE, SIZE, SIZE, SIZE, 0]
    coco = {
        "images": [{"id": 1, "file_name": "0.png"}],
        "categories": [{"id": 1, "name": "forklift"}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "segmentation": [whole]}],
    }
    (folder / "a.json").write_text(json.dumps(coco))
    (folder / "data.yaml").write_text("images: rgb\ncoco: a.json\n")
    return folder / "data.yaml"


def test_a_later_phase_without_its_prompt_or_data_is_told_at_once(
    recipe: MakeRecipe, model: Diception, tmp_path: Path
) -> None:
    own, scenes = manifest(tmp_path), next(iter(recipe().sources))

    def check(later: dict[str, float], **changes: Any) -> None:
        phases = (Phase(1, {"entity": 1.0}), Phase(2, later, changes.pop("weights", {})))
        check_sources(recipe(phases=phases, **changes), TASKS, model.prompts)

    check({"entity": 1.0, "semantic": 0.0}, sources={own: 1.0})
    check(dict.fromkeys((*TASKS, COPY, SPOT), 1.0))
    with pytest.raises(ValueError, match=r"prompt '\[\[image2semantic\]\] forklift' is not in"):
        check({"semantic": 1.0}, sources={own: 1.0, scenes: 1.0})
    with pytest.raises(ValueError, match="no source has data for the task 'depth': name one"):
        check({"depth": 1.0}, sources={own: 1.0})
    both = {own: 1.0, scenes: 1.0}
    check({"depth": 1.0}, sources=both)
    with pytest.raises(ValueError, match="no source has data for the task 'copy': name one"):
        check({COPY: 1.0}, sources=both, weights={own: 1.0})


def test_bare_rooms_give_no_pose_and_no_categories(recipe: MakeRecipe, tmp_path: Path) -> None:
    frames = [cache.frame_of(seed, SIZE) for seed in cache.PLAIN[:4]]
    np.savez(tmp_path / "005000000.npz", **cache.pack(frames))
    pool = Pool(tmp_path)
    assert {"depth", "normal", "entity", COPY} <= set(pool.tasks)
    assert not {"pose", "semantic"} & set(pool.tasks)
    scenes = next(iter(recipe().sources))
    both = recipe(sources={tmp_path: 9.0, scenes: 1.0}, phases=(Phase(4, {"pose": 1.0}),))
    assert {str(scenes)} == {
        batch.keys[0][0] for batch in map(Batches(both, TASKS).__getitem__, range(4))
    }


def test_remembered_latents_are_those_that_would_be_made(
    recipe: MakeRecipe, model: Diception
) -> None:
    batch = Batches(recipe(batch=4, phases=(Phase(1, {"depth": 1.0, "point": 1.0}),)), TASKS)[0]
    remembering, fresh = Encoder(model, remember=100), Encoder(model)
    first, second, plain = remembering(batch), remembering(batch), fresh(batch)
    assert len(remembering.known) > 0 and not fresh.known
    for name in ("images", "targets"):
        torch.testing.assert_close(getattr(second, name), getattr(first, name), rtol=0, atol=0)
        torch.testing.assert_close(getattr(second, name), getattr(plain, name), rtol=0, atol=0)
    assert len(Encoder(model, remember=1).known) == 0
    full = Encoder(model, remember=1)
    full(batch)
    assert len(full.known) == 1


def test_a_linear_encoder_is_one_convolution() -> None:
    vae = build(AutoencoderRecipe()).eval()
    assert projection(vae) is None  # its 3 x 3 kernels look beyond the cell
    pictures = torch.rand(3, 3, 32, 48) * 2 - 1
    cells = functional.unfold(pictures, 8, stride=8).transpose(1, 2).flatten(0, 1)
    principal_components(vae, cells / 2 + 0.5, torch.ones(len(cells)))
    single = projection(vae)
    assert single is not None
    torch.testing.assert_close(single(pictures), encode(vae, pictures), rtol=0, atol=1e-4)


def test_what_a_picture_on_black_shows_weighs_more(recipe: MakeRecipe, model: Diception) -> None:
    phases = (Phase(1, {"point": 1.0, "depth": 1.0}),)
    batch = Batches(recipe(batch=12, phases=phases), TASKS)[0]
    weights = Encoder(model, foreground=3.0)(batch).weights
    assert set(weights.unique().tolist()) == {1.0, 4.0}
    for prompt, target, weight in zip(batch.prompts, batch.targets, weights, strict=True):
        if prompt == "[[image2depth]]":
            assert (weight == 1).all()
        else:
            cells = target.amax(0).reshape(SIZE // 8, 8, SIZE // 8, 8).amax((1, 3)) > -0.8
            torch.testing.assert_close(weight[0], torch.where(cells, 4.0, 1.0))


def test_the_pool_reads_whole_shards_in_their_order(scenes: Path, tmp_path: Path) -> None:
    shard = (scenes / "000000000.npz").read_bytes()
    for name in ("000000064.npz", "000000000.npz", "000000128.part.npz"):
        (tmp_path / name).write_bytes(shard)
    assert len(Pool(tmp_path).frames) == 24
    assert Pool(tmp_path, most=1).frames == [(0, row) for row in range(12)]


def test_a_frame_is_seen_through_few_cameras_each_the_same_every_time(scenes: Path) -> None:
    pool = Pool(scenes, harsh=0.5)
    rng = np.random.default_rng(0)
    examples = [pool.example("depth", rng) for _ in range(200)]
    shown: dict[object, np.ndarray] = {}
    for example in examples:
        image = shown.setdefault(example.keys[0], example.image)
        np.testing.assert_array_equal(example.image, image)
    assert len(shown) > 12 * 3 and len({image.tobytes() for image in shown.values()}) == len(shown)


def test_packed_frames_come_back(scenes: Path) -> None:
    frame = make_frame(3, SIZE, SIZE)
    back = cache.unpack(cache.load(scenes / "000000000.npz"), 3)
    np.testing.assert_array_equal(back.rgb, frame.rgb)
    np.testing.assert_array_equal(back.instances, frame.instances)
    np.testing.assert_allclose(back.depth, frame.depth, rtol=1e-3)
    seen = np.isfinite(frame.depth)
    np.testing.assert_allclose(back.normals[seen], frame.normals[seen], atol=0.01)


def test_an_autoencoder_that_is_not_there_is_not_looked_for_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("diffusers.AutoencoderTiny.from_pretrained", None)
    with pytest.raises(ValueError, match=r"no autoencoder in .*here: make one with 'python -m"):
        load_autoencoder(tmp_path / "here")

# SPDX-License-Identifier: Apache-2.0
"""The trainer's plumbing on a handful of frames: nothing here learns anything worth having."""

from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from diception_ros.model import BundleInfo, Diception
from diception_ros.training import autoencoder, cache
from diception_ros.training.data import Pool
from diception_ros.training.export import Notes, export
from diception_ros.training.network import build
from diception_ros.training.targets import prompts
from diception_ros.training.train import Recipe, read_recipe, train

CONFIG = Path(__file__).parents[2] / "config" / "train.yaml"
SIZE = 32


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of one small shard and an untrained autoencoder."""
    folder = tmp_path_factory.mktemp("training")
    frames = [cache.make_frame(seed, SIZE, SIZE) for seed in range(8)]
    (folder / "scenes").mkdir()
    np.savez(folder / "scenes" / "000000000.npz", **cache.pack(frames))
    torch.manual_seed(0)
    autoencoder.build(autoencoder.AutoencoderRecipe()).save_pretrained(folder / "autoencoder")
    return folder


def recipe_of(folder: Path, seconds: float) -> Recipe:
    return Recipe(
        folder / "autoencoder",
        folder / "scenes",
        folder / "out",
        minutes=seconds / 60,
        copy_minutes=seconds / 120,
        batch=2,
        threads=1,
        canvas=SIZE,
        shares=dict.fromkeys(("depth", "normal", "entity", "semantic", "pose"), 1.0),
    )


def test_noise_passes_through_the_untrained_network(folder: Path) -> None:
    vae = autoencoder.AutoencoderTiny.from_pretrained(folder / "autoencoder")
    model = build(vae, BundleInfo(name="test", canvas=(128, 128)), seed=0)
    noise = torch.randn(2, 16, 16, 16, generator=torch.Generator().manual_seed(1))
    embeds, pooled = model.prompts.lookup(["", "[[image2depth]]"])
    tokens = model.point_tokens(None, None, 2)
    with torch.no_grad():
        time = torch.full((2,), 1000.0)
        velocity = model.velocity(noise, torch.zeros_like(noise), time, embeds, pooled, tokens)
    assert np.corrcoef(velocity.flatten(), noise.flatten())[0, 1] > 0.95
    assert set(model.prompts.names) == set(prompts())


def test_training_goes_on_where_it_stopped_and_exports_a_bundle(folder: Path) -> None:
    first = train(recipe_of(folder, 1.5))
    assert first.step > 0
    moved = [
        name for name, weight in first.weights.items() if not torch.equal(weight, first.mean[name])
    ]
    assert moved
    second = train(recipe_of(folder, 3.0))
    assert second.step > first.step and second.seconds > first.seconds
    notes = Notes(phases="Copying first.", limits="Everything.")
    table = {"depth": {"network": {"abs_rel": 0.12345}}}
    info = export(
        folder / "out" / "last.pt", recipe_of(folder, 3.0), folder / "bundle", notes, table
    )
    assert f"{second.step} steps" in info.training
    assert "Copying first." in info.training
    loaded = Diception.load(folder / "bundle")
    assert loaded.info == info
    scenes = loaded.info.metrics["rendered scenes never seen"]
    assert scenes["depth"]["network"]["abs_rel"] == 0.123
    name = "transformer_blocks.0.attn.to_q.weight"
    kept = loaded.transformer.get_parameter(name)
    torch.testing.assert_close(kept, second.mean[f"transformer.{name}"], atol=1e-3, rtol=1e-3)


def test_the_pool_reads_shards_that_appear_later(folder: Path, tmp_path: Path) -> None:
    pool = Pool(tmp_path)
    assert pool.refresh() == 0
    shard = (folder / "scenes" / "000000000.npz").read_bytes()
    (tmp_path / "000000000.npz").write_bytes(shard)
    assert pool.refresh() == 8 and pool.refresh() == 8
    (tmp_path / "000000064.npz").write_bytes(shard)
    assert pool.refresh() == 16


def test_packed_frames_come_back(folder: Path) -> None:
    frame = cache.make_frame(3, SIZE, SIZE)
    back = cache.unpack(cache.load(folder / "scenes" / "000000000.npz"), 3)
    np.testing.assert_array_equal(back.rgb, frame.rgb)
    np.testing.assert_array_equal(back.instances, frame.instances)
    np.testing.assert_allclose(back.depth, frame.depth, rtol=1e-3)
    seen = np.isfinite(frame.depth)
    np.testing.assert_allclose(back.normals[seen], frame.normals[seen], atol=0.01)


def test_the_shipped_recipe_is_read(tmp_path: Path) -> None:
    recipe = read_recipe(CONFIG, minutes=7.0, out=None)
    assert recipe.minutes == 7.0 and recipe.out == Path(yaml.safe_load(CONFIG.read_text())["out"])
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text(CONFIG.read_text() + "speed: 3\n")
    with pytest.raises(ValueError, match="unknown setting 'speed'"):
        read_recipe(wrong)


def test_a_recipe_names_what_is_wrong() -> None:
    paths = (Path("a"), Path("b"), Path("c"))
    with pytest.raises(ValueError, match="unknown task 'colour', expected depth"):
        Recipe(*paths, shares={"colour": 1.0})
    with pytest.raises(ValueError, match=r"copy_minutes must lie in 0\.\.minutes"):
        Recipe(*paths, minutes=1.0, copy_minutes=2.0)


def test_training_without_frames_says_how_to_render_some(folder: Path, tmp_path: Path) -> None:
    recipe = Recipe(folder / "autoencoder", tmp_path, tmp_path / "out", canvas=SIZE, threads=1)
    with pytest.raises(ValueError, match=r"no shards in .*: render some with"):
        train(recipe)

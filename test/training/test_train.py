# SPDX-License-Identifier: Apache-2.0
"""The trainer on a handful of frames: nothing here learns anything worth having."""

from __future__ import annotations

import csv
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import numpy as np
import pytest
import torch
import yaml
from diffusers import SD3Transformer2DModel
from torch.utils.checkpoint import checkpoint

from diception_ros.model import Diception, read_bundle_info
from diception_ros.model.transformer import velocity
from diception_ros.tasks import TASKS
from diception_ros.training.cache import fill
from diception_ros.training.data import Batches
from diception_ros.training.export import Notes, export, export_files
from diception_ros.training.network import align_streams, split_tokens, stretch_positions
from diception_ros.training.recipe import Phase, Recipe, Size
from diception_ros.training.train import Trainer, first_model, train

ROOT = Path(__file__).parents[2]
MakeRecipe = Callable[..., Recipe]


def losses(out: Path) -> list[tuple[int, float]]:
    with (out / "log.csv").open() as file:
        return [(int(row["step"]), float(row["loss"])) for row in csv.DictReader(file)]


def written(recipe: Recipe, path: Path) -> Path:
    """The recipe as a file, as a user has it."""
    values = {
        name: getattr(recipe, name)
        for name in ("batch", "warmup_steps", "decay_steps", "log_every", "save_every", "workers")
    }
    values |= {
        "out": str(recipe.out),
        "autoencoder": str(recipe.autoencoder),
        "threads": 1,
        "canvas": list(recipe.canvas),
        "sources": {str(path): weight for path, weight in recipe.sources.items()},
        "network": vars(recipe.network),
        "phases": [{"until": p.until, "shares": dict(p.shares)} for p in recipe.phases],
    }
    path.write_text(yaml.safe_dump(values))
    return path


def command(config: Path) -> list[str]:
    return ["-m", "diception_ros.cli", "train", "--config", str(config)]


def test_a_killed_training_goes_on_with_the_same_losses(recipe: MakeRecipe, tmp_path: Path) -> None:
    whole = train(recipe(out=tmp_path / "whole"))
    assert whole.step == 12 and len(losses(tmp_path / "whole")) == 12
    killed = recipe(out=tmp_path / "killed")
    process = subprocess.Popen([sys.executable, *command(written(killed, tmp_path / "k.yaml"))])
    deadline = time.monotonic() + 120
    while not (killed.out / "log.csv").is_file() or len(losses(killed.out)) < 6:
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.01)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    again = train(killed)
    # Two processes need not place their arrays alike, and MKL's sums depend on that; where a
    # gradient is all rounding, Adam's step is as large as anywhere.
    np.testing.assert_allclose(losses(killed.out), losses(tmp_path / "whole"), rtol=1e-4)
    for name, weight in whole.weights.items():
        moved = (again.weights[name] - weight).norm() / weight.norm().clamp_min(1e-3)
        assert moved < 0.05, f"{name} differs by {moved:.3f}"


def test_the_installed_command_trains_with_worker_processes(
    recipe: MakeRecipe, tmp_path: Path
) -> None:
    """Workers import the file that the command is; colcon installs one of its own."""
    made = recipe(workers=1, phases=(Phase(2, {"copy": 1.0}),), warmup_steps=1, decay_steps=1)
    config = str(written(made, tmp_path / "w.yaml"))
    installed = [sys.executable, str(ROOT / "launch" / "diception"), "train", "--config", config]
    done = subprocess.run(installed, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert len(losses(made.out)) == 2


PROCESS = """
import shutil
import sys
from dataclasses import replace
from pathlib import Path
import torch
from diception_ros.training.recipe import read_recipe
from diception_ros.training.train import Trainer, train

recipe, folder, step = read_recipe(Path(sys.argv[1])), Path(sys.argv[2]), Trainer.train_step

def killed(trainer, batches):
    if trainer.step == 6:
        raise KeyboardInterrupt
    return step(trainer, batches)

Trainer.train_step = killed
try:
    train(recipe)
except KeyboardInterrupt:
    Trainer.train_step = step
trainer = train(recipe)
state = trainer.accelerator
found = {"processes": state.num_processes, "weights": trainer.weights}
own = replace(recipe, out=folder / f"disk{state.process_index}")
if state.is_main_process:
    shutil.copytree(recipe.out, own.out)
try:
    train(own)
except ValueError as error:
    found["refused"] = str(error)
torch.save(found, f"{folder}/{state.process_index}.pt")
"""


def free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


@pytest.mark.parametrize("machines", [1, 2])
def test_two_processes_train_one_model(recipe: MakeRecipe, tmp_path: Path, machines: int) -> None:
    """On one machine, and as on two: each started for itself, one process each. Both are stopped
    and go on; then each looks for the checkpoint on a disk of its own."""
    config = written(recipe(), tmp_path / "two.yaml")
    (tmp_path / "process.py").write_text(PROCESS)
    torchrun = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--nproc_per_node",
        f"{2 // machines}",
    ]
    torchrun += ["--nnodes", f"{machines}", "--master_addr", "127.0.0.1"]
    torchrun += ["--master_port", f"{free_port()}"]
    asked = [str(tmp_path / "process.py"), str(config), str(tmp_path)]
    running = [
        subprocess.Popen(
            [*torchrun, "--node_rank", f"{rank}", *asked],
            cwd=ROOT,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": os.pathsep.join(sys.path)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(machines)
    ]
    for process in running:
        _, said = process.communicate(timeout=300)
        assert process.returncode == 0, said[-2000:]
    assert [step for step, _ in losses(recipe().out)] == list(range(1, 13))
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in (0, 1))
    assert first["processes"] == second["processes"] == 2
    told = "processes go on from steps [12, 0]: 'out' must be one folder that all machines see"
    assert first["refused"] == second["refused"] == told
    card = export(recipe(), tmp_path / "bundle").training
    assert "12 steps of batch 4 in" in card
    alone = train(recipe(out=tmp_path / "alone"))
    for name, weight in first["weights"].items():
        torch.testing.assert_close(weight, second["weights"][name], rtol=0, atol=0, msg=name)
    # The second process brings other batches: one model, but not that of the first alone.
    name = "transformer.proj_out.weight"
    moved = (first["weights"][name] - alone.weights[name]).abs().max()
    assert moved > 1e-4


def test_a_row_of_the_log_is_the_mean_of_all_its_steps_after_a_kill_too(
    recipe: MakeRecipe, tmp_path: Path, train_until: Callable[[Recipe, int], None]
) -> None:
    settings = {"log_every": 4, "save_every": 3, "phases": (Phase(4, {"depth": 1.0}),)}
    train(recipe(out=tmp_path / "whole", **settings))
    killed = recipe(out=tmp_path / "killed", **settings)
    train_until(killed, 3)
    train(killed)
    assert len(losses(tmp_path / "whole")) == 1
    np.testing.assert_allclose(losses(killed.out), losses(tmp_path / "whole"), rtol=1e-4)


def test_accumulated_batches_make_one_step(
    recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = recipe(accumulate=2, phases=(Phase(3, {"depth": 1.0}),))
    trainer = train(made)
    assert trainer.step == 3 and len(losses(tmp_path / "out")) == 3
    parts = [Batches(made, trainer.tasks)[number] for number in range(2)]
    for number, part in enumerate(map(trainer.encoder, parts)):
        with trainer.accelerator.autocast():
            loss = trainer.objective(part, (made.seed, 0, trainer.step, number))
            (loss / 2).backward()
    expected, clip = gradients(trainer), trainer.accelerator.clip_grad_norm_
    trainer.optimizer.optimizer.zero_grad()
    found: list[dict[str, torch.Tensor]] = []

    def seen(*given: Any) -> torch.Tensor:
        found.append(gradients(trainer))
        return clip(*given)

    monkeypatch.setattr(trainer.accelerator, "clip_grad_norm_", seen)
    trainer.train_step(iter(parts))
    assert len(found) == 1
    torch.testing.assert_close(found[0], expected)


def gradients(trainer: Trainer) -> dict[str, torch.Tensor]:
    return {n: w.grad.clone() for n, w in trainer.weights.items() if w.grad is not None}


def test_recomputed_activations_give_the_same_losses(
    recipe: MakeRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    short = {"phases": (Phase(3, {"depth": 1.0}),)}
    recomputing = Mock(wraps=checkpoint)
    monkeypatch.setattr("diception_ros.model.transformer.checkpoint", recomputing)
    train(recipe(out=tmp_path / "a", **short))
    assert not recomputing.called
    train(recipe(out=tmp_path / "b", checkpointing=True, **short))
    assert recomputing.call_count == 3 * recipe().network.layers
    a, b = (losses(tmp_path / name) for name in "ab")
    np.testing.assert_allclose(a, b, rtol=1e-5)


def test_the_running_mean_keeps_what_the_recipe_says_and_less_at_first(recipe: MakeRecipe) -> None:
    made = recipe(ema=0.2)
    trainer, batches = Trainer(made), Batches(made, TASKS)
    for number, keep in enumerate((2 / 11, 0.2, 0.2)):
        before = {name: mean.clone() for name, mean in trainer.mean.items()}
        trainer.train_step(iter([batches[number]]))
        for name, weight in trainer.weights.items():
            expected = keep * before[name] + (1 - keep) * weight.detach()
            torch.testing.assert_close(trainer.mean[name], expected)


def test_the_running_mean_is_shown_and_the_weights_come_back(recipe: MakeRecipe) -> None:
    trainer = train(recipe())
    name = "transformer.proj_out.weight"
    before = trainer.weights[name].detach().clone()
    with trainer.averaged() as model:
        shown = model.transformer.proj_out.weight.detach().clone()
    torch.testing.assert_close(shown, trainer.mean[name], rtol=0, atol=0)
    torch.testing.assert_close(trainer.weights[name], before, rtol=0, atol=0)
    assert not torch.equal(shown, before)


def test_a_training_becomes_a_bundle_and_a_bundle_trains_on(
    recipe: MakeRecipe, tmp_path: Path
) -> None:
    first = train(recipe())
    info = export(
        recipe(), tmp_path / "bundle", Notes(phases="Copying first."), {"depth": {"a": 1.0}}
    )
    assert "12 steps" in info.training and "Copying first." in info.training
    loaded = Diception.load(tmp_path / "bundle")
    assert loaded.info == info and info.metrics == {"depth": {"a": 1.0}}
    name = "transformer_blocks.0.attn.to_q.weight"
    kept = loaded.transformer.get_parameter(name)
    torch.testing.assert_close(kept, first.mean[f"transformer.{name}"], atol=1e-3, rtol=1e-3)
    onward = recipe(out=tmp_path / "on", autoencoder=None, init=tmp_path / "bundle")
    second = train(onward)
    assert second.step == 12
    assert not torch.equal(second.weights[f"transformer.{name}"], kept)
    story = export(onward, tmp_path / "further").training
    assert story.startswith(info.training) and "12 further steps" in story


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("notes", "phase: Copying", r"notes: expected entries phases, limits, found {'phase'"),
        ("notes", "{", "notes: cannot be read: "),
        ("metrics", "[1]", r"metrics: expected entries by name, found \[1\]"),
        ("metrics", '{"depth": 1}', r"expected the evaluation's metrics\.json, found no 'tables'"),
        ("metrics", "depth", "metrics: cannot be read: Expecting value"),
    ],
)
def test_words_and_figures_of_another_kind_are_refused(
    recipe: MakeRecipe, tmp_path: Path, name: str, text: str, message: str
) -> None:
    (tmp_path / name).write_text(text)
    with pytest.raises(ValueError, match=message):
        export_files(recipe(), tmp_path / "bundle", **{name: tmp_path / name})


def test_a_bundle_may_keep_a_share_of_the_weights_it_began_with(
    recipe: MakeRecipe, tmp_path: Path
) -> None:
    train(recipe())
    export(recipe(), tmp_path / "first")
    onward = recipe(out=tmp_path / "on", autoencoder=None, init=tmp_path / "first")
    train(onward)
    first = Diception.load(tmp_path / "first").point_embedder
    found, points = [], [first.get_parameter("point_embedder.2.weight")]
    for share in (0.0, 0.25, 1.0):
        export(onward, tmp_path / f"{share}", blend=share)
        loaded = Diception.load(tmp_path / f"{share}")
        found.append(loaded.transformer.get_parameter("transformer_blocks.0.attn.to_q.weight"))
        points.append(loaded.point_embedder.get_parameter("point_embedder.2.weight"))
    before, some, after = found
    torch.testing.assert_close(points[0], points[1], atol=1e-4, rtol=2e-3)
    assert not torch.allclose(points[0], points[-1], atol=1e-3)
    card = read_bundle_info(tmp_path / "0.25")
    assert "25% of the weights are of these steps" in card.training
    torch.testing.assert_close(some, 0.75 * before + 0.25 * after, atol=1e-4, rtol=2e-3)
    assert not torch.allclose(before, after, atol=1e-3)
    with pytest.raises(ValueError, match="blend needs a recipe with 'init'"):
        export(recipe(), tmp_path / "bundle", blend=0.5)
    with pytest.raises(ValueError, match=r"blend must lie in 0\.\.1, got 1\.5"):
        export(onward, tmp_path / "bundle", blend=1.5)


def test_a_bundle_trains_on_with_more_tokens(recipe: MakeRecipe, tmp_path: Path) -> None:
    train(recipe())
    export(recipe(), tmp_path / "bundle")
    onward = {"out": tmp_path / "on", "autoencoder": None, "init": tmp_path / "bundle"}
    finer = recipe(**onward, network=Size(patch=1))
    assert first_model(finer).transformer.config.patch_size == 1
    assert train(finer).step == 12
    export(finer, tmp_path / "finer")
    assert Diception.load(tmp_path / "finer").transformer.config.patch_size == 1
    with pytest.raises(ValueError, match="a divisor of the bundle's patch size 2, got 3"):
        first_model(recipe(**onward, network=Size(patch=3)))


def test_a_place_keeps_its_code_on_a_larger_canvas(recipe: MakeRecipe) -> None:
    """Up to what lies between two codes; a middle that is one code's own keeps it exactly."""
    transformer = first_model(recipe()).transformer
    side = transformer.config.pos_embed_max_size
    before = transformer.pos_embed.pos_embed.unflatten(1, (side, side))[0].clone()
    stretch_positions(transformer, (4, 2), (4, 6))
    after = transformer.pos_embed.pos_embed.unflatten(1, (side, side))[0]
    rows = slice((side - 4) // 2, (side + 4) // 2)
    first, was = (side - 6) // 2, (side - 2) // 2
    torch.testing.assert_close(after[rows, first + 1], before[rows, was])
    torch.testing.assert_close(after[rows, first + 4], before[rows, was + 1])
    between = (2 * before[rows, was] + before[rows, was + 1]) / 3
    torch.testing.assert_close(after[rows, first + 2], between)
    with pytest.raises(ValueError, match=f"canvas: 4x{side + 1} tokens, the network has {side}"):
        stretch_positions(transformer, (4, 4), (4, side + 1))


def test_a_bundle_trains_on_with_a_larger_canvas(recipe: MakeRecipe, tmp_path: Path) -> None:
    train(recipe())
    export(recipe(), tmp_path / "bundle")
    onward = {"autoencoder": None, "init": tmp_path / "bundle", "canvas": (64, 64)}
    with pytest.raises(ValueError, match="scenes of 32x32, but the recipe's canvas is 64x64"):
        train(recipe(out=tmp_path / "small", workers=0, **onward))
    larger = {**onward, "network": Size(stretch=True)}
    fill(tmp_path / "scenes", 0, 1, 64)
    train(recipe(out=tmp_path / "on", sources={tmp_path / "scenes": 1.0}, **larger))
    export(recipe(out=tmp_path / "on", **larger), tmp_path / "larger", blend=0.5)
    found = Diception.load(tmp_path / "larger")
    assert found.info.canvas == (64, 64) and found.info.positions == "stretch"
    small = found.transformer.pos_embed.cropped_pos_embed(4, 4)  # as the first bundle's
    first = Diception.load(tmp_path / "bundle").transformer.pos_embed.cropped_pos_embed(4, 4)
    torch.testing.assert_close(small, first, atol=0.15, rtol=0)  # two tokens a side: coarse
    smaller = {"network": Size(patch=1), "init": tmp_path / "larger", "canvas": (64, 64)}
    with pytest.raises(ValueError, match="has stretched positions, keep its patches"):
        first_model(recipe(**{**onward, **smaller}))


def test_split_tokens_answer_smooth_latents_as_the_whole_ones(recipe: MakeRecipe) -> None:
    """Of latents equal within every patch, and where no token looks at another one."""
    model = first_model(recipe())
    transformer = model.transformer
    for block in transformer.transformer_blocks:
        torch.nn.init.zeros_(block.attn.to_out[0].weight)
        torch.nn.init.normal_(block.ff.net[2].weight, std=0.1)
    torch.nn.init.zeros_(transformer.pos_embed.pos_embed)
    split = split_tokens(transformer, 1)
    torch.nn.init.zeros_(split.pos_embed.pos_embed)
    smooth = torch.randn(2, 16, 4, 4).repeat_interleave(2, 2).repeat_interleave(2, 3)
    embeds, pooled = model.prompts.lookup(["", "[[image2depth]]"])
    time, tokens = torch.full((2,), 1000.0), model.point_tokens(None, None, 2)
    with torch.no_grad():
        given = (smooth, smooth.flip(0), time, embeds, pooled, tokens)
        whole, parts = velocity(transformer, *given), velocity(split, *given)
    mean = torch.nn.functional.avg_pool2d(whole, 2)
    torch.testing.assert_close(torch.nn.functional.avg_pool2d(parts, 2), mean)


def test_split_tokens_lie_around_the_places_of_the_whole_ones() -> None:
    """In a grid of codes that are less than one apart, as SD3's are."""
    sizes = {"sample_size": 16, "pos_embed_max_size": 24, "num_layers": 1}
    sizes |= {"num_attention_heads": 2, "attention_head_dim": 64, "caption_projection_dim": 128}
    whole = SD3Transformer2DModel(**sizes, joint_attention_dim=32, pooled_projection_dim=32)
    codes = whole.pos_embed.pos_embed.unflatten(1, (24, 24))[0]
    parts = split_tokens(whole, 1).pos_embed.pos_embed.reshape(24, 2, 24, 2, -1).mean((1, 3))
    assert torch.nn.functional.cosine_similarity(parts, codes, dim=-1).min() > 0.99


def test_a_checkpoint_of_another_network_is_refused(recipe: MakeRecipe) -> None:
    train(recipe())
    for size in (Size(width=128, heads=2, layers=3), Size(width=192, heads=3, layers=2)):
        with pytest.raises(ValueError, match="is of another network: choose another 'out'"):
            train(recipe(network=size))


def test_a_task_of_a_later_phase_without_data_is_told_before_the_first_step(
    recipe: MakeRecipe, tmp_path: Path
) -> None:
    (tmp_path / "tasks.yaml").write_text("- {name: crack, prompt: '[[crack]]', kind: mask}")
    phases = (Phase(1, {"depth": 1.0}), Phase(2, {"crack": 1.0}))
    with pytest.raises(ValueError, match="no source has data for the task 'crack': name one"):
        train(recipe(phases=phases, task_file=tmp_path / "tasks.yaml"))
    assert not recipe().out.exists()


def test_training_without_frames_says_how_to_render_some(
    recipe: MakeRecipe, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=r"no shards in .*: render some with 'diception scenes"):
        train(recipe(sources={tmp_path: 1.0}))
    assert not recipe().out.exists()
    with pytest.raises(ValueError, match=r"no checkpoint .*: train it with 'diception train'"):
        export(recipe(out=tmp_path / "nothing"), tmp_path / "bundle")


def test_aligned_streams_treat_a_point_as_the_patch_under_it(recipe: MakeRecipe) -> None:
    transformer = first_model(recipe()).transformer
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in transformer.parameters():
            weight += 0.02 * torch.randn(weight.shape, generator=generator)
    tokens = torch.randn(2, 5, 128, generator=generator)
    temb = torch.randn(2, 128, generator=generator)
    block = transformer.transformer_blocks[0]

    def difference() -> float:
        context, image = block(tokens, tokens, temb)
        return float((context - image).abs().max().detach())

    assert difference() > 1e-2
    align_streams(transformer)
    assert difference() < 1e-5
    last = transformer.transformer_blocks[-1]
    assert last.context_pre_only
    normed, *_ = last.norm1(tokens, emb=temb)
    torch.testing.assert_close(last.norm1_context(tokens, temb), normed)


def test_streams_are_aligned_when_a_phase_begins_and_frozen_points_are_kept(
    recipe: MakeRecipe, tmp_path: Path
) -> None:
    phases = (Phase(2, {"depth": 1.0}), Phase(5, {"point": 1.0}, align=True))
    made = recipe(phases=phases, train_points=False, save_every=3, rate=1e-6)
    assert [made.aligns(step) for step in range(5)] == [False, False, True, False, False]
    trainer = Trainer(made)
    assert not any(name.startswith("point_embedder") for name in trainer.weights)
    points = trainer.model.point_embedder.point_embedder
    with torch.no_grad():
        points[2].weight.zero_()  # as a training that lost the positions leaves it
    batches = Batches(made, trainer.tasks)
    for number in range(3):
        assert not points[2].weight.any()
        trainer.train_step(iter([batches[number]]))
    assert points[2].weight.any()
    attention = trainer.model.transformer.transformer_blocks[0].attn
    torch.testing.assert_close(
        attention.add_k_proj.weight, attention.to_k.weight, atol=1e-4, rtol=0
    )
    trainer.save()
    resumed = Trainer(made)
    resumed.resume(made.out / "last.pt")
    kept = resumed.model.point_embedder.point_embedder[2].weight
    torch.testing.assert_close(kept, points[2].weight, atol=0, rtol=0)
    torch.testing.assert_close(resumed.mean, trainer.mean, atol=0, rtol=0)

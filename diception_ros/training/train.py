# SPDX-License-Identifier: Apache-2.0
"""Trains a bundle, in one process or many (HF Accelerate: devices, precision, gradients)."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DistributedDataParallelKwargs, gather_object, parse_flag_from_env

from diception_ros.model import BundleInfo, Diception
from diception_ros.model.allocator import keep_freed_memory
from diception_ros.model.attention import write_out
from diception_ros.model.autoencoder import downsampling
from diception_ros.model.precision import best_dtype
from diception_ros.tasks import TASKS, load_tasks
from diception_ros.training.checkpoint import CHECKPOINT, read_checkpoint, write_checkpoint
from diception_ros.training.data import (
    Batch,
    Batches,
    Encoder,
    check_sources,
    load_ahead,
    load_autoencoder,
)
from diception_ros.training.live.batches import LiveBatches
from diception_ros.training.measure.timing import hardware
from diception_ros.training.network import (
    align_streams,
    build,
    place_points,
    split_tokens,
    stretch_positions,
)
from diception_ros.training.objective import Noising, Objective
from diception_ros.training.progress import bar, log_from
from diception_ros.training.recipe import Recipe
from diception_ros.training.validation import Validation

LOG = logging.getLogger(__name__)


class Trainer:
    """Model, its running mean, optimizer and clock; everything that a checkpoint holds."""

    def __init__(self, recipe: Recipe) -> None:
        self.recipe = recipe
        self.tasks = {**TASKS, **(load_tasks(recipe.task_file) if recipe.task_file else {})}
        recipe.check_tasks(self.tasks)
        if recipe.threads:
            torch.set_num_threads(recipe.threads)
        self.accelerator = _accelerator(recipe)
        device = self.accelerator.device
        self.model = first_model(recipe).to(device)
        if device.type == "cpu":
            keep_freed_memory()
            write_out(self.model.transformer)
        self.model.transformer.gradient_checkpointing = recipe.checkpointing
        if recipe.compile:
            for block in self.model.transformer.transformer_blocks:
                block.compile()
        self.weights = {n: p for n, p in self.model.named_parameters() if p.requires_grad}
        self.mean = {name: weight.detach().clone() for name, weight in self.weights.items()}
        noising = Noising(recipe.full_noise, recipe.serving_noise, recipe.dropout)
        optimizer = torch.optim.AdamW(
            self.weights.values(),
            lr=recipe.rate,
            betas=(0.9, 0.95),
            weight_decay=recipe.weight_decay,
            fused=True,
        )
        self.objective, self.optimizer = self.accelerator.prepare(
            Objective(self.model, noising, recipe.picture, self.tasks), optimizer
        )
        self.encoder = Encoder(self.model, recipe.foreground, recipe.remember, self.tasks)
        self.step, self.seconds = 0, 0.0
        self.losses: list[torch.Tensor] = []  # of the steps since the log's last row

    def train_step(self, batches: Iterator[Batch]) -> torch.Tensor:
        """One optimizer step over `accumulate` batches of every process; the mean loss, on the
        device, so that nothing waits for it."""
        recipe, total = self.recipe, torch.zeros((), device=self.accelerator.device)
        if recipe.aligns(self.step):
            self._align()
        for group in self.optimizer.param_groups:
            group["lr"] = recipe.rate_at(self.step)
        for part in range(recipe.accumulate):
            batch = self.encoder(next(batches))
            seed = (recipe.seed, self.accelerator.process_index, self.step, part)
            with self.accelerator.accumulate(self.objective), self.accelerator.autocast():
                loss = self.objective(batch, seed)
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.weights.values(), 1.0)
                self.optimizer.step()
                self.optimizer.zero_grad()
            total += loss.detach() / recipe.accumulate
        self.step += 1
        self._average()
        return total

    def _align(self) -> None:
        """Weights and running mean alike; see network.align_streams."""
        kept = {name: weight.detach().clone() for name, weight in self.weights.items()}
        for values in (self.mean, kept):
            self._set(values)
            align_streams(self.model.transformer)
            place_points(self.model, self.recipe.seed)
            for name, weight in self.weights.items():
                values[name].copy_(weight.detach())

    @torch.no_grad()
    def _average(self) -> None:
        keep = min(self.recipe.ema, (1 + self.step) / (10 + self.step))
        torch._foreach_lerp_(list(self.mean.values()), list(self.weights.values()), 1 - keep)

    @contextmanager
    def averaged(self) -> Iterator[Diception]:
        """The model with its running mean as weights, for as long as the block lasts."""
        kept = {name: weight.detach().clone() for name, weight in self.weights.items()}
        self._set(self.mean)
        self.model.eval()
        try:
            yield self.model
        finally:
            self._set(kept)
            self.model.train()

    @torch.no_grad()
    def _set(self, values: Mapping[str, torch.Tensor]) -> None:
        for name, weight in self.weights.items():
            weight.copy_(values[name])

    def save(self) -> None:
        """A checkpoint by the first process. OSError, with the one before as it was, if it cannot
        be written."""
        if not self.accelerator.is_main_process:
            return
        state = {
            "weights": {name: weight.detach() for name, weight in self.weights.items()},
            "mean": self.mean,
            "points": self.model.point_embedder.state_dict(),  # frozen ones may have been placed
            "optimizer": self.optimizer.state_dict(),
            "step": self.step,
            "seconds": self.seconds,
            "losses": self.losses,
            "made": self.made(),
        }
        write_checkpoint(state, self.recipe.out)

    def made(self) -> dict[str, Any]:
        """Samples a step, of all processes, and on what."""
        batch = self.recipe.batch * self.recipe.accumulate * self.accelerator.num_processes
        return {"batch": batch, "hardware": hardware(self.accelerator.device)}

    def resume(self, path: Path) -> dict[str, Any]:
        """What `made` was where the checkpoint was written. ValueError if that is damaged or of
        another network."""
        points = self.model.point_embedder
        own = {"weights": self.weights, "points": points.state_dict()}
        state = read_checkpoint(path, own)
        points.load_state_dict(state["points"])
        self._set(state["weights"])
        for name, value in state["mean"].items():
            self.mean[name].copy_(value)
        self.optimizer.load_state_dict(state["optimizer"])
        self.step, self.seconds = state["step"], state["seconds"]
        self.losses = [loss.to(self.accelerator.device) for loss in state.get("losses", ())]
        return dict(state.get("made", self.made()))


def _accelerator(recipe: Recipe) -> Accelerator:
    """bfloat16 where the device multiplies it in hardware; several processes as launched."""
    # Processes on CPUs find each other only if the first state that is made is told of CPUs.
    cpu = parse_flag_from_env("ACCELERATE_USE_CPU") or not torch.cuda.is_available()
    # Not Accelerator().device: a second Accelerator could not change the precision of the first.
    fast = best_dtype(PartialState(cpu=cpu).device) == torch.bfloat16
    return Accelerator(
        cpu=cpu,
        mixed_precision="bf16" if fast else "no",
        gradient_accumulation_steps=recipe.accumulate,
        # The last block's context has no output of its own, so some weights see no gradient.
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )


def first_model(recipe: Recipe) -> Diception:
    """What training starts from: a bundle in float32, or a new network around an autoencoder."""
    if recipe.init is not None:
        model = Diception.load(recipe.init)
        transformer, patch, info = model.transformer, recipe.network.patch, model.info
        if patch and patch != transformer.config.patch_size:
            if info.positions == "stretch":
                raise ValueError(
                    f"patch: '{recipe.init}' has stretched positions, keep its patches"
                )
            transformer = split_tokens(transformer, patch)
        if recipe.network.stretch or info.positions == "stretch":
            info = replace(info, positions="stretch")
            cell = downsampling(model.vae) * int(transformer.config.patch_size)
            sizes = (info.canvas, recipe.canvas)
            before, after = ((height // cell, width // cell) for height, width in sizes)
            stretch_positions(transformer, before, after)
        model = Diception(
            transformer,
            model.vae,
            model.point_embedder,
            model.prompts,
            model.scheduler,
            replace(info, canvas=recipe.canvas),
        )
        model.transformer.requires_grad_(True)
    else:
        vae = load_autoencoder(recipe.autoencoder)
        info = BundleInfo(name="embedded", canvas=recipe.canvas)
        model = build(vae, info, recipe.seed, recipe.network)
    model.point_embedder.requires_grad_(recipe.train_points)
    model.vae.requires_grad_(False).eval()
    return model


def train(recipe: Recipe) -> Trainer:
    """Trains to the recipe's last step; goes on from out/last.pt if there is one."""
    trainer = Trainer(recipe)
    check_sources(recipe, trainer.tasks, trainer.model.prompts)
    if (recipe.out / CHECKPOINT).is_file():
        trainer.resume(recipe.out / CHECKPOINT)
        LOG.info("going on from step %d of %d", trainer.step, recipe.steps)
    _check_steps(trainer)
    recipe.out.mkdir(parents=True, exist_ok=True)
    main = trainer.accelerator.is_main_process
    if (processes := trainer.accelerator.num_processes) > 1:
        LOG.info("process %d of %d", trainer.accelerator.process_index + 1, processes)
    validation = Validation.open(recipe) if main else None
    ahead = batches_of(trainer)
    path = recipe.out / "log.csv" if main else Path(os.devnull)
    with log_from(path, trainer.step) as log, bar(shown=main) as progress:
        row = progress.add_task("training", total=recipe.steps, completed=trainer.step, loss="")
        _steps(trainer, ahead, validation, log, lambda **seen: progress.update(row, **seen))
    trainer.save()
    return trainer


def _check_steps(trainer: Trainer) -> None:
    """ValueError where some processes have found the checkpoint and others have not: they would
    train models of their own."""
    steps = gather_object([trainer.step])
    if len(set(steps)) > 1:
        raise ValueError(
            f"processes go on from steps {steps}: 'out' must be one folder that all machines see"
        )


def batches_of(trainer: Trainer) -> Iterator[Batch]:
    """From the trainer's step on: of files, made ahead, or of scenes that the device renders."""
    recipe, accelerator = trainer.recipe, trainer.accelerator
    rank = accelerator.process_index
    first = trainer.step * recipe.accumulate
    if recipe.live:
        made = LiveBatches(recipe, accelerator.device, rank, accelerator.num_processes)
        return made.from_number(first)
    return load_ahead(Batches(recipe, trainer.tasks, rank), first, recipe.workers)


def _steps(
    trainer: Trainer,
    ahead: Iterator[Batch],
    validation: Validation | None,
    log: Any,
    show: Callable[..., None],
) -> None:
    recipe, losses, begun = trainer.recipe, trainer.losses, time.monotonic()

    def count_time() -> None:
        nonlocal begun
        now = time.monotonic()
        trainer.seconds, begun = trainer.seconds + now - begun, now

    while trainer.step < recipe.steps:
        losses.append(trainer.train_step(ahead))
        if trainer.step % recipe.log_every == 0 or trainer.step == recipe.steps:
            loss = float(sum(losses)) / len(losses)  # waits for the device
            count_time()
            rate = recipe.rate_at(trainer.step - 1)
            log.writerow([trainer.step, f"{trainer.seconds:.1f}", f"{loss:.6g}", f"{rate:.4g}"])
            show(completed=trainer.step, loss=f"loss {loss:.4f}")
            losses.clear()
        if trainer.step % recipe.save_every == 0:
            count_time()
            trainer.save()
        if validation and recipe.validate_every and trainer.step % recipe.validate_every == 0:
            with trainer.averaged() as model:
                validation.run(model, trainer.step)
            begun = time.monotonic()

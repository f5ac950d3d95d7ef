# SPDX-License-Identifier: Apache-2.0
"""A new task from a few pairs of pictures: LoRA on the attention, everything else frozen.

After DICEPTION's few-shot adaptation (arXiv 2502.17157): LoRA on q, k and v, 1% of the parameters,
50 images.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from peft import LoraConfig, get_peft_model_state_dict
from torch import nn

from diception_ros.model import Diception, PromptBank
from diception_ros.model.attention import write_out
from diception_ros.model.lora import (
    FIRST,
    SECOND,
    Adapter,
    AdapterInfo,
    Matrices,
    base_sample,
    target_layers,
)
from diception_ros.model.precision import autocast
from diception_ros.tasks import TASKS, Task
from diception_ros.tasks.custom import KINDS, make_task
from diception_ros.training.measure.timing import hardware
from diception_ros.training.objective import Encoded, Noising, Objective
from diception_ros.training.pairs import Pairs, encode_pairs, take

HIGHEST_RANK = 128
"""The paper's, for SD3-medium. On queries, keys and values of both streams it trains 2.8% there, so
1% stops at 46 and 128 has to be allowed."""
SMALL_WIDTH = 1024
RATES = (3e-3, 2e-5)
"""Learning rates below SMALL_WIDTH (tuned on the embedded model) and above (the paper's)."""
WARM_STEPS = 20
COMPARED = 16
"""Pairs on which the known prompts are compared."""
Report = Callable[[float, float], None]
"""report(share of the training that is done, loss)."""


@dataclass(frozen=True)
class Adaptation:
    """How an adapter is trained.

    rank: None is the highest that max_share allows, at most 128. max_share: most trained parameters
    over the transformer's, 0.01 is 1%. minutes: ends the training earlier than `steps`. rate: None
    is by the network's width. foreground: extra weight of cells where a mask is not black, which
    most of it is. full_noise, serving_noise: see Noising; nearly all samples are what one step of
    serving sees. variants: how often every pair is encoded: as it is, then parts of it in other
    colours, and all of that mirrored, too, unless `mirror` is False: where left and right mean
    something, as in normals or flow.
    """

    rank: int | None = None
    max_share: float = 0.01
    steps: int = 600
    minutes: float | None = None
    batch: int = 8
    rate: float | None = None
    foreground: float = 3.0
    full_noise: float = 0.9
    serving_noise: float = 0.9
    variants: int = 16
    mirror: bool = True
    checkpointing: bool = False
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("rank", "steps", "batch", "variants", "minutes", "rate", "max_share"):
            value = getattr(self, name)
            if value is not None and not value > 0:
                raise ValueError(f"{name} must be greater than 0, got {value}")


@dataclass(frozen=True)
class Training:
    """steps and seconds a training took."""

    steps: int
    seconds: float


def new_task(name: str, kind: str = "mask", prompt: str = "") -> Task:
    """ValueError for a name or kind that cannot be, or a name that is taken."""
    if name in TASKS:
        raise ValueError(f"'{name}' is a task that the bundle has: give the new one another name")
    return make_task({"name": name, "kind": kind, "prompt": prompt or f"[[image2{name}]]"})


def adapt(
    model: Diception,
    pairs: Pairs,
    task: Task,
    recipe: Adaptation,
    report: Report = lambda done, loss: None,
) -> Adapter:
    """Trains an adapter for the task; the model is as before afterwards, but knows the prompt.

    ValueError for a rank over max_share, or a prompt that this bundle has no vectors for.
    """
    rank, share = choose_rank(model, recipe)
    pairs = replace(pairs, mirror=recipe.mirror)
    embeds, pooled = ensure_prompt(model, pairs, task)
    layers = target_layers(model.transformer)
    base = base_sample(layers)
    data = encode_pairs(model, pairs, task, recipe.variants, recipe.foreground, recipe.seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model.transformer.add_adapter(
            LoraConfig(r=rank, lora_alpha=rank, target_modules=list(layers))
        )
    try:
        trained = fit(model, data, recipe, report)
        matrices = trained_matrices(model.transformer)
    finally:
        model.transformer.unload_lora()
    info = AdapterInfo(
        task=task.name,
        prompt=task.prompt,
        kind=kind_of(task),
        bundle=model.info.name,
        rank=rank,
        alpha=float(rank),
        share=share,
        images=len(pairs.pairs),
        steps=trained.steps,
        seconds=round(trained.seconds, 1),
        hardware=hardware(model.device),
    )
    return Adapter(info, matrices, embeds, pooled, base)


def choose_rank(model: Diception, recipe: Adaptation) -> tuple[int, float]:
    """The rank and the share of the transformer's parameters that it trains.
    ValueError if that is more than the recipe allows, with what would do."""
    layers = target_layers(model.transformer).values()
    total = sum(weight.numel() for weight in model.transformer.parameters())
    each = sum(layer.in_features + layer.out_features for layer in layers) / total
    highest = min(HIGHEST_RANK, int(recipe.max_share / each))
    rank = recipe.rank or max(highest, 1)
    if rank * each > recipe.max_share:
        lower = f"take rank {highest} or less, or " if highest else ""
        needed = math.ceil(1000 * rank * each) / 10
        raise ValueError(
            f"rank {rank} trains {rank * each:.2%} of the network, more than "
            f"{recipe.max_share:.2%}: {lower}allow it with --max-share {needed}"
        )
    return rank, rank * each


def ensure_prompt(model: Diception, pairs: Pairs, task: Task) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors (1, T, D) and (1, P) of the task's prompt, float32, now in the model's bank: those
    that are there, else, where prompts are random vectors, a copy of the known prompt that is
    answered most like the targets. ValueError where prompts are encoded text."""
    bank = model.prompts
    if task.prompt not in bank.names and model.info.prompts == "random":
        vectors = bank.lookup([nearest_prompt(model, pairs, task)])
        rows = [torch.cat(both) for both in zip((bank.embeds, bank.pooled), vectors, strict=True)]
        model.prompts = PromptBank([*bank.names, task.prompt], *rows)
    embeds, pooled = model.prompts.lookup([task.prompt])
    return embeds.float(), pooled.float()


@torch.no_grad()
def nearest_prompt(model: Diception, pairs: Pairs, task: Task) -> str:
    """The known prompt under which one step from the serving noise comes closest to the targets."""
    data = encode_pairs(model, pairs.first(min(len(pairs.pairs), COMPARED)), task, 1, 0.0, 0)
    everything, names = torch.arange(len(data.images)), model.prompts.names
    objective = Objective(model, Noising(full_noise=1.0, serving_noise=1.0))
    losses = {}
    for name in names:
        asked = replace(data, prompts=(name,) * len(data.images))
        with autocast(model.device):
            losses[name] = float(objective(take(asked, everything), (0,)))
    return min(losses, key=losses.__getitem__)


def fit(model: Diception, data: Encoded, recipe: Adaptation, report: Report) -> Training:
    """Trains those of the transformer's parameters that ask for it, in float32."""
    parameters = [weight for weight in model.transformer.parameters() if weight.requires_grad]
    for weight in parameters:
        weight.data = weight.data.float()
    rate = recipe.rate or RATES[model.transformer.inner_dim >= SMALL_WIDTH]
    optimizer = torch.optim.AdamW(parameters, lr=rate)
    objective = Objective(model, Noising(recipe.full_noise, recipe.serving_noise))
    model.transformer.gradient_checkpointing = recipe.checkpointing
    if model.device.type == "cpu":
        write_out(model.transformer)
    generator = torch.Generator().manual_seed(recipe.seed)
    started, limit = time.monotonic(), 60 * (recipe.minutes or math.inf)
    step = 0
    while (done := max(step / recipe.steps, (time.monotonic() - started) / limit)) < 1:
        warm = min(1.0, (step + 1) / WARM_STEPS)
        optimizer.param_groups[0]["lr"] = rate * warm * (0.5 + 0.5 * math.cos(math.pi * done))
        rows = torch.randint(len(data.images), (recipe.batch,), generator=generator)
        with autocast(model.device):
            loss = objective(take(data, rows), (recipe.seed, step))
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        step += 1
        report(done, float(loss.detach()))
    model.transformer.gradient_checkpointing = False
    return Training(step, time.monotonic() - started)


def trained_matrices(transformer: nn.Module) -> dict[str, Matrices]:
    """A and B of every adapted layer, as peft trained them."""
    state = get_peft_model_state_dict(transformer)
    names = [name.removesuffix(FIRST) for name in state if name.endswith(FIRST)]
    return {
        name: (
            state[name + FIRST].detach().cpu().clone(),
            state[name + SECOND].detach().cpu().clone(),
        )
        for name in names
    }


def kind_of(task: Task) -> str:
    return next(kind for kind, (_, _, result) in KINDS.items() if result is task.result)

# SPDX-License-Identifier: Apache-2.0
"""Adapters: one new task as low-rank changes of the attention (LoRA), merged in place and undone.

Trained with peft (diception_ros.training.adapt); loading and merging need torch alone.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import torch
import yaml
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn

if TYPE_CHECKING:
    from diception_ros.model.diception import Diception

TARGETS = ("to_q", "to_k", "to_v", "add_q_proj", "add_k_proj", "add_v_proj")
"""Queries, keys and values of the image stream and of the text stream."""
FIRST, SECOND = ".lora_A.weight", ".lora_B.weight"
PROMPT = ("prompt_embeds", "pooled")
SAMPLE = "base_sample"
SAMPLED = 8
"""Weights of every touched module that tell one bundle from another of the same sizes."""
Matrices: TypeAlias = tuple[torch.Tensor, torch.Tensor]
TOLERANCE = 2**-7
"""Relative difference of one weight in float16 and in bfloat16, with room."""


@dataclass(frozen=True)
class AdapterInfo:
    """The card of an adapter.

    task: the new task's name; prompt: its exact string; kind: of its picture (mask, disparity or
    colour). bundle: name of the one it was trained on. share: trained parameters over the
    transformer's, 0.01 is 1%. images, steps, seconds, hardware: of the training. metrics: {name:
    figure} as measured.
    """

    task: str
    prompt: str
    kind: str
    bundle: str
    rank: int
    alpha: float
    share: float
    images: int = 0
    steps: int = 0
    seconds: float = 0.0
    hardware: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class Adapter:
    """info: the card. pairs: {module: (A (rank, in), B (out, rank))} float32, on any device.
    embeds (1, T, D), pooled (1, P): the prompt. base: (modules, SAMPLED) float32, the first weights
    of every touched module of the bundle it belongs to."""

    info: AdapterInfo
    pairs: Mapping[str, Matrices]
    embeds: torch.Tensor
    pooled: torch.Tensor
    base: torch.Tensor

    def save(self, path: str | Path) -> None:
        """Writes the adapter with its card in the header, and the card beside it as <stem>.yaml."""
        path = Path(path)
        tensors = dict(zip((*PROMPT, SAMPLE), (self.embeds, self.pooled, self.base), strict=True))
        for name, (first, second) in self.pairs.items():
            tensors |= {name + FIRST: first, name + SECOND: second}
        path.parent.mkdir(parents=True, exist_ok=True)
        whole = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
        try:
            save_file(whole, path, metadata={"card": json.dumps(asdict(self.info))})
        except SafetensorError as error:
            raise OSError(f"adapter {path} cannot be written: {error}") from error
        path.chmod(0o644)
        card = yaml.safe_dump(asdict(self.info), sort_keys=False, allow_unicode=True, width=100)
        path.with_suffix(".yaml").write_text(card)

    @classmethod
    def load(cls, path: str | Path) -> Adapter:
        """Reads a file that `save` wrote. ValueError says what it is instead."""
        path = Path(path).expanduser()
        if not path.is_file():
            raise ValueError(f"adapter {path} is missing")
        try:
            with safe_open(path, framework="pt") as file:
                card = (file.metadata() or {}).get("card")
                # Copies: a mapped file that is copied over, as after retraining, would take the
                # process down.
                tensors = {name: file.get_tensor(name).clone() for name in file.keys()}  # noqa: SIM118
        except SafetensorError as error:
            raise ValueError(
                f"adapter {path} is damaged or not a safetensors file: {error}"
            ) from error
        if card is None or not {*PROMPT, SAMPLE} <= set(tensors):
            raise ValueError(
                f"{path} is no adapter of this package: make one with 'diception adapt'"
            )
        parts = [tensors.pop(name) for name in (*PROMPT, SAMPLE)]
        info = read_card(card, path)
        return cls(info, read_pairs(tensors, info, path), *parts)


def read_card(text: str, path: Path) -> AdapterInfo:
    """ValueError for a card with other fields than this version's."""
    values = json.loads(text)
    known = {item.name for item in fields(AdapterInfo)}
    if set(values) != known:
        raise ValueError(
            f"adapter {path}: its card differs from this version's in "
            f"{', '.join(sorted(set(values) ^ known))}: adapt again"
        )
    return AdapterInfo(**values)


def read_pairs(
    tensors: Mapping[str, torch.Tensor], info: AdapterInfo, path: Path
) -> dict[str, Matrices]:
    """A and B by module; ValueError for a tensor without its partner or of another rank."""
    names = list(dict.fromkeys(name.removesuffix(FIRST).removesuffix(SECOND) for name in tensors))
    pairs = {}
    for name in names:
        first, second = tensors.get(name + FIRST), tensors.get(name + SECOND)
        if first is None or second is None or not len(first) == second.shape[1] == info.rank:
            raise ValueError(
                f"adapter {path} is damaged: {name} has no A and B of rank {info.rank}"
            )
        pairs[name] = (first.float(), second.float())
    return pairs


def target_layers(transformer: nn.Module) -> dict[str, nn.Linear]:
    """{name: layer} of every query, key and value projection of the transformer. The last block's
    text queries are left out: nothing reads their answers."""
    layers = {
        name: layer
        for name, layer in transformer.named_modules()
        if isinstance(layer, nn.Linear) and name.rpartition(".")[2] in TARGETS
    }
    last = len(transformer.transformer_blocks) - 1  # type: ignore[arg-type]
    layers.pop(f"transformer_blocks.{last}.attn.add_q_proj", None)
    return layers


def base_sample(layers: Mapping[str, nn.Linear]) -> torch.Tensor:
    """(layers, SAMPLED) float32 on the CPU: by these weights an adapter knows its bundle again."""
    rows = [layer.weight.detach().flatten()[:SAMPLED] for layer in layers.values()]
    return torch.stack(rows).float().cpu()


class Merging:
    """Puts one adapter at a time into a model's own weights, and takes it out again.

    The weights change in place, so a CUDA graph captured over them stays valid. The first merge
    keeps a copy of every touched weight on its device; restoring copies it back, bit for bit.
    """

    def __init__(self, model: Diception) -> None:
        self._model, self._layers = model, target_layers(model.transformer)
        self._sample = base_sample(self._layers)
        self._pristine: dict[str, torch.Tensor] = {}
        self._added: dict[Adapter, dict[str, Matrices]] = {}
        self.active: Adapter | None = None

    def check(self, adapter: Adapter) -> None:
        """ValueError unless the adapter was trained on this very bundle."""
        belongs = f"adapter '{adapter.info.task}' was trained on the bundle '{adapter.info.bundle}'"
        this, bank = self._model.info.name, self._model.prompts
        shapes = {name: (a.shape[1], b.shape[0]) for name, (a, b) in adapter.pairs.items()}
        ours = {name: (x.in_features, x.out_features) for name, x in self._layers.items()}
        prompt = (adapter.embeds.shape[1:], adapter.pooled.shape[1:])
        if shapes != ours or prompt != (bank.embeds.shape[1:], bank.pooled.shape[1:]):
            raise ValueError(f"{belongs}, whose sizes are not those of this one, '{this}'")
        if not torch.isclose(adapter.base, self._sample, rtol=TOLERANCE, atol=1e-4).all():
            raise ValueError(
                f"{belongs}, whose weights are not those of this one, '{this}': load the bundle it "
                "was trained on, or adapt again"
            )

    def add(self, adapter: Adapter) -> None:
        """Makes an adapter ready for `use`. ValueError unless it belongs to this bundle."""
        self.check(adapter)
        device = self._model.device
        self._added[adapter] = {
            name: (first.to(device), second.to(device))
            for name, (first, second) in adapter.pairs.items()
        }

    def remove(self, adapter: Adapter) -> None:
        """Forgets an adapter; without any, the copies of the weights are freed."""
        if adapter is self.active:
            self.use(None)
        del self._added[adapter]
        if not self._added:
            self._pristine.clear()

    @torch.no_grad()
    def use(self, adapter: Adapter | None) -> None:
        """W + alpha / rank * B A for every touched weight (arXiv 2106.09685, section 4.1), in
        float32; None restores the bundle's own weights."""
        if adapter is self.active:
            return
        for name, weight in self._pristine.items():
            self._layers[name].weight.copy_(weight)
        self.active = None
        if adapter is None:
            return
        if not self._pristine:
            self._pristine = {name: x.weight.clone() for name, x in self._layers.items()}
        self.active = adapter
        try:
            self._merge(adapter)
        except BaseException:
            self.use(None)  # out of memory amid the layers: half an adapter is none
            raise

    def _merge(self, adapter: Adapter) -> None:
        scale = adapter.info.alpha / adapter.info.rank
        for name, (first, second) in self._added[adapter].items():
            weight = self._layers[name].weight
            weight.copy_(weight.float() + scale * (second @ first))

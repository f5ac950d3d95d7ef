# SPDX-License-Identifier: Apache-2.0
"""A bundle: one directory that holds a whole model, in diffusers' layout, and its card."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
import yaml
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    FlowMatchEulerDiscreteScheduler,
    SD3Transformer2DModel,
)
from huggingface_hub import save_torch_state_dict
from safetensors.torch import save_file

from diception_ros.imaging import Canvas
from diception_ros.model.checkpoint import WEIGHTS, load_strict, read_safetensors, read_weights
from diception_ros.model.points import PointEmbedder
from diception_ros.model.prompts import PromptBank

if TYPE_CHECKING:
    from diception_ros.model.diception import Diception

EMBEDDED_BUNDLE = Path(__file__).resolve().parents[1] / "bundles" / "embedded"
POINT_ORDERS = ("row-col", "col-row")
PROMPT_KINDS = ("encoded", "random")
POSITIONS = ("crop", "stretch")
REFINE = frozenset({"edges", "regions", "gain", "placed"})
AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
SHARD_SIZE = "15MB"
KEPT = ("_class_name", "_diffusers_version")
GAUSSIAN = "positional_encoding_gaussian_matrix"
FILES = (
    "bundle.yaml",
    "transformer/config.json",
    "vae/config.json",
    "scheduler/scheduler_config.json",
    "point_embedder.safetensors",
    "prompts.safetensors",
)


@dataclass(frozen=True)
class BundleInfo:
    """The card of a bundle (bundle.yaml).

    canvas: (height, width) in pixels the network runs at. point_order: the axis order of point
    coordinates, "row-col" or "col-row" (the published code contradicts itself; see the README).
    defaults: {task: {steps, guidance}}. refine: {task: {edges, regions, gain, placed}}, for a
    network whose pictures are coarser than images, see tasks.Refinement; none for the official
    weights. "mask" stands for all masks of tasks that are added.
    positions: at another canvas the network's codes are the middle of a grid ("crop", as SD3's), or
    those of `canvas` stretched over it ("stretch").
    prompts: "encoded" by text encoders, or "random": fixed vectors without a meaning of their own.
    training: what it was trained on, in words; metrics: {name: figure} as measured.
    """

    name: str
    canvas: tuple[int, int]
    point_order: str = "row-col"
    defaults: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    licence: str = ""
    source: str = ""
    training: str = ""
    metrics: Mapping[str, Any] = field(default_factory=dict)
    prompts: str = "encoded"
    positions: str = "crop"
    refine: Mapping[str, Mapping[str, float]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        Canvas(*self.canvas)
        if self.point_order not in POINT_ORDERS:
            raise ValueError(f"point_order must be one of {POINT_ORDERS}, got '{self.point_order}'")
        if self.prompts not in PROMPT_KINDS:
            raise ValueError(f"prompts must be one of {PROMPT_KINDS}, got '{self.prompts}'")
        if self.positions not in POSITIONS:
            raise ValueError(f"positions must be one of {POSITIONS}, got '{self.positions}'")
        for name, tasks in (("defaults", self.defaults), ("refine", self.refine)):
            if not isinstance(tasks, Mapping):
                raise ValueError(f"{name}: expected entries by task, or leave it out; got {tasks}")
        for task, values in self.defaults.items():
            if not set(values) <= {"steps", "guidance"}:
                raise ValueError(f"defaults of '{task}': expected steps, guidance, got {values}")
        for task, values in self.refine.items():
            known, least = set(values) <= REFINE, min(values.values(), default=0)
            if not known or least < 0 or values.get("edges", 0) % 1 or not values.get("gain", 1):
                raise ValueError(
                    f"refine of '{task}': expected edges (a whole number), regions, placed and a "
                    f"gain over 0, none negative, got {values}"
                )

    def steps(self, task: str, fallback: int) -> int:
        return int(self.defaults.get(task, {}).get("steps", fallback))

    def guidance(self, task: str, fallback: float) -> float:
        return float(self.defaults.get(task, {}).get("guidance", fallback))


def read_bundle_info(bundle: str | Path) -> BundleInfo:
    """The card; cheap, no weights are read. ValueError names the missing files or wrong fields."""
    bundle = Path(bundle)
    missing = [name for name in FILES if not (bundle / name).is_file()]
    if missing:
        raise ValueError(
            f"{bundle} is not a bundle: missing {', '.join(missing)}; make one with "
            "'diception convert' or use the embedded one"
        )
    try:
        values = yaml.safe_load((bundle / "bundle.yaml").read_text())
        if not isinstance(values, dict) or not {"name", "canvas"} <= set(values):
            raise ValueError(f"expected a name, a canvas and more, found {str(values)[:60]}")
        values["canvas"] = tuple(values["canvas"])
        return BundleInfo(**values)
    except (TypeError, ValueError, yaml.YAMLError) as error:
        cause = " ".join(str(error).split())
        raise ValueError(f"{bundle / 'bundle.yaml'}: {cause}") from error


def read_parts(bundle: Path, dtype: torch.dtype) -> dict[str, Any]:
    """All parts of a bundle on the CPU, as Diception's arguments."""
    info = read_bundle_info(bundle)
    point_state = read_safetensors(bundle / "point_embedder.safetensors")
    points = PointEmbedder.from_state(point_state)
    load_strict(points, point_state, "point_embedder.safetensors", dtype)
    points.positional_encoding_gaussian_matrix = point_state[GAUSSIAN]
    return {
        "transformer": read_module(bundle / "transformer", SD3Transformer2DModel, dtype),
        "vae": read_module(bundle / "vae", autoencoder_class(bundle / "vae"), dtype),
        "point_embedder": points,
        "prompts": PromptBank.load(bundle / "prompts.safetensors", dtype),
        "scheduler": FlowMatchEulerDiscreteScheduler.from_pretrained(bundle / "scheduler"),
        "info": info,
    }


def save_bundle(model: Diception, path: str | Path, dtype: torch.dtype = torch.float16) -> None:
    """Writes the model as a bundle, weights in dtype, in shards small enough for a repository.
    The point embedder's Fourier matrix stays as it is: rounding it would move the points."""
    path = Path(path)
    path.mkdir(parents=True, exist_ok=True)
    for name, part in (("transformer", model.transformer), ("vae", model.vae)):
        save_module(part, path / name, dtype)
    model.scheduler.save_pretrained(path / "scheduler")
    save_points(model.point_embedder.state_dict(), path, dtype)
    bank = model.prompts
    PromptBank(bank.names, bank.embeds.to(dtype), bank.pooled.to(dtype)).save(
        path / "prompts.safetensors"
    )
    write_bundle_info(model.info, path)


def save_module(module: Any, path: Path, dtype: torch.dtype, shard_size: str = SHARD_SIZE) -> None:
    """Config and safetensors shards of a diffusers module, its tensors cast to dtype."""
    path.mkdir(parents=True, exist_ok=True)
    for old in path.glob("*.safetensors*"):
        old.unlink()
    module.save_config(path)
    _drop_unknown(path / "config.json", type(module))
    state = {name: tensor.to(dtype).cpu() for name, tensor in module.state_dict().items()}
    pattern = f"{WEIGHTS}{{suffix}}.safetensors"
    save_torch_state_dict(state, path, filename_pattern=pattern, max_shard_size=shard_size)
    for shard in path.glob("*.safetensors"):
        shard.chmod(0o644)  # safetensors writes files that only their owner may read


def _drop_unknown(path: Path, kind: type) -> None:
    """AutoencoderTiny saves a setting that its own constructor then warns of."""
    known = inspect.signature(kind).parameters
    config = json.loads(path.read_text())
    kept = {key: value for key, value in config.items() if key in known or key in KEPT}
    path.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n")


def save_points(state: Mapping[str, torch.Tensor], path: Path, dtype: torch.dtype) -> None:
    """point_embedder.safetensors; the Gaussian matrix keeps its own precision."""
    tensors = {
        name: (tensor if name == GAUSSIAN else tensor.to(dtype)).cpu().contiguous()
        for name, tensor in state.items()
    }
    save_file(tensors, path / "point_embedder.safetensors")
    (path / "point_embedder.safetensors").chmod(0o644)


def write_bundle_info(info: BundleInfo, path: Path) -> None:
    values = asdict(info)
    values["canvas"] = list(info.canvas)
    text = yaml.safe_dump(values, sort_keys=False, allow_unicode=True, width=100)
    (path / "bundle.yaml").write_text(text)


def autoencoder_class(path: Path) -> Any:
    name = AutoencoderKL.load_config(path).get("_class_name", "AutoencoderKL")
    if name not in AUTOENCODERS:
        raise ValueError(f"{path}: expected one of {', '.join(AUTOENCODERS)}, found '{name}'")
    return AUTOENCODERS[name]


def read_module(path: Path, kind: Any, dtype: torch.dtype) -> Any:
    with torch.device("meta"):
        module = kind.from_config(kind.load_config(path))
    load_strict(module, read_weights(path), f"{path.name}/", dtype)
    return module

# SPDX-License-Identifier: Apache-2.0
"""The authors' checkpoint and an SD3-medium directory, made into a bundle."""

from __future__ import annotations

import pickle
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any
from zipfile import is_zipfile

import torch
from diffusers import SD3Transformer2DModel

from diception_ros.model.bundle import (
    BundleInfo,
    autoencoder_class,
    read_bundle_info,
    read_module,
    save_module,
    save_points,
    write_bundle_info,
)
from diception_ros.model.checkpoint import load_strict
from diception_ros.model.points import PointEmbedder
from diception_ros.model.prompts import PromptBank
from diception_ros.model.text import Progress, encode_prompts

CANVAS = (768, 768)
SHARD_SIZE = "4GB"
CHECKPOINT_KEYS = (
    "transformer",
    "point_embedder",
    "not_seg_embeddings",
    "seg_embeddings",
    "positional_encoding_gaussian_matrix",
)
SD3_PARTS = (
    "transformer",
    "vae",
    "scheduler",
    "text_encoder",
    "text_encoder_2",
    "text_encoder_3",
    "tokenizer",
    "tokenizer_2",
    "tokenizer_3",
)
VOCABULARIES = ("tokenizer.json", "vocab.json", "spiece.model")
"""One of these makes a tokenizer: without any transformers makes one up that knows no word."""
LICENCE = (
    "DICEPTION weights: BSD-2-Clause for academic use, commercial use by asking the authors; "
    "base model: Stability AI's licence for Stable Diffusion 3 Medium"
)


def silent(line: str) -> None:
    """A progress that says nothing."""


def convert(
    sd3: str | Path,
    diception: str | Path,
    out: str | Path,
    *,
    prompts: Sequence[str],
    dtype: torch.dtype = torch.bfloat16,
    point_order: str = "row-col",
    progress: Progress = silent,
) -> None:
    """Writes the bundle `out` from `sd3` (diffusers layout) and `diception` (DICEPTION_v1.pth).

    The bundle appears only when it is complete. ValueError names what is missing or does not fit;
    FileExistsError if `out` exists.
    """
    sd3, out = Path(sd3), Path(out)
    if out.exists():
        raise FileExistsError(f"{out} exists: remove it or choose another --out")
    check_sd3(sd3, SD3_PARTS)
    progress(f"reading {diception}")
    checkpoint = read_checkpoint(Path(diception))
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    _write_transformer(sd3, checkpoint["transformer"], partial, dtype)
    progress("transformer written")
    vae = read_module(sd3 / "vae", autoencoder_class(sd3 / "vae"), torch.float32)
    save_module(vae, partial / "vae", dtype, SHARD_SIZE)
    shutil.copytree(sd3 / "scheduler", partial / "scheduler")
    save_points(_point_state(checkpoint), partial, dtype)
    progress(f"autoencoder and point embedder written; encoding {len(prompts)} prompts")
    encode_prompts(sd3, prompts, dtype, progress).save(partial / "prompts.safetensors")
    write_bundle_info(_card(sd3, Path(diception), point_order), partial)
    partial.rename(out)
    progress(f"{out} is complete")


def add_prompts(
    bundle: str | Path, prompts: Sequence[str], sd3: str | Path, *, progress: Progress = silent
) -> None:
    """Adds (or replaces) prompts of a bundle; the old bank stays until the new one is whole."""
    bundle, sd3 = Path(bundle), Path(sd3)
    read_bundle_info(bundle)
    check_sd3(sd3, SD3_PARTS[3:])
    path = bundle / "prompts.safetensors"
    bank = PromptBank.load(path)
    added = encode_prompts(sd3, ["", *prompts], bank.embeds.dtype, progress)
    if added.embeds.shape[1:] != bank.embeds.shape[1:]:
        raise ValueError(
            f"{sd3} gives embeddings {tuple(added.embeds.shape[1:])}, the bundle holds "
            f"{tuple(bank.embeds.shape[1:])}: the text encoders are not those of this bundle"
        )
    bank.joined(added).save(path.with_suffix(".partial"))
    path.with_suffix(".partial").replace(path)


def check_sd3(sd3: Path, parts: Sequence[str]) -> None:
    missing = [part for part in parts if not (sd3 / part).is_dir()]
    missing += [
        f"one of {', '.join(VOCABULARIES)} in {part}"
        for part in parts
        if part.startswith("tokenizer")
        and part not in missing
        and not any((sd3 / part / name).is_file() for name in VOCABULARIES)
    ]
    if missing:
        raise ValueError(
            f"{sd3} is not an SD3-medium directory in diffusers' layout: "
            f"missing {', '.join(missing)}"
        )


def read_checkpoint(path: Path) -> Mapping[str, Any]:
    """The authors' dict, read without running any code of the file (weights_only)."""
    if not path.is_file():
        raise ValueError(f"{path} is missing")
    if not is_zipfile(path):
        raise ValueError(
            f"{path} is damaged or no checkpoint: expected the zip archive that torch.save writes, "
            f"found {path.stat().st_size} bytes of something else; download it again"
        )
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (pickle.UnpicklingError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"{path} is not a checkpoint of plain tensors: {reason}") from error
    found = set(checkpoint) if isinstance(checkpoint, dict) else set()
    if found != set(CHECKPOINT_KEYS):
        missing = sorted(set(CHECKPOINT_KEYS) - found)
        unexpected = sorted(str(key) for key in found - set(CHECKPOINT_KEYS))
        raise ValueError(f"{path}: missing keys {missing}, unexpected keys {unexpected}")
    return checkpoint  # type: ignore[no-any-return]


def _write_transformer(
    sd3: Path, state: Mapping[str, torch.Tensor], out: Path, dtype: torch.dtype
) -> None:
    with torch.device("meta"):
        config = SD3Transformer2DModel.load_config(sd3 / "transformer")
        transformer = SD3Transformer2DModel.from_config(config)
    load_strict(transformer, state, "checkpoint 'transformer'", dtype)
    save_module(transformer, out / "transformer", dtype, SHARD_SIZE)


def _point_state(checkpoint: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    parts = ("point_embedder", "seg_embeddings", "not_seg_embeddings")
    state = {f"{part}.{key}": value for part in parts for key, value in checkpoint[part].items()}
    matrix = checkpoint["positional_encoding_gaussian_matrix"]
    state["positional_encoding_gaussian_matrix"] = matrix
    embedder = PointEmbedder.from_state(state)
    load_strict(embedder, state, "checkpoint point embedder", torch.float32)
    return state


def _card(sd3: Path, diception: Path, point_order: str) -> BundleInfo:
    return BundleInfo(
        name=diception.stem,
        canvas=CANVAS,
        point_order=point_order,
        licence=LICENCE,
        source=f"{diception.name} on {sd3.name} (github.com/aim-uofa/Diception, arXiv 2502.17157)",
        training="by its authors: about 1.8M labelled images on SD3-medium, see arXiv 2502.17157",
    )

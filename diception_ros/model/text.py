# SPDX-License-Identifier: Apache-2.0
"""SD3's three text encoders, run once per prompt when a bundle is made, never while serving."""

from __future__ import annotations

import gc
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from torch.nn import functional

from diception_ros.model.prompts import PromptBank

Progress = Callable[[str], None]
T5_TOKENS = 256
"""T5 tokens per prompt in SD3's pipeline and in the authors' code."""
BATCH = 8
CLIP = (("text_encoder", "tokenizer"), ("text_encoder_2", "tokenizer_2"))
T5 = ("text_encoder_3", "tokenizer_3")


def encode_prompts(
    sd3: Path, prompts: Sequence[str], dtype: torch.dtype, progress: Progress
) -> PromptBank:
    """The bank of the prompts, from an SD3-medium directory in diffusers' layout.

    The encoders are loaded one after another and freed, so the peak memory is that of the largest
    one. CLIP-L and CLIP-G penultimate states side by side, zero-padded to T5's width, then T5's
    states after them along the tokens; pooled is both CLIP projections side by side.
    Float16 bundles are encoded in bfloat16: T5-XXL overflows in float16.
    """
    working = torch.bfloat16 if dtype == torch.float16 else dtype
    clip = []
    for encoder, tokenizer in CLIP:
        clip.append(_clip_states(sd3, encoder, tokenizer, prompts, working))
        _report(encoder, progress)
    t5 = _t5_states(sd3, *T5, prompts, working)
    _report(T5[0], progress)
    side_by_side = torch.cat([states for states, _ in clip], dim=-1)
    padded = functional.pad(side_by_side, (0, t5.shape[-1] - side_by_side.shape[-1]))
    embeds = torch.cat([padded, t5], dim=1)
    pooled = torch.cat([projection for _, projection in clip], dim=-1)
    return PromptBank(prompts, embeds.to(dtype), pooled.to(dtype))


def _clip_states(
    sd3: Path,
    encoder_name: str,
    tokenizer_name: str,
    prompts: Sequence[str],
    dtype: torch.dtype,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Penultimate hidden states (N, 77, D) and projections (N, P) of one CLIP encoder."""
    from transformers import CLIPTextModelWithProjection, CLIPTokenizer

    tokenizer = CLIPTokenizer.from_pretrained(sd3 / tokenizer_name)
    encoder = _load(CLIPTextModelWithProjection, sd3 / encoder_name, dtype)

    def run(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        output = encoder(ids, output_hidden_states=True)
        return output.hidden_states[-2], output.text_embeds

    ids = _tokens(tokenizer, prompts, tokenizer.model_max_length)
    states, projections = zip(*_batches(run, ids), strict=True)
    return torch.cat(states), torch.cat(projections)


def _t5_states(
    sd3: Path,
    encoder_name: str,
    tokenizer_name: str,
    prompts: Sequence[str],
    dtype: torch.dtype,
) -> torch.Tensor:
    """Last hidden states (N, 256, D) of T5. No attention mask, as in SD3's pipeline."""
    from transformers import T5EncoderModel, T5TokenizerFast

    tokenizer = T5TokenizerFast.from_pretrained(sd3 / tokenizer_name)
    encoder = _load(T5EncoderModel, sd3 / encoder_name, dtype)
    ids = _tokens(tokenizer, prompts, T5_TOKENS)
    return torch.cat(_batches(lambda batch: encoder(batch)[0], ids))


def _load(kind: Any, folder: Path, dtype: torch.dtype) -> Any:
    try:
        return kind.from_pretrained(folder, dtype=dtype).eval()
    except SafetensorError as error:  # such as a git-lfs pointer in the place of its file
        raise ValueError(f"{folder}: damaged weights, get them again: {error}") from error


def _tokens(tokenizer: Any, prompts: Sequence[str], length: int) -> torch.Tensor:
    for prompt in prompts:
        count = len(tokenizer(prompt).input_ids)
        if count > length:
            raise ValueError(f"prompt '{prompt}' has {count} tokens, at most {length} fit")
    padded = tokenizer(
        list(prompts), padding="max_length", max_length=length, truncation=True, return_tensors="pt"
    )
    return padded.input_ids  # type: ignore[no-any-return]


@torch.no_grad()
def _batches(run: Callable[[torch.Tensor], Any], ids: torch.Tensor) -> list[Any]:
    return [run(ids[start : start + BATCH]) for start in range(0, len(ids), BATCH)]


def _report(name: str, progress: Progress) -> None:
    gc.collect()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    progress(f"{name} done, peak memory so far {peak:.1f} GB")

# SPDX-License-Identifier: Apache-2.0
"""A complete SD3-medium directory in miniature, tokenizers included, and a checkpoint beside it.

Everything has random weights: it stands for the layout, not for an answer.
"""

from __future__ import annotations

import json
from pathlib import Path

import torch
from diffusers import AutoencoderKL, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    CLIPTextConfig,
    CLIPTextModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5TokenizerFast,
)
from transformers.convert_slow_tokenizer import bytes_to_unicode

WIDTH = 32
CLIP_WIDTHS = (12, 20)
PROJECTIONS = (8, 12)
T5_WIDTH = 40
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789[] "


def make_transformer() -> SD3Transformer2DModel:
    return SD3Transformer2DModel(
        sample_size=8,
        in_channels=16,
        out_channels=16,
        num_layers=3,
        attention_head_dim=16,
        num_attention_heads=WIDTH // 16,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=WIDTH,
        pooled_projection_dim=sum(PROJECTIONS),
        pos_embed_max_size=24,
    )


def make_vae() -> AutoencoderKL:
    return AutoencoderKL(
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        block_out_channels=(8, 8, 8, 8),
        layers_per_block=1,
        latent_channels=16,
        norm_num_groups=4,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )


def make_sd3(path: Path, seed: int = 0) -> Path:
    """Writes the directory and returns its path."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        make_transformer().save_pretrained(path / "transformer")
        make_vae().save_pretrained(path / "vae")
        FlowMatchEulerDiscreteScheduler(shift=3.0).save_pretrained(path / "scheduler")
        for name, width, projection in zip(
            ("text_encoder", "text_encoder_2"), CLIP_WIDTHS, PROJECTIONS, strict=True
        ):
            make_clip(width, projection).save_pretrained(path / name)
        make_t5().save_pretrained(path / "text_encoder_3")
    for name in ("tokenizer", "tokenizer_2"):
        write_clip_tokenizer(path / name)
    make_t5_tokenizer().save_pretrained(path / "tokenizer_3")
    return path


def make_clip(width: int, projection: int) -> CLIPTextModelWithProjection:
    config = CLIPTextConfig(
        vocab_size=600,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=projection,
        num_hidden_layers=3,
        num_attention_heads=2,
        max_position_embeddings=77,
        bos_token_id=512,
        eos_token_id=513,
        pad_token_id=513,
    )
    return CLIPTextModelWithProjection(config)


def make_t5() -> T5EncoderModel:
    config = T5Config(vocab_size=64, d_model=T5_WIDTH, d_kv=10, d_ff=48, num_layers=2, num_heads=4)
    return T5EncoderModel(config)


def write_clip_tokenizer(path: Path) -> None:
    """CLIP's byte-level vocabulary without merges: 256 bytes, 256 word ends, start and end."""
    path.mkdir(parents=True)
    letters = list(bytes_to_unicode().values())
    words = letters + [letter + "</w>" for letter in letters]
    words += ["<|startoftext|>", "<|endoftext|>"]
    vocabulary = {word: number for number, word in enumerate(words)}
    (path / "vocab.json").write_text(json.dumps(vocabulary))
    (path / "merges.txt").write_text("#version: 0.2\n")
    config = {
        "tokenizer_class": "CLIPTokenizer",
        "model_max_length": 77,
        "bos_token": "<|startoftext|>",
        "eos_token": "<|endoftext|>",
        "unk_token": "<|endoftext|>",
        "pad_token": "<|endoftext|>",
    }
    (path / "tokenizer_config.json").write_text(json.dumps(config))


def make_t5_tokenizer() -> T5TokenizerFast:
    """A unigram tokenizer of single letters with T5's special tokens."""
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁", -2.0)]
    pieces += [(letter, -3.0) for letter in LETTERS.strip()]
    tokenizer = Tokenizer(models.Unigram(pieces, unk_id=2))
    tokenizer.normalizer = normalizers.NFKC()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    return T5TokenizerFast(tokenizer_object=tokenizer, extra_ids=0)


def make_checkpoint(path: Path, seed: int = 1) -> Path:
    """A file of the authors' layout, with other transformer weights than the directory's."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        embedder = torch.nn.Sequential(
            torch.nn.Linear(2048, 64), torch.nn.GELU(), torch.nn.Linear(64, WIDTH)
        )
        checkpoint = {
            "transformer": make_transformer().state_dict(),
            "point_embedder": embedder.state_dict(),
            "not_seg_embeddings": torch.nn.Embedding(1, WIDTH).state_dict(),
            "seg_embeddings": torch.nn.Embedding(1, WIDTH).state_dict(),
            "positional_encoding_gaussian_matrix": torch.randn(2, 1024),
        }
    torch.save(checkpoint, path)
    return path

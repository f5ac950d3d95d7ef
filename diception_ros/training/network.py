# SPDX-License-Identifier: Apache-2.0
"""The small model that is trained from scratch: sizes, prompts and the start that works."""

from __future__ import annotations

import torch
from diffusers import AutoencoderTiny, FlowMatchEulerDiscreteScheduler, SD3Transformer2DModel
from diffusers.models.embeddings import get_2d_sincos_pos_embed_from_grid
from torch import nn
from torch.nn import functional

from diception_ros.model import BundleInfo, Diception, PointEmbedder, PromptBank
from diception_ros.model.positions import stretched
from diception_ros.tasks import TASKS
from diception_ros.training.recipe import Size
from diception_ros.training.targets import COPY, NAMED, ordered

PROMPT_WIDTH = 64
MAX_LATENTS_A_SIDE = 32
GATE = 0.3
SPREAD = 2.0
"""Length of the patch embedding's columns: image content against positions of length 11."""
PLACING_STEPS = 400


def build(vae: AutoencoderTiny, info: BundleInfo, seed: int, size: Size | None = None) -> Diception:
    """The untrained model around a trained autoencoder."""
    torch.manual_seed(seed)
    size = size or Size()
    patch = size.patch or 2
    transformer = SD3Transformer2DModel(
        sample_size=MAX_LATENTS_A_SIDE,
        patch_size=patch,
        in_channels=16,
        out_channels=16,
        num_layers=size.layers,
        attention_head_dim=size.width // size.heads,
        num_attention_heads=size.heads,
        joint_attention_dim=PROMPT_WIDTH,
        caption_projection_dim=size.width,
        pooled_projection_dim=PROMPT_WIDTH,
        pos_embed_max_size=MAX_LATENTS_A_SIDE // patch,
    )
    pass_noise(transformer)
    points = PointEmbedder(frequencies=size.width // 2, hidden=size.width, width=size.width)
    points.positional_encoding_gaussian_matrix.normal_()
    for label in (points.seg_embeddings, points.not_seg_embeddings):
        nn.init.normal_(label.weight, std=0.5)
    scheduler = FlowMatchEulerDiscreteScheduler(shift=3.0)
    model = Diception(transformer, vae, points, prompt_bank(seed), scheduler, info)
    place_points(model, seed)
    return model


@torch.no_grad()
def pass_noise(transformer: SD3Transformer2DModel) -> None:
    """Noise passes through: at first the predicted velocity is the noise itself.

    The patch embedding has orthogonal columns that no position and no mean overlaps, the output is
    its transpose times what the last normalisation divides by; modulations begin at zero with open
    gates.
    """
    embed, width = transformer.pos_embed, transformer.inner_dim
    positions = embed.pos_embed[0].double()
    taken = torch.cat([positions, torch.ones(1, width).double()])
    _, values, rows = torch.linalg.svd(taken, full_matrices=True)
    rank = int((values > 1e-6 * values[0]).sum())
    free = rows[rank:].T
    patch = embed.proj.weight[0].numel()
    mix = torch.linalg.qr(torch.randn(free.shape[1], patch).double())[0]
    columns = (free @ mix).float() * SPREAD
    side, channels = transformer.config.patch_size, transformer.config.in_channels
    weight = columns.reshape(width, side, side, channels).permute(0, 3, 1, 2)
    embed.proj.weight.copy_(weight)
    embed.proj.bias.zero_()
    deviation = ((patch * SPREAD**2 + width / 2) / width) ** 0.5
    transformer.proj_out.weight.copy_(columns.T * deviation / SPREAD**2)
    transformer.proj_out.bias.zero_()
    nn.init.zeros_(transformer.norm_out.linear.weight)
    nn.init.zeros_(transformer.norm_out.linear.bias)
    for block in transformer.transformer_blocks:
        for norm in (block.norm1, block.norm1_context):
            nn.init.zeros_(norm.linear.weight)
            nn.init.zeros_(norm.linear.bias)
            parts = norm.linear.bias.view(-1, width)
            if len(parts) == 6:  # shift, scale, gate of the attention, then of the MLP
                parts[2], parts[5] = GATE, GATE


def place_points(model: Diception, seed: int) -> None:
    """Fits the point tokens to the position code of the canvas' patch under the point."""
    points, transformer, info = model.point_embedder, model.transformer, model.info
    latents = model.latent_shape(*info.canvas)[1:]
    grid = transformer.pos_embed.cropped_pos_embed(*latents)[0].detach()
    rows, columns = (side // transformer.config.patch_size for side in latents)
    codes = grid.reshape(1, rows, columns, -1).permute(0, 3, 1, 2)
    generator = torch.Generator().manual_seed(seed + 2)
    weights = list(points.point_embedder.parameters())
    learns = [weight.requires_grad for weight in weights]
    optimizer = torch.optim.Adam([weight.requires_grad_() for weight in weights], lr=3e-3)
    for _ in range(PLACING_STEPS):
        at = torch.rand(256, 1, 2, generator=generator).to(codes.device)
        where = (2 * at - 1).flip(-1)[None]
        code = functional.grid_sample(codes, where, padding_mode="border", align_corners=False)
        inside = torch.ones(256, 1, dtype=torch.long, device=at.device)
        tokens = points(ordered(at, info.point_order), inside) - points.seg_embeddings.weight
        loss = (tokens[:, 0] - code[0, :, :, 0].T).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    for weight, was in zip(weights, learns, strict=True):
        weight.requires_grad_(was).grad = None


@torch.no_grad()
def split_tokens(transformer: SD3Transformer2DModel, patch: int) -> SD3Transformer2DModel:
    """The same network with smaller patches, and so with more tokens, to be trained on.

    A new token reads its patch as an old one reads that patch enlarged to its size, and answers
    what that one answers, made small again; positions lie between the old ones. The first answers
    are much like the old ones, blurred. ValueError if `patch` does not divide the old patch size.
    """
    old = int(transformer.config.patch_size)
    if patch < 1 or old % patch:
        raise ValueError(f"patch: expected a divisor of the bundle's patch size {old}, got {patch}")
    parts, width = old // patch, transformer.inner_dim
    sizes = {name: v for name, v in transformer.config.items() if not name.startswith("_")}
    places = parts * int(transformer.config.pos_embed_max_size)
    split = SD3Transformer2DModel(**sizes | {"patch_size": patch, "pos_embed_max_size": places})
    weights = transformer.state_dict()
    reads = weights["pos_embed.proj.weight"].unflatten(3, (patch, -1)).unflatten(2, (patch, -1))
    weights["pos_embed.proj.weight"] = reads.sum((3, 5))
    embed = transformer.pos_embed
    step = embed.base_size / int(transformer.config.pos_embed_max_size) / embed.interpolation_scale
    at = step * ((torch.arange(places, dtype=torch.float64) + 0.5) / parts - 0.5)
    grid = torch.stack(torch.meshgrid(at, at, indexing="xy")).unsqueeze(1)
    codes = get_2d_sincos_pos_embed_from_grid(width, grid, output_type="pt")
    weights["pos_embed.pos_embed"] = codes.float()[None]
    for name in ("proj_out.weight", "proj_out.bias"):
        answers = weights[name].unflatten(0, (patch, parts, patch, parts, -1))
        weights[name] = answers.mean((1, 3)).flatten(0, 2)
    split.load_state_dict(weights)
    return split


@torch.no_grad()
def stretch_positions(
    transformer: SD3Transformer2DModel, before: tuple[int, int], after: tuple[int, int]
) -> None:
    """A canvas of `after` tokens (rows, columns) gets the position codes that one of `before` has
    at the same places. ValueError for more tokens than the network has codes for."""
    codes, side = transformer.pos_embed.pos_embed, int(transformer.config.pos_embed_max_size)
    if max(after) > side:
        raise ValueError(f"canvas: {after[0]}x{after[1]} tokens, the network has {side} a side")
    grid = codes.unflatten(1, (side, side))
    top, left = ((side - tokens) // 2 for tokens in after)
    found = stretched(codes, before, after).unflatten(1, after)
    grid[:, top : top + after[0], left : left + after[1]] = found


@torch.no_grad()
def align_streams(transformer: SD3Transformer2DModel) -> None:
    """The context stream becomes a copy of the image stream: a point token, whose code is that of
    the patch under it, is from then on read as that patch is, and gathers what a patch gathers.

    To be called when the image stream has learned what belongs together; from random weights, a
    small network learns to ignore its points.
    """
    for block in transformer.transformer_blocks:
        attention = block.attn
        for name in ("q", "k", "v"):
            _copy(getattr(attention, f"to_{name}"), getattr(attention, f"add_{name}_proj"))
        if block.context_pre_only:  # the last block: its modulation is scale, then shift
            source, target = block.norm1.linear, block.norm1_context.linear
            for part in ("weight", "bias"):
                shift, scale = getattr(source, part).chunk(6)[:2]
                getattr(target, part).copy_(torch.cat([scale, shift]))
        else:
            _copy(block.norm1, block.norm1_context)
            _copy(attention.to_out[0], attention.to_add_out)
            _copy(block.ff, block.ff_context)


def _copy(source: nn.Module, target: nn.Module) -> None:
    target.load_state_dict(source.state_dict())


def prompt_bank(seed: int) -> PromptBank:
    """Two fixed random tokens for the task and two for the category, and their sum's like pooled.
    No text is understood: a prompt that is not in the bank has no meaning to this model.
    """
    generator = torch.Generator().manual_seed(seed + 1)

    def draw(names: tuple[str, ...]) -> dict[str, torch.Tensor]:
        return {name: torch.randn(3, PROMPT_WIDTH, generator=generator) for name in names}

    tasks, categories = draw((COPY, *TASKS)), draw(("", *NAMED))
    names, embeds, pooled = [], [], []
    for task, a in tasks.items():
        row = TASKS.get(task)
        for category in NAMED if row and row.takes_category else ("",):
            b = categories[category]
            names.append(row.prompt_for(category or None) if row else "")
            embeds.append(torch.cat([a[:2], b[:2]]))
            pooled.append(a[2] + 0.7 * b[2])
    return PromptBank(names, torch.stack(embeds), torch.stack(pooled))

# SPDX-License-Identifier: Apache-2.0
"""training.targets for batches on a device: the colours (B, 3, H, W) float32 that are learned."""

from __future__ import annotations

import torch
from torch.nn import functional

from diception_ros.tasks.pose import LIMB_COLOURS, disk_radius
from diception_ros.training.targets import LIMBS, least_area

Tensor = torch.Tensor
IDS = 96
"""Instances that a picture may have: 64 solids of a room, each at most its own, and pictures."""


def disparity(depth: Tensor) -> Tensor:
    """Depth (B, H, W) in metres, infinite for the sky -> (B, H, W) in 0..1, see tasks.depth."""
    inverse = 1 / depth
    low = inverse.amin((1, 2), keepdim=True)
    high = inverse.amax((1, 2), keepdim=True)
    return ((inverse - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)


def farthest_disparity(depth: Tensor) -> Tensor:
    """Depth (B, H, W) in metres, infinite for the sky -> (B,), see tasks.depth."""
    inverse = (1 / depth).flatten(1)
    low, high = inverse.amin(1), inverse.amax(1)
    return low / (high - low).clamp_min(1e-6)


def normal_colours(normals: Tensor) -> Tensor:
    """Unit normals (B, 3, H, W), optical frame, zero where unknown; see tasks.normal."""
    unknown = (normals == 0).all(1, keepdim=True)
    facing = torch.tensor([0.0, 0.0, -1.0], device=normals.device)[:, None, None]
    return 0.5 - 0.5 * torch.where(unknown, facing, normals)


def areas(ids: Tensor, count: int) -> Tensor:
    """Pixels of each of `count` ids (B, H, W) uint8 -> (B, count) float32."""
    flat = ids.flatten(1).long()
    return zeros(ids, count).scatter_add_(1, flat, torch.ones_like(flat, dtype=torch.float32))


def zeros(ids: Tensor, count: int) -> Tensor:
    return torch.zeros(len(ids), count, device=ids.device)


def palette(instances: Tensor) -> Tensor:
    """The colour of every instance (B, IDS, 3) in 0..1, see targets.entity_colours."""
    height, width = instances.shape[1:]
    flat, counts = instances.flatten(1).long(), areas(instances, IDS)
    places = torch.arange(height * width, device=flat.device).expand(len(flat), -1)
    total = counts.clamp_min(1)
    row = zeros(instances, IDS).scatter_add_(1, flat, (places // width).float()) / total / height
    column = zeros(instances, IDS).scatter_add_(1, flat, (places % width).float()) / total / width
    size = (1.6 * (counts / (height * width)).sqrt()).clamp_max(1)
    colours = 0.2 + 0.8 * torch.stack([column, row, size], -1)
    colours[counts < least_area(height * width)] = 0
    colours[:, 0] = 0
    return colours


def entity_colours(instances: Tensor, colours: Tensor) -> Tensor:
    """Ids (B, H, W) and their palette (B, IDS, 3) -> (B, 3, H, W)."""
    flat = instances.flatten(1).long()[..., None].expand(-1, -1, 3)
    return colours.gather(1, flat).mT.reshape(len(flat), 3, *instances.shape[1:])


def mask_colours(mask: Tensor) -> Tensor:
    """White on black with edges a pixel soft, from (B, H, W) bool; see targets.soft."""
    grey = functional.pad(mask[:, None].float(), (1, 1, 1, 1), mode="reflect")
    grey = (grey[..., :-2] + 2 * grey[..., 1:-1] + grey[..., 2:]) / 4
    grey = (grey[:, :, :-2] + 2 * grey[:, :, 1:-1] + grey[:, :, 2:]) / 4
    return grey.expand(-1, 3, -1, -1)


def spots(points: Tensor, labels: Tensor, side: int) -> Tensor:
    """White disks of a tenth of the height at points (B, 5, 2) of label 1; see targets.spots."""
    centres = (points * side).round().flip(-1)
    cover = disks(centres, float(side // 10), side) * (labels == 1)[..., None, None]
    return cover.amax(1)[:, None].expand(-1, 3, -1, -1)


def pixels(side: int, device: torch.device) -> Tensor:
    """x, y of every pixel (2, H, W)."""
    steps = torch.arange(side, device=device, dtype=torch.float32)
    return torch.stack(torch.meshgrid(steps, steps, indexing="xy"))


def disks(centres: Tensor, radius: float, side: int) -> Tensor:
    """Anti-aliased disks around centres (..., 2) x, y in pixels -> cover (..., H, W) in 0..1."""
    away = pixels(side, centres.device) - centres[..., None, None]
    return (radius + 0.5 - away.square().sum(-3).sqrt()).clamp(0, 1)


def segments(a: Tensor, b: Tensor, thickness: float, side: int) -> Tensor:
    """Anti-aliased lines from a to b (..., 2) -> cover (..., H, W) in 0..1."""
    way = (b - a)[..., None, None]
    from_a = pixels(side, a.device) - a[..., None, None]
    share = (from_a * way).sum(-3) / way.square().sum(-3).clamp_min(1e-6)
    gap = from_a - way * share.clamp(0, 1).unsqueeze(-3)
    return (thickness / 2 + 0.5 - gap.square().sum(-3).sqrt()).clamp(0, 1)


def skeletons(people: Tensor, side: int) -> Tensor:
    """Keypoints (B, M, K, 3) x, y, visible -> the drawing (B, 3, H, W); see targets.colours_of."""
    batch, count = people.shape[:2]
    flat = people.flatten(0, 1)
    places, visible = flat[..., :2], flat[..., 2]
    radius = disk_radius(side, side)
    canvas = torch.zeros(len(flat), 3, side, side, device=people.device)
    colours = torch.tensor(LIMB_COLOURS, device=people.device, dtype=torch.float32)
    drawn = torch.zeros(len(flat), dtype=torch.long, device=people.device)
    for a, b in LIMBS:
        shown = visible[:, a] * visible[:, b]
        line = segments(places[:, a], places[:, b], max(1, radius // 2), side)
        cover = (line * shown[:, None, None])[:, None]
        colour = colours[drawn % len(colours)][..., None, None]
        canvas, drawn = canvas + cover * (colour - canvas), drawn + shown.long()
    red = torch.tensor([1.0, 0, 0], device=people.device)[:, None, None]
    for point in range(people.shape[2]):
        cover = disks(places[:, point], radius, side) * visible[:, point, None, None]
        canvas = canvas + cover[:, None] * (red - canvas)
    return canvas.reshape(batch, count, 3, side, side).amax(1)


def innermost(masks: Tensor) -> Tensor:
    """Masks (B, H, W) bool -> (B,) row * W + column of the pixel farthest from the mask's edge in
    steps of eight neighbours, the first of several; the image's border is an edge."""
    left = functional.pad(masks[:, None].float(), (1, 1, 1, 1))
    depth = left.clone()
    for _ in range(min(masks.shape[-2:]) // 2):
        left = -functional.max_pool2d(-left, 3, stride=1, padding=1)
        depth = depth + left
    return depth[:, 0, 1:-1, 1:-1].flatten(1).argmax(1)

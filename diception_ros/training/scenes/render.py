# SPDX-License-Identifier: Apache-2.0
"""Ray casting in torch: colours with shadows, and exact depth, normals and ids beside them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from diception_ros.training.scenes.shading import albedo
from diception_ros.training.scenes.shapes import FAR, box, cylinder, ellipsoid, local_normal
from diception_ros.training.scenes.world import Camera, World

CHUNK = 16384
"""Rays at a time: bounds the memory whatever the picture's size."""


@dataclass(frozen=True)
class Frame:
    """rgb (H, W, 3) uint8; depth (H, W) float32 metres along Z, NaN for the sky; normals (H, W, 3)
    float32, optical frame, facing the camera, NaN for the sky; instances and categories (H, W)
    uint16, 0 none; intrinsics (fx, fy, cx, cy) in pixels; keypoints: per person (instance,
    (K, 2) pixels (x, y), (K,) visible).
    """

    rgb: np.ndarray
    depth: np.ndarray
    normals: np.ndarray
    instances: np.ndarray
    categories: np.ndarray
    intrinsics: tuple[float, float, float, float]
    keypoints: tuple[tuple[int, np.ndarray, np.ndarray], ...]


class Solids:
    """A world's solids as tensors, sorted by kind so that each kind is one batch. The shell, if
    there is one, comes last.
    """

    def __init__(self, world: World) -> None:
        solids = sorted(world.solids, key=lambda solid: solid.kind)
        self.counts = [sum(s.kind == kind for s in solids) for kind in range(3)]
        everything = [*solids, world.shell] if world.shell else solids
        self.shell = world.shell is not None
        self.solid_count = len(solids)

        def stack(rows: list[np.ndarray]) -> torch.Tensor:
            return torch.from_numpy(np.stack(rows)).float()

        self.centre = stack([s.centre for s in everything])
        self.half = stack([s.half for s in everything])
        self.rotation = stack([s.rotation for s in everything])
        self.to_local = self.rotation / self.half[:, None, :]
        self.kind = torch.tensor([s.kind for s in everything])
        self.instance = torch.tensor([s.instance for s in everything])
        self.category = torch.tensor([s.category for s in everything])
        self.materials = [s.material for s in everything]

    def distances(self, origin: torch.Tensor, rays: torch.Tensor) -> torch.Tensor:
        """Origin (3,) and rays (N, 3) in metres -> (N, P), in units of the rays' length."""
        start = torch.einsum("pi,pij->jp", origin - self.centre, self.to_local)
        turned = tuple(rays @ self.to_local[:, :, axis].T for axis in range(3))
        found, begin = [], 0
        for function, count in zip((box, ellipsoid, cylinder), self.counts, strict=True):
            part = slice(begin, begin + count)
            begin += count
            if count:
                pieces = tuple(axis[:, part] for axis in turned)
                found.append(function(tuple(start[:, part]), pieces))
        if self.shell:
            last = tuple(axis[:, begin:] for axis in turned)
            found.append(box(tuple(start[:, begin:]), last, inside=True))
        return torch.cat(found, dim=1)


def intrinsics_of(camera: Camera, height: int, width: int) -> tuple[float, float, float, float]:
    """fx, fy, cx, cy in pixels, pixel centres at whole numbers, square pixels."""
    focal = width / 2 / float(np.tan(camera.fov / 2))
    return focal, focal, (width - 1) / 2, (height - 1) / 2


def render(
    world: World, camera: Camera, height: int, width: int, photos: list[torch.Tensor] | None = None
) -> Frame:
    """One frame. photos: textures (h, w, 3) float in 0..1; without any, colours are plain."""
    solids = Solids(world)
    fx, fy, cx, cy = intrinsics_of(camera, height, width)
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    optical = torch.stack(
        [(columns - cx) / fx, (rows - cy) / fy, torch.ones(height, width)], dim=-1
    ).reshape(-1, 3)
    rotation = torch.from_numpy(camera.rotation).float()
    position = torch.from_numpy(camera.position).float()
    parts = [
        trace(world, solids, position, part @ rotation.T, rotation, photos or [])
        for part in optical.split(CHUNK)
    ]
    colour, depth, normals, instances, categories = (
        torch.cat(column).numpy() for column in zip(*parts, strict=True)
    )
    depth = depth.reshape(height, width)
    return Frame(
        (colour.reshape(height, width, 3) * 255 + 0.5).astype(np.uint8),
        depth,
        normals.reshape(height, width, 3),
        instances.reshape(height, width).astype(np.uint16),
        categories.reshape(height, width).astype(np.uint16),
        (fx, fy, cx, cy),
        tuple(project(world, camera, (fx, fy, cx, cy), depth)),
    )


def trace(
    world: World,
    solids: Solids,
    position: torch.Tensor,
    rays: torch.Tensor,
    rotation: torch.Tensor,
    photos: list[torch.Tensor],
) -> tuple[torch.Tensor, ...]:
    """Rays (N, 3) whose optical z is 1, so that the distance is the depth."""
    depth, nearest = solids.distances(position, rays).min(-1)
    hit = depth < FAR
    reach = torch.where(hit, depth, torch.ones_like(depth))
    point = position + rays * reach[:, None]
    turn, half = solids.rotation[nearest], solids.half[nearest]
    local = torch.einsum("ni,nij->nj", point - solids.centre[nearest], turn) / half
    inner = local_normal(solids.kind[nearest], local)
    normal = torch.einsum("nij,nj->ni", turn, inner / half)
    normal = normal / normal.norm(dim=-1, keepdim=True)
    normal = torch.where(((normal * rays).sum(-1) > 0)[:, None], -normal, normal)
    base, gloss = albedo(world, solids, nearest, local * half, inner, photos)
    colour = shade(world, solids, point, normal, rays, base, gloss)
    up = (rays[:, 2] / rays.norm(dim=-1)).clamp(0, 1)[:, None].sqrt()
    zenith, horizon = (torch.from_numpy(part).float() for part in world.sky)
    colour = torch.where(hit[:, None], colour, zenith * up + horizon * (1 - up)).clamp(0, 1)
    nothing = torch.full_like(depth, float("nan"))
    instances = torch.where(hit, solids.instance[nearest], 0)
    categories = torch.where(hit, solids.category[nearest], 0)
    return (
        colour.pow(1 / 2.2),
        torch.where(hit, depth, nothing),
        torch.where(hit[:, None], normal @ rotation, nothing[:, None]),
        instances,
        categories,
    )


def shade(
    world: World,
    solids: Solids,
    point: torch.Tensor,
    normal: torch.Tensor,
    rays: torch.Tensor,
    base: torch.Tensor,
    gloss: torch.Tensor,
) -> torch.Tensor:
    """Ambient, Lambert and Blinn-Phong, with a shadow ray for each light."""
    view = -rays / rays.norm(dim=-1, keepdim=True)
    sky = 0.75 + 0.25 * normal[:, 2:]
    colour = base * torch.from_numpy(world.ambient).float() * sky
    lifted = point + normal * 2e-3
    for light in world.lights:
        source = torch.from_numpy(light.position).float()
        to_light = source - lifted
        square = to_light.square().sum(-1, keepdim=True)
        direction = to_light / square.sqrt()
        # From the light, so that all shadow rays share an origin; the shell blocks nothing.
        blocked = solids.distances(source, -to_light)[:, : solids.solid_count].amin(-1) < 0.999
        cosine = (normal * direction).sum(-1, keepdim=True).clamp_min(0)
        middle = direction + view
        middle = middle / middle.norm(dim=-1, keepdim=True)
        spark = (normal * middle).sum(-1, keepdim=True).clamp_min(0).pow(40) * gloss * 0.5
        strength = torch.from_numpy(light.colour).float() / (square + 0.3)
        lit = (~blocked).float()[:, None] * strength
        colour = colour + lit * (base * cosine + spark * (cosine > 0))
    return colour


def project(
    world: World, camera: Camera, intrinsics: tuple[float, float, float, float], depth: np.ndarray
) -> list[tuple[int, np.ndarray, np.ndarray]]:
    """Keypoints in pixels; visible: inside the picture and not behind something by over 20 cm
    (a joint lies within its limb).
    """
    fx, fy, cx, cy = intrinsics
    height, width = depth.shape
    found = []
    for instance, points in world.keypoints:
        x, y, z = ((points - camera.position) @ camera.rotation).T
        ahead = np.where(z > 0.05, z, 1.0)
        pixels = np.stack([fx * x / ahead + cx, fy * y / ahead + cy], axis=1)
        column, row = np.round(pixels).astype(int).T
        inside = (z > 0.05) & (column >= 0) & (column < width) & (row >= 0) & (row < height)
        at = depth[np.clip(row, 0, height - 1), np.clip(column, 0, width - 1)]
        found.append((instance, pixels.astype(np.float32), inside & (at > z - 0.2)))
    return found

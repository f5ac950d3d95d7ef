# SPDX-License-Identifier: Apache-2.0
"""training.scenes.render for a batch of packed worlds at once, on any device.

Distances to all solids are computed for all rays; torch.compile turns that into one kernel that
keeps only the nearest. Without a compiler it is as right, and tens of times slower.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields

import torch

from diception_ros.training.live.worlds import SOLIDS, Arrays
from diception_ros.training.scenes.shading import CEILING, FLOOR, mix
from diception_ros.training.scenes.shapes import (
    CYLINDER,
    ELLIPSOID,
    FAR,
    box,
    cylinder,
    ellipsoid,
    local_normal,
)
from diception_ros.training.scenes.solids import PHOTO

Tensor = torch.Tensor
Components = tuple[Tensor, Tensor, Tensor]
Nearest = Callable[[Tensor, Tensor, Tensor, Tensor, Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Views:
    """B frames on one device. rgb (B, 3, H, W) float32 in 0..1, before any camera; depth (B, H, W)
    float32 metres along Z, infinite for the sky; normals (B, 3, H, W) float32, optical frame, zero
    for the sky; instances and categories (B, H, W) uint8, 0 none; people (B, M, K, 3) float32: x, y
    in pixels, 1 where visible else 0.
    """

    rgb: Tensor
    depth: Tensor
    normals: Tensor
    instances: Tensor
    categories: Tensor
    people: Tensor


def nearest(
    start: Tensor, rays: Tensor, to_local: Tensor, centre: Tensor, kind: Tensor
) -> tuple[Tensor, Tensor]:
    """start (B, 3), rays (B, N, 3), to_local (B, P, 3, 3), centre (B, P, 3), kind (B, P) -> the
    least distance (B, N) in units of the rays' length and its solid (B, N)."""
    from_centre = start[:, None] - centre
    origins, turned = [], []
    for axis in range(3):
        column = to_local[..., axis]
        origins.append((from_centre * column).sum(-1)[:, None])
        parts = [rays[:, :, None, i] * column[:, None, :, i] for i in range(3)]
        turned.append(parts[0] + parts[1] + parts[2])
    origin, ray = tuple(origins), tuple(turned)
    shape = kind[:, None]
    found = torch.where(shape == CYLINDER, cylinder(origin, ray), box(origin, ray))
    found = torch.where(shape == ELLIPSOID, ellipsoid(origin, ray), found)
    return torch.where(shape < 0, FAR, found).min(-1)


class Caster:
    """Renders packed worlds. photos: textures (K, h, w, 3) float32 in 0..1, K may be 0."""

    def __init__(self, photos: Tensor, size: int, *, compiled: bool = False) -> None:
        self.photos, self.size = photos.pow(2.2), size
        self.nearest: Nearest = torch.compile(nearest, dynamic=False) if compiled else nearest

    @torch.no_grad()
    def __call__(self, worlds: Arrays) -> Views:
        device = self.photos.device
        w = {name: torch.from_numpy(value).to(device) for name, value in worlds.items()}
        position, rotation, fov = w["camera"][:, :3], w["camera"][:, 3:12], w["camera"][:, 12]
        rotation = rotation.reshape(-1, 3, 3)
        rays, focal = self.optical_rays(fov)
        scene = Scene.of(w)
        seen = self.trace(scene, position, rays @ rotation.mT)
        side = self.size
        normals = (seen.normals @ rotation).mT.reshape(-1, 3, side, side)
        depth = seen.depth.reshape(-1, side, side)
        ids = [part.reshape(-1, side, side).to(torch.uint8) for part in seen.owners.unbind(-1)]
        people = self.project(w["people"], position, rotation, focal, depth)
        return Views(seen.colours.mT.reshape(-1, 3, side, side), depth, normals, *ids, people)

    def optical_rays(self, fov: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N, 3) with z = 1, and focal lengths (B,) in pixels."""
        focal = self.size / 2 / torch.tan(fov / 2)
        steps = torch.arange(self.size, device=fov.device) - (self.size - 1) / 2
        rows, columns = torch.meshgrid(steps, steps, indexing="ij")
        plane = torch.stack([columns, rows], -1).reshape(1, -1, 2) / focal[:, None, None]
        return torch.cat([plane, torch.ones_like(plane[..., :1])], -1), focal

    def trace(self, scene: Scene, position: Tensor, rays: Tensor) -> Seen:
        depth, row = self.nearest(position, rays, scene.to_local, scene.centre, scene.kind)
        wall = scene.wall(position, rays)
        inside = wall < depth
        depth = torch.where(inside, wall, depth)
        hit = depth < FAR
        reach = torch.where(hit, depth, 1.0)[..., None]
        point = position[:, None] + rays * reach
        local, inner, normal, half = scene.surface(point, row, inside)
        normal = normal / normal.norm(dim=-1, keepdim=True)
        normal = torch.where(((normal * rays).sum(-1) > 0)[..., None], -normal, normal)
        base, gloss = self.albedo(scene, row, inside, local * half, inner)
        colour = self.shade(scene, point, normal, rays, base, gloss)
        up = (rays[..., 2] / rays.norm(dim=-1)).clamp(0, 1)[..., None].sqrt()
        zenith, horizon = scene.air[:, None, 3:6], scene.air[:, None, 6:9]
        sky = zenith * up + horizon * (1 - up)
        colour = torch.where(hit[..., None], colour, sky).clamp(0, 1).pow(1 / 2.2)
        owners = torch.where((hit & ~inside)[..., None], picked(scene.owner, row), 0.0)
        return Seen(colour, depth, torch.where(hit[..., None], normal, 0.0), owners)

    def albedo(
        self, scene: Scene, row: Tensor, inside: Tensor, metres: Tensor, inner: Tensor
    ) -> tuple[Tensor, Tensor]:
        """See scenes.shading.albedo: linear RGB (B, N, 3) and gloss (B, N, 1)."""
        axis = inner.abs().argmax(-1, keepdim=True)
        sign = (inner.gather(-1, axis)[..., 0] > 0).long()
        axis = axis[..., 0]
        side = torch.where(axis == 2, torch.where(sign > 0, CEILING, FLOOR), axis * 2 + sign)
        coat = picked(scene.material, torch.where(inside, SOLIDS + 1 + side, row))
        first, second, pattern, size, photo, gloss = coat.split([3, 3, 1, 1, 1, 1], -1)
        pattern = pattern[..., 0]
        others = torch.tensor([[1, 2], [0, 2], [0, 1]], device=row.device)[axis]
        uv = metres.gather(-1, others) / size
        share = mix(pattern.reshape(-1), uv.reshape(-1, 2)).reshape(*pattern.shape, 1)
        colour = first * (1 - share) + second * share
        if len(self.photos):
            number = photo[..., 0].long() % len(self.photos)
            height, width = self.photos.shape[1:3]
            y = (uv[..., 1] / 1.5 % 1 * height).long().clamp_max(height - 1)
            x = (uv[..., 0] / 1.5 % 1 * width).long().clamp_max(width - 1)
            pasted = self.photos[number, y, x]
            colour = torch.where((pattern == PHOTO)[..., None], pasted, colour)
        return colour, gloss

    def shade(
        self, scene: Scene, point: Tensor, normal: Tensor, rays: Tensor, base: Tensor, gloss: Tensor
    ) -> Tensor:
        """See scenes.render.shade."""
        view = -rays / rays.norm(dim=-1, keepdim=True)
        colour = base * scene.air[:, None, :3] * (0.75 + 0.25 * normal[..., 2:])
        lifted = point + normal * 2e-3
        for light in scene.light.unbind(1):
            to_light = light[:, None, :3] - lifted
            square = to_light.square().sum(-1, keepdim=True)
            direction = to_light / square.sqrt()
            source = light[:, :3]
            shadow = self.nearest(source, -to_light, scene.to_local, scene.centre, scene.kind)[0]
            cosine = (normal * direction).sum(-1, keepdim=True).clamp_min(0)
            middle = direction + view
            middle = middle / middle.norm(dim=-1, keepdim=True)
            spark = (normal * middle).sum(-1, keepdim=True).clamp_min(0).pow(40) * gloss * 0.5
            strength = light[:, None, 3:] / (square + 0.3)
            lit = (shadow >= 0.999).float()[..., None] * strength
            colour = colour + lit * (base * cosine + spark * (cosine > 0))
        return colour

    def project(
        self, people: Tensor, position: Tensor, rotation: Tensor, focal: Tensor, depth: Tensor
    ) -> Tensor:
        """See scenes.render.project."""
        moved = (people - position[:, None, None]).flatten(1, 2) @ rotation
        x, y, z = moved.unbind(-1)
        ahead, last = torch.where(z > 0.05, z, 1.0), self.size - 1
        column = focal[:, None] * x / ahead + last / 2
        row = focal[:, None] * y / ahead + last / 2
        i, j = row.round().nan_to_num(-1), column.round().nan_to_num(-1)
        within = (z > 0.05) & (i >= 0) & (i <= last) & (j >= 0) & (j <= last)
        index = (i.clamp(0, last) * self.size + j.clamp(0, last)).long()
        at = depth.flatten(1).gather(1, index)
        found = torch.stack([column, row, (within & (at > z - 0.2)).float()], -1)
        return found.nan_to_num(0.0).reshape(people.shape)


@dataclass(frozen=True)
class Seen:
    """Per ray: colours (B, N, 3), depth (B, N), normals (B, N, 3) world, owners (B, N, 2)."""

    colours: Tensor
    depth: Tensor
    normals: Tensor
    owners: Tensor


@dataclass(frozen=True)
class Scene:
    """Packed worlds as the tracer needs them, see worlds.pack_world."""

    centre: Tensor
    half: Tensor
    rotation: Tensor
    to_local: Tensor
    kind: Tensor
    owner: Tensor
    material: Tensor
    shell: Tensor
    light: Tensor
    air: Tensor

    @classmethod
    def of(cls, w: dict[str, Tensor]) -> Scene:
        centre, half, turn = w["solid"].split([3, 3, 9], -1)
        turn = turn.reshape(*turn.shape[:2], 3, 3)
        own = {f.name: w[f.name] for f in fields(cls) if f.name in w}
        return cls(centre=centre, half=half, rotation=turn, to_local=turn / half[:, :, None], **own)

    def wall(self, position: Tensor, rays: Tensor) -> Tensor:
        """Distances (B, N) to the room's far wall, infinite outdoors."""
        centre, half = self.shell[:, None, :3], self.shell[:, None, 3:]
        outdoors = half[..., 0] <= 0
        half = half.clamp_min(1e-3)
        origin = ((position[:, None] - centre) / half).unbind(-1)
        found = box(origin, (rays / half).unbind(-1), inside=True)
        return torch.where(outdoors, FAR, found)

    def surface(self, point: Tensor, row: Tensor, inside: Tensor) -> tuple[Tensor, ...]:
        """Of points (B, N, 3): their place in local units, the local and the world normal, and
        the half extents of what they lie on."""
        turn, half = picked(self.rotation.flatten(2), row), picked(self.half, row)
        turn = torch.where(inside[..., None], torch.eye(3, device=row.device).flatten(), turn)
        turn = turn.reshape(*row.shape, 3, 3)
        half = torch.where(inside[..., None], self.shell[:, None, 3:], half)
        centre = torch.where(inside[..., None], self.shell[:, None, :3], picked(self.centre, row))
        local = ((point - centre)[..., None, :] @ turn)[..., 0, :] / half
        kind = torch.where(inside, 0.0, self.kind.gather(1, row))
        inner = local_normal(kind.reshape(-1), local.reshape(-1, 3)).reshape(local.shape)
        return local, inner, (turn @ (inner / half)[..., None])[..., 0], half


def picked(table: Tensor, row: Tensor) -> Tensor:
    """Rows (B, N) of tables (B, P, C) -> (B, N, C)."""
    return table.gather(1, row[..., None].expand(-1, -1, table.shape[-1]))

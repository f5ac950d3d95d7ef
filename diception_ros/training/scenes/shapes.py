# SPDX-License-Identifier: Apache-2.0
"""Exact ray intersections with boxes, ellipsoids and cylinders: rays of one origin, all at once.

Everything is in a shape's local units, where a box is [-1, 1]^3, an ellipsoid the unit sphere and a
cylinder x^2 + y^2 <= 1, |z| <= 1. Origins are three tensors (P,), rays three tensors (N, P):
separate components are several times faster on a CPU than a last axis of length 3.
"""

from __future__ import annotations

import torch

BOX, ELLIPSOID, CYLINDER = 0, 1, 2
FAR = float("inf")
EPSILON = 1e-4
Components = tuple[torch.Tensor, torch.Tensor, torch.Tensor]


def slab(origin: torch.Tensor, ray: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Where a ray enters and leaves -1..1 of one axis."""
    inverse = 1 / torch.where(ray.abs() < 1e-9, 1e-9, ray)
    low, high = (-1 - origin) * inverse, (1 - origin) * inverse
    return torch.minimum(low, high), torch.maximum(low, high)


def box(origin: Components, ray: Components, *, inside: bool = False) -> torch.Tensor:
    """Distances (N, P), inf for a miss. inside: the far wall, for a room seen from within.
    Slab method (Kay and Kajiya 1986).
    """
    slabs = [slab(o, d) for o, d in zip(origin, ray, strict=True)]
    near = torch.maximum(torch.maximum(slabs[0][0], slabs[1][0]), slabs[2][0])
    far = torch.minimum(torch.minimum(slabs[0][1], slabs[1][1]), slabs[2][1])
    hit = far if inside else near
    return torch.where((near <= far) & (hit > EPSILON), hit, FAR)


def ellipsoid(origin: Components, ray: Components) -> torch.Tensor:
    """Distances (N, P) to the unit sphere."""
    (ox, oy, oz), (dx, dy, dz) = origin, ray
    a = dx * dx + dy * dy + dz * dz
    b = ox * dx + oy * dy + oz * dz
    c = ox * ox + oy * oy + oz * oz - 1
    root = b * b - a * c
    hit = (-b - root.clamp_min(0).sqrt()) / a
    return torch.where((root > 0) & (hit > EPSILON), hit, FAR)


def cylinder(origin: Components, ray: Components) -> torch.Tensor:
    """Distances (N, P) to the capped cylinder."""
    (ox, oy, oz), (dx, dy, dz) = origin, ray
    a = (dx * dx + dy * dy).clamp_min(1e-12)
    b = ox * dx + oy * dy
    root = b * b - a * (ox * ox + oy * oy - 1)
    width = root.clamp_min(0).sqrt()
    bottom, top = slab(oz, dz)
    near = torch.maximum((-b - width) / a, bottom)
    far = torch.minimum((-b + width) / a, top)
    return torch.where((root > 0) & (near <= far) & (near > EPSILON), near, FAR)


def local_normal(kind: torch.Tensor, point: torch.Tensor) -> torch.Tensor:
    """Outward normal (N, 3) in local units at surface points (N, 3) of shapes of kind (N,)."""
    axis = point.abs().argmax(-1)
    flat = torch.zeros_like(point).scatter_(-1, axis[:, None], 1.0) * point.sign()
    side = torch.cat([point[:, :2], torch.zeros_like(point[:, :1])], -1)
    cap = torch.cat([torch.zeros_like(point[:, :2]), point[:, 2:].sign()], -1)
    on_cap = (point[:, 2].abs() >= side.norm(dim=-1))[:, None]
    round_normal = torch.where(on_cap, cap, side)
    chosen = torch.where((kind == ELLIPSOID)[:, None], point, flat)
    return torch.where((kind == CYLINDER)[:, None], round_normal, chosen)

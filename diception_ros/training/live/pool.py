# SPDX-License-Identifier: Apache-2.0
"""Rendered frames that stay on the training device, found by what they show."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import torch

from diception_ros.training.live import paint
from diception_ros.training.live.cast import Views
from diception_ros.training.live.film import Film
from diception_ros.training.scenes.objects import CATEGORIES
from diception_ros.training.targets import least_area

Rng = np.random.Generator
Tensor = torch.Tensor


class LivePool:
    """Frames on a device, 147 KB each at 128 x 128, found by what they show. Full after `capacity`
    frames; until then more can be added at any time.
    """

    def __init__(self, capacity: int, side: int, device: torch.device) -> None:
        self.side, self.count, self.device = side, 0, device

        def empty(*shape: int, dtype: torch.dtype = torch.uint8) -> Tensor:
            return torch.zeros(capacity, *shape, dtype=dtype, device=device)

        self.rgb, self.normals = empty(3, side, side), empty(3, side, side)
        self.disparity = empty(side, side, dtype=torch.float16)
        self.bases = empty(dtype=torch.float32)
        self.instances, self.categories = empty(side, side), empty(side, side)
        self.palette = empty(paint.IDS, 3, dtype=torch.float32)
        self.people = empty(4, 13, 3, dtype=torch.float32)
        self.sizes = np.zeros((capacity, paint.IDS), np.int32)
        self.places: dict[tuple[str, str], list[np.ndarray]] = defaultdict(list)

    def add(self, kind: str, views: Views, film: Film) -> None:
        """The frames as a camera takes them."""
        part = slice(self.count, self.count + len(views.rgb))
        self.rgb[part] = (film.photograph(views.rgb) * 255).to(torch.uint8)
        self.normals[part] = (paint.normal_colours(views.normals) * 255 + 0.5).to(torch.uint8)
        self.disparity[part] = paint.disparity(views.depth).half()
        self.bases[part] = paint.farthest_disparity(views.depth)
        self.instances[part], self.categories[part] = views.instances, views.categories
        self.palette[part], self.people[part] = paint.palette(views.instances), views.people
        named = paint.areas(views.categories, len(CATEGORIES)).cpu().numpy()
        sizes = paint.areas(views.instances, paint.IDS).cpu().numpy().astype(np.int32)
        seen = (views.people[..., 2].sum((1, 2)) >= 5).cpu().numpy()
        rows = np.arange(part.start, part.stop)
        smallest = least_area(self.side**2)
        self.sizes[part] = sizes
        self.places[kind, ""].append(rows)
        self.places[kind, "pose"].append(rows[seen])
        self.places[kind, "point"].append(rows[sizes[:, 1:].max(1) >= 4 * smallest])
        for index, name in enumerate(CATEGORIES):
            if name:
                self.places[kind, name].append(rows[named[:, index] >= 3 * smallest])
        self.count = part.stop

    def rows(self, kinds: Sequence[str], what: str, weights: np.ndarray) -> Places:
        """Frames that show `what`, of the kinds that have any."""
        found = []
        for kind in kinds:
            parts = self.places[kind, what]
            if len(parts) > 1:
                self.places[kind, what] = [np.concatenate(parts)]
            found.append(self.places[kind, what][0] if parts else np.zeros(0, int))
        return Places(found, weights)


class Places:
    """Frame numbers per source, to draw from by the sources' weights."""

    def __init__(self, rows: Sequence[np.ndarray], weights: np.ndarray) -> None:
        self.rows = rows
        there = weights * [len(part) > 0 for part in rows]
        self.chances = there / there.sum() if there.any() else None

    def draw(self, count: int, rng: Rng) -> np.ndarray:
        """ValueError where no frame shows what is asked for."""
        if self.chances is None:
            raise ValueError("no rendered frame shows what a task asks for: render more first")
        found = np.zeros(count, int)
        sources = rng.choice(len(self.rows), size=count, p=self.chances)
        for number, part in enumerate(self.rows):
            chosen = sources == number
            if chosen.any():
                found[chosen] = rng.choice(part, size=int(chosen.sum()))
        return found

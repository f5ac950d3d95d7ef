# SPDX-License-Identifier: Apache-2.0
"""Training batches of frames that the training device renders."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
import torch

from diception_ros.tasks import TASKS
from diception_ros.training.data import Batch
from diception_ros.training.live import paint
from diception_ros.training.live.cast import Caster
from diception_ros.training.live.film import Film
from diception_ros.training.live.pool import LivePool
from diception_ros.training.live.worlds import CHUNK, chunks_ahead
from diception_ros.training.pool import ABSENT
from diception_ros.training.recipe import Live, Recipe
from diception_ros.training.scenes import photos
from diception_ros.training.scenes.objects import CATEGORIES
from diception_ros.training.targets import AIMED, COPY, NAMED, SPOT, least_area

Rng = np.random.Generator
Tensor = torch.Tensor


class LiveBatches:
    """Batch after batch for a recipe with `live`, made on the device from frames that are rendered
    as training goes on. Batch n of a process is a function of (seed, rank, processes, n); each
    process has scenes of its own.
    """

    def __init__(
        self, recipe: Recipe, device: torch.device, rank: int = 0, processes: int = 1
    ) -> None:
        if recipe.live is None:
            raise ValueError("expected a recipe with 'live'")
        self.recipe, self.live, self.rank = recipe, recipe.live, rank
        self.kinds = [path.name for path in recipe.sources]
        side, kinds = recipe.canvas[0], order(self.live, recipe.sources)
        self.pool = LivePool(CHUNK * len(kinds), side, device)
        textures = torch.stack([*photos()]).to(device)
        self.caster = Caster(textures, side, compiled=device.type == "cuda")
        self.film = Film(torch.Generator(device))
        self.chunks = chunks_ahead(kinds, self.live.workers, rank, processes)

    def from_number(self, first: int) -> Iterator[Batch]:
        """Batches from number `first` on."""
        for number in range(first, self.recipe.steps * self.recipe.accumulate):
            self.render(self.live.rendered(number))
            yield self.batch(number)

    def render(self, wanted: int) -> None:
        """Adds frames until there are `wanted`, in whole chunks."""
        while self.pool.count < wanted:
            kind, worlds = next(self.chunks)
            # By the frames' numbers: a resumed training renders all at once what it had before.
            drawn = np.random.SeedSequence([self.recipe.seed, self.rank, 1, self.pool.count])
            self.film.generator.manual_seed(int(drawn.generate_state(1)[0]))
            for start in range(0, CHUNK, self.live.together):
                part = slice(start, start + self.live.together)
                views = self.caster({name: value[part] for name, value in worlds.items()})
                self.pool.add(kind, views, self.film)

    def batch(self, number: int) -> Batch:
        recipe = self.recipe
        rng = np.random.default_rng([recipe.seed, self.rank, number])
        seed = int(rng.integers(2**62))
        self.film.generator.manual_seed(seed)
        step = number // recipe.accumulate
        shares, weights = recipe.phase(step).shares, np.array(recipe.weights(step))
        chances = np.array(list(shares.values()), float)
        counts = rng.multinomial(recipe.batch, chances / chances.sum())
        parts = [
            self.examples(task, int(count), weights, rng)
            for task, count in zip(shares, counts, strict=True)
            if count
        ]
        images, targets, points, labels, bases = (
            torch.cat([part[i] for part in parts]) for i in range(1, 6)
        )
        prompts = tuple(prompt for part in parts for prompt in part[0])
        unnamed = (None,) * (2 * recipe.batch)
        return Batch(images * 2 - 1, targets * 2 - 1, prompts, points, labels, unnamed, bases)

    def examples(
        self, task: str, count: int, weights: np.ndarray, rng: Rng
    ) -> tuple[list[str], Tensor, Tensor, Tensor, Tensor, Tensor]:
        """Prompts, images, targets (count, 3, H, W) in 0..1, points, labels and bases."""
        names = [""] * count
        if task == "semantic":
            names = [str(name) for name in rng.choice(NAMED, size=count)]
            shown = rng.random(count) >= ABSENT
            rows = np.concatenate(
                [
                    self.draw(n if s else "", 1, weights, rng)
                    for n, s in zip(names, shown, strict=True)
                ]
            )
        else:
            rows = self.draw(task if task in ("pose", "point") else "", count, weights, rng)
        at = torch.from_numpy(rows).to(self.pool.device)
        image = self.pool.rgb[at].float() / 255
        points = torch.zeros(count, 5, 2, device=self.pool.device)
        labels = torch.zeros(count, 5, dtype=torch.long, device=self.pool.device)
        if task in ("point", SPOT):
            colours, points, labels = self.prompted(task, rows, at, rng)
        else:
            colours = self.colours(task, at, names, image)
        flip = torch.from_numpy(rng.random(count) < 0.5).to(self.pool.device)
        image, colours, points = mirrored(flip, task, image, colours, points, labels)
        seen = self.film.jittered(image, self.recipe.harsh)
        row = TASKS.get("point" if task == SPOT else task)
        prompts = [row.prompt_for(name or None) if row else "" for name in names]
        bases = self.pool.bases[at]
        bases = bases if task == "depth" else torch.full_like(bases, torch.nan)
        return prompts, seen, seen if task == COPY else colours, points, labels, bases

    def draw(self, what: str, count: int, weights: np.ndarray, rng: Rng) -> np.ndarray:
        places = self.pool.rows(self.kinds, what, weights)
        if places.chances is None and what in NAMED:
            places = self.pool.rows(self.kinds, "", weights)
        return places.draw(count, rng)

    def colours(self, task: str, at: Tensor, names: Sequence[str], image: Tensor) -> Tensor:
        pool = self.pool
        if task == COPY:
            return image
        if task == "depth":
            return pool.disparity[at].float()[:, None].expand(-1, 3, -1, -1)
        if task == "normal":
            return pool.normals[at].float() / 255
        if task == "entity":
            return paint.entity_colours(pool.instances[at], pool.palette[at])
        if task == "semantic":
            wanted = torch.tensor([CATEGORIES.index(name) for name in names]).to(at.device)
            return paint.mask_colours(pool.categories[at] == wanted[:, None, None])
        if task == "pose":
            return paint.skeletons(pool.people[at], pool.side)
        raise ValueError(f"no scene shows the task '{task}'")

    def prompted(
        self, task: str, rows: np.ndarray, at: Tensor, rng: Rng
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The mask around points, or spots at points: colours, points, labels."""
        pool = self.pool
        if task == SPOT:
            mask = torch.ones(len(rows), pool.side, pool.side, dtype=torch.bool, device=at.device)
            points, labels = self.points(mask, rng)
            return paint.spots(points, labels, pool.side), points, labels
        smallest = 2 * least_area(pool.side**2)
        large = pool.sizes[rows] >= smallest
        large[:, 0] = False
        chosen = np.where(large, rng.random(large.shape), -1).argmax(1)
        mask = pool.instances[at] == torch.from_numpy(chosen).to(at.device)[:, None, None]
        points, labels = self.points(mask, rng)
        return paint.mask_colours(mask), points, labels

    def points(self, mask: Tensor, rng: Rng) -> tuple[Tensor, Tensor]:
        """One to three points inside masks (B, H, W), sometimes one or two outside; (B, 5, 2) row,
        column in 0..1 and labels (B, 5), as targets.draw_points."""
        side, flat = mask.shape[-1], mask.flatten(1)
        everywhere = flat.all(1, keepdim=True)
        draw = {"replacement": True, "generator": self.film.generator}
        inside = torch.multinomial(flat.float(), 3, **draw)
        aimed = torch.from_numpy(rng.random(len(mask)) < AIMED).to(mask.device)
        inside[:, 0] = torch.where(aimed, paint.innermost(mask), inside[:, 0])
        outside = torch.multinomial((~flat | everywhere).float(), 2, **draw)
        count = rng.choice([1, 1, 1, 2, 3], size=len(mask))
        extra = rng.choice([0, 0, 0, 1, 2], size=len(mask))
        place = np.arange(5)[None]
        within, beyond = place < count[:, None], place < (count + extra)[:, None]
        index = np.where(within, place, 3 + np.clip(place - count[:, None], 0, 1))
        within, beyond, index = (
            torch.from_numpy(a).to(mask.device) for a in (within, beyond, index)
        )
        chosen = torch.cat([inside, outside], 1).gather(1, index)
        used = within | (beyond & ~everywhere)
        points = torch.stack([chosen // side, chosen % side], -1) / side
        return points * used[..., None], within.long()


def order(live: Live, sources: Mapping[Path, float]) -> list[str]:
    """The kind of every chunk: each as often as its share of the weights, evenly mixed."""
    names = [path.name for path in sources]
    shares = np.array(list(sources.values())) / sum(sources.values())
    owed, kinds = np.zeros(len(names)), []
    for _ in range(-(-live.frames // CHUNK)):
        owed += shares
        kinds.append(names[int(owed.argmax())])
        owed[owed.argmax()] -= 1
    return kinds


def mirrored(
    flip: Tensor, task: str, image: Tensor, colours: Tensor, points: Tensor, labels: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Images, colours and points left-right where `flip` (B,) says so: what the colours say of left
    and right changes with it."""
    side, turned = image.shape[-1], colours.flip(-1)
    if task in ("normal", "entity"):
        red = 1 - turned[:, :1] if task == "normal" else 1.2 - 0.8 / side - turned[:, :1]
        lit = (turned > 0).any(1, keepdim=True)
        turned = torch.cat([torch.where(lit, red, 0.0), turned[:, 1:]], 1)
    used = (points != 0).any(-1) | (labels == 1)
    other = torch.where(used, 1 - 1 / side - points[..., 1], points[..., 1])
    which = flip[:, None, None, None]
    column = torch.where(flip[:, None], other, points[..., 1])
    return (
        torch.where(which, image.flip(-1), image),
        torch.where(which, turned, colours),
        torch.stack([points[..., 0], column], -1),
    )

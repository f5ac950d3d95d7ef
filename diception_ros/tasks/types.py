# SPDX-License-Identifier: Apache-2.0
"""The few frozen types that cross borders: what is asked, and one result per meaning.

Pixels are (x, y) of the input image, origin at the top-left pixel's centre. Images and maps
are (H, W[, C]) arrays of the input's size. Colours are float32 RGB in [0, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

Float = npt.NDArray[np.float32]
Bool = npt.NDArray[np.bool_]

MAX_POINTS = 5
"""Point tokens the network takes; always five, unused ones are (0, 0) with label 0."""


@dataclass(frozen=True)
class Request:
    """One task asked of one image.

    task: a key of TASKS. points: up to five (x, y) pixels of the input image; labels: 1 inside,
    0 outside, one per point (all 1 when empty). category: for tasks that take one.
    steps, guidance: None means the bundle's default for this task, then the task's own. sigmas: the
    noise levels themselves instead of the scheduler's for `steps`, falling from at most 1; a
    closing 0 may be left out.
    """

    task: str
    points: tuple[tuple[float, float], ...] = ()
    labels: tuple[int, ...] = ()
    category: str | None = None
    steps: int | None = None
    guidance: float | None = None
    sigmas: tuple[float, ...] | None = None

    def __post_init__(self) -> None:
        if len(self.points) > MAX_POINTS:
            raise ValueError(
                f"at most {MAX_POINTS} points per request, got {len(self.points)}: "
                "send the others in a second request"
            )
        if self.labels and len(self.labels) != len(self.points):
            raise ValueError(
                f"{len(self.points)} points but {len(self.labels)} labels: give one label per point"
            )
        if self.steps is not None and self.steps < 1:
            raise ValueError(f"steps must be at least 1, got {self.steps}")
        if self.steps is not None and self.sigmas is not None:
            raise ValueError("expected steps or sigmas, got both: sigmas say how many steps")


@dataclass(frozen=True)
class Disparity:
    """Affine-invariant inverse depth: values (H, W) float32 in [0, 1], near = 1."""

    values: Float


@dataclass(frozen=True)
class Normals:
    """vectors (H, W, 3) float32, unit length, optical frame (x right, y down, z forward),
    facing the camera (z <= 0 for visible surfaces)."""

    vectors: Float


@dataclass(frozen=True)
class Mask:
    """mask (H, W) bool; score (H, W) float32 in [0, 1], the model's own softness."""

    mask: Bool
    score: Float


@dataclass(frozen=True)
class Instance:
    """One segment: id as in the id image; score 0..1, how clearly it is painted (measure.purity,
    regions.contrast, the brightness of a class); box (x, y, width, height) and area in pixels;
    centroid (x, y) in pixels, always a pixel of the instance."""

    id: int
    score: float
    box: tuple[int, int, int, int]
    area: int
    centroid: tuple[float, float]


@dataclass(frozen=True)
class Instances:
    """ids (H, W) uint16, 0 = none; ids are not classes and not stable between frames.
    category: the class all instances belong to, or None for entities."""

    ids: npt.NDArray[np.uint16]
    instances: tuple[Instance, ...]
    category: str | None = None


@dataclass(frozen=True)
class Keypoints:
    """points (N, 2) float32 pixels (x, y), scores (N,) float32 in [0, 1], size (H, W) of the image.
    Joint types are not encoded by the network, so there are none here."""

    points: Float
    scores: Float
    size: tuple[int, int]


@dataclass(frozen=True)
class Colours:
    """A user-defined task's image as generated: rgb (H, W, 3) float32 in [0, 1]."""

    rgb: Float


@dataclass(frozen=True)
class MetricDepth:
    """meters (H, W) float32 along Z, NaN = unknown, never 0; valid (H, W) bool;
    residual: robust relative residual of the scale fit, 0 = perfect."""

    meters: Float
    valid: Bool
    residual: float


Result = Disparity | Normals | Mask | Instances | Keypoints | Colours


@dataclass(frozen=True)
class Refinement:
    """What is done to one task's pictures as they are decoded, see tasks.decoding. edges: radius
    of a guided filter, in pixels of an image of 128 on its shorter side; for masks. regions: scale
    of the regions that entities are joined from, larger for larger ones. 0 is off. gain: factor of
    all colours, for a network whose small marks are faint. placed: what it counts in joining them
    that a colour is due to place and size, for a network that was taught so. ValueError for less
    than 0, and for no gain at all."""

    edges: int = 0
    regions: float = 0.0
    gain: float = 1.0
    placed: float = 0.0

    def __post_init__(self) -> None:
        if min(self.edges, self.regions, self.placed) < 0 or self.gain <= 0:
            raise ValueError(
                "expected edges, regions and placed of at least 0 and a gain over it, found edges "
                f"{self.edges}, regions {self.regions}, placed {self.placed} and gain {self.gain}"
            )


@dataclass(frozen=True)
class Task:
    """One row of TASKS. encode(target, rng) gives the colours (H, W, 3) float32 in [0, 1] that the
    network is trained to generate; decode(colours, **options) gives the result dataclass.
    prompt is the exact string of the prompt bank; a category is appended after one space.
    result: the dataclass that decode returns. refine: what is done to colours before decode."""

    name: str
    prompt: str
    encode: Callable[..., Float]
    decode: Callable[..., Result]
    result: type
    takes_points: bool = False
    takes_category: bool = False
    steps: int = 1
    guidance: float = 1.0
    options: dict[str, Any] = field(default_factory=dict)
    refine: Refinement = Refinement()

    def prompt_for(self, category: str | None = None) -> str:
        """The prompt bank's key for this task; ValueError if a category is missing or not taken."""
        if self.takes_category and not category:
            raise ValueError(f"task '{self.name}' needs a category, for example 'person'")
        if category and not self.takes_category:
            raise ValueError(f"task '{self.name}' takes no category, got '{category}'")
        return f"{self.prompt} {category}" if category else self.prompt

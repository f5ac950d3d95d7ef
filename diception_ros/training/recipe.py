# SPDX-License-Identifier: Apache-2.0
"""A training run as data: what is learned from what, for how long. YAML only at the edge."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import yaml

from diception_ros.imaging import Canvas
from diception_ros.training.live.worlds import CHUNK, KINDS
from diception_ros.training.targets import COPY, SPOT

KINDS_OF_VALUES: dict[str, tuple[type, str]] = {
    "int": (int, "a whole number"),
    "float": (float, "a number"),
    "bool": (bool, "true or false"),
}
LEAST = {
    **dict.fromkeys(("batch", "accumulate", "log_every", "save_every", "threads"), 1),
    **dict.fromkeys(("rate", "warmup_steps", "decay_steps", "weight_decay", "foreground"), 0),
    **dict.fromkeys(("picture", "remember", "validate_every", "workers", "seed"), 0),
}
"""What settings must not be under."""


@dataclass(frozen=True)
class Phase:
    """Tasks and their shares, up to a step; sources: other weights than the recipe's. align: at its
    start the context stream becomes a copy of the image stream (see network.align_streams)."""

    until: int
    shares: Mapping[str, float]
    sources: Mapping[Path, float] = field(default_factory=dict)
    align: bool = False

    def __post_init__(self) -> None:
        if not self.shares or min(self.shares.values()) < 0 or not sum(self.shares.values()) > 0:
            raise ValueError(f"phase until {self.until}: expected positive shares of tasks")
        if self.sources and not min(self.sources.values()) >= 0:
            raise ValueError(f"phase until {self.until}: expected weights of sources from 0")


@dataclass(frozen=True)
class Size:
    """The network that is made when there is no bundle to start from. patch: latents a side that
    one token stands for, 2 if not said; a bundle to start from may be given smaller ones.
    stretch: the positions of the bundle's canvas are stretched over this one and any other, see
    model.positions; without it a larger canvas has more of them around, as SD3's have."""

    width: int = 256
    heads: int = 4
    layers: int = 8
    patch: int | None = None
    stretch: bool = False

    def __post_init__(self) -> None:
        if min(self.width, self.heads, self.layers) < 1 or self.width % math.lcm(4, self.heads):
            raise ValueError(
                "network: expected layers and heads over 0 and a width that is a multiple of 4 and "
                f"of the heads, got width {self.width}, heads {self.heads}, layers {self.layers}"
            )


@dataclass(frozen=True)
class Live:
    """Frames that are rendered on the training device as training goes on (see training.live).

    frames: at most, to the next multiple of 64, about 150 KB of device memory each at 128 x 128.
    first: frames before the first step. a_step: more of them for every batch, until there are
    `frames`. workers: processes that sample worlds. together: frames that are rendered at once.
    """

    frames: int = 100_000
    first: int = 4096
    a_step: int = 16
    workers: int = 4
    together: int = 64

    def __post_init__(self) -> None:
        if self.together < 1 or CHUNK % self.together:
            raise ValueError(f"live: together must divide {CHUNK}, got {self.together}")
        if min(self.frames, self.first) < 1 or min(self.a_step, self.workers) < 0:
            raise ValueError("live: expected frames and first over 0, a_step and workers from 0")

    def rendered(self, number: int) -> int:
        """Frames that there are before batch `number`."""
        return min(self.frames, self.first + self.a_step * number)


@dataclass(frozen=True)
class Recipe:
    """config/train.yaml says what each field means."""

    out: Path
    sources: Mapping[Path, float]
    phases: tuple[Phase, ...]
    live: Live | None = None
    autoencoder: Path | None = None
    init: Path | None = None
    task_file: Path | None = None
    network: Size = field(default_factory=Size)
    canvas: tuple[int, int] = (128, 128)
    batch: int = 16
    accumulate: int = 1
    rate: float = 1e-3
    warmup_steps: int = 200
    decay_steps: int = 5000
    weight_decay: float = 0.01
    ema: float = 0.999
    full_noise: float = 0.75
    serving_noise: float = 0.5
    dropout: float = 0.0
    foreground: float = 0.0
    picture: float = 0.0
    harsh: float = 0.0
    remember: int = 0
    train_points: bool = True
    checkpointing: bool = False
    compile: bool = False
    log_every: int = 20
    save_every: int = 500
    validate_every: int = 0
    validation: Path | None = None
    threads: int | None = None
    workers: int = 1
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.autoencoder is None) == (self.init is None):
            raise ValueError(
                "expected either 'init' (a bundle to go on from) or 'autoencoder' (for a new "
                f"network), got init {self.init} and autoencoder {self.autoencoder}"
            )
        if not self.sources or min(self.sources.values()) <= 0:
            raise ValueError("sources: expected at least one {path: weight} with weights over 0")
        others = sorted({path.name for path in self.sources} - set(KINDS))
        if self.live and others:
            raise ValueError(
                f"sources: 'live' renders {' and '.join(KINDS)} scenes, found '{others[0]}'"
            )
        if self.live and self.canvas[0] != self.canvas[1]:
            raise ValueError(f"canvas: 'live' renders squares, got {self.canvas}")
        unknown = {path for phase in self.phases for path in phase.sources} - set(self.sources)
        if unknown:
            raise ValueError(f"phases: '{min(unknown)}' is not among the sources")
        ends = [phase.until for phase in self.phases]
        if not ends or ends != sorted(set(ends)) or ends[0] < 1:
            raise ValueError(f"phases: expected growing 'until' steps from 1, got {ends}")
        for name, least in LEAST.items():
            if (value := getattr(self, name)) is not None and value < least:
                raise ValueError(f"{name} must be at least {least}, got {value}")
        Canvas(*self.canvas)  # says which sizes can be
        for name in ("ema", "full_noise", "serving_noise", "dropout", "harsh"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} must lie in 0..1, got {getattr(self, name)}")
        if self.validate_every and self.validation is None:
            raise ValueError("validate_every needs 'validation': shards of held-out seeds")

    @property
    def steps(self) -> int:
        return self.phases[-1].until

    def phase(self, step: int) -> Phase:
        """What is learned in a step."""
        return next(phase for phase in self.phases if step < phase.until)

    def aligns(self, step: int) -> bool:
        """Whether a phase begins with this step that asks for aligned streams."""
        begins = [0, *(phase.until for phase in self.phases)]
        return any(p.align and at == step for p, at in zip(self.phases, begins, strict=False))

    def weights(self, step: int) -> list[float]:
        """Of the sources, in their order, in a step."""
        own = self.phase(step).sources
        return [own.get(path, 0.0) for path in self.sources] if own else [*self.sources.values()]

    def rate_at(self, step: int) -> float:
        """Warm-up, constant, then a cosine to 1% over the last decay_steps; in a run too short for
        both, over all that the warm-up leaves."""
        warm = min(1.0, (step + 1) / max(self.warmup_steps, 1))
        decay = min(self.decay_steps, max(self.steps - self.warmup_steps, 0))
        late = min(max(step - self.steps + decay, 0) / max(decay, 1), 1.0)
        return self.rate * warm * (0.01 + 0.99 * (0.5 + 0.5 * math.cos(math.pi * late)))

    def check_tasks(self, known: Mapping[str, Any]) -> None:
        """ValueError for a task in the phases that does not exist."""
        asked = {name for phase in self.phases for name in phase.shares}
        unknown = sorted(asked - {*known, COPY, SPOT})
        if unknown:
            raise ValueError(f"shares: unknown task '{unknown[0]}', expected {', '.join(known)}")


def read_recipe(path: Path, **changes: Any) -> Recipe:
    """A recipe from YAML; changes that are not None win. ValueError names unknown settings."""
    if not path.is_file():
        raise ValueError(f"{path}: no such recipe; config/train.yaml is the shipped one")
    try:
        values = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise ValueError(f"{path}: expected a recipe in YAML: {error}") from error
    if not isinstance(values, dict):
        raise ValueError(f"{path}: expected settings 'name: value', found {type(values).__name__}")
    values.update({name: value for name, value in changes.items() if value is not None})
    try:
        return Recipe(**_typed(values))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{path}: {error}") from error


def _typed(values: dict[str, Any]) -> dict[str, Any]:
    values = _settings(Recipe, values)
    for name in ("out", "autoencoder", "init", "task_file", "validation"):
        if name in values:
            values[name] = Path(values[name])
    values["sources"] = _sources(values.get("sources", {}))
    phases = values.get("phases", ())
    if not isinstance(phases, list | tuple):
        raise ValueError(f"phases: expected a list of phases, found {phases!r}")
    values["phases"] = tuple(_phase(number, phase) for number, phase in enumerate(phases, start=1))
    for name, made in (("live", Live), ("network", Size)):
        if name in values:
            values[name] = made(**_settings(made, values[name], f"{name}: "))
    if "canvas" not in values and "init" in values:
        from diception_ros.model import read_bundle_info  # here: a recipe alone needs no network

        values["canvas"] = read_bundle_info(values["init"]).canvas
    if "canvas" in values:
        canvas = values["canvas"]
        if not isinstance(canvas, list | tuple) or [type(side) for side in canvas] != [int, int]:
            raise ValueError(f"canvas: expected [height, width] in pixels, found {canvas!r}")
        values["canvas"] = tuple(canvas)
    return values


def _phase(number: int, given: Any) -> Phase:
    values = _settings(Phase, given, f"phase {number}: ")
    if "shares" in values:
        values["shares"] = _weights(f"phase {number}: shares", values["shares"])
    if "sources" in values:
        values["sources"] = _sources(values["sources"], f"phase {number}: ")
    return Phase(**values)


def _sources(given: Any, where: str = "") -> dict[Path, float]:
    return {Path(name): w for name, w in _weights(f"{where}sources", given).items()}


def _weights(where: str, given: Any) -> dict[str, float]:
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}: expected 'name: weight', found {given!r}")
    return {str(name): _value(f"{where}: {name}", w, "float") for name, w in given.items()}


def _settings(made: type, given: Any, where: str = "") -> dict[str, Any]:
    """The settings that are said (null says nothing), of the kinds that the class' fields have."""
    if not isinstance(given, Mapping):
        raise ValueError(f"{where}expected settings 'name: value', found {given!r}")
    kinds = {entry.name: str(entry.type).removesuffix(" | None") for entry in fields(made)}
    unknown = sorted(str(name) for name in given if name not in kinds)
    if unknown:
        raise ValueError(f"{where}unknown setting '{unknown[0]}', expected {', '.join(kinds)}")
    said = {name: value for name, value in given.items() if value is not None}
    return {name: _value(f"{where}{name}", value, kinds[name]) for name, value in said.items()}


def _value(name: str, value: Any, kind: str) -> Any:
    """The value, if it is of that kind. YAML reads 1e-5, which has no point, as text."""
    if kind not in KINDS_OF_VALUES:
        return value
    if kind == "float" and isinstance(value, int | str) and not isinstance(value, bool):
        with suppress(ValueError):
            value = float(value)
    wanted, told = KINDS_OF_VALUES[kind]
    if type(value) is not wanted or not math.isfinite(value):
        raise ValueError(f"{name}: expected {told}, found {value!r}")
    return value

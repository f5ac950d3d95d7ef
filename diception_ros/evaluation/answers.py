# SPDX-License-Identifier: Apache-2.0
"""Who answers: a bundle through the engine, or files that any network left in a folder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from diception_ros.engine import EMBEDDED_BUNDLE, Engine, EngineConfig
from diception_ros.evaluation.datasets.sample import Bool, Rgb, Sample
from diception_ros.evaluation.protocols.clicks import Click
from diception_ros.evaluation.protocols.depth import PROTOCOLS
from diception_ros.tasks import Instances, Request

ASKED = ("depth", "normal", "entity", "pose")
"""Tasks that are asked once an image; semantic is asked by category, points click by click."""


@dataclass(frozen=True)
class Answers:
    """What is answered about one image, None where nothing is.

    depth (H, W) and its kind, a key of protocols.depth.PROTOCOLS, with the protocols that may judge
    it (empty: all that fit the kind); normals (H, W, 3) optical frame; ids (H, W), 0 none, with
    scores by id (1 where none is given); classes (H, W), i + 1 for the i-th category asked, 0 none
    of them; keypoints (N, 2) pixels (x, y); people (P, K, 2) the same with joint types, a row by
    person and joint, where the answerer knows them, and how sure it is of each (P,).
    """

    depth: npt.NDArray[Any] | None = None
    kind: str = "disparity"
    protocols: tuple[str, ...] = ()
    normals: npt.NDArray[Any] | None = None
    ids: npt.NDArray[Any] | None = None
    scores: Mapping[int, float] = field(default_factory=dict)
    classes: npt.NDArray[Any] | None = None
    keypoints: npt.NDArray[Any] | None = None
    people: npt.NDArray[Any] | None = None
    people_scores: npt.NDArray[Any] | None = None

    def judged(self, asked: Sequence[str] = ()) -> list[str]:
        """The protocols that judge its depth, of those asked for (empty: all)."""
        limits = [some for some in (asked, self.protocols) if some]
        return [one for one in PROTOCOLS[self.kind] if all(one in some for some in limits)]


class Answerer(Protocol):
    """name: of the bundle or the folder. settings: what else decides the answers, for the report.
    clicks: whether `masks` can be asked. categories: with a prompt; empty where nobody asks."""

    name: str
    settings: Mapping[str, Any]
    clicks: bool
    categories: frozenset[str]

    def answer(
        self, sample: Sample, tasks: Sequence[str], categories: Sequence[str]
    ) -> Answers: ...

    def masks(self, sample: Sample, clicks: Sequence[Sequence[Click]]) -> list[Bool]: ...


class EngineAnswers:
    """A bundle. steps, guidance: None for the bundle's own."""

    clicks = True

    def __init__(
        self, engine: Engine, steps: int | None = None, guidance: float | None = None
    ) -> None:
        self.engine, self.name = engine, engine.info.name
        self.categories = frozenset(engine.categories)
        self._base = Request("depth", steps=steps, guidance=guidance)
        self.settings: Mapping[str, Any] = {
            "steps": steps or "the bundle's",
            "guidance": "the bundle's" if guidance is None else guidance,
            "seed": engine.config.seed,
            "hardware": engine.device_name,
            "canvas": f"{engine.canvas.width}x{engine.canvas.height}",
        }

    def answer(self, sample: Sample, tasks: Sequence[str], categories: Sequence[str]) -> Answers:
        """The categories that the bundle has no prompt for count as found nowhere."""
        asked = [replace(self._base, task=task) for task in tasks if task in ASKED]
        wanted = (
            [name for name in categories if name in self.categories] if "semantic" in tasks else []
        )
        asked += [replace(self._base, task="semantic", category=name) for name in wanted]
        results = self.engine.infer([sample.rgb], [asked])[0] if asked else []
        found: dict[str, Any] = {}
        semantic: dict[str, Instances] = {}
        for request, result in zip(asked, results, strict=True):
            match request.task:
                case "depth":
                    found["depth"] = result.values  # type: ignore[union-attr]
                case "normal":
                    found["normals"] = result.vectors  # type: ignore[union-attr]
                case "entity":
                    found["ids"] = result.ids  # type: ignore[union-attr]
                    scores = {one.id: one.score for one in result.instances}  # type: ignore[union-attr]
                    found["scores"] = scores
                case "pose":
                    found["keypoints"] = result.points  # type: ignore[union-attr]
                case "semantic":
                    semantic[str(request.category)] = result  # type: ignore[assignment]
        if "semantic" in tasks:
            found["classes"] = merge_categories(semantic, categories, sample.size)
        return Answers(**found)

    def masks(self, sample: Sample, clicks: Sequence[Sequence[Click]]) -> list[Bool]:
        requests = [
            replace(
                self._base,
                task="point",
                points=tuple((x, y) for x, y, _ in some),
                labels=tuple(label for _, _, label in some),
            )
            for some in clicks
        ]
        results = self.engine.infer([sample.rgb], [requests])[0]
        return [result.mask for result in results]  # type: ignore[union-attr]


def merge_categories(
    found: Mapping[str, Instances], categories: Sequence[str], size: tuple[int, int]
) -> npt.NDArray[np.int16]:
    """(H, W), i + 1 for categories[i]; where two overlap the surer wins, as in the node."""
    classes, best = np.zeros(size, np.int16), np.zeros(size, np.float32)
    for number, name in enumerate(categories, start=1):
        if name not in found:
            continue
        scores = np.zeros(int(found[name].ids.max(initial=0)) + 1, np.float32)
        for one in found[name].instances:
            scores[one.id] = max(one.score, 1e-6)
        score = scores[found[name].ids]
        wins = score > best
        classes[wins], best[wins] = number, score[wins]
    return classes


FILES = {"depth": "depth", "normal": "normals", "entity": "ids", "pose": "keypoints"}
"""Task of a file's name -> field of Answers."""


class FolderAnswers:
    """Files as `diception infer` leaves them: <image name>.<task>.npy, an image `a/b` being either
    a/b.depth.npy or b.depth.npy. kind: what the depth files hold. ValueError for an empty folder.
    """

    clicks = False
    categories: frozenset[str] = frozenset()

    def __init__(self, folder: Path, kind: str = "disparity") -> None:
        self.folder, self.kind, self.name = folder, kind, folder.name
        self.settings: Mapping[str, Any] = {"answers": str(folder.name), "depth files": kind}
        self.tasks = tuple(task for task in FILES if any(folder.rglob(f"*.{task}.npy")))
        if not self.tasks:
            raise ValueError(
                f"{folder}: expected <image name>.<task>.npy as 'diception infer' writes them, for "
                f"a task of {', '.join(FILES)}; found none"
            )

    def answer(self, sample: Sample, tasks: Sequence[str], categories: Sequence[str]) -> Answers:
        """ValueError if a file is missing or does not fit the image, or none is of these tasks."""
        files = [task for task in tasks if task in self.tasks]
        if not files:
            raise ValueError(
                f"{self.folder}: no answers for the task {', '.join(tasks)}, only for "
                f"{', '.join(self.tasks)}"
            )
        found: dict[str, Any] = {FILES[task]: self._read(sample, task) for task in files}
        points = found.get("keypoints")
        if points is not None and points.ndim == 3:
            sure = points[..., 2].mean(axis=1) if points.shape[2] == 3 else np.ones(len(points))
            found |= {"people": points[..., :2], "people_scores": sure}
        if points is not None:
            found["keypoints"] = points[..., :2].reshape(-1, 2)
        return Answers(kind=self.kind, **found)

    def masks(self, sample: Sample, clicks: Sequence[Sequence[Click]]) -> list[Bool]:
        raise ValueError(f"{self.folder}: files cannot be clicked, only a bundle can")

    def _read(self, sample: Sample, task: str) -> npt.NDArray[Any]:
        for stem in (sample.name, Path(sample.name).name):
            file = self.folder / f"{stem}.{task}.npy"
            if file.is_file():
                break
        else:
            raise ValueError(f"{self.folder}: no answer {sample.name}.{task}.npy")
        try:
            values: npt.NDArray[Any] = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise ValueError(f"{file}: cannot be read: {error}") from error
        if task == "pose":
            if values.ndim not in (2, 3) or values.shape[-1] not in (2, 3):
                raise ValueError(
                    f"{file}: expected keypoints (N, 2 or 3) or (people, K, 2 or 3), found "
                    f"{values.shape}"
                )
            return values.astype(np.float64)
        expected = (*sample.size, 3) if task == "normal" else sample.size
        if values.shape != expected:
            raise ValueError(f"{file}: expected {expected} as the image, found {values.shape}")
        return values


@dataclass(frozen=True)
class Answering:
    """What an answerer is made from, here or in a worker. folder: of answers, with the kind of its
    depth files; else bundle (None: the embedded one) with steps and guidance (None: its own)."""

    folder: Path | None = None
    kind: str = "disparity"
    bundle: Path | None = None
    steps: int | None = None
    guidance: float | None = None
    seed: int = 0
    device: str = "auto"

    def __post_init__(self) -> None:
        if self.kind not in PROTOCOLS:
            raise ValueError(f"--kind '{self.kind}': expected one of {', '.join(PROTOCOLS)}")
        if self.folder is not None and self.bundle is not None:
            raise ValueError("--answers and --bundle: give one of them, they both answer")

    def __call__(self, say: Callable[[str], None] = lambda line: None) -> Answerer:
        """ValueError for a folder without answers or a bundle that cannot be loaded."""
        if self.folder is not None:
            return FolderAnswers(self.folder, self.kind)
        config = EngineConfig(device=self.device, seed=self.seed)
        engine = Engine.load(self.bundle or EMBEDDED_BUNDLE, config, progress=say)
        return EngineAnswers(engine, self.steps, self.guidance)


__all__ = [
    "Answerer",
    "Answering",
    "Answers",
    "EngineAnswers",
    "FolderAnswers",
    "Rgb",
    "merge_categories",
]

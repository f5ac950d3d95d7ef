# SPDX-License-Identifier: Apache-2.0
"""What a bundle does on rendered scenes it has never seen, beside baselines that look at nothing.

"mean target" is the mean answer over other scenes, the same for every image; "exchanged" scores
every answer against the next scene: a network that ignores its image scores the same there.
"""

from __future__ import annotations

import argparse
import json
import logging
from collections.abc import Callable, Mapping
from pathlib import Path

import cv2
import numpy as np
import torch
from skimage.segmentation import felzenszwalb

from diception_ros.evaluation import metrics
from diception_ros.model import Diception
from diception_ros.tasks import TASKS, disparity_from_depth
from diception_ros.training.data import Pool, collate
from diception_ros.training.scenes import CATEGORIES, Frame
from diception_ros.training.targets import MIN_AREA, Example, colours_of, make_example

LOG = logging.getLogger(__name__)
BATCH = 16
FARTHEST_M = 80.0
Rows = dict[str, dict[str, float]]
"""{who answered: {metric: mean over the scenes}}."""


@torch.no_grad()
def predict(model: Diception, examples: list[Example], steps: int = 1) -> np.ndarray:
    """Generated colours (N, H, W, 3) float32."""
    answers = []
    for begin in range(0, len(examples), BATCH):
        batch = collate(examples[begin : begin + BATCH])
        asked = {"points": batch.points, "point_labels": batch.labels, "steps": steps}
        answers.append(model.generate(batch.images, batch.prompts, **asked))
    return torch.cat(answers).permute(0, 2, 3, 1).numpy()


def average(scores: list[dict[str, float]]) -> dict[str, float]:
    """Mean of every metric, scenes without a score left out."""
    return {name: float(np.nanmean([score[name] for score in scores])) for name in scores[0]}


def exchanged(answers: np.ndarray) -> np.ndarray:
    return np.roll(answers, 1, axis=0)


def plain(frames: list[Frame], task: str, rng: np.random.Generator) -> list[Example]:
    return [make_example(frame, task, rng) for frame in frames]


def depth_rows(model: Diception, frames: list[Frame], other: list[Frame]) -> Rows:
    def score(disparity: np.ndarray, frame: Frame) -> dict[str, float]:
        found = metrics.depth_affine(disparity, frame.depth, max_m=FARTHEST_M)
        return {"abs_rel": found.abs_rel, "delta1": found.delta1}

    answers = predict(model, plain(frames, "depth", np.random.default_rng(0))).mean(-1)
    mean = np.mean([disparity_from_depth(frame.depth).values for frame in other], axis=0)
    return {
        "constant": average([score(np.zeros_like(mean), frame) for frame in frames]),
        "best plane": average([score(best_plane(frame.depth), frame) for frame in frames]),
        "mean target": average([score(mean, frame) for frame in frames]),
        "exchanged": average(list(map(score, exchanged(answers), frames))),
        "network": average(list(map(score, answers, frames))),
    }


def best_plane(depth: np.ndarray) -> np.ndarray:
    """The disparity that is linear in the pixel's place and nearest to the true 1 / depth."""
    known = np.isfinite(depth)
    rows, columns = np.mgrid[0 : depth.shape[0], 0 : depth.shape[1]]
    design = np.stack([rows, columns, np.ones_like(rows)], axis=-1).astype(np.float64)
    weights = np.linalg.lstsq(design[known], 1 / depth[known].astype(np.float64), rcond=None)[0]
    return (design @ weights).astype(np.float32)


def normal_rows(model: Diception, frames: list[Frame], other: list[Frame]) -> Rows:
    def score(vectors: np.ndarray, frame: Frame) -> dict[str, float]:
        found = metrics.normals(vectors, frame.normals)
        return {"mean_deg": found.mean, "median_deg": found.median, "within_11": found.within_11}

    colours = predict(model, plain(frames, "normal", np.random.default_rng(0)))
    answers = np.stack([TASKS["normal"].decode(colour).vectors for colour in colours])
    mean = np.mean([colours_of(frame, "normal") for frame in other], axis=0)
    vectors = TASKS["normal"].decode(mean.astype(np.float32)).vectors
    return {
        "mean target": average([score(vectors, frame) for frame in frames]),
        "exchanged": average(list(map(score, exchanged(answers), frames))),
        "network": average(list(map(score, answers, frames))),
    }


def regions(rgb: np.ndarray) -> np.ndarray:
    """Segments of equal colour in the photograph, from 1 (Felzenszwalb & Huttenlocher 2004)."""
    found: np.ndarray = felzenszwalb(rgb, scale=200, sigma=0.8, min_size=MIN_AREA)
    return found + 1


def entity_rows(model: Diception, frames: list[Frame], other: list[Frame]) -> Rows:
    frames = [frame for frame in frames if frame.instances.any()]

    def score(ids: np.ndarray, frame: Frame) -> dict[str, float]:
        return {"best_iou": metrics.mean_best_iou(ids, frame.instances, min_area=2 * MIN_AREA)}

    colours = predict(model, plain(frames, "entity", np.random.default_rng(0)))
    ids = np.stack([TASKS["entity"].decode(colour).ids for colour in colours])
    return {
        "colour regions": average([score(regions(frame.rgb), frame) for frame in frames]),
        "exchanged": average(list(map(score, exchanged(ids), frames))),
        "network": average(list(map(score, ids, frames))),
    }


def mask_rows(
    model: Diception,
    examples: list[Example],
    baselines: Mapping[str, Callable[[Example], np.ndarray]],
) -> Rows:
    def score(mask: np.ndarray, example: Example) -> dict[str, float]:
        return {"iou": metrics.mask_iou(mask, example.colours[..., 0] >= 0.5)}

    masks = predict(model, examples).mean(-1) >= 0.5
    rows = {name: average([score(f(e), e) for e in examples]) for name, f in baselines.items()}
    rows["exchanged"] = average(list(map(score, exchanged(masks), examples)))
    rows["network"] = average(list(map(score, masks, examples)))
    return rows


def semantic_rows(model: Diception, frames: list[Frame], other: list[Frame]) -> Rows:
    """One category that is in the picture, drawn at random."""
    rng, examples = np.random.default_rng(0), []
    for frame in frames:
        areas = np.bincount(frame.categories.ravel(), minlength=len(CATEGORIES))[1:]
        present = np.flatnonzero(areas >= 3 * MIN_AREA)
        if len(present):
            name = CATEGORIES[1 + int(rng.choice(present))]
            examples.append(make_example(frame, "semantic", rng, name))
    everything = {"whole image": lambda e: np.ones(e.colours.shape[:2], bool)}
    return mask_rows(model, examples, everything)


def point_rows(model: Diception, frames: list[Frame], other: list[Frame]) -> Rows:
    """One point inside, drawn at random."""
    rng, examples = np.random.default_rng(0), []
    for frame in frames:
        if np.bincount(frame.instances.ravel())[1:].max(initial=0) >= 2 * MIN_AREA:
            example = make_example(frame, "point", rng)
            example.points[1:], example.labels[1:] = 0, 0
            examples.append(example)

    def at_point(example: Example) -> np.ndarray:
        ids = regions(example.image)
        row, column = (example.points[0] * ids.shape).astype(int)
        return ids == ids[row, column]

    return mask_rows(model, examples, {"colour region": at_point})


def pose_rows(model: Diception, frames: list[Frame], other: list[Frame]) -> Rows:
    frames = [f for f in frames if any(visible.sum() >= 5 for _, _, visible in f.keypoints)]

    def score(colours: np.ndarray, frame: Frame) -> dict[str, float]:
        found = TASKS["pose"].decode(colours).points
        recalls, total = [], 0
        for _, points, visible in frame.keypoints:
            total += int(visible.sum())
            if visible.sum() >= 5:
                size = np.ptp(points[visible], axis=0)
                corner = points[visible].min(axis=0)
                box = (*corner.tolist(), *size.tolist())
                recalls.append(metrics.keypoint_recall(found, points[visible], box))
        return {"recall": float(np.mean(recalls)), "found_per_true": len(found) / max(total, 1)}

    colours = predict(model, plain(frames, "pose", np.random.default_rng(0)))
    return {
        "exchanged": average(list(map(score, exchanged(colours), frames))),
        "network": average(list(map(score, colours, frames))),
    }


TABLE = {
    "depth": depth_rows,
    "normal": normal_rows,
    "entity": entity_rows,
    "semantic": semantic_rows,
    "point": point_rows,
    "pose": pose_rows,
}


def evaluate(model: Diception, frames: list[Frame], other: list[Frame]) -> dict[str, Rows]:
    """Every task's table on unseen `frames`; `other`: scenes for the mean target."""
    table = {}
    for task, rows in TABLE.items():
        table[task] = rows(model, frames, other)
        for name, scores in table[task].items():
            figures = "  ".join(f"{key} {value:.3f}" for key, value in scores.items())
            LOG.info("%-9s %-15s %s", task, name, figures)
    return table


def sheet(model: Diception, pool: Pool, columns: int = 8) -> np.ndarray:
    """Pictures to look at, uint8: per task a row of images, of true and of generated colours."""
    rows, rng = [], np.random.default_rng(1)
    for task in TASKS:
        examples = [pool.example(task, rng) for _ in range(columns)]
        images = [example.image.copy() for example in examples]
        for image, example in zip(images, examples, strict=True):
            for (row, column), label in zip(example.points, example.labels, strict=True):
                if row or column:
                    centre = int(column * image.shape[1]), int(row * image.shape[0])
                    cv2.circle(image, centre, 3, (0, 255, 0) if label else (255, 0, 0), -1)
        rows.append(np.hstack(images))
        for colours in ([e.colours for e in examples], predict(model, examples)):
            rows.append((np.clip(np.hstack(list(colours)), 0, 1) * 255).astype(np.uint8))
    return np.vstack(rows)


def main() -> None:
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--unseen", type=Path, required=True, help="shards of held-out seeds")
    parser.add_argument("--seen", type=Path, required=True, help="shards for the mean target")
    parser.add_argument("--out", type=Path, required=True, help="folder: metrics.json, sheet.png")
    parser.add_argument("--scenes", type=int, default=256)
    arguments = parser.parse_args()
    model = Diception.load(arguments.bundle)
    unseen, seen = Pool(arguments.unseen), Pool(arguments.seen)
    unseen.refresh()
    seen.refresh(limit=4)
    arguments.out.mkdir(parents=True, exist_ok=True)
    picture = cv2.cvtColor(sheet(model, unseen), cv2.COLOR_RGB2BGR)
    cv2.imwrite(str(arguments.out / "sheet.png"), picture)
    frames = [unseen.frame(place) for place in unseen.frames[: arguments.scenes]]
    table = evaluate(model, frames, [seen.frame(place) for place in seen.frames])
    (arguments.out / "metrics.json").write_text(json.dumps(table, indent=1))


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: Apache-2.0
"""What pycocotools is given is what COCO's own files would give it."""

import builtins
import json

import numpy as np
import pytest

from diception_ros.evaluation.protocols import average_precision
from diception_ros.evaluation.protocols.average_precision import STATS, Detections, encode


def boxes(rng, number, size=160):
    found = []
    for _ in range(number):
        top, left = rng.integers(0, size - 20, 2)
        height, width = rng.integers(4, 120, 2)
        mask = np.zeros((size, size), bool)
        mask[top : top + height, left : left + width] = True
        found.append(mask)
    return found


@pytest.fixture(scope="module")
def images():
    """(answers with scores, truths) of four images; the answers are the truths moved a little."""
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    rng = np.random.default_rng(0)
    made = []
    for _ in range(4):
        truths = boxes(rng, 6)
        answers = [np.roll(mask, rng.integers(0, 4), axis=1) for mask in truths[:5]]
        answers += boxes(rng, 2)
        made.append(([(m, float(s)) for m, s in zip(answers, rng.random(7), strict=True)], truths))
    return made


def judged(images):
    found = [[encode(mask, score=score) for mask, score in answers] for answers, _ in images]
    return Detections(found, [[encode(mask) for mask in truths] for _, truths in images])


def test_the_numbers_are_those_of_cocos_files(images, tmp_path):
    from pycocotools import mask as tools
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    def segment(mask):
        encoded = tools.encode(np.asfortranarray(mask.astype(np.uint8)))
        return {"size": encoded["size"], "counts": encoded["counts"].decode()}

    truth, results = [], []
    for i, (answers, truths) in enumerate(images):
        for mask in truths:
            entry = {"id": len(truth) + 1, "image_id": i, "category_id": 1, "iscrowd": 0}
            truth.append({**entry, "segmentation": segment(mask), "area": float(mask.sum())})
        for mask, score in answers:
            entry = {"image_id": i, "category_id": 1, "score": score}
            results.append({**entry, "segmentation": segment(mask)})
    frame = [{"id": i, "height": 160, "width": 160} for i in range(len(images))]
    files = tmp_path / "truth.json", tmp_path / "results.json"
    content = {"images": frame, "annotations": truth, "categories": [{"id": 1, "name": "x"}]}
    files[0].write_text(json.dumps(content))
    files[1].write_text(json.dumps(results))
    reference = COCO(str(files[0]))
    evaluation = COCOeval(reference, reference.loadRes(str(files[1])), "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    expected = dict(zip(STATS, evaluation.stats, strict=True))
    assert 0 < expected["AP"] < 1
    assert judged(images).stats() == pytest.approx(expected, abs=1e-12)


def test_drawn_images_count_as_often_as_they_are_drawn(images):
    twice = judged([images[1], images[1], images[3]]).stats()
    assert judged(images).stats(np.array([1, 1, 3])) == pytest.approx(twice, abs=1e-12)


def test_images_without_anything(images):
    empty = Detections([[], []], [[], []]).stats()
    assert all(np.isnan(value) for value in empty.values())
    with pytest.raises(ValueError, match="1 answered images but 0 with truth"):
        Detections([[]], [])


def test_without_pycocotools_one_line_says_what_to_do(monkeypatch):
    real = builtins.__import__

    def without(name, *more):
        if name.startswith("pycocotools"):
            raise ImportError(name)
        return real(name, *more)

    monkeypatch.setattr(builtins, "__import__", without)
    monkeypatch.setattr(average_precision.importlib, "import_module", without)
    assert not average_precision.available()
    with pytest.raises(ValueError, match=r"pip install pycocotools"):
        encode(np.ones((2, 2), bool))

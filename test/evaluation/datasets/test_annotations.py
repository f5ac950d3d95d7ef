# SPDX-License-Identifier: Apache-2.0
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays
from skimage.draw import polygon as exact_polygon

from diception_ros.evaluation.datasets.annotations import (
    Annotation,
    category_mask,
    decode_counts,
    decode_runs,
    fill_polygon,
    instance_ids,
    posed,
    read_annotations,
)

SQUARE = [2.0, 3.0, 6.0, 3.0, 6.0, 8.0, 2.0, 8.0]


def annotation(segmentation: Any = None, keypoints: Any = (), **changes: Any) -> Annotation:
    values = {"id": 7, "category": "cat", "crowd": False} | changes
    points = np.asarray(keypoints, float).reshape(-1, 3)
    return Annotation(segmentation=segmentation, keypoints=points, **values)


def run_lengths(mask: np.ndarray) -> list[int]:
    """Of 0, 1, 0, ... down the columns."""
    runs, current = [0], False
    for value in mask.T.ravel():
        if value != current:
            runs.append(0)
            current = value
        runs[-1] += 1
    return runs


def compressed(runs: list[int]) -> str:
    """rleToString of COCO's maskApi.c."""
    text = ""
    for i, run in enumerate(runs):
        value = run - (runs[i - 2] if i > 2 else 0)
        more = True
        while more:
            low, value = value & 31, value >> 5
            more = value != (-1 if low & 16 else 0)
            text += chr(48 + low + 32 * more)
    return text


@pytest.mark.parametrize(
    ("text", "counts"),
    [
        (
            "231N",
            [2, 3, 1, 1],
        ),  # from the fourth on a difference: 1 - 3 = -2 = 30 - 32, and 48 + 30
        ("T3", [100]),  # 100 = 4 + 3 * 32: 48 + 32 + 4 is T
        ("P1", [32]),  # 0 + 1 * 32
        ("`0", [16]),  # bit 4 alone would be a sign: one more group
        ("", []),
    ],
)
def test_compressed_counts_worked_out_by_hand(text: str, counts: list[int]) -> None:
    assert decode_counts(text) == counts


def test_runs_go_down_the_columns() -> None:
    mask = decode_runs([1, 2, 2, 1], [3, 2], (3, 2))
    np.testing.assert_array_equal(mask, np.array([[0, 0], [1, 0], [1, 1]], bool))


@settings(deadline=None)
@given(arrays(bool, array_shapes(min_dims=2, max_dims=2, max_side=80)))
def test_runs_survive_both_spellings(mask: np.ndarray) -> None:
    runs = run_lengths(mask)
    np.testing.assert_array_equal(decode_runs(runs, mask.shape, mask.shape), mask)
    np.testing.assert_array_equal(decode_runs(compressed(runs), mask.shape, mask.shape), mask)


def test_a_polygons_corners_are_corners_of_pixels() -> None:
    expected = np.zeros((10, 12), bool)
    expected[3:8, 2:6] = True
    np.testing.assert_array_equal(fill_polygon(SQUARE, (10, 12)), expected)


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(1, 80), min_size=3, max_size=12), st.integers(0, 120))
def test_a_polygon_fills_the_pixels_whose_centres_lie_inside(radii: list[int], x: int) -> None:
    angles = 0.1 + np.linspace(0, 2 * np.pi, len(radii), endpoint=False)
    corners = np.stack([x + radii * np.cos(angles), 47 + radii * np.sin(angles)], axis=1)
    expected = np.zeros((100, 120), bool)
    expected[exact_polygon(corners[:, 1] - 0.5, corners[:, 0] - 0.5, expected.shape)] = True
    np.testing.assert_array_equal(fill_polygon(corners.ravel().tolist(), expected.shape), expected)


def test_the_smaller_object_is_seen_whatever_the_order() -> None:
    large = annotation([[0, 0, 12, 0, 12, 10, 0, 10]])
    for objects, small in (((large, annotation([SQUARE])), 2), ((annotation([SQUARE]), large), 1)):
        ids = instance_ids(objects, (10, 12))
        assert (ids == small).sum() == 20 and ids[3, 2] == small and (ids > 0).all()


def test_a_category_is_the_union_of_its_objects() -> None:
    dog = annotation([[0, 0, 1, 0, 1, 1, 0, 1]], category="dog")
    two = annotation([SQUARE, [8, 0, 10, 0, 10, 2, 8, 2]])
    mask = category_mask((dog, two), "cat", (10, 12))
    assert mask.sum() == 24 and mask[3, 2] and mask[1, 9] and not mask[0, 0]


@pytest.mark.parametrize(
    ("segmentation", "cause"),
    [
        (None, "annotation 7: expected a segmentation"),
        ([[1, 2, 3, 4]], "three or more x, y"),
        ([[1, 2, 3, 4, 5, 6, 7]], "three or more x, y"),
        ([[1, 2, 3, 4, 5, float("nan")]], "finite x, y"),
        (["1 2 3"], "annotation 7: could not convert"),
        ({"counts": [50], "size": [5, 10]}, r"size \(height, width\) is \[5, 10\]"),
        ({"counts": [3, 4], "size": [10, 12]}, "add up to 120 pixels"),
        ({"counts": [130, -10], "size": [10, 12]}, "add up to 120 pixels"),
        ({"counts": "T", "size": [10, 12]}, "middle of a number"),
        ({"counts": "2 3", "size": [10, 12]}, "' ' is not a character"),
        ({"counts": [2**80], "size": [10, 12]}, "annotation 7"),
        ({"counts": [120], "size": 10}, "annotation 7"),
    ],
)
def test_bad_masks_name_their_annotation(segmentation: Any, cause: str) -> None:
    with pytest.raises(ValueError, match=cause):
        instance_ids((annotation(segmentation),), (10, 12))


def test_labelled_keypoints_and_the_limbs_between_them() -> None:
    person = annotation(keypoints=[(1, 2, 2), (0, 0, 0), (5, 6, 1), (7, 8, 2)])
    limbs = {"cat": ((0, 1), (0, 2), (3, 2))}
    [(found, between)] = posed((person, annotation()), limbs, (10, 12))
    np.testing.assert_array_equal(found.points, [[1, 2], [5, 6], [7, 8]])
    assert between == [(0, 1), (2, 1)] and found.size == (10, 12)


def test_a_keypoint_outside_the_image_is_an_error() -> None:
    with pytest.raises(
        ValueError, match=r"annotation 7: keypoint \(40, 2\) lies outside the 12x10"
    ):
        posed((annotation(keypoints=[(40, 2, 2)]),), {}, (10, 12))


def coco(**changes: Any) -> dict[str, Any]:
    return {
        "images": [{"id": 1, "file_name": "a.png", "height": 10, "width": 12}],
        "categories": [{"id": 3, "name": "cat", "keypoints": ["l", "r"], "skeleton": [[1, 2]]}],
        "annotations": [{"id": 7, "image_id": 1, "category_id": 3, "segmentation": [SQUARE]}],
    } | changes


def test_a_json_by_image_and_category(tmp_path: Path) -> None:
    elsewhere = {"id": 8, "image_id": 2, "category_id": 3}
    content = coco(annotations=[*coco()["annotations"], elsewhere])
    (tmp_path / "a.json").write_text(json.dumps(content))
    found = read_annotations(tmp_path / "a.json")
    assert found.categories == ("cat",) and found.skeletons == {"cat": ((0, 1),)}
    assert found.sizes == {"a.png": (10, 12)}
    [only] = found.images["a.png"]
    assert (only.id, only.category, only.crowd) == (7, "cat", False) and not len(only.keypoints)


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        ("{", "cannot be read as COCO"),
        ("[]", "cannot be read as COCO"),
        ('{"images": []}', "no entry for 'categories'"),
        (json.dumps(coco(images=[{"id": 1}])), "no entry for 'file_name'"),
        (json.dumps(coco(categories=[])), "annotation 7: category_id 3 is not a category"),
        (
            json.dumps(coco(categories=[{"id": 3, "name": "cat", "skeleton": [[1, 2]]}])),
            r"category 'cat': expected a skeleton of pairs in 1\.\.0",
        ),
        (
            json.dumps(
                coco(annotations=[{"id": 7, "image_id": 1, "category_id": 3, "keypoints": [1, 2]}])
            ),
            "expected keypoints x, y, v each, got 2 numbers",
        ),
    ],
)
def test_what_is_no_coco_json_is_told_in_one_line(tmp_path: Path, content: str, cause: str) -> None:
    path = tmp_path / "a.json"
    path.write_text(content)
    with pytest.raises(ValueError, match=cause) as caught:
        read_annotations(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)

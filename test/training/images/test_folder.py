# SPDX-License-Identifier: Apache-2.0
import json
import logging
import pickle
import re
from collections.abc import Callable, Mapping
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from diception_ros.imaging import Canvas
from diception_ros.tasks import TASKS, disparity_from_depth, load_tasks
from diception_ros.training.images.folder import Folder, mirrored, nearest
from diception_ros.training.targets import Example, entity_colours

HEIGHT, WIDTH = 48, 64
SAME = Canvas(HEIGHT, WIDTH)
HALF = Canvas(32, 32)
Rng = np.random.Generator


def warned(caplog: Any) -> list[logging.LogRecord]:
    """What a user reads whatever the level of the log."""
    return [record for record in caplog.records if record.levelno >= logging.WARNING]


def rng(seed: int = 0) -> Rng:
    return np.random.default_rng(seed)


def picture(seed: int) -> np.ndarray:
    return rng(seed).integers(0, 256, (HEIGHT, WIDTH, 3), dtype=np.uint8)


def save(path: Path, values: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix == ".npy":
        np.save(path, values)
    else:
        Image.fromarray(values).save(path)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for number in range(2):
        save(tmp_path / f"rgb/{number}.png", picture(number))
    return tmp_path


def opened(
    root: Path, canvas: Canvas = SAME, tasks: Mapping[str, Any] = TASKS, **entries: Any
) -> Folder:
    """The folder of a manifest that is not mirrored unless the entries say so."""
    manifest = root / "data.yaml"
    manifest.write_text(yaml.safe_dump({"images": "rgb", "mirror": False} | entries))
    return Folder.open(manifest, canvas, tasks)


def by_image(folder: Folder, task: str, draws: int = 40) -> dict[int, Example]:
    """An example for each of the two images, told by its pixels."""
    examples = [folder.example(task, rng(seed)) for seed in range(draws)]
    return {n: e for e in examples for n in (0, 1) if np.array_equal(e.image, picture(n))}


# Depth


def test_depth_in_metres_and_in_scaled_integers_is_the_same_disparity(root: Path) -> None:
    metres = np.tile(np.linspace(1, 8, WIDTH, dtype=np.float32), (HEIGHT, 1))
    save(root / "depth/0.npy", metres.astype(np.float64))
    save(root / "depth/1.png", np.round(metres * 5000).astype(np.uint16))
    folder = opened(root, depth={"folder": "depth", "scale": 0.0002})
    found = by_image(folder, "depth")
    expected = (1 / metres - 1 / 8) / (1 - 1 / 8)
    for number, tolerance in ((0, 1e-6), (1, 3e-4)):
        disparity = TASKS["depth"].decode(found[number].colours).values
        np.testing.assert_allclose(disparity, expected, atol=tolerance)
        assert found[number].base == pytest.approx(1 / 7, abs=tolerance)
    assert folder.tasks == ("depth",) and folder.skipped == 0
    assert found[0].prompt == "[[image2depth]]" and found[0].colours.dtype == np.float32


def test_unknown_depth_is_that_of_the_nearest_known_pixel_and_inf_is_far(root: Path) -> None:
    metres = np.full((HEIGHT, WIDTH), 4, np.float32)
    metres[:, :20], metres[:5] = 2, np.inf
    expected = disparity_from_depth(metres).values
    metres[10:20, 4:10], metres[30:33, 40:50], metres[44, 63] = 0, np.nan, -1
    save(root / "depth/0.npy", metres)
    example = opened(root, depth={"folder": "depth"}).example("depth", rng())
    np.testing.assert_array_equal(example.colours[..., 0], expected)
    assert example.base == 0  # something is infinitely far
    assert set(np.unique(expected)) == {0, 0.5, 1}


def test_a_depth_that_only_its_far_pixels_keep_at_the_canvas_is_skipped(root: Path) -> None:
    for number in (0, 1):
        metres = np.full((HEIGHT, WIDTH), np.inf, np.float32)
        metres[0, 0 if number else 2] = 1  # at 16 x 16 the pixels (1, 2), (1, 6), ... are taken
        metres[1, 2] = 1 if number else np.inf
        save(root / f"depth/{number}.npy", metres)
    folder = opened(root, Canvas(16, 16), depth={"folder": "depth"})
    for seed in range(8):
        assert folder.example("depth", rng(seed)).colours.max() == 1
    assert folder.skipped == 1


# Normals


def leaning() -> np.ndarray:
    """Unit normals in the optical frame, all towards the camera: (H, W, 3)."""
    vectors = rng().normal(size=(HEIGHT, WIDTH, 3)) * [1, 1, 0.2] - [0, 0, 1]
    vectors[..., 2] = np.minimum(vectors[..., 2], -0.1)
    return (vectors / np.linalg.norm(vectors, axis=2, keepdims=True)).astype(np.float32)


@pytest.mark.parametrize(
    ("frame", "signs"),
    [("optical", (1, 1, 1)), ("stablenormal", (-1, -1, -1)), ("opengl", (1, -1, -1))],
)
def test_normals_of_each_frame_become_optical_ones(root: Path, frame: str, signs: Any) -> None:
    stored = leaning() * np.float32(signs)
    save(root / "normals/0.npy", 1.2 * stored)
    save(root / "normals/1.png", np.round((stored + 1) * 127.5).astype(np.uint8))
    found = by_image(opened(root, normal={"folder": "normals", "frame": frame}), "normal")
    for number, tolerance in ((0, 1e-5), (1, 0.01)):
        vectors = TASKS["normal"].decode(found[number].colours).vectors
        np.testing.assert_allclose(vectors, leaning(), atol=tolerance)


def test_normals_without_a_direction_face_the_camera(root: Path) -> None:
    stored = np.round((leaning() + 1) * 127.5).astype(np.uint8)
    stored[:4], stored[4:8], stored[8:12] = 0, 128, 255
    save(root / "normals/0.png", stored)
    folder = opened(root, normal={"folder": "normals", "frame": "optical"})
    vectors = TASKS["normal"].decode(folder.example("normal", rng()).colours).vectors
    np.testing.assert_allclose(vectors[:12], np.broadcast_to([0, 0, -1], (12, WIDTH, 3)), atol=1e-6)
    np.testing.assert_allclose(vectors[12:], leaning()[12:], atol=0.01)


# COCO


def box(left: float, top: float, right: float, bottom: float) -> list[float]:
    return [left, top, right, top, right, bottom, left, bottom]


POINTS = [(10, 8, 2), (30, 10, 1), (0, 0, 0), (50, 40, 2)]
CUP, CROWD, DOG = 1, 2, 3


def coco_json(**changes: Any) -> dict[str, Any]:
    """Image 0: a cup, a crowd of dogs as runs, a dog with keypoints; image 1: a cup."""
    runs = [0, HEIGHT * 8, HEIGHT * (WIDTH - 8)]  # the first eight columns
    objects: list[dict[str, Any]] = [
        {"image_id": 5, "category_id": 2, "segmentation": [box(20, 4, 40, 20)]},
        {
            "image_id": 5,
            "category_id": 9,
            "segmentation": {"counts": runs, "size": [HEIGHT, WIDTH]},
            "iscrowd": 1,
        },
        {
            "image_id": 5,
            "category_id": 9,
            "segmentation": [box(20, 30, 60, 44)],
            "keypoints": [v for point in POINTS for v in point],
        },
        {"image_id": 6, "category_id": 2, "segmentation": [box(8, 8, 24, 24)]},
    ]
    size = {"height": HEIGHT, "width": WIDTH}
    return {
        "images": [{"id": 5, "file_name": "0.png", **size}, {"id": 6, "file_name": "1.png"}],
        "categories": [
            {"id": 2, "name": "cup"},
            {"id": 9, "name": "dog", "keypoints": list("abcd"), "skeleton": [[1, 2], [2, 3]]},
        ],
        "annotations": [{"id": 100 + i} | entry for i, entry in enumerate(objects)],
    } | changes


def with_coco(root: Path, content: Any = None, canvas: Canvas = SAME, **entries: Any) -> Folder:
    (root / "a.json").write_text(json.dumps(content or coco_json()))
    return opened(root, canvas, **{"coco": "a.json"} | entries)


def true_ids() -> np.ndarray:
    ids = np.zeros((HEIGHT, WIDTH), np.uint16)
    ids[4:20, 20:40], ids[:, :8], ids[30:44, 20:60] = CUP, CROWD, DOG
    return ids


def test_one_json_serves_four_tasks(root: Path) -> None:
    folder = with_coco(root)
    assert folder.tasks == ("entity", "semantic", "point", "pose")
    assert set(folder.prompts) == {
        "[[image2entity]]",
        "[[image2semantic]] cup",
        "[[image2semantic]] dog",
        "[[image2segmentation]]",
        "[[image2pose]]",
    }
    assert set(folder.prompts_of("semantic")) == {
        "[[image2semantic]] cup",
        "[[image2semantic]] dog",
    }
    assert folder.prompts_of("point") == ("[[image2segmentation]]",)
    assert folder.prompts_of("depth") == folder.prompts_of("copy") == ()


def test_entities_have_one_random_colour_each_anew_every_time(root: Path) -> None:
    folder = with_coco(root)
    found = [
        e.colours
        for e in (folder.example("entity", rng(seed)) for seed in range(12))
        if np.array_equal(e.image, picture(0))
    ]
    for colours in found:
        one = [np.unique(colours[true_ids() == i], axis=0) for i in range(4)]
        assert [len(values) for values in one] == [1, 1, 1, 1]
        assert one[0].max() == 0 and len(np.unique(np.concatenate(one), axis=0)) == 4
    assert not np.array_equal(found[0], found[1])


def test_placed_colours_are_those_of_the_scenes(root: Path) -> None:
    folder = with_coco(root, colours="placed")
    colours = by_image(folder, "entity")[0].colours
    np.testing.assert_array_equal(colours, entity_colours(true_ids()))


def test_a_category_is_white_crowds_included_and_an_absent_one_black(root: Path) -> None:
    folder = with_coco(root)
    seen = set()
    for seed in range(60):
        example = folder.example("semantic", rng(seed))
        white = TASKS["semantic"].decode(example.colours).ids > 0
        if np.array_equal(example.image, picture(0)):
            wanted = [CUP] if example.prompt.endswith("cup") else [CROWD, DOG]
            np.testing.assert_array_equal(white, np.isin(true_ids(), wanted))
        elif example.prompt.endswith("dog"):
            assert not white.any()
        else:
            assert white.sum() == 256
        seen.add((example.prompt, bool(white.any())))
    assert len(seen) == 3


def test_points_ask_for_one_object_and_never_for_a_crowd(root: Path) -> None:
    folder, asked = with_coco(root), set()
    for seed in range(40):
        example = folder.example("point", rng(seed))
        mask = TASKS["point"].decode(example.colours).mask
        used = example.points.any(axis=1) | (example.labels == 1)
        row, column = (example.points[used] * [[HEIGHT, WIDTH]]).round().astype(int).T
        np.testing.assert_array_equal(mask[row, column], example.labels[used] == 1)
        if np.array_equal(example.image, picture(0)):
            [number] = (i for i in (CUP, CROWD, DOG) if np.array_equal(mask, true_ids() == i))
            asked.add(number)
    assert asked == {CUP, DOG}


def test_keypoints_keep_their_place_in_a_resized_image(root: Path) -> None:
    canvas = Canvas(768, 512)
    example = with_coco(root, canvas=canvas).example("pose", rng())
    found = TASKS["pose"].decode(example.colours).points
    expected = [((x + 0.5) * 8 - 0.5, (y + 0.5) * 16 - 0.5) for x, y, seen in POINTS if seen]
    away = np.linalg.norm(found[:, None] - np.array(expected), axis=-1)
    assert len(found) == 3 and away.min(axis=0).max() < 0.5
    halfway = example.colours[round(9.5 * 16 - 0.5), round(20.5 * 8 - 0.5)]
    np.testing.assert_allclose(halfway, [0, 0, 1])  # on the limb of the first two
    assert not example.colours[round(25.5 * 16), round(40.5 * 8)].any()  # between 2 and 4 is none


def test_instances_and_keypoints_may_come_in_two_files(root: Path) -> None:
    both = coco_json()
    (root / "b.json").write_text(json.dumps(both))
    for entry in both["annotations"]:
        entry.pop("keypoints", None)
    folder = with_coco(root, both, coco={"instances": "a.json", "keypoints": "b.json"})
    assert folder.tasks == ("entity", "semantic", "point", "pose")
    assert with_coco(root, both).tasks == ("entity", "semantic", "point")
    with pytest.raises(ValueError, match=r"a\.json has no keypoints for any image"):
        opened(root, coco={"keypoints": "a.json"})
    for entry in both["annotations"]:
        entry.pop("segmentation")
    with pytest.raises(ValueError, match=r"a\.json has neither segmentations nor keypoints"):
        with_coco(root, both)


# Tasks of a user


@pytest.fixture
def tasks(tmp_path: Path) -> dict[str, Any]:
    path = tmp_path / "tasks.yaml"
    kinds = {"crack": "mask", "heat": "disparity", "albedo": "colour"}
    entries = [{"name": n, "prompt": f"[[{n}]]", "kind": kind} for n, kind in kinds.items()]
    path.write_text(yaml.safe_dump(entries))
    return TASKS | load_tasks(path)


def test_each_kind_of_task_that_a_user_describes(root: Path, tasks: dict[str, Any]) -> None:
    mask = true_ids() > 0
    heat = np.linspace(0, 1, HEIGHT * WIDTH, dtype=np.float32).reshape(HEIGHT, WIDTH)
    save(root / "crack/0.png", (mask * 255).astype(np.uint8))
    save(root / "heat/0.npy", heat)
    save(root / "heat/1.png", np.round(heat * 65535).astype(np.uint16))
    save(root / "albedo/0.png", picture(7))
    sections = {
        "masks": {"crack": {"folder": "crack"}},
        "maps": {"heat": {"folder": "heat"}, "depth": {"folder": "heat"}},
        "pictures": {"albedo": {"folder": "albedo"}},
    }
    folder = opened(root, tasks=tasks, **sections)
    assert folder.tasks == ("depth", "crack", "heat", "albedo")
    crack = folder.example("crack", rng())
    np.testing.assert_array_equal(tasks["crack"].decode(crack.colours).mask, mask)
    assert crack.prompt == "[[crack]]" and not crack.labels.any()
    for number, example in by_image(folder, "heat").items():
        tolerance = (1e-6, 1e-5)[number]
        np.testing.assert_allclose(example.colours[..., 1], heat, atol=tolerance)
    albedo = folder.example("albedo", rng()).colours
    np.testing.assert_allclose(albedo, picture(7) / np.float32(255), atol=1e-6)


@pytest.mark.parametrize("mode", ["1", "P", "L"])
def test_a_map_of_bits_or_with_a_palette_is_what_it_looks_like(
    root: Path, tasks: dict[str, Any], mode: str
) -> None:
    shown = (true_ids() > 0).astype(np.uint8) * 255
    stored = Image.fromarray(shown)
    if mode == "P":
        stored = Image.fromarray(shown // 255, "P")
        stored.putpalette([0, 0, 0, 255, 255, 255])
    (root / "heat").mkdir()
    stored.convert(mode).save(root / "heat/0.png")
    with Image.open(root / "heat/0.png") as saved:
        assert saved.mode == mode
    folder = opened(root, tasks=tasks, maps={"heat": {"folder": "heat"}})
    colours = folder.example("heat", rng()).colours
    np.testing.assert_array_equal(colours[..., 0], shown / np.float32(255))


# Sizes and mirrors


def test_images_are_resized_as_at_serving_and_targets_to_the_nearest_pixel(root: Path) -> None:
    metres = rng(3).uniform(1, 9, (HEIGHT, WIDTH)).astype(np.float32)
    save(root / "depth/0.npy", metres)
    example = opened(root, HALF, depth={"folder": "depth"}).example("depth", rng())
    served = (HALF.to_model(picture(0)).permute(1, 2, 0).numpy() + 1) * 127.5
    np.testing.assert_allclose(example.image, served, atol=0.51)
    taken = metres[((np.arange(32) + 0.5) * 1.5).astype(int)][:, np.arange(32) * 2 + 1]
    np.testing.assert_allclose(example.colours[..., 2], disparity_from_depth(taken).values)


def test_nearest_takes_the_pixel_under_the_centre() -> None:
    np.testing.assert_array_equal(
        nearest(np.arange(48)[None].repeat(16, 0), Canvas(16, 16))[0], np.arange(1, 48, 3)
    )


def test_mirroring_takes_the_targets_along(root: Path) -> None:
    save(root / "normals/0.npy", leaning())
    normal = {"folder": "normals", "frame": "optical"}
    folder = with_coco(root, normal=normal, mirror=True, colours="placed")
    for task in ("normal", "entity", "pose", "point"):
        plain, other = None, None
        for seed in range(60):
            example = folder.example(task, rng(seed))
            plain = example if np.array_equal(example.image, picture(0)) else plain
            other = example if np.array_equal(example.image, picture(0)[:, ::-1]) else other
        assert plain is not None and other is not None
        if task == "normal":
            found = [TASKS["normal"].decode(e.colours).vectors for e in (plain, other)]
            np.testing.assert_allclose(found[0], found[1][:, ::-1] * [-1, 1, 1], atol=1e-5)
        elif task == "entity":
            np.testing.assert_array_equal(other.colours, entity_colours(true_ids()[:, ::-1]))
        elif task == "pose":
            found = [TASKS["pose"].decode(e.colours).points for e in (plain, other)]
            flipped = sorted((WIDTH - 1 - x, y) for x, y in found[1])
            np.testing.assert_allclose(flipped, sorted(map(tuple, found[0])), atol=0.3)
        else:
            row, column = (other.points[0] * [HEIGHT, WIDTH]).round().astype(int)
            assert other.colours[row, column, 0] >= 0.5
            mask = TASKS["point"].decode(other.colours).mask[:, ::-1]
            assert any(np.array_equal(mask, true_ids() == i) for i in (CUP, DOG))


def test_mirroring_twice_changes_nothing() -> None:
    np.testing.assert_array_equal(mirrored(mirrored(leaning(), True), True), leaning())


def test_a_photograph_on_its_side_is_used_upright(root: Path) -> None:
    upright = Image.fromarray(picture(5).transpose(1, 0, 2))  # 64 high, 48 wide
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    turned = upright.transpose(Image.Transpose.ROTATE_90)
    turned.save(root / "rgb/0.png", exif=exif)
    save(root / "depth/0.npy", np.ones((WIDTH, HEIGHT), np.float32))
    folder = opened(root, Canvas(WIDTH, HEIGHT), depth={"folder": "depth"})
    np.testing.assert_array_equal(folder.example("depth", rng()).image, np.asarray(upright))


# What is broken


def truncated(path: Path) -> None:
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


BROKEN: dict[str, tuple[Callable[[Path], None], str]] = {
    "emptied": (lambda path: path.write_bytes(b""), "cannot be read"),
    "cut off": (truncated, "cannot be read"),
    "text": (lambda path: path.write_text("nothing"), "cannot be read"),
    "gone": (lambda path: path.unlink(), "cannot be read"),
}
SIXTEEN = Image.open(BytesIO(cv2.imencode(".png", np.ones((2, 2), np.uint16))[1])).mode
"""What this Pillow calls 16 bits of grey: I;16, or I before."""

WRONG: list[tuple[str, str, np.ndarray, str]] = [
    ("depth", "npy", np.ones((9, 8), np.float32), "is 8x9, but its image 64x48"),
    ("depth", "npy", np.full((HEIGHT, WIDTH), np.nan), "no pixel of the depth is known"),
    ("depth", "npy", np.ones((HEIGHT, WIDTH, 3)), "16-bit PNG, found float64"),
    ("depth", "npy", np.ones((HEIGHT, WIDTH), complex), "expected an array of numbers"),
    ("depth", "npy", np.ones((0, WIDTH)), "expected an array of numbers"),
    ("depth", "png", np.full((HEIGHT, WIDTH), 9, np.uint8), "16-bit PNG, found uint8"),
    ("depth", "png", np.zeros((HEIGHT, WIDTH), np.uint16), "no pixel of the depth is known"),
    ("normal", "npy", np.ones((HEIGHT, WIDTH)), r"expected normals \(H, W, 3\)"),
    ("normal", "npy", np.zeros((HEIGHT, WIDTH, 3)), "no normal has a length near 1"),
    ("normal", "npy", -leaning(), "away from the camera: is their frame opengl or stablenormal"),
    (
        "normal",
        "png",
        np.ones((HEIGHT, WIDTH), np.uint16),
        f"8 bits a channel, found mode {SIXTEEN}$",
    ),
    ("masks", "png", np.eye(HEIGHT, WIDTH, dtype=np.uint8), "brightest is 1"),
    ("masks", "png", np.eye(HEIGHT, WIDTH).astype(np.uint16), f"found mode {SIXTEEN}$"),
    ("maps", "npy", np.full((HEIGHT, WIDTH), 1.5), "expected values in 0..1, found 1.5 to 1.5"),
    ("maps", "npy", np.full((HEIGHT, WIDTH), np.nan), "expected values in 0..1"),
    ("maps", "npy", np.ones((HEIGHT, WIDTH), int), "expected a map"),
    ("maps", "png", np.ones((HEIGHT, WIDTH, 3), np.uint8), "expected a map"),
]
GOOD = {
    "depth": np.ones((HEIGHT, WIDTH), np.float32),
    "normal": leaning(),
    "masks": np.eye(HEIGHT, WIDTH, dtype=np.uint8) * 255,
    "maps": np.ones((HEIGHT, WIDTH), np.float32),
}


def uses_only(folder: Folder, task: str, number: int) -> bool:
    examples = [folder.example(task, rng(seed)) for seed in range(20)]
    return all(np.array_equal(e.image, picture(number)) for e in examples)


@pytest.mark.parametrize(("breaks", "cause"), BROKEN.values(), ids=BROKEN)
@pytest.mark.parametrize("suffix", ["npy", "png"])
def test_a_corrupt_target_is_skipped_once_in_one_line(
    root: Path, caplog: Any, breaks: Callable[[Path], None], cause: str, suffix: str
) -> None:
    save(root / "depth/0.npy", GOOD["depth"])
    save(root / f"depth/1.{suffix}", GOOD["depth"].astype("f" if suffix == "npy" else np.uint16))
    folder = opened(root, depth={"folder": "depth"})
    breaks(root / f"depth/1.{suffix}")
    assert uses_only(folder, "depth", 0) and folder.skipped == 1
    [line] = [record.message for record in warned(caplog)]
    assert line.startswith(f"skipped {root / 'depth' / '1'}.{suffix}: ") and cause in line
    assert "\n" not in line and warned(caplog)[0].levelno == logging.WARNING


@pytest.mark.parametrize(("breaks", "cause"), BROKEN.values(), ids=BROKEN)
def test_a_corrupt_image_is_given_up_for_all_tasks(
    root: Path, caplog: Any, breaks: Callable[[Path], None], cause: str
) -> None:
    for number in (0, 1):
        save(root / f"depth/{number}.npy", GOOD["depth"])
    folder = with_coco(root, depth={"folder": "depth"})
    breaks(root / "rgb/0.png")
    for task in ("depth", "entity", "point", "semantic"):
        assert uses_only(folder, task, 1)
    with pytest.raises(ValueError, match="all 1 samples of the task 'pose' are broken"):
        folder.example("pose", rng())
    [line] = [record.message for record in warned(caplog)]
    assert line.startswith(f"skipped {root / 'rgb' / '0'}.png: {cause}") and folder.skipped == 1


@pytest.mark.parametrize(("section", "suffix", "values", "cause"), WRONG)
def test_a_target_of_another_kind_or_size_is_skipped(
    root: Path, caplog: Any, section: str, suffix: str, values: np.ndarray, cause: str
) -> None:
    name = {"maps": "heat", "masks": "crack"}.get(section, section)
    (root / "tasks.yaml").write_text(
        "[{name: crack, prompt: c, kind: mask}, {name: heat, prompt: h, kind: disparity}]"
    )
    save(root / f"t/0.{'png' if section == 'masks' else 'npy'}", GOOD[section])
    save(root / f"t/1.{suffix}", values)
    entry = {"folder": "t"} | ({"frame": "optical"} if section == "normal" else {})
    entries = {section: entry if section == name else {name: entry}}
    folder = opened(root, tasks=TASKS | load_tasks(root / "tasks.yaml"), **entries)
    assert uses_only(folder, name, 0) and folder.skipped == 1
    [line] = [record.message for record in warned(caplog)]
    assert line.startswith(f"skipped {root / 't' / '1'}.{suffix}: ") and re.search(cause, line)


def test_images_of_sixteen_bits_are_skipped(root: Path, caplog: Any) -> None:
    save(root / "rgb/1.png", np.ones((HEIGHT, WIDTH), np.uint16))
    for number in (0, 1):
        save(root / f"depth/{number}.npy", GOOD["depth"])
    assert uses_only(opened(root, depth={"folder": "depth"}), "depth", 0)
    assert f"expected 8 bits a channel, found mode {SIXTEEN}\n" in caplog.text


@pytest.mark.parametrize(
    ("change", "cause"),
    [
        ({"segmentation": [[1, 2, 3]]}, "annotation 103: expected polygons"),
        ({"segmentation": [box(100, 100, 110, 110)]}, "no object covers"),
        ({"segmentation": None}, "annotation 103: expected a segmentation"),
        ({"segmentation": {"counts": [9], "size": [3, 3]}}, "mask's size"),
    ],
)
def test_a_broken_annotation_names_its_image(
    root: Path, caplog: Any, change: dict[str, Any], cause: str
) -> None:
    content = coco_json()
    content["annotations"][3] |= change
    folder = with_coco(root, content)
    for task in ("entity", "point"):
        assert uses_only(folder, task, 0)
    lines = [record.message for record in warned(caplog)]
    assert len(lines) == folder.skipped == 2
    assert all(f"skipped {root / 'a.json'} (1.png): " in line and cause in line for line in lines)


def test_an_image_of_another_size_than_the_json_says_is_skipped(root: Path, caplog: Any) -> None:
    content = coco_json()
    content["images"][1] |= {"height": 7, "width": 9}
    assert uses_only(with_coco(root, content), "entity", 0)
    assert "(1.png): is 9x7, but its image 64x48" in caplog.text


def test_a_keypoint_outside_its_image_is_skipped(root: Path) -> None:
    content = coco_json()
    content["annotations"][3]["keypoints"] = [99, 5, 2]
    folder = with_coco(root, content)
    assert uses_only(folder, "pose", 0) and folder.skipped == 1


def test_all_samples_broken_is_an_error(root: Path) -> None:
    for number in (0, 1):
        save(root / f"depth/{number}.npy", GOOD["depth"] * np.nan)
    folder = opened(root, depth={"folder": "depth"})
    for _ in range(2):
        with pytest.raises(ValueError, match=r"data.yaml: all 2 samples .* 'depth' are broken"):
            folder.example("depth", rng())
    assert folder.skipped == 2


def test_what_is_drawn_does_not_depend_on_what_was_found_broken_before(root: Path) -> None:
    for number in range(12):
        save(root / f"rgb/{number}.png", picture(number))
        save(root / f"depth/{number}.npy", GOOD["depth"] * (np.nan if number % 3 else 1))
    used = opened(root, depth={"folder": "depth"}, mirror=True)
    first = [used.example("depth", rng(seed)).image for seed in range(20)]
    again = [used.example("depth", rng(seed)).image for seed in range(20)]
    np.testing.assert_array_equal(first, again)
    fresh = pickle.loads(pickle.dumps(opened(root, depth={"folder": "depth"}, mirror=True)))
    np.testing.assert_array_equal(fresh.example("depth", rng(19)).image, first[19])


# What is wrong with a manifest

FINE = {"images": "rgb", "depth": {"folder": "depth"}}


@pytest.mark.parametrize(
    ("changes", "cause"),
    [
        ({"images": None, "depht": 1}, "the manifest: unknown 'depht', expected images, depth"),
        ({"images": "nowhere"}, "no folder .*nowhere"),
        ({"images": "empty"}, r"empty: expected files .png .jpg .jpeg, found none"),
        ({"depth": None}, "depth: expected folder, scale, found None"),
        ({"depth": {"scale": 1}}, "depth: 'folder' is missing"),
        ({"depth": {"folder": "depth", "unit": "mm"}}, "depth: unknown 'unit'"),
        ({"depth": {"folder": "depth", "scale": 0}}, "expected a scale over 0"),
        ({"depth": {"folder": "depth", "scale": "mm"}}, "expected a scale over 0"),
        ({"depth": {"folder": "nowhere"}}, "depth: no folder .*nowhere"),
        ({"depth": {"folder": "others"}}, r"has the name of an image, as x\.npy"),
        ({"normal": {"folder": "depth"}}, "normal: 'frame' is missing"),
        ({"normal": {"folder": "depth", "frame": "up"}}, "expected a frame optical, opengl"),
        ({"masks": {"crack": {"folder": "depth"}}}, "masks: unknown task 'crack'.*none is known"),
        ({"masks": {"point": {"folder": "depth"}}}, "masks: unknown task 'point'"),
        ({"maps": {"heat": {"folder": "depth"}}}, "in a Disparity: depth"),
        ({"maps": {"depth": {"folder": "depth"}}}, "task 'depth' has two sources"),
        ({"maps": "depth"}, "maps: expected 'task: {folder: ...}', found 'depth'"),
        ({"colours": "pink"}, "colours: expected random or placed, found 'pink'"),
        ({"mirror": "sometimes"}, "mirror: expected true or false"),
        ({"coco": 3}, "coco: expected instances, keypoints, found 3"),
        ({"coco": "nowhere.json"}, "nowhere.json: cannot be read as COCO"),
        ({"coco": "others.json"}, r"lists no image of the images folder .*as rgb/0\.png"),
    ],
)
def test_a_wrong_manifest_is_told_in_one_line(root: Path, changes: Any, cause: str) -> None:
    save(root / "depth/0.npy", GOOD["depth"])
    save(root / "others/x.npy", GOOD["depth"])
    (root / "empty").mkdir()
    others = coco_json(images=[{"id": 5, "file_name": "rgb/0.png"}], annotations=[])
    (root / "others.json").write_text(json.dumps(others))
    (root / "data.yaml").write_text(yaml.safe_dump(FINE | changes))
    with pytest.raises(ValueError, match=cause) as caught:
        Folder.open(root / "data.yaml", SAME)
    assert str(caught.value).startswith(str(root / "data.yaml")) and "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "cause"),
    [
        ("[1]", "the manifest: expected images"),
        ("depth: {folder: depth}", "'images' is missing"),
        ("images: rgb", "no targets: expected one or more of depth, normal, coco, masks"),
        ("a: [", "cannot be read as YAML"),
    ],
)
def test_a_manifest_that_says_too_little(root: Path, text: str, cause: str) -> None:
    (root / "data.yaml").write_text(text)
    with pytest.raises(ValueError, match=cause) as caught:
        Folder.open(root / "data.yaml", SAME)
    assert "\n" not in str(caught.value)


def test_a_manifest_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"none\.yaml: cannot be read"):
        Folder.open(tmp_path / "none.yaml", SAME)


def test_a_task_that_is_not_known_to_the_caller(root: Path) -> None:
    save(root / "depth/0.npy", GOOD["depth"])
    with pytest.raises(ValueError, match="unknown task 'depth', expected one of normal"):
        opened(root, tasks={"normal": TASKS["normal"]}, depth={"folder": "depth"})


def test_a_task_without_data(root: Path) -> None:
    save(root / "depth/0.npy", GOOD["depth"])
    with pytest.raises(ValueError, match="no data for the task 'pose', only for depth"):
        opened(root, depth={"folder": "depth"}).example("pose", rng())


def test_two_images_of_one_name_are_an_error(root: Path) -> None:
    cv2.imwrite(str(root / "rgb/0.jpg"), picture(0))
    with pytest.raises(ValueError, match=r"both 0\.jpg and 0\.png: remove one"):
        opened(root, depth={"folder": "depth"})


def test_targets_without_an_image_are_told_and_hidden_files_left_out(
    root: Path, caplog: Any
) -> None:
    save(root / "depth/0.npy", GOOD["depth"])
    save(root / "depth/9.npy", GOOD["depth"])
    (root / "depth/._1.npy").write_text("of another system")
    assert uses_only(opened(root, depth={"folder": "depth"}), "depth", 0)
    assert [r.message for r in warned(caplog)] == [
        f"depth: 1 files without an image, as {root / 'depth' / '9.npy'}"
    ]


def test_listed_images_that_are_not_there_are_told(root: Path, caplog: Any) -> None:
    content = coco_json()
    content["images"].append({"id": 8, "file_name": "8.png"})
    with_coco(root, content)
    [line] = [record.message for record in warned(caplog)]
    assert line == f"{root / 'a.json'}: 1 images are not there, as 8.png"


def test_images_in_folders_within_the_folder(tmp_path: Path) -> None:
    save(tmp_path / "rgb/day/0.png", picture(0))
    save(tmp_path / "depth/day/0.npy", GOOD["depth"])
    folder = opened(tmp_path, depth={"folder": "depth"})
    np.testing.assert_array_equal(folder.example("depth", rng()).image, picture(0))


def test_the_example_of_the_documentation_opens(root: Path) -> None:
    page = Path(__file__).parents[3] / "docs" / "training.md"
    manifest = page.read_text().split("```yaml\n")[1].split("```")[0]
    (root / "tasks.yaml").write_text(page.read_text().split("```yaml\n")[2].split("```")[0])
    (root / "data.yaml").write_text(manifest)
    save(root / "depth/0.png", np.ones((HEIGHT, WIDTH), np.uint16))
    save(root / "normals/0.png", np.round((leaning() + 1) * 127.5).astype(np.uint8))
    save(root / "masks/1.png", GOOD["masks"])
    for file in ("instances.json", "person_keypoints.json"):
        (root / file).write_text(json.dumps(coco_json()))
    tasks = TASKS | load_tasks(root / "tasks.yaml")
    folder = Folder.open(root / "data.yaml", SAME, tasks)
    assert set(folder.tasks) == set(tasks)
    for task in folder.tasks:
        example = folder.example(task, rng())
        assert example.image.shape == example.colours.shape == (HEIGHT, WIDTH, 3)

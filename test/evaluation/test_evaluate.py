# SPDX-License-Identifier: Apache-2.0
"""A made data set and answers that are wrong by a known amount: what a run finds and shows."""

import shutil
import subprocess
import sys
from dataclasses import replace

import cv2
import numpy as np
import pytest

from diception_ros.evaluation.answers import Answers, FolderAnswers, merge_categories
from diception_ros.evaluation.datasets.sample import DataSet, Item, Object, Sample, object_of
from diception_ros.evaluation.evaluate import Plan, chosen_tasks, evaluate
from diception_ros.evaluation.figures import EVEN, Draws
from diception_ros.evaluation.judge import Judge
from diception_ros.evaluation.pictures import renumbered
from diception_ros.evaluation.protocols.presets import find_preset
from diception_ros.evaluation.result_page import write_result_page
from diception_ros.evaluation.results import Skipped, compare_results
from diception_ros.evaluation.truths import Rules, draw_objects, flatten
from diception_ros.tasks import Instance, Instances

SIZE = (48, 64)
RULES = Rules(find_preset("plain"), objects=2, clicks=2)
TASKS = ("depth", "normal", "entity", "semantic", "point", "pose")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")


def made(i):
    """A sloped floor, a box that wanders, a person with two joints."""
    rows = np.linspace(8, 1, SIZE[0], dtype=np.float32)
    depth = np.repeat(rows[:, None], SIZE[1], axis=1)
    mask = np.zeros(SIZE, bool)
    mask[20:36, 4 + i : 24 + i] = True
    depth[mask] = 2.0
    depth[0] = np.nan
    normals = np.zeros((*SIZE, 3), np.float32)
    normals[..., 1] = -1
    normals[mask] = (0, 0, -1)
    person = np.zeros(SIZE, bool)
    person[8:40, 40:50] = True
    joints = np.array([[45.0, 10.0, 2], [45.0, 38.0, 1], [0, 0, 0]])
    rgb = np.full((*SIZE, 3), 90, np.uint8)
    rgb[mask], rgb[person] = (200, 120, 40), (60, 90, 200)
    objects = (object_of(mask, category="cup"), object_of(person, category="person"))
    objects = (objects[0], replace(objects[1], keypoints=joints))
    return Sample(f"scene/{i:02d}", rgb, "scene", depth, normals, objects)


class Wrong:
    """Answers the truth, worse with every frame."""

    name, clicks, settings = "wrong", True, {"seed": 0}
    categories = frozenset({"cup"})

    def __init__(self, by=1.0):
        self.by = by

    def answer(self, sample, tasks, categories):
        i = int(sample.name[-2:])
        off = self.by * (i + 1) / 100
        tilt = np.radians(100 * off)
        normals = sample.normals @ np.array(
            [[1, 0, 0], [0, np.cos(tilt), np.sin(tilt)], [0, -np.sin(tilt), np.cos(tilt)]]
        )
        ids = np.zeros(SIZE, np.uint16)
        for number, one in enumerate(sample.objects, start=1):
            ids[np.roll(one.mask(SIZE), i, axis=1)] = number
        rows = np.indices(SIZE)[0] / SIZE[0]
        return Answers(
            depth=1 / np.nan_to_num(sample.depth_m, nan=9) * (1 + off * rows),
            normals=normals,
            ids=ids,
            scores={1: 0.9, 2: 0.8},
            classes=(ids == 1).astype(int) * (categories.index("cup") + 1),
            keypoints=sample.objects[1].keypoints[:1, :2] + i / 2,
        )

    def masks(self, sample, clicks):
        """The object under the first click, grown; exact from the second on."""
        found = []
        for some in clicks:
            x, y, _ = some[0]
            masks = [one.mask(SIZE) for one in sample.objects]
            mask = next(mask for mask in masks if mask[int(y), int(x)])
            grown = cv2.dilate(mask.astype(np.uint8), np.ones((5, 5))) > 0
            found.append(mask if len(some) > 1 else grown)
        return found


def broken():
    raise ValueError("broken.png: cannot be\nread")


def data_set(path, count=8):
    items = [Item(f"scene/{i:02d}", lambda i=i: made(i)) for i in range(count)]
    return DataSet("folder", path, (*items, Item("scene/broken", broken)), TASKS)


def values(results):
    return {
        (f.metric.task, f.metric.name): f.estimate(results.draws)
        for f in results.figures
        if "mean over images" not in f.metric.protocol
    }


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    data = data_set(tmp_path_factory.mktemp("made"))
    return evaluate(data, Wrong(), Plan(RULES, TASKS))


def test_figures_are_what_was_put_in(run):
    found = values(run[0])
    assert found["depth", "abs_rel"].frames == 8
    assert found["depth", "coverage"].value == 1
    assert found["normal", "mean"].value == pytest.approx(4.5, abs=1e-3)  # 1 to 8 degrees
    assert found["normal", "within_7_5"].value == pytest.approx(7 / 8)
    iou = np.mean([(20 - i) / (20 + i) for i in range(8)])
    other = np.mean([max(0, 10 - i) / (10 + i) for i in range(8)])
    assert found["entity", "mean best IoU"].value == pytest.approx((iou + other) / 2)
    # One class is asked and found, the person is not: the ratio of sums over frames, then a mean.
    cup = sum(20 - i for i in range(8)) / sum(20 + i for i in range(8))
    assert found["semantic", "mIoU"].value == pytest.approx(cup / 2)
    assert found["point", "mIoU, 1 click"].value == pytest.approx(
        (320 / 480 + 320 / 504) / 2, abs=0.02
    )
    assert found["point", "mIoU, 2 clicks"].value == 1
    # One of two visible joints was answered, off by i / 2 in x and y: within 10% of 32 px at first.
    near = sum(np.hypot(i / 2, i / 2) <= 3.2 for i in range(8))
    assert found["pose", "PCK@0.1"].value == pytest.approx(near / 2 / 8)


def test_panoptic_quality_adds_up_over_images(run):
    found = values(run[0])
    ious = [(20 - i) / (20 + i) for i in range(8)] + [max(0, 10 - i) / (10 + i) for i in range(8)]
    matched = [iou for iou in ious if iou > 0.5]
    assert found["entity", "RQ"].value >= len(matched) / 16 - 1e-9  # void forgives some answers
    assert found["entity", "PQ"].value == pytest.approx(
        found["entity", "SQ"].value * found["entity", "RQ"].value
    )


def test_categories_without_a_prompt_are_named(run):
    (note,) = [note for note in run[0].notes if "no prompt" in note]
    assert note.endswith("found nowhere: person.")


def test_figures_that_a_missing_package_costs_are_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    monkeypatch.setitem(sys.modules, "pycocotools.mask", None)
    results, _ = evaluate(data_set(tmp_path, 1), Wrong(), Plan(RULES, ("entity",)))
    assert any("AP and AR are missing: they need pycocotools" in note for note in results.notes)
    assert ("entity", "AP") not in values(results)
    assert ("entity", "PQ") in values(results)


def test_a_broken_frame_is_named_and_counted(run):
    (skipped,) = run[0].skipped
    assert (skipped.name, skipped.cause) == ("scene/broken", "broken.png: cannot be read")


def test_best_median_and_worst_are_shown(run):
    shown = {(one.task, one.rank): one for one in run[1]}
    for task in ("depth", "normal", "entity", "semantic"):
        assert shown[task, "best"].frame == "scene/00"
        assert shown[task, "worst"].frame == "scene/07"
    panels = shown["normal", "worst"].panels
    assert [caption for caption, _ in panels.pictures] == [
        "input",
        "answer",
        "truth",
        "angle between them",
    ]
    assert {picture.shape for _, picture in panels.pictures} == {(*SIZE, 3)}
    assert panels.legends[0].high == "60° and more"
    assert shown["point", "best"].value.startswith("IoU 0.6")


def test_a_better_run_is_told_from_an_equal_one(run, tmp_path):
    data = data_set(tmp_path)
    better, _ = evaluate(data, Wrong(by=0.1), Plan(RULES, ("depth", "normal")))
    found, alone = compare_results(better, run[0])
    verdicts = {(one.metric.task, one.metric.name): one.verdict for one in found}
    assert verdicts["depth", "abs_rel"] == verdicts["normal", "mean"] == "better"
    assert any("point" in name for name in alone)
    same, _ = compare_results(run[0], run[0])
    assert {one.verdict for one in same} == {EVEN}


def test_average_precision_pairs_whatever_the_seed(run, tmp_path):
    """The seed is of the answers' noise: frames are drawn alike, or no two could be compared."""
    rules = replace(RULES, seed=1)
    other, _ = evaluate(data_set(tmp_path), Wrong(), Plan(rules, ("entity",)))
    found, _ = compare_results(run[0], other)
    (precision,) = [one for one in found if one.metric.name == "AP"]
    assert (precision.difference, precision.low, precision.high) == (0, 0, 0)


def test_runs_say_which_categories_were_asked(tmp_path):
    def categories(*asked):
        plan = Plan(RULES, ("semantic",), asked)
        return evaluate(data_set(tmp_path, 2), Wrong(), plan)[0].subject["categories"]

    assert categories() == "those that each image shows"
    assert categories("person", "cup") == categories("cup", "person") == "cup, person"


def test_a_preset_that_shows_a_part_cuts_everything():
    sample = made(3).cut((20, 40, 0, 30))
    assert sample.size == (20, 30)
    assert [one.category for one in sample.objects] == ["cup"]
    np.testing.assert_array_equal(sample.objects[0].mask(sample.size)[:16, 7:27], True)
    np.testing.assert_array_equal(sample.depth_m, made(3).depth_m[20:40, :30])


def test_joints_move_with_the_cut():
    cut = made(0).cut((8, 48, 30, 64)).objects[0]
    np.testing.assert_array_equal(cut.keypoints, [[15, 2, 2], [15, 30, 1], [0, 0, 0]])


def test_metres_are_judged_under_all_protocols_and_only_where_they_are():
    judge, sample = Judge(RULES), made(0)
    depth = 2 * sample.depth_m
    depth[:24] = np.nan
    judge.judge(sample, Answers(depth=depth, kind="metric"))
    found = {f.metric.protocol: f for f in judge.figures() if f.metric.name == "abs_rel"}
    value = {key.split(",")[0]: figure.parts for key, figure in found.items()}
    assert value["metric"]["scene/00"][""][0] == pytest.approx(1)
    assert value["affine depth"]["scene/00"][""][0] == pytest.approx(0, abs=1e-6)
    assert value["affine disparity"]["scene/00"][""][0] == pytest.approx(0, abs=1e-6)
    coverage = next(f for f in judge.figures() if f.metric.name == "coverage")
    assert coverage.parts["scene/00"][""][0] == pytest.approx(24 / 47)


def test_a_protocol_that_cannot_judge_the_answers_is_no_silence(tmp_path):
    rules = replace(RULES, protocols=("metric",))
    results, _ = evaluate(data_set(tmp_path, 1), Wrong(), Plan(rules, ("depth", "normal")))
    assert "depth" not in {figure.metric.task for figure in results.figures}
    cause = "depth: no protocol asked for (metric) can judge an answer of kind 'disparity'"
    assert results.skipped[0].cause.startswith(cause)


def test_the_frames_shown_are_drawn_under_the_protocol_that_ranked_them(tmp_path):
    class Twice(Wrong):
        def answer(self, sample, tasks, categories):
            return Answers(depth=2 * sample.depth_m, kind="metric")

    for protocols in ((), ("affine disparity",)):
        rules = replace(RULES, protocols=protocols)
        _, shown = evaluate(data_set(tmp_path, 1), Twice(), Plan(rules, ("depth",)))
        (one,) = shown
        caption, _ = one.panels.pictures[1]
        assert (one.value, caption) == (
            ("AbsRel 0.000", "answer, affine disparity")
            if protocols
            else ("AbsRel 1.000", "answer, metric")
        )


def test_objects_are_drawn_the_same_in_every_run():
    masks = [np.zeros(SIZE, bool) for _ in range(6)]
    for i, mask in enumerate(masks):
        mask[8 * i : 8 * i + 8] = True
    crowd = Object(np.ones(SIZE, bool), (0, 0), crowd=True)
    sample = replace(made(0), objects=(*map(object_of, masks), crowd))
    first, again = draw_objects(sample, RULES), draw_objects(sample, RULES)
    assert first == again
    assert len(first) == 2
    assert all(not one.crowd for one in first)
    assert draw_objects(replace(sample, objects=()), RULES) == []


def test_where_categories_overlap_the_surer_wins():
    def found(rows, score):
        ids = np.zeros((4, 4), np.uint16)
        ids[rows] = 1
        one = Instance(1, score, (0, 0, 4, 4), int(ids.sum()), (0.0, 0.0))
        return Instances(ids, (one,))

    both = {"cup": found(slice(0, 3), 0.9), "chair": found(slice(2, 4), 0.5)}
    classes = merge_categories(both, ("cup", "nobody knows", "chair"), (4, 4))
    np.testing.assert_array_equal(classes[:, 0], [1, 1, 1, 3])


def test_a_folder_of_answers(tmp_path):
    with pytest.raises(ValueError, match=r"expected <image name>\.<task>\.npy as"):
        FolderAnswers(tmp_path)
    np.save(tmp_path / "00.depth.npy", 1 / made(0).depth_m)
    np.save(tmp_path / "01.depth.npy", np.zeros((3, 3)))
    (tmp_path / "02.depth.npy").write_text("no array")
    answerer = FolderAnswers(tmp_path)
    assert answerer.answer(made(0), TASKS, ()).depth.shape == SIZE
    with pytest.raises(ValueError, match=r"expected \(48, 64\) as the image, found \(3, 3\)"):
        answerer.answer(made(1), TASKS, ())
    with pytest.raises(ValueError, match=r"02\.depth\.npy: cannot be read"):
        answerer.answer(made(2), TASKS, ())
    with pytest.raises(ValueError, match=r"no answer scene/03\.depth\.npy"):
        answerer.answer(made(3), TASKS, ())
    with pytest.raises(ValueError, match="files cannot be clicked"):
        answerer.masks(made(0), [])
    with pytest.raises(ValueError, match=r"no answers for the task normal, only for depth"):
        answerer.answer(made(0), ["normal"], ())


@pytest.mark.parametrize(
    ("task", "shape"), [("depth", (48, 64, 1)), ("entity", (48, 64, 1)), ("normal", (48, 64))]
)
def test_answers_of_another_shape_say_which_is_expected(tmp_path, task, shape):
    np.save(tmp_path / f"00.{task}.npy", np.ones(shape))
    expected = r"\(48, 64, 3\)" if task == "normal" else r"\(48, 64\)"
    with pytest.raises(ValueError, match=rf"00\.{task}\.npy: expected {expected} as the image"):
        FolderAnswers(tmp_path).answer(made(0), [task], ())


def test_typed_joints_get_oks_and_are_judged_untyped_as_well(tmp_path):
    rng = np.random.default_rng(0)
    joints = np.column_stack([rng.uniform(0, 48, (17, 2)), np.full(17, 2)])
    people = [
        replace(one, keypoints=joints + np.array([8, 0, 0]) * i)
        for i, one in enumerate(made(0).objects)
    ]
    sample = replace(made(0), objects=tuple(people))
    answered = np.stack([people[1].keypoints, people[0].keypoints])  # in another order
    np.save(tmp_path / "00.pose.npy", answered)
    judge = Judge(RULES)
    judge.judge(sample, FolderAnswers(tmp_path).answer(sample, TASKS, ()))
    found = {f.metric.name: f.parts["scene/00"][""] for f in judge.figures() if not f.replicates}
    assert found["OKS"] == (2.0, 2.0)
    assert found["PCK@0.05"] == (2.0, 2.0)
    np.save(tmp_path / "00.pose.npy", answered[:1])
    judge.judge(sample, FolderAnswers(tmp_path).answer(sample, TASKS, ()))
    assert {f.metric.name: f for f in judge.figures()}["OKS"].parts["scene/00"][""] == (1.0, 2.0)
    np.save(tmp_path / "00.pose.npy", np.zeros(5))
    with pytest.raises(ValueError, match=r"expected keypoints \(N, 2 or 3\).*found \(5,\)"):
        FolderAnswers(tmp_path).answer(sample, TASKS, ())


def test_tasks_without_truth_and_sets_without_a_judged_image(tmp_path):
    data = data_set(tmp_path)
    assert chosen_tasks([], data) == TASKS
    assert chosen_tasks(["pose", "pose"], data) == ("pose",)
    with pytest.raises(ValueError, match="no truth for the task 'boxes', only for depth"):
        chosen_tasks(["boxes"], data)
    with pytest.raises(ValueError, match=r"none of 1 images could be judged.*broken\.png"):
        evaluate(replace(data, items=data.items[-1:]), Wrong(), Plan(RULES, TASKS))


def test_names_are_text_on_the_page_whatever_they_are(run, tmp_path):
    """Tags, and a file name of the time before UTF-8."""
    hostile = "<script>alert('caf\udce9')</script>"
    answers = {"name": hostile, hostile: [hostile]}
    results = replace(run[0], subject={**run[0].subject, "source": hostile}, answers=answers)
    results = replace(results, skipped=[Skipped(hostile, hostile)], notes=[hostile])
    shown = [replace(one, frame=hostile) for one in run[1]]
    write_result_page(tmp_path / "index.html", results, shown, [], hostile, [hostile])
    text = (tmp_path / "index.html").read_text("utf-8")
    assert "<script" not in text
    assert text.count(r"&lt;script&gt;alert(&#x27;caf\udce9&#x27;)") > len(shown) + 6


def test_a_browser_shows_the_whole_page(run, tmp_path):
    """In a real browser: every picture decodes, nothing is fetched, nothing is cut off."""
    if CHROMIUM is None:
        pytest.skip("needs a chromium: apt-get install chromium")
    differences, alone = compare_results(run[0], run[0])
    page = tmp_path / "index.html"
    write_result_page(page, run[0], run[1], differences, "itself", alone)
    text = page.read_text("utf-8")
    assert "http" not in text.replace("http://www.w3.org", "")
    probe = (
        "<script>addEventListener('load', () => { const all = [...document.images];"
        "document.title = [all.length, all.filter(i => i.naturalWidth > 0).length,"
        "document.documentElement.scrollWidth <= innerWidth].join(' '); });</script></body>"
    )
    probed = tmp_path / "probed.html"
    probed.write_text(text.replace("</body>", probe), "utf-8")
    picture = tmp_path / "page.png"
    flags = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run"]
    flags += ["--disable-extensions", "--disable-background-networking"]
    flags += [f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1360,4000"]

    command = [CHROMIUM, *flags, "--dump-dom", f"--screenshot={picture}", probed.as_uri()]
    browser = subprocess.run(command, check=True, capture_output=True, text=True, timeout=120)
    shown = browser.stdout.split("<title>")[1].split("</title>")[0].split()
    pictures = sum(len(one.panels.pictures) for one in run[1])
    assert shown[0] == shown[1]
    assert int(shown[0]) >= pictures + 6
    assert shown[2] == "true"
    seen = cv2.imread(str(picture))
    assert seen.shape == (4000, 1360, 3)
    rows = (seen != 255).any(axis=(1, 2))
    assert rows[:3500].mean() > 0.3  # filled from top to bottom, with white between
    colours = seen.astype(np.int64) @ (1 << 16, 1 << 8, 1)
    assert len(np.unique(colours)) > 500


def test_average_precision_is_drawn_by_the_scene():
    """Half of the scenes are found, half are missed: frames of one scene say nothing new."""
    pytest.importorskip("pycocotools", reason="pycocotools is not installed")
    judge, groups = Judge(RULES), {}
    for number in range(40):
        sample = replace(made(number), name=f"{number:02d}")
        ids = flatten(sample.objects, sample.size) * (number % 8 < 4)
        judge.judge(sample, Answers(ids=ids))
        groups[sample.name] = f"scene {number % 8}"
    widths = []
    for draws in (Draws(), Draws(groups)):
        found = {f.metric.name: f.estimate(draws) for f in judge.figures(draws)}["AR100"]
        assert 0.3 < found.value < 0.6
        widths.append(found.high - found.low)
    assert widths[1] > 1.5 * widths[0]


def test_ids_of_any_size_are_shown():
    ids = np.array([[0, 7, 2**40], [-1, 7, 3]])
    np.testing.assert_array_equal(renumbered(ids), [[0, 2, 3], [0, 2, 1]])
    same = np.array([[0, 1, 2]])
    np.testing.assert_array_equal(renumbered(same), same)


class Fewer(Wrong):
    """Of the second image people with 14 joints instead of COCO's 17."""

    def answer(self, sample, tasks, categories):
        joints = sample.objects[1].keypoints[: 14 if sample.name.endswith("01") else 17, :2]
        found = super().answer(sample, tasks, categories)
        return replace(found, keypoints=joints, people=joints[None])


def with_people(i):
    """Of the first image no depth is known; all people have 17 joints."""
    sample = made(i)
    joints = np.column_stack([np.linspace(40, 50, 17), np.linspace(8, 40, 17), np.full(17, 2)])
    cup, person = sample.objects
    depth = sample.depth_m if i else np.full(SIZE, np.nan, np.float32)
    return replace(sample, depth_m=depth, objects=(cup, replace(person, keypoints=joints)))


def test_a_task_that_fails_costs_its_image_nothing_else(tmp_path):
    names = [f"scene/{i:02d}" for i in range(3)]
    items = [Item(name, lambda i=i: with_people(i)) for i, name in enumerate(names)]
    data = DataSet("folder", tmp_path, tuple(items), TASKS)
    results, shown = evaluate(data, Fewer(), Plan(RULES, TASKS, by_group=True))
    causes = {one.name: one.cause for one in results.skipped}
    assert list(causes) == names[:2]
    assert causes[names[0]] == "depth: preset 'plain' leaves 0 valid pixels"
    assert causes[names[1]].startswith("pose: expected as many points, truths")
    judged = {}
    for figure in results.figures:
        judged.setdefault(figure.metric.task, set()).add(tuple(figure.parts))
    whole = {tuple(names)}
    assert judged == {
        "depth": {(names[1], names[2])},
        "pose": {(names[0], names[2])},
        **dict.fromkeys(("normal", "entity", "semantic", "point"), whole),
    }
    assert results.draws.groups == dict.fromkeys(names, "scene")
    assert {one.frame for one in shown if one.task == "pose"} == {names[0], names[2]}


def test_answers_of_another_size_are_named_and_leave_nothing():
    judge, sample = Judge(RULES), made(0)
    small = Answers(normals=np.zeros((12, 16, 3)), ids=np.zeros((12, 16), int))
    failed = judge.judge(sample, small)
    assert [cause.split(":")[0] for cause in failed] == ["normal", "entity"]
    assert "boolean index did not match" in failed[0]
    assert judge.figures() == []

# SPDX-License-Identifier: Apache-2.0
"""What `diception view` makes of messages, with and without rerun-sdk."""

import sys
from types import SimpleNamespace

import numpy as np
import pytest

from diception_ros.cli import run
from diception_ros.evaluation import views
from diception_ros.evaluation.views import view_of
from diception_ros.geometry import Intrinsics

CLOUD = "/diception/points"


def test_images_are_taken_for_what_they_are(made):
    rgb = np.random.default_rng(0).integers(0, 256, (4, 6, 3), np.uint8)
    bgr = view_of("/camera/image", made.image(0, rgb[..., ::-1], "bgr8", padding=3), False)
    np.testing.assert_array_equal(bgr.rgb, rgb)
    ids = np.arange(24, dtype=np.uint16).reshape(4, 6)
    assert isinstance(
        view_of("/diception/entity/mask", made.image(0, ids, "mono16"), False), views.Ids
    )
    grey = view_of("/diception/depth/confidence", made.image(0, rgb[..., 0], "mono8"), False)
    np.testing.assert_array_equal(grey.rgb[..., 2], rgb[..., 0])
    assert (
        view_of("/diception/normals/image", made.image(0, np.float32(rgb), "32FC3"), False) is None
    )


def test_only_depth_with_a_camera_info_is_metres(made):
    values = np.float32([[1, 0], [np.nan, 2]])
    depth = view_of("/diception/depth/image", made.image(0, values, "32FC1"), True)
    np.testing.assert_array_equal(depth.meters, np.float32([[1, np.nan], [np.nan, 2]]))
    relative = view_of("/diception/disparity_relative/image", made.image(0, values, "32FC1"), False)
    assert isinstance(relative, views.Relative)


def test_clouds_lose_unknown_points_and_keep_colours_and_labels(made):
    points = np.float32([[1, 2, 3], [np.nan] * 3, [4, 5, 6]])
    colours = np.uint8([[1, 2, 3], [0, 0, 0], [250, 128, 7]])
    found = view_of(CLOUD, made.cloud(0, points, colours, np.uint32([7, 0, 9])), False)
    np.testing.assert_array_equal(found.points, points[[0, 2]])
    np.testing.assert_array_equal(found.colours, colours[[0, 2]])
    np.testing.assert_array_equal(found.labels, [7, 9])
    assert view_of(CLOUD, made.cloud(0, points), False).colours is None


def test_damaged_messages_name_their_topic(made):
    short = made.image(0, np.zeros((4, 6, 3), np.uint8), "rgb8")
    short.data = short.data[:10]
    with pytest.raises(
        ValueError, match="/camera/image: truncated image: 6x4 'rgb8' with step 18 needs 72"
    ):
        view_of("/camera/image", short, False)
    with pytest.raises(ValueError, match="/camera/image: damaged compressed image: 9 bytes"):
        view_of("/camera/image", SimpleNamespace(format="jpeg", data=np.zeros(9, np.uint8)), False)
    broken = made.cloud(0, np.ones((3, 3), np.float32))
    broken.data = broken.data[:20]
    with pytest.raises(ValueError, match=f"{CLOUD}: 3 points need 36 bytes"):
        view_of(CLOUD, broken, False)
    broken.fields = broken.fields[:2]
    with pytest.raises(ValueError, match=f"{CLOUD}: expected a cloud with float32 x, y, z"):
        view_of(CLOUD, broken, False)


def test_a_camera_info_is_a_pinhole(moving, moving_bag):
    from diception_ros.evaluation.bags import read_all

    _, message = next(read_all(moving_bag(), {"/diception/depth/camera_info"}))
    found = view_of("/diception/depth/camera_info", message, False)
    fx, fy, cx, cy = moving[0][0].intrinsics
    assert isinstance(found, Intrinsics)
    assert (found.width, found.height) == (80, 60)
    assert (found.fx, found.fy, found.cx, found.cy) == pytest.approx((fx, fy, cx, cy))


def test_a_bag_becomes_a_page(moving_bag, tmp_path, capsys):
    assert run(["view", str(moving_bag()), "--html", str(tmp_path / "page")]) == 0
    assert "4 moments in" in capsys.readouterr().out
    text = (tmp_path / "page/index.html").read_text()
    assert "/diception/depth/image" in text
    assert "/camera/image" in text
    assert text.count("data:image/jpeg") == 2 * 4 + 2 * 4  # a film and a table of two columns
    assert "http" not in text.replace("http-equiv", "")


def test_a_page_shows_a_cloud_by_its_colours_and_by_its_labels(made, tmp_path):
    rng = np.random.default_rng(0)
    points = rng.uniform((-1, -1, 2), (1, 1, 4), (500, 3)).astype(np.float32)
    colours = rng.integers(0, 256, (500, 3), np.uint8)
    items = []
    for stamp in (5, 6):
        items += [
            ("/camera/image", stamp, made.image(stamp, np.zeros((60, 80, 3), np.uint8), "rgb8")),
            (CLOUD, stamp, made.cloud(stamp, points, colours, np.arange(500) % 3)),
            ("/lidar", stamp + 1000, made.cloud(stamp + 1000, points)),  # of no image's moment
        ]
    assert run(["view", str(made.bag(tmp_path / "bag", items)), "--html", str(tmp_path)]) == 0
    text = (tmp_path / "index.html").read_text()
    assert f"{CLOUD} by rgb" in text
    assert f"{CLOUD} by label" in text
    assert "/lidar" not in text


def page_of(made, tmp_path, items):
    """The page's text, and the pictures of each row of its table."""
    assert run(["view", str(made.bag(tmp_path / "bag", items)), "--html", str(tmp_path)]) == 0
    text = (tmp_path / "index.html").read_text()
    rows = text.partition('class="grid"')[2].split("<tr>")[2:]
    return text, [row.count("data:image/jpeg") for row in rows]


def test_a_page_shows_the_moments_that_a_slow_node_answered(made, tmp_path):
    items = []
    for stamp in range(1000):
        picture = made.image(stamp, np.zeros((6, 8, 3), np.uint8), "rgb8")
        items.append(("/camera/image", stamp, picture))
        if stamp % 100 == 7:
            items += [(f"/diception/{n}/image_color", stamp, picture) for n in ("depth", "pose")]
    text, rows = page_of(made, tmp_path, items)
    assert rows == [3] * 8
    assert text.count("data:image/jpeg") == 3 * 8 + 3 * 10


def test_topics_that_share_no_stamps_are_shown_by_their_nearest(made, tmp_path):
    items = []
    for number in range(40):
        for at, topic in enumerate(("/left/image", "/right/image")):
            stamp = 33_000_000 * number + 9_000_000 * at
            items.append((topic, stamp, made.image(stamp, np.zeros((6, 8), np.uint8), "mono8")))
    lost = made.image(10**11, np.zeros((6, 8), np.uint8), "mono8")
    text, rows = page_of(made, tmp_path, [*items, ("/late/image", 10**11, lost)])
    assert rows == [2] * 8
    assert "/late/image" not in text


def test_a_camera_with_fewer_outputs_than_another_is_shown_by_its_nearest(made, tmp_path):
    items = []
    for number in range(40):
        for at, camera, outputs in ((0, "left", 4), (9_000_000, "right", 1)):
            stamp = 33_000_000 * number + at
            picture = made.image(stamp, np.zeros((6, 8), np.uint8), "mono8")
            items.append((f"/{camera}/image", stamp, picture))
            items += [(f"/{camera}/{n}/image_color", stamp, picture) for n in range(outputs)]
    _, rows = page_of(made, tmp_path, items)
    assert rows == [7] * 8


def test_a_bag_without_pictures_has_no_page(moving_bag, tmp_path, capsys):
    bag = moving_bag(leave=["/diception/depth/image", "/camera/image"])
    assert run(["view", str(bag), "--html", str(tmp_path / "page")]) == 2
    assert "holds no picture: expected colour images or metric depth" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "line"),
    [
        ([], "give either a bag or --live"),
        (["bag", "--live"], "give either a bag or --live"),
        (["--live", "--html", "page"], "--html needs a bag and goes without --live and --save"),
        (["--live", "--topics", "("], "--topics '(' is no regular expression"),
    ],
)
def test_what_does_not_go_together_is_one_line(capsys, arguments, line):
    assert run(["view", *arguments]) == 2
    assert line in capsys.readouterr().err


def test_without_rerun_one_line_says_what_to_do(monkeypatch, moving_bag, capsys):
    monkeypatch.setitem(sys.modules, "rerun", None)
    assert run(["view", str(moving_bag())]) == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "needs rerun-sdk, which is not installed: pip install rerun-sdk, or use --html" in said


def test_rerun_gets_every_view_of_a_bag(moving_bag, tmp_path, capsys):
    pytest.importorskip("rerun", reason="needs rerun-sdk", exc_type=ImportError)
    assert run(["view", str(moving_bag()), "--save", str(tmp_path / "bag.rrd")]) == 0
    said = capsys.readouterr().out
    for topic in ("/camera/image", "/diception/depth/image", "/diception/depth/camera_info"):
        assert f"{topic} 4" in said
    assert (tmp_path / "bag.rrd").stat().st_size > 20_000


def test_a_live_view_passes_over_bad_transforms_and_forgets_old_ones(made, tmp_path, caplog):
    pytest.importorskip("rerun", reason="needs rerun-sdk", exc_type=ImportError)
    from diception_ros.evaluation.rerun_view import RerunLog

    log = RerunLog(tmp_path / "live.rrd", live=True)
    for second in (0, 1, 20, 21):
        bad, good = made.transform(second * 10**9, child="map"), made.transform(second * 10**9)
        good.transforms[:0] = bad.transforms
        log.handle("/tf", good)
    log.close()
    assert [record.message for record in caplog.records] == [
        "transform of 'map' in itself: expected another parent"
    ]
    assert log.tree.pose("map", "camera_optical_frame", 10**9) is None
    assert log.tree.pose("map", "camera_optical_frame", 205 * 10**8) is not None


def test_a_bag_whose_recorder_was_killed_is_shown_and_mapped(moving_bag, tmp_path, caplog):
    bag = moving_bag()
    (file,) = bag.glob("*.mcap")
    file.write_bytes(file.read_bytes()[:-300])  # without its end, and with it the index
    (bag / "metadata.yaml").unlink()
    assert run(["view", str(bag), "--html", str(tmp_path / "page")]) == 0
    assert run(["export-cloud", str(bag), "--out", str(tmp_path / "map.ply")]) == 0
    assert (tmp_path / "map.ply").stat().st_size > 10_000
    said = [record.message for record in caplog.records]
    assert said == [f"{bag}: unfinished bag, read without its index"]


def test_a_damaged_message_is_named_and_the_rest_is_shown(made, tmp_path, caplog):
    images = [made.image(stamp, np.zeros((6, 8, 3), np.uint8), "rgb8") for stamp in (5, 6, 7)]
    images[1].data = images[1].data[:10]
    items = [("/camera/image", 5 + i, image) for i, image in enumerate(images)]
    assert run(["view", str(made.bag(tmp_path / "bag", items)), "--html", str(tmp_path)]) == 0
    assert (tmp_path / "index.html").read_text().count("data:image/jpeg") >= 2
    (said,) = [record.message for record in caplog.records]
    assert said.startswith(
        f"{tmp_path / 'bag'}: /camera/image: truncated image: 8x6 'rgb8' with step 24"
    )

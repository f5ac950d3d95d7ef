# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from diception_ros.cli.inputs import (
    Settings,
    find_images,
    parse_points,
    read_image,
    requests_for,
)
from diception_ros.tasks import TASKS


def test_points_with_and_without_labels():
    assert parse_points("") == ((), ())
    assert parse_points("1,2; 3.5,4,0;") == (((1.0, 2.0), (3.5, 4.0)), (1, 0))


@pytest.mark.parametrize("text", ["1", "a,b", "1,2,3", "1,2,0,0", "nan,2", "1;2"])
def test_bad_points_are_quoted(text):
    with pytest.raises(ValueError, match=r"--points .*: expected x,y or x,y,label in pixels"):
        parse_points(text)


def test_folders_give_their_images_by_name(pictures):
    (pictures / "notes.txt").touch()
    (pictures / "frames.png").mkdir()
    assert [path.name for path in find_images([pictures])] == ["a.png", "b.jpg"]
    assert find_images([pictures / "absent.png"]) == [pictures / "absent.png"]


def test_images_that_would_overwrite_each_other_are_refused(pictures, tmp_path):
    other = tmp_path / "a.jpg"
    other.touch()
    with pytest.raises(ValueError, match=r"a\.png and .*a\.jpg would both write a\.\*"):
        find_images([pictures, other])


def test_a_folder_without_images_is_named(tmp_path):
    with pytest.raises(ValueError, match=r"holds no image: expected \.png"):
        find_images([tmp_path])


def test_images_become_rgb(tmp_path):
    bgr = np.zeros((2, 3, 3), np.uint8)
    bgr[..., 0] = 200
    cv2.imwrite(str(tmp_path / "blue.png"), bgr)
    assert (read_image(tmp_path / "blue.png") == (0, 0, 200)).all()
    cv2.imwrite(str(tmp_path / "grey.png"), np.full((2, 3), 500, np.uint16))
    assert read_image(tmp_path / "grey.png").shape == (2, 3, 3)


def test_what_is_no_image_is_named(tmp_path):
    (tmp_path / "text.png").write_text("no image")
    (tmp_path / "empty.png").touch()
    with pytest.raises(ValueError, match=r"text\.png: not an image .*\(8 bytes\): save it as"):
        read_image(tmp_path / "text.png")
    with pytest.raises(ValueError, match=r"empty\.png: not an image .*\(0 bytes\)"):
        read_image(tmp_path / "empty.png")
    with pytest.raises(ValueError, match="no such file"):
        read_image(tmp_path / "absent.png")


def test_one_request_per_task_and_category():
    settings = Settings(points=((1, 2),), labels=(1,), categories=("person", "dining table"))
    requests = requests_for(["depth", "semantic", "point", "depth"], TASKS, settings)
    assert list(requests) == ["depth", "semantic-person", "semantic-dining_table", "point"]
    assert requests["depth"].points == ()
    assert requests["point"].points == ((1, 2),)
    assert requests["semantic-person"].category == "person"


def test_one_category_needs_no_name_of_its_own():
    assert list(requests_for(["semantic"], TASKS, Settings(categories=("cat",)))) == ["semantic"]


@pytest.mark.parametrize(
    ("tasks", "settings", "message"),
    [
        (["depht"], Settings(), "unknown task 'depht': expected one of depth, normal"),
        (["semantic"], Settings(), "task 'semantic' needs --category, for example"),
        (["point"], Settings(), "task 'point' needs --points, for example"),
        (["depth"], Settings(categories=("cat",)), "--category was given but no asked task"),
        (["depth"], Settings(points=((1, 2),)), "--points was given but no asked task"),
    ],
)
def test_what_does_not_fit_is_refused(tasks, settings, message):
    with pytest.raises(ValueError, match=message):
        requests_for(tasks, TASKS, settings)

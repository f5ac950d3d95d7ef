# SPDX-License-Identifier: Apache-2.0
"""A tiny example of every published form, written as its publisher writes it, and what is read."""

import json
import sys

import cv2
import numpy as np
import pytest
import yaml

from diception_ros.evaluation.datasets import FORMS, open_dataset
from diception_ros.evaluation.datasets.sample import every, object_of, objects_of, read_list

SIZE = (6, 8)
RGB = np.arange(6 * 8 * 3, dtype=np.uint8).reshape(6, 8, 3)
MM = np.full(SIZE, 1500, np.uint16)
MM[0, 0] = 0


def picture(path, values=RGB):
    path.parent.mkdir(parents=True, exist_ok=True)
    values = values[..., ::-1] if values.ndim == 3 else values
    encoded, data = cv2.imencode(".png" if path.suffix == ".png" else ".jpg", values)
    assert encoded
    path.write_bytes(data.tobytes())


def array(path, values):
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, values)


def hdf5(path, **values):
    h5py = pytest.importorskip("h5py", reason="h5py is not installed")
    path.parent.mkdir(parents=True, exist_ok=True)
    with h5py.File(path, "w") as file:
        for name, value in values.items():
            file[name] = value


def runs(mask):
    """COCO's uncompressed run lengths, straight from their definition."""
    counts, value = [0], False
    for pixel in mask.T.ravel():
        if pixel != value:
            counts, value = [*counts, 0], pixel
        counts[-1] += 1
    return {"counts": counts, "size": list(mask.shape)}


def only(data):
    assert len(data.items) == 1
    sample = data.items[0].load()
    assert sample.name == data.items[0].name
    assert sample.rgb.dtype == np.uint8
    return sample


def test_nyu_extracted(tmp_path):
    picture(tmp_path / "bathroom/rgb_00045.png")
    picture(tmp_path / "bathroom/sync_depth_00045.png", MM)
    data = open_dataset(tmp_path)
    assert (data.form, data.tasks, data.preset) == ("nyu", ("depth",), "nyu-eigen")
    sample = only(data)
    assert (sample.name, sample.group) == ("bathroom/rgb_00045", "bathroom")
    np.testing.assert_array_equal(sample.rgb, RGB)
    assert sample.depth_m[1, 1] == pytest.approx(1.5)
    assert np.isnan(sample.depth_m[0, 0])


def test_nyu_as_published(tmp_path):
    depth = np.full(SIZE, 2.5, np.float32)
    labels, instances = np.zeros(SIZE, np.uint16), np.zeros(SIZE, np.uint8)
    labels[:2], labels[4:] = 3, 3
    instances[:2], instances[4:] = 1, 2
    hdf5(
        tmp_path / "nyu_depth_v2_labeled.mat",
        images=np.stack([np.zeros((3, 8, 6), np.uint8), RGB.T]),
        depths=np.stack([np.ones((8, 6), np.float32), depth.T]),
        labels=np.stack([np.zeros((8, 6), np.uint16), labels.T]),
        instances=np.stack([np.zeros((8, 6), np.uint8), instances.T]),
    )
    assert len(open_dataset(tmp_path).items) == 2
    from scipy.io import savemat

    savemat(tmp_path / "splits.mat", {"testNdxs": np.array([[2]])})  # counted from 1
    sample = only(open_dataset(tmp_path))
    assert sample.name == "0002"
    np.testing.assert_array_equal(sample.rgb, RGB)
    np.testing.assert_array_equal(sample.depth_m, depth)
    assert [one.corner for one in sample.objects] == [(0, 0), (4, 0)]


def test_without_h5py_one_line_says_what_to_do(tmp_path, monkeypatch):
    (tmp_path / "nyu_depth_v2_labeled.mat").write_bytes(b"")
    monkeypatch.setitem(sys.modules, "h5py", None)
    with pytest.raises(ValueError, match=r"needs h5py: pip install h5py"):
        open_dataset(tmp_path)


def test_a_damaged_mat_is_named(tmp_path):
    pytest.importorskip("h5py", reason="h5py is not installed")
    (tmp_path / "nyu_depth_v2_labeled.mat").write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match=r"labeled\.mat: cannot be read as HDF5"):
        open_dataset(tmp_path)


def test_kitti_selection(tmp_path):
    folder = tmp_path / "depth_selection/val_selection_cropped"
    drive = "2011_09_26_drive_0002_sync"
    picture(folder / f"image/{drive}_image_0000000005_image_02.png")
    picture(folder / f"groundtruth_depth/{drive}_groundtruth_depth_0000000005_image_02.png", MM)
    data = open_dataset(tmp_path)
    assert (data.form, data.preset) == ("kitti", "kitti-garg")
    sample = only(data)
    assert sample.group == drive
    assert sample.depth_m[1, 1] == pytest.approx(1500 / 256)


def test_folders_may_be_links(tmp_path):
    """As KITTI's raw images are brought below the same folder as their depth."""
    drive = "2011_09_26_drive_0002_sync"
    picture(tmp_path / f"a/{drive}/proj_depth/groundtruth/image_02/0000000069.png", MM)
    picture(tmp_path / f"b/2011_09_26/{drive}/image_02/data/0000000069.png")
    (tmp_path / "kitti").mkdir()
    for name, target in (("val", "a"), ("raw", "b")):
        (tmp_path / "kitti" / name).symlink_to(tmp_path / target)
    assert only(open_dataset(tmp_path / "kitti")).depth_m[1, 1] == pytest.approx(1500 / 256)


def test_kitti_annotated_with_raw(tmp_path):
    drive = "2011_09_26_drive_0002_sync"
    picture(tmp_path / f"val/{drive}/proj_depth/groundtruth/image_02/0000000069.png", MM)
    with pytest.raises(ValueError, match="1 depth maps but none of their raw images"):
        open_dataset(tmp_path)
    picture(tmp_path / f"raw/2011_09_26/{drive}/image_02/data/0000000069.png")
    data = open_dataset(tmp_path)
    name = f"2011_09_26/{drive}/image_02/data/0000000069"
    assert only(data).name == name
    split = tmp_path / "eigen.txt"
    split.write_text(f"{name}.png {drive}/depth.png 721.5\n2011_10_03/x/0000000001.png None 718\n")
    assert only(data.only(read_list(split))).name == name
    with pytest.raises(ValueError, match=r"no image 'x', but for example 2011_09_26/2011"):
        data.only(["x"])


def test_scannet(tmp_path):
    large = np.repeat(np.repeat(RGB, 2, axis=0), 2, axis=1)
    for frame in ("0", "20", "100"):
        picture(tmp_path / f"scans/scene0707_00/color/{frame}.png", large)
        picture(tmp_path / f"scans/scene0707_00/depth/{frame}.png", MM)
    data = open_dataset(tmp_path)
    assert (data.form, data.preset) == ("scannet", "scannet")
    assert [item.name.split("/")[-1] for item in data.items] == ["0", "20", "100"]
    sample = data.items[0].load()
    assert (sample.group, sample.size) == ("scene0707_00", SIZE)
    np.testing.assert_array_equal(sample.rgb, RGB)


def test_diode(tmp_path):
    stem = tmp_path / "val/indoors/scene_00019/scan_00183/00019_00183_indoors_000_010"
    picture(stem.with_suffix(".png"))
    array(stem.with_name(f"{stem.name}_depth.npy"), np.full((*SIZE, 1), 3.0, np.float32))
    mask = np.ones(SIZE, np.float32)
    mask[0] = 0
    array(stem.with_name(f"{stem.name}_depth_mask.npy"), mask)
    data = open_dataset(tmp_path)
    assert (data.form, data.tasks, data.preset) == ("diode", ("depth",), "diode")
    sample = only(data)
    assert sample.depth_m[1, 1] == 3
    assert np.isnan(sample.depth_m[0]).all()
    # A floor: up is +y as stored; one pixel turned away, one unknown.
    normals = np.tile(np.array([0.0, 1.0, 0.0], np.float32), (*SIZE, 1))
    normals[5, 0], normals[5, 1] = -normals[5, 0], 0
    array(stem.with_name(f"{stem.name}_normal.npy"), normals)
    data = open_dataset(tmp_path)
    assert data.tasks == ("depth", "normal")
    turned = only(data).normals
    np.testing.assert_allclose(turned[5, 2], turned[5, 0])
    assert np.isnan(turned[5, 1]).all()


def test_diode_normals_face_the_camera():
    from diception_ros.evaluation.datasets.diode import turn_to_camera

    wall = np.tile(np.array([0.0, 0.0, 1.0], np.float32), (4, 4, 1))  # towards the viewer
    for stored in (wall, -wall):
        np.testing.assert_array_equal(turn_to_camera(stored)[2, 2], [0, 0, -1])
    with pytest.raises(ValueError, match=r"expected normals \(H, W, 3\), found \(4, 4\)"):
        turn_to_camera(wall[..., 0])


def test_eth3d(tmp_path):
    picture(tmp_path / "pipes_dslr_jpg/pipes/images/dslr_images/DSC_0634.JPG")
    depth = np.full(SIZE, 4.0, "<f4")
    depth[2, 3] = np.inf
    file = tmp_path / "pipes_dslr_depth/pipes/ground_truth_depth/dslr_images/DSC_0634.JPG"
    file.parent.mkdir(parents=True)
    depth.tofile(file)
    data = open_dataset(tmp_path)
    assert (data.form, data.preset) == ("eth3d", "eth3d")
    sample = only(data)
    assert (sample.name, sample.group) == ("pipes/DSC_0634", "pipes")
    assert sample.depth_m[0, 0] == 4
    assert np.isnan(sample.depth_m[2, 3])
    depth[:3].tofile(file)
    with pytest.raises(ValueError, match="expected 8x6 floats as the image, found 24"):
        data.items[0].load()


def test_hypersim(tmp_path):
    folder = tmp_path / "ai_001_010/images"
    picture(folder / "scene_cam_00_final_preview/frame.0000.tonemap.jpg")
    geometry = folder / "scene_cam_00_geometry_hdf5"
    distance = np.full(SIZE, 2.0, np.float16)
    distance[0, 0] = np.nan
    normals = np.tile(np.array([0.0, 0.6, 0.8], np.float16), (*SIZE, 1))
    ids = np.full(SIZE, -1, np.int32)
    ids[2:4] = 7
    hdf5(geometry / "frame.0000.depth_meters.hdf5", dataset=distance)
    hdf5(geometry / "frame.0000.normal_cam.hdf5", dataset=normals)
    hdf5(geometry / "frame.0000.semantic_instance.hdf5", dataset=ids)
    data = open_dataset(tmp_path)
    assert (data.form, data.preset) == ("hypersim", "hypersim")
    sample = only(data)
    assert sample.name == "ai_001_010/scene_cam_00/frame.0000"
    focal = 886.81 * 8 / 1024
    # The pixel (5, 7) lies 3.5 columns and 2.5 rows from the middle.
    expected = 2 * focal / np.sqrt(focal**2 + 3.5**2 + 2.5**2)
    assert sample.depth_m[5, 7] == pytest.approx(expected, rel=1e-5)
    assert np.isnan(sample.depth_m[0, 0])
    np.testing.assert_allclose(sample.normals[1, 1], [0, -0.6, -0.8], atol=1e-3)
    assert [one.corner for one in sample.objects] == [(2, 0)]


def coco_files(root):
    mask = np.zeros(SIZE, bool)
    mask[1:4, 2:6] = True
    image = {"id": 9, "file_name": "000000000009.jpg", "height": 6, "width": 8}
    person = {"id": 1, "image_id": 9, "category_id": 1, "segmentation": runs(mask), "iscrowd": 0}
    crowd = {"id": 2, "image_id": 9, "category_id": 2, "segmentation": runs(~mask), "iscrowd": 1}
    categories = [{"id": 1, "name": "person"}, {"id": 2, "name": "cup"}]
    content = {"images": [image], "categories": categories}
    joints = [3.0, 2.0, 2, 0, 0, 0]
    (root / "annotations").mkdir(parents=True)
    annotations = [{**person, "area": 11.5, "keypoints": joints}]
    for name, entries in (
        ("instances_val2017", [{**person, "area": 11.5}, crowd]),
        ("person_keypoints_val2017", annotations),
        ("instances_train2017", []),
    ):
        text = json.dumps({**content, "annotations": entries})
        (root / f"annotations/{name}.json").write_text(text)
    picture(root / "val2017/000000000009.jpg")
    return mask


@pytest.mark.parametrize("below", ["", "val2017"])
def test_coco(tmp_path, below):
    mask = coco_files(tmp_path)
    data = open_dataset(tmp_path / below)
    assert (data.form, data.tasks) == ("coco", ("entity", "semantic", "point", "pose"))
    person, crowd = only(data).objects
    assert (person.category, person.crowd, person.area, person.pixels) == (
        "person",
        False,
        11.5,
        12,
    )
    np.testing.assert_array_equal(person.mask(SIZE), mask)
    np.testing.assert_array_equal(person.keypoints, [[3, 2, 2], [0, 0, 0]])
    assert crowd.crowd


@pytest.mark.parametrize("form", ["coco", "folder"])
def test_masks_of_images_that_were_made_smaller_are_not_drawn_on_them(tmp_path, form):
    """Polygons say nothing of their image's size, as run lengths do; the JSON does."""
    coco_files(tmp_path)
    file = tmp_path / "annotations/instances_val2017.json"
    content = json.loads(file.read_text())
    content["images"][0] |= {"height": 12, "width": 16}
    content["annotations"] = [
        {"id": 1, "image_id": 9, "category_id": 1, "segmentation": [[2, 2, 14, 2, 14, 10]]}
    ]
    file.write_text(json.dumps(content))
    path = tmp_path
    if form == "folder":
        path = tmp_path / "data.yaml"
        entry = {"images": "val2017", "coco": "annotations/instances_val2017.json"}
        path.write_text(yaml.safe_dump(entry))
    data = open_dataset(path, form)
    with pytest.raises(ValueError, match=r"9\.jpg is annotated at 16x12, but the image is 8x6"):
        data.items[0].load()


def test_images_of_one_name_in_two_folders_are_two(tmp_path):
    image = {"height": 6, "width": 8}
    names = ("day/1.jpg", "night/1.jpg")
    images = [{**image, "id": i, "file_name": name} for i, name in enumerate(names)]
    content = {"images": images, "annotations": [], "categories": []}
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_val.json").write_text(json.dumps(content))
    for name in names:
        picture(tmp_path / "val" / name)
    data = open_dataset(tmp_path)
    assert [item.name for item in data.items] == ["day/1", "night/1"]
    assert [item.load().name for item in data.items] == ["day/1", "night/1"]


def test_a_split_names_images_as_they_are_called_here(tmp_path):
    """Hypersim's frames have a point in their name."""
    folder = tmp_path / "ai_001_010/images"
    for frame in ("frame.0000", "frame.0001"):
        picture(folder / f"scene_cam_00_final_preview/{frame}.tonemap.jpg")
        depth = folder / f"scene_cam_00_geometry_hdf5/{frame}.depth_meters.hdf5"
        hdf5(depth, dataset=np.ones(SIZE, np.float16))
    split = tmp_path / "split.txt"
    split.write_text("ai_001_010/scene_cam_00/frame.0001\n")
    data = open_dataset(tmp_path).only(read_list(split))
    assert [item.name for item in data.items] == ["ai_001_010/scene_cam_00/frame.0001"]


def test_of_two_manifests_one_has_to_be_named(tmp_path):
    picture(tmp_path / "rgb/1.png")
    picture(tmp_path / "depth/1.png", MM)
    text = yaml.safe_dump({"images": "rgb", "depth": {"folder": "depth"}})
    for name in ("near.yaml", "far.yaml"):
        (tmp_path / name).write_text(text)
    for form in ("", "folder"):
        with pytest.raises(ValueError, match=r"manifests far\.yaml and near\.yaml: name one, or"):
            open_dataset(tmp_path, form)
    assert len(open_dataset(tmp_path / "far.yaml").items) == 1


def test_segment_anything(tmp_path):
    mask = np.zeros(SIZE, bool)
    mask[0, :3] = True
    picture(tmp_path / "sa_000000/sa_1.jpg")
    entry = {"id": 5, "segmentation": runs(mask), "predicted_iou": 0.9, "stability_score": 0.95}
    whole = {"id": 6, "segmentation": runs(np.ones(SIZE, bool))}
    file = tmp_path / "sa_000000/sa_1.json"
    file.write_text(json.dumps({"image": {"image_id": 1}, "annotations": [entry, whole]}))
    data = open_dataset(tmp_path)
    assert (data.form, data.tasks) == ("sa1b", ("entity", "point"))
    sample = only(data)
    assert [one.pixels for one in sample.objects] == [3, 48]  # they overlap
    file.write_text("{}")
    with pytest.raises(ValueError, match=r"sa_1\.json: cannot be read as SA-1B's annotations"):
        data.items[0].load()


def test_a_folder_with_a_manifest(tmp_path):
    picture(tmp_path / "rgb/day/1.png")
    picture(tmp_path / "rgb/day/2.png")
    picture(tmp_path / "depth/day/1.png", MM)
    manifest = tmp_path / "data.yaml"
    manifest.write_text(yaml.safe_dump({"images": "rgb", "depth": {"folder": "depth"}}))
    for path in (tmp_path, manifest):
        data = open_dataset(path)
        assert (data.form, data.tasks, data.preset) == ("folder", ("depth",), "plain")
        sample = only(data)  # the second image has no truth
        assert (sample.name, sample.group) == ("day/1", "day")
        assert np.isnan(sample.depth_m[0, 0])  # not filled, as a training target would be
        assert sample.depth_m[0, 1] == pytest.approx(1.5)


def test_what_is_none_of_them(tmp_path):
    with pytest.raises(ValueError, match=r"looks like none of folder, coco, nyu.*name it with"):
        open_dataset(tmp_path)
    with pytest.raises(ValueError, match="no such file or folder"):
        open_dataset(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="unknown form 'kiti': expected one of folder, coco"):
        open_dataset(tmp_path, "kiti")
    for form in set(FORMS) - {"folder", "coco", "kitti"}:
        with pytest.raises(ValueError, match=f"no image with truth in the form '{form}'"):
            open_dataset(tmp_path, form)


def test_objects_keep_their_masks():
    ids = np.array([[0, 1, 1], [2, 0, 1]])
    one, two = objects_of(ids, {2: "cup"})
    np.testing.assert_array_equal(one.mask((2, 3)), ids == 1)
    assert (two.category, two.box, two.pixels) == ("cup", (0, 1, 1, 1), 1)
    assert object_of(np.zeros((2, 3), bool)).pixels == 0


def test_an_even_choice():
    assert every("abcdefg", 3) == ("a", "d", "g")
    assert every("ab", 5) == every("ab", 0) == ("a", "b")

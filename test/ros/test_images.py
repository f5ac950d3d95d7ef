# SPDX-License-Identifier: Apache-2.0
"""Every encoding, padding, byte order, and what is said of damaged images."""

from __future__ import annotations

import os
import sys
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
from sensor_msgs.msg import CompressedImage

from diception_ros.ros import images
from diception_ros.ros.images import PIXEL_BYTES, to_meters, to_rgb

GREY = np.array([0.299, 0.587, 0.114])


def encode(rgb, encoding):
    """The test's own encoder, straight from the definitions in sensor_msgs/image_encodings.hpp."""
    wide = encoding.endswith("16") or encoding.startswith("16")
    values = rgb.astype(np.uint16) * 257 if wide else rgb
    kind = encoding.removesuffix("16").removesuffix("8")
    if kind in ("rgb", "8UC3", "16UC3"):
        return values
    if kind in ("mono", "8UC1", "16UC1"):
        return np.rint(values @ GREY).astype(values.dtype)
    if kind == "bgr":
        return values[..., ::-1]
    if kind in ("rgba", "bgra", "8UC4"):
        colours = values[..., ::-1] if kind == "bgra" else values
        return np.concatenate([colours, np.full_like(values[..., :1], values.max())], 2)
    if kind.startswith("bayer_"):
        order = kind.removeprefix("bayer_")
        mosaic = np.empty(values.shape[:2], values.dtype)
        for i, letter in enumerate(order):
            row, column = divmod(i, 2)
            mosaic[row::2, column::2] = values[row::2, column::2, "rgb".index(letter)]
        return mosaic
    return encode_yuv(rgb, kind)


def encode_yuv(rgb, kind):
    """BT.601, studio range, chroma shared by two columns (and two rows for nv12, nv21)."""
    r, g, b = (rgb[..., i].astype(float) for i in range(3))
    y = 16 + 0.257 * r + 0.504 * g + 0.098 * b
    u = 128 - 0.148 * r - 0.291 * g + 0.439 * b
    v = 128 + 0.439 * r - 0.368 * g - 0.071 * b
    y, u, v = (np.rint(plane).astype(np.uint8) for plane in (y, u, v))
    if kind in ("nv12", "nv21"):
        first, second = (u, v) if kind == "nv12" else (v, u)
        chroma = np.stack([first[::2, ::2], second[::2, ::2]], 2).reshape(-1, rgb.shape[1])
        return np.concatenate([y, chroma])
    chroma = np.where(np.arange(rgb.shape[1]) % 2, np.roll(v, 1, 1), u)
    pair = (chroma, y) if kind in ("uyvy", "yuv422") else (y, chroma)
    return np.stack(pair, 2)


def message_of(rgb, encoding, padding=0, big_endian=False):
    """A raw image with `padding` bytes of rubbish at the end of each row."""
    pixels = encode(rgb, encoding)
    if big_endian:
        pixels = pixels.astype(pixels.dtype.newbyteorder(">"))
    raw = np.ascontiguousarray(pixels).view(np.uint8).reshape(len(pixels), -1)
    rows = np.concatenate([raw, np.full((len(raw), padding), 0xAB, np.uint8)], 1)
    return SimpleNamespace(
        height=rgb.shape[0],
        width=rgb.shape[1],
        encoding=encoding,
        is_bigendian=int(big_endian),
        step=rows.shape[1],
        data=rows.tobytes(),
    )


def tolerance(encoding):
    """Levels of 255: demosaicing and shared chroma are only near the truth."""
    if encoding.startswith(("bayer", "nv")):
        return 12
    return 8 if encoding.startswith(("yuv", "uyvy", "yuyv")) else 1


ENCODINGS = [*PIXEL_BYTES, "uyvy", "yuyv", "8UC1", "8UC3", "8UC4", "16UC1", "16UC3"]


def expected(rgb, encoding):
    grey = encoding.startswith(("mono", "8UC1", "16UC1"))
    return np.repeat(np.rint(rgb @ GREY)[..., None], 3, 2) if grey else rgb.astype(float)


@pytest.mark.parametrize("padding", [0, 6])
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_encodings_become_rgb(picture, encoding, padding):
    found = to_rgb(message_of(picture, encoding, padding), "/image")
    assert found.dtype == np.uint8
    assert found.shape == picture.shape
    inner = np.s_[2:-2, 2:-2]  # a mosaic's border is extrapolated
    error = np.abs(found[inner] - expected(picture, encoding)[inner])
    assert error.max() <= tolerance(encoding)


@pytest.mark.parametrize("encoding", ["mono16", "rgb16", "bgra16", "bayer_grbg16"])
def test_big_endian_values_are_swapped(picture, encoding):
    big = to_rgb(message_of(picture, encoding, 4, big_endian=True), "/image")
    assert np.array_equal(big, to_rgb(message_of(picture, encoding), "/image"))


def test_a_step_of_zero_means_tight_rows(picture):
    message = message_of(picture, "rgb8")
    message.step = 0
    assert np.array_equal(to_rgb(message, "/image"), picture)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"data": b""}, "/cam: empty image: 32x24 with 0 bytes"),
        ({"width": 0}, "/cam: empty image: 0x24"),
        ({"data": bytes(100)}, "/cam: truncated image: .* needs 2304 bytes, got 100"),
        ({"step": 10}, "/cam: step 10 is less than one row"),
        ({"encoding": "32FC1"}, "/cam: encoding '32FC1' does not become rgb8"),
        ({"encoding": "32FC3"}, "/cam: encoding '32FC3' does not become rgb8"),
        ({"encoding": ""}, "/cam: encoding '' does not become rgb8"),
    ],
)
def test_a_damaged_image_is_named_with_its_topic(picture, change, text):
    message = message_of(picture, "rgb8")
    vars(message).update(change)
    with pytest.raises(ValueError, match=text):
        to_rgb(message, "/cam")


@pytest.mark.parametrize("suffix", [".jpg", ".png"])
def test_compressed_images_are_decoded(picture, suffix):
    data = cv2.imencode(suffix, picture[..., ::-1])[1].tobytes()
    found = to_rgb(CompressedImage(format=f"rgb8; {suffix[1:]} compressed bgr8", data=data), "/c")
    assert np.abs(found.astype(int) - picture).max() <= (12 if suffix == ".jpg" else 0)


def test_grey_compressed_images_become_rgb(picture):
    data = cv2.imencode(".png", picture[..., 0])[1].tobytes()
    found = to_rgb(CompressedImage(format="png", data=data), "/c")
    assert np.array_equal(found, np.repeat(picture[..., :1], 3, 2))


@pytest.mark.parametrize(
    ("kind", "data", "text"),
    [
        ("jpeg", b"", "/c: empty compressed image"),
        ("jpeg", b"\xff\xd8rubbish", "/c: damaged compressed image: 9 bytes, format 'jpeg'"),
        ("32FC1; compressedDepth png", b"1234", "/c: format .* is a depth image"),
    ],
)
def test_a_damaged_compressed_image_is_named(kind, data, text):
    with pytest.raises(ValueError, match=text):
        to_rgb(CompressedImage(format=kind, data=data), "/c")


@pytest.mark.parametrize("big_endian", [False, True])
@pytest.mark.parametrize("padding", [0, 8])
def test_depth_in_metres_and_millimetres(padding, big_endian):
    meters = np.array([[1.5, 0.0, np.nan], [np.inf, -1.0, 2.25]], np.float32)
    order = ">" if big_endian else "<"
    wanted = np.array([[1.5, np.nan, np.nan], [np.nan, np.nan, 2.25]], np.float32)
    for encoding, values in (
        ("32FC1", meters.astype(order + "f4")),
        ("16UC1", np.array([[1500, 0, 0], [0, 0, 2250]], order + "u2")),
    ):
        raw = np.ascontiguousarray(values).view(np.uint8).reshape(2, -1)
        rows = np.pad(raw, ((0, 0), (0, padding)))
        message = SimpleNamespace(
            height=2,
            width=3,
            encoding=encoding,
            is_bigendian=int(big_endian),
            step=rows.shape[1],
            data=rows.tobytes(),
        )
        np.testing.assert_allclose(to_meters(message, "/d"), wanted, rtol=1e-6)


def test_a_colour_image_is_no_depth(picture):
    with pytest.raises(ValueError, match="/d: encoding 'rgb8' is no depth: expected 32FC1"):
        to_meters(message_of(picture, "rgb8"), "/d")


BRIDGE = """
import numpy, os, signal
class CvBridge:
    def imgmsg_to_cv2(self, image, encoding):
        assert encoding == "rgb8"
        {fault}
        return numpy.full((image.height, image.width, 3), 7, numpy.uint8)
"""


@pytest.fixture
def decided_anew():
    images.backend.cache_clear()
    yield
    images.backend.cache_clear()


@pytest.fixture
def install(tmp_path, monkeypatch, decided_anew):
    """Makes a cv_bridge whose pictures are all 7, for this process and for those it starts. fault:
    what it does before."""

    def make(fault="pass"):
        (tmp_path / "cv_bridge.py").write_text(BRIDGE.format(fault=fault))
        monkeypatch.syspath_prepend(tmp_path)
        monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}")
        monkeypatch.delitem(sys.modules, "cv_bridge", raising=False)

    yield make
    sys.modules.pop("cv_bridge", None)


def test_cv_bridge_is_used_where_it_is_installed(install, picture):
    install()
    assert images.backend().name == "cv_bridge"
    assert (to_rgb(message_of(picture, "rgb8"), "/image") == 7).all()


@pytest.mark.usefixtures("decided_anew")
def test_without_cv_bridge_the_other_library_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    assert images.backend().name == "rosbags-image (cv_bridge is not installed)"


@pytest.mark.skipif(np.__version__ < "2", reason="older ones are what cv_bridge is built for")
@pytest.mark.parametrize(
    ("fault", "text"),
    [
        ("os.kill(os.getpid(), signal.SIGSEGV)", f"crashes with numpy {np.__version__}, pip inst"),
        ("raise ImportError('libboost_python.so: no file')", "ImportError: libboost_python.so: no"),
    ],
)
def test_a_cv_bridge_that_does_not_work_is_not_used_and_says_why(install, picture, fault, text):
    install(fault)
    assert images.backend().name.startswith(f"rosbags-image (cv_bridge: {text}")
    assert np.array_equal(to_rgb(message_of(picture, "rgb8"), "/image"), picture)


@pytest.mark.usefixtures("decided_anew")
def test_without_either_library_one_line_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "cv_bridge", None)
    monkeypatch.setitem(sys.modules, "rosbags.image", None)
    with pytest.raises(ValueError, match="cv_bridge is not installed, rosbags-image is not") as no:
        images.backend()
    assert "apt install ros-$ROS_DISTRO-cv-bridge, or pip install rosbags-image" in str(no.value)

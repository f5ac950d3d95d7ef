# SPDX-License-Identifier: Apache-2.0
import base64
import re

import cv2
import numpy as np

from diception_ros.evaluation.page import Page, Table, write_page
from diception_ros.evaluation.sheet import Row


def test_page_stands_alone_and_escapes_what_it_is_told(tmp_path):
    picture = np.full((300, 600, 3), 90, np.uint8)
    page = Page(
        "a <b> title",
        ["first & last"],
        [Row("room", "rendered", {"input": picture})],
        ["input", "depth"],
        {"input": [picture, picture]},
        [Table("Speed", ("output", "rate"), [("depth", "<5 Hz")], "a note")],
    )
    write_page(tmp_path / "index.html", page)
    text = (tmp_path / "index.html").read_text()
    assert "a &lt;b&gt; title" in text
    assert "first &amp; last" in text
    assert "<td>&lt;5 Hz</td>" in text
    assert '<td class="none">none</td>' in text
    assert not re.search(r'(src|href)="(?!data:)', text)
    encoded = re.findall(r'src="data:image/jpeg;base64,([^"]+)"', text)
    assert len(encoded) == 3
    decoded = cv2.imdecode(np.frombuffer(base64.b64decode(encoded[0]), np.uint8), 1)
    assert decoded.shape == (160, 320, 3)


def test_page_without_a_moving_camera_has_no_film(tmp_path):
    write_page(tmp_path / "index.html", Page("t", [], [], [], {}, []))
    assert "<script>" not in (tmp_path / "index.html").read_text()

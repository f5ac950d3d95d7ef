# SPDX-License-Identifier: Apache-2.0
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import pytest

from diception_ros.evaluation.transport import SEGMENT, VARIABLES, large_messages


@pytest.fixture(autouse=True)
def no_profile(monkeypatch):
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)


def test_the_profile_is_read_by_every_version(tmp_path):
    found = large_messages(tmp_path)
    assert set(found) == set(VARIABLES)
    (file,) = set(found.values())
    tree = ElementTree.parse(Path(file))
    space = "{http://www.eprosima.com/XMLSchemas/fastRTPS_Profiles}"
    assert [int(item.text) for item in tree.iter(f"{space}segment_size")] == [SEGMENT]


def test_a_profile_of_the_user_stays(tmp_path, monkeypatch):
    monkeypatch.setenv(VARIABLES[1], "mine.xml")
    assert large_messages(tmp_path) == {}
    assert list(tmp_path.iterdir()) == []

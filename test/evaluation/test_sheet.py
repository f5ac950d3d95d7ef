# SPDX-License-Identifier: Apache-2.0
import cv2
import numpy as np
import pytest

from diception_ros.evaluation.sheet import CELL, Row, fit, write_sheet


def test_sheet_holds_every_picture_where_it_belongs(tmp_path):
    red = np.zeros((30, 40, 3), np.uint8)
    red[..., 0] = 255
    green = red[..., [1, 0, 2]]
    rows = [Row("a", "where from", {"one": red}), Row("b", "", {"two": green})]
    write_sheet(tmp_path / "sheet.png", rows, ["one", "two"], "title", ["note"])
    sheet = cv2.cvtColor(cv2.imread(str(tmp_path / "sheet.png")), cv2.COLOR_BGR2RGB)
    is_red = (sheet == (255, 0, 0)).all(-1)
    is_green = (sheet == (0, 255, 0)).all(-1)
    red_at, green_at = np.argwhere(is_red).mean(0), np.argwhere(is_green).mean(0)
    assert red_at[0] < green_at[0]
    assert red_at[1] < green_at[1]
    cell = CELL[0] * CELL[1] * 110**2
    assert is_red.sum() == pytest.approx(cell, rel=0.03)


def test_fit_cuts_nothing():
    tall = np.full((100, 20, 3), 7, np.uint8)
    fitted = fit(tall)
    assert fitted.shape[1] / fitted.shape[0] == pytest.approx(CELL[0] / CELL[1], rel=0.02)
    assert (fitted == 7).all(-1).sum() == 2000


def test_an_empty_sheet_is_refused(tmp_path):
    with pytest.raises(ValueError, match="a sheet needs rows and columns, got 0 and 1"):
        write_sheet(tmp_path / "sheet.png", [], ["one"], "", [])

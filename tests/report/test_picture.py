"""A picture as a file and as characters: the same levels, seen again."""

from __future__ import annotations

import io

import numpy as np
import pytest
from matplotlib.image import imread

from twobills.report.picture import SIDE, characters, png, sheet

GREY = np.arange(6, dtype=np.uint8).reshape(2, 3, 1)


def test_a_png_holds_the_levels_in_blocks() -> None:
    pixels = imread(io.BytesIO(png(GREY, 6)))[:, :, :3]
    n = SIDE // 3
    assert pixels.shape == (2 * n, 3 * n, 3)
    for row in range(2):
        for column in range(3):
            block = pixels[row * n : (row + 1) * n, column * n : (column + 1) * n]
            assert block == pytest.approx((3 * row + column) / 5, abs=1 / 255)


def test_characters_grow_with_brightness() -> None:
    assert characters(np.array([[[0], [2], [4]]], np.uint8), 5) == "  ▒▒██"
    lines = characters(GREY, 6).split("\n")
    assert [len(line) for line in lines] == [6, 6]


def test_green_is_brighter_than_blue() -> None:
    red, green, blue = np.eye(3, dtype=np.uint8)
    assert characters([[green, red, blue]], 2) == "▒▒░░  "
    assert sheet([[red]], 2).tolist() == [[[255, 0, 0]]]

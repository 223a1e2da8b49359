"""The four-colour picture says what it claims to say."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image
from qk_leaderboard.difference import COLOURS, MISSED, RIGHT, SPILLED, WRONG, Judge, encode

GREY, RED, BLUE = (128, 128, 128), (220, 30, 30), (30, 30, 220)


def test_each_kind_of_pixel_has_its_class() -> None:
    source = np.full((4, 4, 3), GREY, np.uint8)
    target = source.copy()
    target[:2] = RED
    output = source.copy()
    output[0] = RED  # as asked
    output[1, :2] = BLUE  # changed, to another colour than asked; the rest of the row is left undone
    output[3, 3] = BLUE  # nobody asked
    classes = Judge(source, target).classify(output)
    expected = [[RIGHT] * 4, [WRONG, WRONG, MISSED, MISSED], [0] * 4, [0, 0, 0, SPILLED]]
    assert classes.tolist() == expected


def test_target_is_all_right_and_source_all_missed() -> None:
    rng = np.random.default_rng(0)
    source = rng.integers(0, 256, (16, 16, 3), dtype=np.uint8)
    target = 255 - source
    judge = Judge(source, target)
    assert set(np.unique(judge.classify(target))) <= {0, RIGHT}
    assert set(np.unique(judge.classify(source))) <= {0, MISSED}


def test_invisible_deviations_do_not_count() -> None:
    source = np.full((8, 8, 3), GREY, np.uint8)
    target = source.copy()
    target[:4] = RED
    assert np.array_equal(Judge(source, target).classify(target + 1), Judge(source, target).classify(target))


def test_encoded_picture_has_the_colours_and_a_clear_ground() -> None:
    classes = np.array([[0, RIGHT, WRONG, MISSED, SPILLED]], np.uint8)
    image = Image.open(io.BytesIO(encode(classes))).convert("RGBA")
    assert image.getpixel((0, 0))[3] == 0
    for x, kind in enumerate((RIGHT, WRONG, MISSED, SPILLED), start=1):
        assert image.getpixel((x, 0)) == (*COLOURS[kind], 255)

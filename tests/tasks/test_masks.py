"""Masks are read as their publishers mean them, and what is broken is refused in one line."""

from __future__ import annotations

import contextlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as reference
from qk_tasks.masks import MaskProblemError, decode_rle, encode_rle, from_array, from_coco, from_polygons, read_mask

MASKS = st.integers(0, 2**32 - 1).map(
    lambda seed: (
        np.random.default_rng(seed).random(tuple(np.random.default_rng(seed).integers(1, 40, 2))) < (seed % 11) / 10
    )
)


@given(MASKS)
@settings(max_examples=150, deadline=None)
def test_run_lengths_equal_those_of_pycocotools(mask: np.ndarray) -> None:
    compressed = reference.encode(np.asfortranarray(mask.astype(np.uint8)))
    assert (decode_rle(compressed["counts"], *mask.shape) == mask).all()
    assert (decode_rle(compressed["counts"].decode(), *mask.shape) == mask).all()
    assert (decode_rle(encode_rle(mask), *mask.shape) == mask).all()
    plain = reference.frPyObjects({"size": list(mask.shape), "counts": encode_rle(mask)}, *mask.shape)
    assert plain["counts"] == compressed["counts"]


@given(st.binary(max_size=40), st.integers(1, 30), st.integers(1, 30))
@settings(max_examples=300, deadline=None)
def test_any_string_is_a_mask_or_refused(text: bytes, height: int, width: int) -> None:
    with contextlib.suppress(MaskProblemError):
        assert decode_rle(text, height, width).shape == (height, width)


def test_polygons_nearly_equal_those_of_pycocotools() -> None:
    random = np.random.default_rng(0)
    for _ in range(40):
        angles = np.sort(random.random(12)) * 2 * np.pi
        radius = 20 + 60 * random.random(12)
        points = np.stack([128 + radius * np.cos(angles), 100 + radius * np.sin(angles)], axis=1).ravel().tolist()
        ours = from_polygons([points], 200, 256)
        theirs = reference.decode(reference.merge(reference.frPyObjects([points], 200, 256))).astype(bool)
        assert (ours & theirs).sum() / (ours | theirs).sum() > 0.97


def test_parts_of_a_polygon_are_joined_and_cut_at_the_border() -> None:
    mask = from_polygons([[0, 0, 4, 0, 4, 4, 0, 4], [6, 6, 40, 6, 40, 40, 6, 40]], 10, 10)
    assert mask[:4, :4].all() and mask[6:, 6:].all() and mask.sum() == 32


@pytest.mark.parametrize("high", [1, 255])
@pytest.mark.parametrize("mode", ["L", "RGB"])
def test_files_of_0_and_1_and_of_0_and_255_mean_the_same(tmp_path: Path, high: int, mode: str) -> None:
    mask = np.zeros((8, 12), bool)
    mask[2:5, 3:9] = True
    Image.fromarray((mask * high).astype(np.uint8)).convert(mode).save(tmp_path / "m.png")
    assert (read_mask(tmp_path / "m.png", 8, 12) == mask).all()


def test_palette_and_one_bit_files_are_read(tmp_path: Path) -> None:
    mask = np.eye(9, dtype=bool)
    Image.fromarray(mask).save(tmp_path / "one-bit.png")
    palette = Image.fromarray(mask.astype(np.uint8), "P")
    palette.putpalette([0, 0, 0, 128, 0, 0])
    palette.save(tmp_path / "palette.png")
    assert (read_mask(tmp_path / "one-bit.png") == mask).all()
    assert (read_mask(tmp_path / "palette.png") == mask).all()


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (np.array([[0, 128]], np.uint8), "0, 128"),
        (np.array([[0, 1, 255]], np.uint8), "0, 1, 255"),
        (np.array([[0.0, 0.5]]), "0.5"),
        (np.array([[0, -1]]), "-1"),
        (np.array([[[0, 255, 0]]], np.uint8), "coloured"),
        (np.zeros(4, np.uint8), "shape"),
    ],
)
def test_other_values_are_refused(values: np.ndarray, said: str) -> None:
    with pytest.raises(MaskProblemError, match=said):
        from_array(values)


def test_another_size_is_refused_with_both_sizes() -> None:
    with pytest.raises(MaskProblemError, match=r"6x4 pixels, but the image is 8x4"):
        from_array(np.zeros((4, 6), np.uint8), 4, 8)


@pytest.mark.parametrize(
    "segmentation",
    [
        None,
        [],
        "counts",
        {"counts": [1, 2]},
        {"size": [4, 4], "counts": [3, 2]},
        {"size": [4, 4], "counts": [3, -2, 15]},
        {"size": [4, 4], "counts": [3.5, 12.5]},
        {"size": [4, 4], "counts": "l"},
        {"size": [4, 4], "counts": "ä"},
        {"size": [4, 5], "counts": [16]},
        {"size": [4, 4], "counts": [2**62, 2**62, 2**62, 2**62, 16]},
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, float("nan")]],
        [[10**400, 1, 5, 5, 7, 7]],
        [["a"] * 6],
    ],
)
def test_broken_segmentations_are_refused(segmentation: object) -> None:
    with pytest.raises(MaskProblemError):
        from_coco(segmentation, 4, 4)


def test_a_file_that_is_no_image_is_refused(tmp_path: Path) -> None:
    (tmp_path / "m.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(MaskProblemError):
        read_mask(tmp_path / "m.png")

"""What counts as an image, and the PNG that is stored."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from badfiles import bad_files, picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qk_bench.images import (
    ImageProblemError,
    as_pixels,
    decode_png,
    encode_mask_png,
    encode_png,
    read_pixels,
    resample,
)


@given(st.integers(1, 40), st.integers(1, 40), st.integers(0, 2**32 - 1))
def test_png_is_lossless_for_pillow_and_the_same_every_time(width: int, height: int, seed: int) -> None:
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    data = encode_png(pixels)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(data))), pixels)
    assert np.array_equal(decode_png(data), pixels)
    assert encode_png(pixels.copy()) == data


def test_mask_png_is_black_and_white() -> None:
    mask = np.random.default_rng(0).random((5, 7)) > 0.5
    image = Image.open(io.BytesIO(encode_mask_png(mask)))
    assert image.mode == "L"
    assert np.array_equal(np.asarray(image) == 255, mask)
    assert set(np.unique(np.asarray(image))) == {0, 255}


def test_arrays_that_are_not_contiguous_are_accepted() -> None:
    assert np.array_equal(as_pixels(picture()[::-1, ::2]), picture()[::-1, ::2])


def test_resampling_to_the_same_size_changes_nothing() -> None:
    assert resample(picture(), 8, 6) is not None
    assert np.array_equal(resample(picture(), 8, 6), picture())
    assert resample(picture(), 16, 3).shape == (3, 16, 3)


@pytest.mark.parametrize("suffix", ["png", "webp"])
def test_lossless_files_are_read_as_they_are(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(picture()).save(path, lossless=True)
    assert np.array_equal(read_pixels(path), picture())


def test_files_that_are_not_8_bit_rgb_are_one_clear_line_each(tmp_path: Path) -> None:
    for name, (path, said) in bad_files(tmp_path).items():
        with pytest.raises(ImageProblemError) as problem:
            read_pixels(path)
        assert said in str(problem.value), name
        assert "\n" not in str(problem.value)


@pytest.mark.filterwarnings("error")
def test_no_warning_escapes(tmp_path: Path) -> None:
    for path, _ in bad_files(tmp_path).values():
        with pytest.raises(ImageProblemError):
            read_pixels(path)


def test_image_object_that_fails_late_is_a_problem_not_a_crash() -> None:
    from qk_bench.run.worker import answer

    class Broken:
        mode, size = "RGB", (4, 4)

        @property
        def __array_interface__(self) -> object:
            raise OSError("gone")

    assert answer(Broken()).status == "invalid_output"

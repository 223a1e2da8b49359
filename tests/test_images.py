"""What counts as an image, and the PNG that is stored."""

from __future__ import annotations

import io
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qk_bench.images import (
    MAX_PIXELS,
    ImageProblemError,
    as_pixels,
    decode_png,
    encode_mask_png,
    encode_png,
    read_pixels,
    resample,
)


def picture(width: int = 8, height: int = 6) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)


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


def bad_files(folder: Path) -> dict[str, tuple[Path, str]]:
    """A file of each kind that is not accepted, and what is said of it."""
    rgb = Image.fromarray(picture(32, 32))
    made: dict[str, tuple[Path, str]] = {}

    def put(name: str, said: str, suffix: str = "png") -> Path:
        made[name] = (folder / f"{name.replace(' ', '-')}.{suffix}", said)
        return made[name][0]

    put("corrupt", "not a readable PNG").write_bytes(b"this is no image")
    put("empty", "not a readable PNG").write_bytes(b"")
    whole = encode_png(picture(32, 32))
    put("truncated", "corrupt or truncated image").write_bytes(whole[: len(whole) // 2])
    put("bit rot", "corrupt or truncated image").write_bytes(whole[:300] + b"\xff\x00" * 20 + whole[340:])
    rgb.save(put("truncated jpeg", "corrupt or truncated image", "jpg"))
    path = made["truncated jpeg"][0]
    path.write_bytes(path.read_bytes()[:-200])
    put("bomb", f"more than {MAX_PIXELS}").write_bytes(bomb())
    Image.new("I;16", (8, 8)).save(put("grey 16 bit", "16-bit image"))
    put("rgb 16 bit", "16-bit image").write_bytes(deep())
    rgb.convert("CMYK").save(put("cmyk", "image of mode CMYK, expected RGB", "jpg"))
    rgb.convert("P").save(put("palette", "image of mode P, expected RGB"))
    rgb.convert("L").save(put("grey", "image of mode L, expected RGB"))
    rgb.convert("RGBA").save(put("alpha", "image of mode RGBA, expected RGB"))
    rgb.save(put("transparent colour", "transparent colour"), transparency=(1, 2, 3))
    rgb.save(put("animated", "animated image of 2 frames"), save_all=True, append_images=[rgb.rotate(90)])
    rgb.save(put("animated webp", "animated image of 2 frames", "webp"), save_all=True, append_images=[rgb.rotate(90)])
    rgb.save(put("other format", "not a readable PNG"), format="BMP")
    return made


def chunk(kind: bytes, body: bytes) -> bytes:
    return len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")


def bomb() -> bytes:
    """A PNG of 60,000 x 60,000 pixels in a few kilobytes."""
    header = (60_000).to_bytes(4, "big") * 2 + bytes([8, 2, 0, 0, 0])
    body = zlib.compress(bytes(10_000_000))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


def deep() -> bytes:
    """A 16-bit RGB PNG, which Pillow opens as if it had 8 bits."""
    header = (4).to_bytes(4, "big") * 2 + bytes([16, 2, 0, 0, 0])
    body = zlib.compress((b"\0" + bytes(24)) * 4)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


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

"""Pixels in and out: what counts as an image, the PNG that is stored, resampling.

One kind of image is accepted everywhere: 8-bit RGB. Nothing is converted silently, because every conversion (dropping
alpha, expanding a palette, narrowing 16 bits) is a choice that changes scores and belongs to whoever made the image.
"""

from __future__ import annotations

import contextlib
import io
import struct
import warnings
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from PIL import Image

MAX_PIXELS: Final = 8192 * 8192
PNG_LEVEL: Final = 1  # speed over size: level 6 takes five times as long for a tenth less
FILE_FORMATS: Final = ("PNG", "JPEG", "WEBP")
_ORIENTATION: Final = 0x0112  # the EXIF tag: 1 is upright, 2 to 8 are turned or mirrored
_SIGNATURE: Final = b"\x89PNG\r\n\x1a\n"


class ImageProblemError(ValueError):
    """Why something is not an image we accept, as one line."""


def as_pixels(value: object) -> NDArray[np.uint8]:
    """Check what a model returned and give its pixels.

    Args:
        value: An (H, W, 3) uint8 array or a PIL image of mode RGB.

    Returns:
        The (H, W, 3) uint8 pixels, contiguous.

    Raises:
        ImageProblemError: Anything else, with what it is and what to do.
    """
    if isinstance(value, np.ndarray):
        return _from_array(value)
    mode, size = getattr(value, "mode", None), getattr(value, "size", None)
    if isinstance(mode, str) and isinstance(size, tuple):
        _check_mode(mode)
        _check_size(*size)
        return np.ascontiguousarray(np.asarray(value, dtype=np.uint8))
    raise ImageProblemError(f"returned {type(value).__name__}, expected an (H, W, 3) uint8 array or an RGB PIL image")


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """Read an image file made elsewhere.

    Raises:
        ImageProblemError: Corrupt, truncated, too large, 16-bit, CMYK, palette, grey, alpha, animated or turned by EXIF.
        FileNotFoundError: There is no such file.
    """
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own limit is checked below, before anything is decoded
        try:
            with Image.open(path, formats=FILE_FORMATS) as image:
                _check_size(*image.size)
                if getattr(image, "n_frames", 1) > 1:
                    raise ImageProblemError(f"animated image of {image.n_frames} frames, expected one")  # type: ignore[attr-defined]
                if image.format == "PNG" and _png_bit_depth(path) == 16:
                    raise ImageProblemError("16-bit image, expected 8-bit RGB")
                _check_mode(image.mode)
                if "transparency" in image.info:
                    raise ImageProblemError("image with a transparent colour, expected RGB without alpha")
                image.load()
                _check_upright(image)
                return np.ascontiguousarray(np.asarray(image, dtype=np.uint8))
        except (ImageProblemError, FileNotFoundError):
            raise
        except Image.DecompressionBombError:
            raise ImageProblemError(f"image of more than {MAX_PIXELS} pixels") from None
        except UnidentifiedImageError:
            raise ImageProblemError(
                f"not a readable {', '.join(FILE_FORMATS)} file (another format, corrupt or cut short)"
            ) from None
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, zlib.error, …
            why = " ".join(str(error).split())[:120]
            raise ImageProblemError(f"corrupt or truncated image: {why or type(error).__name__}") from None


def encode_png(pixels: NDArray[np.uint8]) -> bytes:
    """Encode an (H, W, 3) uint8 image as PNG, lossless and byte-identical for the same pixels.

    Each row is stored as its difference from the row above and compressed at level 1. Written here rather than with
    Pillow because it takes a third of the time, and a run stores every output while the model generates.
    """
    height, width, _ = pixels.shape
    rows = pixels.reshape(height, width * 3)
    filtered = np.empty((height, width * 3 + 1), np.uint8)
    filtered[:, 0] = 2  # filter type "up"
    filtered[0, 1:] = rows[0]
    np.subtract(rows[1:], rows[:-1], out=filtered[1:, 1:])
    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = zlib.compress(filtered.tobytes(), PNG_LEVEL)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def encode_mask_png(mask: NDArray[np.bool_]) -> bytes:
    """Encode an (H, W) mask as an 8-bit grey PNG: 255 inside, 0 outside."""
    height, width = mask.shape
    rows = np.zeros((height, width + 1), np.uint8)
    rows[:, 1:] = mask * np.uint8(255)
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    body = zlib.compress(rows.tobytes(), PNG_LEVEL)
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", body) + _chunk(b"IEND", b"")


def decode_png(data: bytes) -> NDArray[np.uint8]:
    """Decode a PNG that `encode_png` made."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=("PNG",)) as image:
        return np.ascontiguousarray(np.asarray(image, dtype=np.uint8))


def resample(pixels: NDArray[np.uint8], width: int, height: int) -> NDArray[np.uint8]:
    """Resample an (H, W, 3) image to another size (Lanczos, antialiased when it shrinks)."""
    if pixels.shape[:2] == (height, width):
        return pixels
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((width, height), Image.Resampling.LANCZOS))


def _from_array(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype != np.uint8:
        hint = " with NaN" if array.dtype.kind == "f" and np.isnan(array).any() else ""
        raise ImageProblemError(f"returned a {array.dtype} array{hint}, expected uint8 in 0..255")
    if array.ndim != 3 or array.shape[2] != 3:
        raise ImageProblemError(f"returned an array of shape {array.shape}, expected (H, W, 3)")
    _check_size(array.shape[1], array.shape[0])
    return np.ascontiguousarray(array)


def _check_mode(mode: str) -> None:
    if mode != "RGB":
        raise ImageProblemError(f"image of mode {mode}, expected RGB (convert it before returning or saving it)")


def _check_size(width: int, height: int) -> None:
    if width < 1 or height < 1:
        raise ImageProblemError(f"empty image of {width}x{height} pixels")
    if width * height > MAX_PIXELS:
        raise ImageProblemError(f"image of {width}x{height} pixels, more than {MAX_PIXELS} allowed")


def _check_upright(image: Image.Image) -> None:
    """Refuse what viewers show turned or mirrored: it would be judged otherwise than it looks."""
    orientation = 1
    with contextlib.suppress(Exception):  # EXIF that no viewer can read turns nothing
        orientation = image.getexif().get(_ORIENTATION, 1)
    if orientation in range(2, 9):
        raise ImageProblemError(
            f"image that EXIF (orientation {orientation}) says to turn, expected one stored upright"
        )


def _png_bit_depth(path: Path) -> int:
    with path.open("rb") as file:
        header = file.read(25)
    return header[24] if len(header) == 25 else 0


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

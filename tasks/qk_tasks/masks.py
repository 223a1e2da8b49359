"""Reads masks in the forms that data sets publish: image files, COCO run lengths (plain and compressed), polygons.

Every reader gives an (H, W) bool array or a `MaskProblemError` that says in one line what is wrong. Inputs are untrusted: sizes
are checked before anything is allocated, and run lengths are decoded here because the C decoder of COCO's own tools
reads past the end of a string that is cut short.
"""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qk_bench.images import MAX_PIXELS

Bool = NDArray[np.bool_]
MAX_VERTICES = 100_000


class MaskProblemError(ValueError):
    """Why something is not a mask we accept, as one line."""


def from_array(values: NDArray[Any], height: int | None = None, width: int | None = None) -> Bool:
    """A mask from an array of bools, of 0 and 1, or of 0 and 255.

    Args:
        values: (H, W), or (H, W, C) with equal channels.
        height: What H must be, if that is known.
        width: What W must be, if that is known.

    Raises:
        MaskProblemError: Another shape, or other values: what between them counts as inside is not ours to guess.
    """
    if values.ndim == 3:
        if (values != values[:, :, :1]).any():
            raise MaskProblemError("a coloured image, expected one channel of 0 and 1 or of 0 and 255")
        values = values[:, :, 0]
    if values.ndim != 2:
        raise MaskProblemError(f"an array of shape {values.shape}, expected (H, W)")
    _check_size(values.shape[0], values.shape[1])
    if (height, width) != (None, None) and values.shape != (height, width):
        raise MaskProblemError(
            f"{values.shape[1]}x{values.shape[0]} pixels, but the image is {width}x{height} (resize it by nearest neighbour)"
        )
    if values.dtype == np.bool_:
        return np.ascontiguousarray(values)
    found = np.unique(values)
    if not (np.isin(found, (0, 1)).all() or np.isin(found, (0, 255)).all()):
        shown = ", ".join(f"{v:g}" for v in found[:5].tolist())
        more = f", … {float(found[-1]):g}" if len(found) > 5 else ""
        raise MaskProblemError(f"values {shown}{more}; expected 0 and 1, or 0 and 255")
    return np.ascontiguousarray(values != 0)


def read_mask(path: Path, height: int | None = None, width: int | None = None) -> Bool:
    """A mask from a PNG, BMP, TIFF or JPEG file without alpha; values as for `from_array`.

    Raises:
        MaskProblemError: The file is unreadable, too large, of another size or of other values.
        FileNotFoundError: There is no such file.
    """
    from PIL import Image, UnidentifiedImageError

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # our own limit is checked below, before anything is decoded
        try:
            with Image.open(path, formats=("PNG", "BMP", "TIFF", "JPEG", "PPM")) as image:
                _check_size(image.height, image.width)
                if image.mode not in ("1", "L", "P", "RGB", "I", "I;16"):
                    raise MaskProblemError(f"image of mode {image.mode}, expected one channel")
                if image.mode == "P" and not _indexes(image):
                    image = image.convert("RGB")  # type: ignore[assignment]
                values = np.asarray(image)
        except (MaskProblemError, FileNotFoundError):
            raise
        except UnidentifiedImageError:
            raise MaskProblemError("not a readable image (another format, corrupt or cut short)") from None
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
            raise MaskProblemError(f"corrupt or truncated image: {' '.join(str(error).split())[:120]}") from None
    return from_array(values, height, width)


def _indexes(image: Any) -> bool:
    """Whether a palette image means its indices: it has no others than 0 and 1, or 0 and 255."""
    found = {index for _, index in image.getcolors(256)}
    return found <= {0, 1} or found <= {0, 255}


def decode_rle(counts: Sequence[int] | str | bytes, height: int, width: int) -> Bool:
    """A mask from COCO's run lengths: down the columns, runs of 0 and 1 in turn, beginning with 0.

    Args:
        counts: The run lengths, or COCO's compressed string of them
            (https://github.com/cocodataset/cocoapi/blob/master/common/maskApi.c, `rleFrString`).
        height: H.
        width: W.

    Raises:
        MaskProblemError: Broken: not numbers, negative, cut short, or not H·W pixels long.
    """
    _check_size(height, width)
    runs = _uncompressed(counts, height * width) if isinstance(counts, str | bytes) else _numbers(counts)
    if runs.size and runs.min() < 0:
        raise MaskProblemError(f"broken RLE: a run of {int(runs.min())} pixels")
    if (runs.size and int(runs.max()) > height * width) or int(runs.sum()) != height * width:
        raise MaskProblemError(f"broken RLE: it covers {int(runs.sum())} pixels, {width}x{height} has {height * width}")
    values = np.zeros(runs.size, np.bool_)
    values[1::2] = True
    return np.ascontiguousarray(np.repeat(values, runs).reshape(width, height).T)


def encode_rle(mask: Bool) -> list[int]:
    """COCO's plain run lengths of a mask: the inverse of `decode_rle`."""
    flat = np.concatenate([[False], mask.T.ravel(), [not mask[-1, -1]]])  # always begins with 0 and ends with a change
    changes = np.flatnonzero(flat[1:] != flat[:-1])
    runs: list[int] = np.diff(np.concatenate([[0], changes])).tolist()
    return runs


def _numbers(counts: Sequence[int]) -> NDArray[np.int64]:
    if not isinstance(counts, list | tuple) or any(type(n) is not int or abs(n) > 2**40 for n in counts):
        raise MaskProblemError("broken RLE: counts are not whole numbers")
    return np.array(counts, np.int64)


def _uncompressed(text: str | bytes, pixels: int) -> NDArray[np.int64]:
    """Run lengths from groups of 6 bits: 5 of value, one that says that more follow; from the third run on differences."""
    try:
        codes = text.encode("ascii") if isinstance(text, str) else text
    except UnicodeEncodeError:
        raise MaskProblemError("broken RLE: the string has characters that are not ASCII") from None
    runs: list[int] = []
    value, shift = 0, 0
    for code in codes:
        group = code - 48
        if not 0 <= group < 64:
            raise MaskProblemError(f"broken RLE: character {chr(code)!r} does not belong in it")
        value |= (group & 31) << shift
        shift += 5
        if group & 32:
            if shift > 40:
                raise MaskProblemError("broken RLE: a run without end")
            continue
        if group & 16:  # the sign
            value -= 1 << shift
        runs.append(value + runs[-2] if len(runs) > 2 else value)
        if abs(runs[-1]) > pixels:
            raise MaskProblemError(f"broken RLE: a run of {runs[-1]} pixels in an image of {pixels}")
        value, shift = 0, 0
    if shift:
        raise MaskProblemError("broken RLE: the string is cut short")
    return np.array(runs, np.int64)


def from_polygons(polygons: Sequence[Sequence[float]], height: int, width: int) -> Bool:
    """A mask of the pixels whose centres lie in any of some polygons.

    Args:
        polygons: Each x0, y0, x1, y1, …, in pixels from the top left corner of the image.
        height: H.
        width: W.

    Raises:
        MaskProblemError: A polygon of fewer than three points or of things that are not finite numbers.
    """
    from skimage.draw import polygon as inside

    _check_size(height, width)
    if not polygons:
        raise MaskProblemError("no polygon")
    mask = np.zeros((height, width), np.bool_)
    for number, flat in enumerate(polygons):
        if not isinstance(flat, list | tuple) or any(type(v) not in (int, float) for v in flat):
            raise MaskProblemError(f"polygon {number} is not a list of numbers")
        if len(flat) < 6 or len(flat) % 2:
            raise MaskProblemError(f"polygon {number} has {len(flat)} numbers, expected at least 3 pairs")
        if len(flat) > 2 * MAX_VERTICES:
            raise MaskProblemError(f"polygon {number} has more than {MAX_VERTICES} points")
        try:
            points = np.array(flat, np.float64).reshape(-1, 2)
        except OverflowError:  # JSON holds whole numbers that no float does
            points = np.array([np.inf])
        if not np.isfinite(points).all():
            raise MaskProblemError(f"polygon {number} has a coordinate that is not finite")
        points = np.clip(points, -1.0, (width + 1.0, height + 1.0))  # annotators overshoot; nothing beyond is drawn
        rows, columns = inside(points[:, 1] - 0.5, points[:, 0] - 0.5, (height, width))  # type: ignore[no-untyped-call]
        mask[rows, columns] = True
    return mask


def from_coco(segmentation: Any, height: int, width: int) -> Bool:
    """A mask from the `segmentation` field of a COCO annotation: polygons, or run lengths of either kind.

    Raises:
        MaskProblemError: It is neither, broken, or of another size than its image.
    """
    if isinstance(segmentation, list):
        return from_polygons(segmentation, height, width)
    if not isinstance(segmentation, dict) or "counts" not in segmentation or "size" not in segmentation:
        raise MaskProblemError("segmentation is neither polygons nor RLE with `size` and `counts`")
    size = segmentation["size"]
    if size != [height, width]:
        raise MaskProblemError(f"RLE of size {size!r:.80} (height, width), but the image is [{height}, {width}]")
    return decode_rle(segmentation["counts"], height, width)


def _check_size(height: int, width: int) -> None:
    if height < 1 or width < 1:
        raise MaskProblemError(f"empty: {width}x{height} pixels")
    if height * width > MAX_PIXELS:
        raise MaskProblemError(f"{width}x{height} pixels, more than {MAX_PIXELS} allowed")

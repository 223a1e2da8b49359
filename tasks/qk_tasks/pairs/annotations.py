"""What an annotated data set is read into, whatever its layout: photographs with marked objects, and problems by name."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from qk_bench.errors import UsageError
from qk_bench.images import ImageProblemError, read_pixels
from qk_tasks.masks import MaskProblemError, from_coco, read_mask
from qk_tasks.pairs.vision import Bool, Image, cv

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")


@dataclass(frozen=True)
class Problem:
    """Bad input: the file, the item in it, and what is wrong."""

    file: str
    item: str
    what: str

    def __str__(self) -> str:
        """One line."""
        return f"{self.file}: {self.item}: {self.what}"


@dataclass(frozen=True)
class Mark:
    """One annotated object; its mask is a COCO segmentation or a file."""

    id: str
    name: str
    file: str  # that it is annotated in, to name it by
    segmentation: Any = None
    mask: Path | None = None
    crowd: bool = False


@dataclass(frozen=True)
class Entry:
    """One photograph of a data set, not yet read."""

    id: str
    path: Path
    file: str  # as the annotations name it
    size: tuple[int, int] | None  # width, height as annotated
    licence: str
    attribution: str
    marks: tuple[Mark, ...] = ()


@dataclass
class Annotations:
    """What was found in a data set's folder."""

    entries: list[Entry] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)


def read_photo(entry: Entry) -> Image:
    """The pixels of a photograph, (H, W, 3).

    Raises:
        ImageProblemError: Absent, unreadable, rotated by its EXIF, grey, or of another size than annotated.
    """
    from PIL import Image as Pillow

    try:
        with Pillow.open(entry.path, formats=("PNG", "JPEG", "WEBP")) as image:
            turned, mode = image.getexif().get(0x0112, 1), image.mode
        if turned not in (0, 1):
            raise ImageProblemError(
                f"rotated by its EXIF (orientation {turned}), so that masks may not fit; turn the pixels and drop the tag"
            )
        if mode in ("L", "LA", "1", "I;16"):
            raise ImageProblemError("a greyscale image; recolouring needs colour")
        pixels = read_pixels(entry.path)
    except FileNotFoundError:
        raise ImageProblemError("there is no such image") from None
    except ImageProblemError:
        raise
    except Exception:  # Pillow's first look at a torn file; the thorough one words it
        pixels = read_pixels(entry.path)
    found = (pixels.shape[1], pixels.shape[0])
    if entry.size is not None and found != entry.size:
        raise ImageProblemError(
            f"{found[0]}x{found[1]} pixels, but annotated as {entry.size[0]}x{entry.size[1]}; masks would not fit"
        )
    thumb = pixels[::8, ::8].astype(np.int16)
    if (np.ptp(thumb, axis=2) <= 2).all() and (np.ptp(pixels, axis=2) <= 2).all():
        raise ImageProblemError("a greyscale image; recolouring needs colour")
    return pixels


def read_marked(mark: Mark, height: int, width: int) -> Bool:
    """The mask (H, W) of an annotated object.

    Raises:
        MaskProblemError: It is broken, of other values, of another size, absent or empty.
    """
    if mark.mask is None:
        mask = from_coco(mark.segmentation, height, width)
    else:
        try:
            mask = read_mask(mark.mask)
        except FileNotFoundError:
            raise MaskProblemError("there is no such mask file") from None
        mask = _fitted(mask, height, width)
    if not mask.any():
        raise MaskProblemError("an empty mask")
    return mask


def _fitted(mask: Bool, height: int, width: int) -> Bool:
    """A mask file at its image's size. Open Images publishes masks at other sizes of the same shape; no other fits."""
    h, w = mask.shape
    if (h, w) == (height, width):
        return mask
    if abs(w * height - width * h) > 2 * max(h, w, height, width):
        raise MaskProblemError(f"{w}x{h} pixels, which is not the shape of its {width}x{height} image")
    return np.asarray(cv().resize(mask.astype(np.uint8), (width, height), interpolation=cv().INTER_NEAREST) > 0)


def inside(folder: Path, name: object) -> Path | None:
    """The path of a file named by untrusted annotations; None if it would lie outside of the folder or names no file."""
    if not isinstance(name, str) or not name or "\0" in name or len(name) > 1000:
        return None
    try:
        if any(len(part) > 255 for part in name.encode().split(b"/")):  # no file system has such names
            return None
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold
        return None
    path = folder / name
    return path if path.resolve().is_relative_to(folder.resolve()) else None


def require_folder(folder: Path, what: str) -> None:
    """Refuse a folder that is not there.

    Raises:
        UsageError: It is not.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", f"name the folder that holds {what}")


def shown(value: object) -> str:
    """An untrusted value as a short item name."""
    return repr(value)[:80]


def first_of(paths: Sequence[Path]) -> Path | None:
    """The first path that is a file."""
    return next((path for path in paths if path.is_file()), None)

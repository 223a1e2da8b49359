"""What an annotated data set is read into, whatever its layout: photographs with marked objects, and problems by name."""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from qk_bench.errors import UsageError
from qk_bench.images import FILE_FORMATS, ImageProblemError, read_pixels
from qk_tasks.masks import MaskProblemError, from_coco, read_mask
from qk_tasks.pairs.vision import Bool, Image, cv

SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,59}")


@dataclass(frozen=True)
class Problem:
    """Bad input: the file, the item in it, and what is wrong. What cannot be printed is escaped, as names can hold anything."""

    file: str
    item: str
    what: str

    def __post_init__(self) -> None:
        for each in fields(self):
            text: str = getattr(self, each.name)
            escaped = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
            object.__setattr__(self, each.name, escaped)

    def __str__(self) -> str:
        """One line."""
        return f"{self.file}: {self.item}: {self.what}"


@dataclass(frozen=True)
class Mark:
    """One annotated object; its mask is a COCO segmentation or a file.

    One whose annotation is at fault is there too, as a crowd: it stays an obstacle, and no other of its kind can be told
    from it. Were it left out, "the cat" would be asked for with two cats in view.
    """

    id: str
    name: str
    file: str  # that it is annotated in, to name it by
    segmentation: Any = None
    mask: Path | None = None
    crowd: bool = False
    fault: str = ""  # why its mask cannot be read, where that is known already


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
    if first_of([entry.path]) is None:
        raise ImageProblemError("there is no such image")
    if _mode(entry.path) in ("L", "LA", "1", "I;16"):
        raise ImageProblemError("a greyscale image; recolouring needs colour")
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


def _mode(path: Path) -> str:
    """An image's mode from its header, without decoding it; empty where there is none: the thorough look words it."""
    from PIL import Image as Pillow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of its size, which `read_pixels` judges
        try:
            with Pillow.open(path, formats=FILE_FORMATS) as image:
                return image.mode
        except Exception:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
            return ""


def read_marked(mark: Mark, height: int, width: int) -> Bool:
    """The mask (H, W) of an annotated object.

    Raises:
        MaskProblemError: It is broken, of other values, of another size, absent or empty.
    """
    if mark.fault:
        raise MaskProblemError(mark.fault)
    if mark.mask is None:
        mask = from_coco(mark.segmentation, height, width)
    elif first_of([mark.mask]) is None:
        raise MaskProblemError("there is no such mask file")
    else:
        mask = _fitted(read_mask(mark.mask), height, width)
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
    """The path of a file named by untrusted annotations; None if the name leads out of the folder or no file can have it.

    The name alone is judged: folders and files that the user has linked into the folder are read.
    """
    if not isinstance(name, str) or not name or "\0" in name:
        return None
    try:
        encoded = name.encode()
    except UnicodeEncodeError:  # half of a surrogate pair, which JSON can hold
        return None
    if len(encoded) > 1000 or any(len(part) > 255 for part in encoded.split(b"/")):  # no file system has such names
        return None
    path = PurePosixPath(os.path.normpath(name))  # so that no `..` behind a link is left
    return None if path.is_absolute() or ".." in path.parts else folder / path


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
    """The first path that is a file; a link that leads round in a circle is none."""
    return next((path for path in paths if os.path.isfile(path)), None)

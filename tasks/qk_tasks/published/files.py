"""Reads what data sets consist of: images by path or as bytes, and JSON.

Inputs are untrusted: names cannot lead out of the user's folder, sizes are checked before anything is decoded, and
nothing is unpickled. An item that cannot be used is a `BadItemError` with one line that names the file.
"""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import UsageError
from qk_bench.images import MAX_PIXELS
from qk_tasks.pairs.annotations import inside

FORMATS: Final = ("PNG", "JPEG", "WEBP")
MODES: Final = ("RGB", "RGBA", "L", "LA", "P", "1", "CMYK")
MAX_JSON: Final = 256 * 2**20
ROTATION: Final = 0x0112
"""The EXIF tag of a photograph's orientation."""


class BadItemError(ValueError):
    """Why one item of a data set cannot be used, as one line."""


@dataclass(frozen=True)
class Cell:
    """Where an image stands in a Parquet file: row group, row in it, column."""

    file: str
    group: int
    row: int
    column: str

    def read(self, name: str) -> bytes:
        """Its bytes.

        Raises:
            BadItemError: There are none, or the file cannot be read.
        """
        data = _column(self.file, self.group, self.column)[self.row]
        if data is None:
            raise BadItemError(f"{name}: no image")
        return data


@dataclass(frozen=True)
class Picture:
    """An image of a data set, not read yet: a file, or a cell of a table."""

    name: str
    path: Path | None = None
    cell: Cell | None = None

    def size(self, *, verify: bool = False, unturned: bool = False) -> tuple[int, int]:
        """Height and width as it will be read, from the header alone.

        Args:
            verify: Whether to read all of it: a PNG has checksums, of others only decoding tells.
            unturned: Whether to refuse one that EXIF turns, since masks and targets beside it may be of either way up.

        Raises:
            BadItemError: It is absent, no image, too large, animated, cut short, damaged or of a mode that is not read.
        """
        return self._open(decode=False, verify=verify, unturned=unturned)[0]

    def read(self) -> NDArray[np.uint8]:
        """The (H, W, 3) uint8 pixels, turned upright as EXIF says; grey and palette images become RGB, alpha is dropped.

        Raises:
            BadItemError: As for `size`, or it cannot be decoded.
        """
        pixels = self._open(decode=True)[1]
        assert pixels is not None
        return pixels

    def stream(self) -> io.BytesIO | Path:
        """What Pillow opens.

        Raises:
            BadItemError: There is no such file.
        """
        if self.cell is not None:
            return io.BytesIO(self.cell.read(self.name))
        if self.path is None or not self.path.is_file():
            raise BadItemError(f"{self.name}: there is no such file")
        return self.path

    def stamp(self) -> tuple[str, int]:
        """Name, and size in bytes of the file it is in, to tell one version of a data set from another."""
        path = Path(self.cell.file) if self.cell is not None else self.path
        return self.name, path.stat().st_size if path is not None and path.is_file() else -1

    def _open(
        self, decode: bool, verify: bool = False, unturned: bool = False
    ) -> tuple[tuple[int, int], NDArray[np.uint8] | None]:
        from PIL import Image, ImageOps, UnidentifiedImageError

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # our own limit is checked before anything is decoded
            try:
                with Image.open(self.stream(), formats=FORMATS) as image:
                    if image.width * image.height > MAX_PIXELS:
                        raise BadItemError(f"{self.name}: {image.width}x{image.height} pixels, more than {MAX_PIXELS}")
                    if getattr(image, "n_frames", 1) > 1:
                        raise BadItemError(f"{self.name}: an animated image, expected one picture")
                    if image.mode not in MODES:
                        raise BadItemError(f"{self.name}: image of mode {image.mode}, expected 8 bits a channel")
                    told = image.format != "PNG" or "exif" in image.info  # asking a PNG without EXIF decodes all of it
                    orientation = image.getexif().get(ROTATION, 1) if told else 1
                    if unturned and orientation in range(2, 9):
                        raise BadItemError(
                            f"{self.name}: EXIF turns it (orientation {orientation}), so that what is beside it may not fit"
                        )
                    sideways = orientation in range(5, 9)
                    size = (image.width, image.height) if sideways else (image.height, image.width)
                    if not decode:
                        self._check_end(image.format or "")
                        if verify and image.format == "PNG":
                            image.verify()
                        elif verify:
                            image.draft("RGB", (1, 1))  # a JPEG at an eighth of its size: all is read, little computed
                            image.load()
                        return size, None
                    upright = ImageOps.exif_transpose(image).convert("RGB")
                    return size, np.ascontiguousarray(np.asarray(upright, dtype=np.uint8))
            except BadItemError:
                raise
            except UnidentifiedImageError:
                raise BadItemError(f"{self.name}: not a readable {', '.join(FORMATS)} file") from None
            except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
                raise BadItemError(f"{self.name}: corrupt or truncated image ({type(error).__name__})") from None

    def _check_end(self, kind: str) -> None:
        """Whether the file has its end: tells a download that was cut short without decoding it."""
        mark = {"PNG": b"IEND", "JPEG": b"\xff\xd9"}.get(kind)
        if self.cell is not None:
            tail = self.cell.read(self.name)[-1024:]
        else:
            assert self.path is not None
            with self.path.open("rb") as file:
                file.seek(max(0, self.path.stat().st_size - 1024))
                tail = file.read()
        if mark and mark not in tail:
            raise BadItemError(f"{self.name}: the file is cut short")


def picture(root: Path, name: object, field: str) -> Picture:
    """The image that a field of an annotation names, inside of `root`.

    Raises:
        BadItemError: The field is missing or no text, or the name leads out of the folder.
    """
    if not isinstance(name, str) or not name:
        raise BadItemError(f"field {field!r} is missing or empty")
    path = inside(root, name)
    if path is None:
        raise BadItemError(f"field {field!r} names a file outside of {root.name}")
    return Picture(name, path)


def text(row: Mapping[str, Any], field: str) -> str:
    """A field that must be a text with something in it.

    Raises:
        BadItemError: It is missing, empty or no text.
    """
    value = row.get(field)
    if not isinstance(value, str) or not value.strip():
        raise BadItemError(f"field {field!r} is missing or empty")
    return value.strip()


def read_json(path: Path, repeated: list[str] | None = None) -> Any:
    """The content of a JSON file.

    Args:
        path: The file.
        repeated: Gets the keys that an object in it has twice; the first value of such a key counts.

    Raises:
        UsageError: It is too large, no JSON, or too deeply nested.
    """

    def first(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for key, value in pairs:
            if key in found and repeated is not None:
                repeated.append(key)
            found.setdefault(key, value)
        return found

    try:
        if path.stat().st_size > MAX_JSON:
            raise UsageError(f"{path} is larger than {MAX_JSON >> 20} MB")
        return json.loads(path.read_bytes(), object_pairs_hook=first)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}") from None
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path} is not JSON: {str(error)[:120]}", "download it again") from None


def json_object(line: str) -> dict[str, Any]:
    """One line of a JSON lines file.

    Raises:
        BadItemError: It is no JSON, or no object.
    """
    try:
        row = json.loads(line)
    except (ValueError, RecursionError):
        raise BadItemError("not JSON") from None
    if not isinstance(row, dict):
        raise BadItemError("not an object")
    return row


def shown_files(folder: Path, *patterns: str) -> list[Path]:
    """The files of some patterns below a folder, in order of name, without hidden ones (`._1.png` of macOS, `.cache`)."""
    found = {path for pattern in patterns for path in folder.glob(pattern) if path.is_file()}
    return sorted(
        p for p in found if not any(part.startswith((".", "__MACOSX")) for part in p.relative_to(folder).parts)
    )


def existing_folder(name: str) -> Path:
    """The user's folder.

    Raises:
        UsageError: There is no such folder.
    """
    folder = Path(name)
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", "name the folder that holds the data set")
    return folder


@lru_cache(maxsize=6)
def _column(file: str, group: int, column: str) -> list[bytes | None]:
    """The images of a column in one row group: bytes, or structs of bytes and path as the `datasets` library writes them."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        with pq.ParquetFile(file) as table:
            cells = table.read_row_group(group, columns=[column]).column(0).to_pylist()
    except (pa.ArrowException, OSError) as error:
        raise BadItemError(f"{Path(file).name} cannot be read: {str(error)[:120]}") from None
    found = [cell.get("bytes") if isinstance(cell, dict) else cell for cell in cells]
    return [data if isinstance(data, bytes) and data else None for data in found]

"""Reads a folder of pairs in any of its three forms, made by the builder or by hand.

By hand, an imagefolder is enough: `metadata.jsonl` (beside the images, or one per split folder) with `id`, `instruction`,
`source_file_name` and `target_file_name`; the other columns are optional. docs/own-dataset.md is the guide.
"""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from qk_bench.errors import UsageError, one_line
from qk_bench.images import MAX_PIXELS, ImageProblemError
from qk_bench.records import RegionQuery, Sample
from qk_bench.text import is_unicode
from qk_tasks.masks import MaskProblemError, from_array
from qk_tasks.pairs.annotations import Problem, inside
from qk_tasks.pairs.duplicates import SPLITS
from qk_tasks.pairs.formats import IMAGES, LOADER_SPLITS
from qk_tasks.pairs.pairing import TASKS
from qk_tasks.pairs.vision import Bool, Image, changed, shrink, shrink_mask
from qk_tasks.scenes.suite import region_query

MAX_FILE = 256 * 2**20  # bytes of one image file
ALL_TASKS = {**TASKS, "edit": "editing"}
"""Task by operation; `edit` is an edit of any other kind, judged by its closeness to the target."""
_SPLITS = {split: split for split in SPLITS} | {loader: split for split, loader in LOADER_SPLITS.items()}


class ItemProblemError(ValueError):
    """Why an item of a data set is not a pair, as one line."""


@dataclass(frozen=True)
class Item:
    """One row of a data set, its images not yet read."""

    where: str  # file and line, or member
    row: dict[str, Any]
    load: Callable[[str], bytes | None]

    @property
    def id(self) -> str:
        """Its id; empty where there is none."""
        return str(self.row.get("id") or "")

    @property
    def split(self) -> str:
        """train, val or test, unless it names another; test where it names none."""
        split = self._word("split", "test")
        return _SPLITS.get(split, split)

    @property
    def operation(self) -> str:
        """What kind of edit it is; `edit` where it does not say."""
        return self._word("operation", "edit")

    def _word(self, field: str, default: str) -> str:
        value = self.row.get(field)
        return default if value in (None, "") else str(value)[:80]


@dataclass(frozen=True)
class Dataset:
    """All items of a folder, in the order of its files, and what could not be read as an item."""

    name: str
    items: list[Item]
    problems: list[Problem]
    digest: str
    built: bool  # by `qkbench data build`, which looks at every pair it writes


def read(folder: Path) -> Dataset:
    """List a folder's items; images are read later, one by one.

    Raises:
        UsageError: It is no folder of pairs.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}", "name a folder that `qkbench data build` wrote, or your own")
    tables = sorted(folder.glob("data/*.parquet")) or sorted(folder.glob("*.parquet"))
    tars = sorted(folder.glob("*.tar"))
    lists = [p for p in (folder / "metadata.jsonl", *sorted(folder.glob("*/metadata.jsonl"))) if p.is_file()]
    kinds = [(tables, _parquet), (tars, _tar), (lists, _lines)]
    there = [(files, reader) for files, reader in kinds if files]
    described = folder / "dataset.json"
    if len(there) > 1 or not (there or described.is_file()):
        what = "several forms of data set" if there else "no data/*.parquet, no *.tar and no metadata.jsonl"
        raise UsageError(
            f"{folder} has {what}", "qkbench data build makes one; docs/own-dataset.md says how to make your own"
        )
    items: list[Item] = []
    problems: list[Problem] = []
    h = hashlib.sha256()
    for path, reader in ((path, reader) for files, reader in there for path in files):
        name = str(path.relative_to(folder))
        for found in reader(path, name, folder):
            if isinstance(found, Problem):
                problems.append(found)
            else:
                items.append(found)
                h.update(json.dumps(found.row, sort_keys=True, default=str).encode())
    try:
        name = str(json.loads(described.read_bytes())["name"]) if described.is_file() else folder.absolute().name
        h.update(described.read_bytes() if described.is_file() else b"")
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{described} cannot be read: {one_line(error)}") from None
    safe = "".join(c if (c.isalnum() and c.isascii()) or c in "-_" else "-" for c in name).strip("-_")[:60]
    return Dataset(safe or "dataset", items, problems, h.hexdigest(), described.is_file())


def _object(text: bytes) -> dict[str, Any]:
    row = json.loads(text)
    if not isinstance(row, dict):
        raise ValueError("not an object")
    if not is_unicode(row):
        raise ValueError("it holds half of a surrogate pair")
    return row


def _lines(path: Path, name: str, folder: Path) -> Iterator[Item | Problem]:
    base = path.parent

    def loader(row: dict[str, Any]) -> Callable[[str], bytes | None]:
        def load(image: str) -> bytes | None:
            file = row.get(f"{image}_file_name")
            if file is None:
                return None
            target = inside(folder, str(base.relative_to(folder) / str(file)))
            if target is None:
                raise ItemProblemError(f"{image}_file_name {str(file)[:80]!r} does not lie in the folder")
            if not target.is_file():
                raise ItemProblemError(f"{image}_file_name: there is no file {str(file)[:80]}")
            if target.stat().st_size > MAX_FILE:
                raise ItemProblemError(f"{image}_file_name: {file} is larger than {MAX_FILE} bytes")
            return target.read_bytes()

        return load

    split = _SPLITS.get(base.name)
    for number, line in enumerate(path.read_bytes().splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = _object(line)
        except (ValueError, RecursionError) as error:
            yield Problem(name, f"line {number}", f"is not a JSON object: {one_line(error)}")
            continue
        if split is not None and row.get("split") is None:
            row["split"] = split
        yield Item(f"{name}: line {number}", row, loader(row))


def _parquet(path: Path, name: str, folder: Path) -> Iterator[Item | Problem]:
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
        columns = file.schema_arrow.names
        text = [column for column in columns if column not in IMAGES]
    except Exception as error:  # pyarrow raises ArrowInvalid, OSError, …
        yield Problem(name, "file", f"is not readable Parquet: {one_line(error)}")
        return
    for group in range(file.metadata.num_row_groups):
        try:
            rows = file.read_row_group(group, columns=text).to_pylist()
        except Exception as error:
            yield Problem(name, f"group {group}", f"its rows cannot be read: {one_line(error)}")
            continue
        for number, row in enumerate(rows):

            def load(image: str, group: int = group, number: int = number) -> bytes | None:
                if image not in columns:
                    return None
                try:
                    cell = _row_group(str(path), group)[image][number].as_py()
                except Exception as error:  # a damaged page
                    raise ItemProblemError(
                        f"{image}: cannot be read from the Parquet file: {one_line(error)}"
                    ) from None
                data = cell.get("bytes") if isinstance(cell, dict) else cell
                return data if isinstance(data, bytes) else None

            yield Item(f"{name}: row {number} of group {group}", row, load)


@lru_cache(maxsize=1)
def _row_group(path: str, group: int) -> Any:
    import pyarrow.parquet as pq

    file = pq.ParquetFile(path)
    return file.read_row_group(group, columns=[n for n in file.schema_arrow.names if n in IMAGES])


def _tar(path: Path, name: str, folder: Path) -> Iterator[Item | Problem]:
    found: dict[str, dict[str, tuple[int, int]]] = {}
    twice: dict[str, str] = {}  # a suffix that is, by key
    try:
        with tarfile.open(path, "r:") as archive:
            for member in archive:
                if member.size < 0:  # the next one would be looked for before it, without end
                    raise tarfile.ReadError(f"a member has {member.size} bytes")
                if not member.isreg():
                    continue
                parent, slash, base = member.name.removeprefix("./").rpartition("/")
                stem, _, suffix = base.partition(".")
                key = f"{parent}{slash}{stem}"
                members = found.setdefault(key, {})
                if suffix in members:
                    twice.setdefault(key, suffix)
                members[suffix] = (member.offset_data, member.size)
    except Exception as error:  # tarfile raises TarError, OSError, ValueError, OverflowError, …
        yield Problem(name, "file", f"is not a readable tar: {one_line(error)}")
        if not found:  # what came before is used
            return
    with path.open("rb") as file:
        for key, members in found.items():
            if key in twice:
                yield Problem(name, key, f"its .{twice[key]} member is there twice: each sample needs a key of its own")
                continue

            def load(image: str, members: dict[str, tuple[int, int]] = members) -> bytes | None:
                place = members.get(f"{image}.png")
                if place is None:
                    return None
                if place[1] > MAX_FILE:
                    raise ItemProblemError(f"{image}: larger than {MAX_FILE} bytes")
                with path.open("rb") as archive:
                    archive.seek(place[0])
                    return archive.read(place[1])

            try:
                offset, size = members["json"]
                file.seek(offset)
                row = _object(file.read(min(size, MAX_FILE)))
            except (KeyError, ValueError, RecursionError) as error:
                yield Problem(name, key, f"has no readable .json member: {one_line(error)}")
                continue
            yield Item(f"{name}: {key}", {"id": key, **row}, load)


# From an item to a sample


def check_words(item: Item) -> None:
    """Hold an item's split and operation to those that there are.

    Raises:
        ItemProblemError: One is another.
    """
    for name, value, known in (("split", item.split, SPLITS), ("operation", item.operation, ALL_TASKS)):
        if value not in known:
            raise ItemProblemError(f"{name} {value!r} is not one of {', '.join(known)}")


def to_sample(item: Item, suite: str, version: str, index: int, resolution: int | None = None) -> Sample:
    """An item as a sample, at its own size or resized so that its longer side has `resolution` pixels.

    Raises:
        ItemProblemError: A field or an image is missing or wrong.
    """
    check_words(item)
    source, target = _picture(item, "source"), _picture(item, "target")
    height, width = source.shape[:2]
    if target.shape != source.shape:
        raise ItemProblemError(f"target is {target.shape[1]}x{target.shape[0]} pixels, source {width}x{height}")
    edit = _mask(item, "edit_mask", height, width)
    differ = changed(source, target)
    if not differ.any():
        raise ItemProblemError("source and target are the same")
    if edit is not None and (differ & ~edit).any():
        raise ItemProblemError(f"{int((differ & ~edit).sum())} changed pixels lie outside of edit_mask")
    edit = differ if edit is None else edit
    asked = _mask(item, "region_mask", height, width)
    region = edit if asked is None or not asked.any() else asked
    if not (region & differ).any():
        raise ItemProblemError("nothing of region_mask changes between source and target")
    if resolution is not None and resolution != max(height, width):
        w, h = (
            max(1, round(width * resolution / max(height, width))),
            max(1, round(height * resolution / max(height, width))),
        )
        source, target = (_resized(pixels, w, h) for pixels in (source, target))
        edit, region = shrunk(edit, w, h, 0), shrunk(region, w, h, 0.5)
        edit |= changed(source, target)
        region = region if region.any() else edit
        width, height = w, h
    text = {name: item.row.get(name) for name in ("instruction", "cluster", "photo", "object")}
    instruction = text["instruction"]
    if not isinstance(instruction, str) or not instruction.strip():
        raise ItemProblemError("field `instruction` is missing")
    moved = None
    if item.operation == "move":
        if not all(isinstance(item.row.get(k), int | float) and abs(item.row[k]) <= 1 for k in ("dx", "dy")):
            raise ItemProblemError("field `dx` or `dy` is missing: shares of width and height, in [-1, 1]")
        moved = {"dx": float(item.row["dx"]), "dy": float(item.row["dy"])}
    try:
        return Sample(
            id=item.id,
            suite=suite,
            suite_version=version,
            task=ALL_TASKS[item.operation],
            operation=item.operation,
            split=item.split,
            index=index,
            cluster=str(text["cluster"] or text["photo"] or item.id),
            instruction=instruction.strip()[:2000],
            width=width,
            height=height,
            source=source,
            target=target,
            edit_mask=edit,
            region=_region(region),
            target_scene=moved,
            attributes={"object": str(text["object"] or "")[:80]},
        )
    except ValueError:
        raise ItemProblemError(f"id {item.id[:80]!r} is missing or not safe as a file name") from None


def shrunk(mask: Bool, width: int, height: int, share: float) -> Bool:
    """A mask at another size, smaller or larger."""
    if width <= mask.shape[1]:
        return shrink_mask(mask, width, height, share)
    from PIL import Image as Pillow

    return np.asarray(Pillow.fromarray(mask).resize((width, height), Pillow.Resampling.NEAREST))


def _resized(pixels: Image, width: int, height: int) -> Image:
    """An image at another size; averaging keeps what is equal in two images equal."""
    if width <= pixels.shape[1]:
        return np.asarray(shrink(pixels, width, height), dtype=np.uint8)
    from PIL import Image as Pillow

    return np.asarray(Pillow.fromarray(pixels).resize((width, height), Pillow.Resampling.BICUBIC), dtype=np.uint8)


def _region(mask: Bool) -> RegionQuery:
    return region_query(mask)


def _bytes(item: Item, name: str, *, needed: bool) -> bytes | None:
    data = item.load(name)
    if data is None and needed:
        raise ItemProblemError(f"field `{name}_file_name` (Parquet: `{name}`) is missing")
    return data


def _picture(item: Item, name: str) -> Image:
    data = _bytes(item, name, needed=True)
    values, mode = _decode(data or b"", name)
    if mode != "RGB":
        raise ItemProblemError(f"{name}: image of mode {mode}, expected RGB")
    return values


def _mask(item: Item, name: str, height: int, width: int) -> Bool | None:
    data = _bytes(item, name, needed=False)
    if data is None:
        return None
    values, mode = _decode(data, name)
    if mode not in ("1", "L", "RGB"):
        raise ItemProblemError(f"{name}: image of mode {mode}, expected one channel")
    try:
        return from_array(values, height, width)
    except MaskProblemError as error:
        raise ItemProblemError(f"{name}: {error}") from None


def _decode(data: bytes, name: str) -> tuple[Image, str]:
    from PIL import Image as Pillow

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Pillow.open(io.BytesIO(data), formats=("PNG", "JPEG", "WEBP")) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise ImageProblemError(f"more than {MAX_PIXELS} pixels")
                if image.getexif().get(0x0112, 1) not in (0, 1):
                    raise ImageProblemError("rotated by its EXIF; turn the pixels and drop the tag")
                return np.ascontiguousarray(np.asarray(image)), image.mode
        except ImageProblemError as error:
            raise ItemProblemError(f"{name}: {error}") from None
        except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, …
            why = " ".join(str(error).split())[:80]
            raise ItemProblemError(
                f"{name}: not a readable PNG, JPEG or WebP image ({why or type(error).__name__})"
            ) from None

"""Reads a folder in Open Images' published layout (V5 to V7, instance segmentation).

    SUBSET/ID.jpg                                         the images; SUBSET is train, validation or test (also SUBSET_0/ to
                                                          SUBSET_f/, as the archives unpack; also in images/ or data/)
    SUBSET-masks/ID_LABEL_BOX.png                         the masks (also in masks/)
    SUBSET-annotations-object-segmentation.csv            MaskPath, ImageID, LabelName, BoxID, …
    class-descriptions-boxable.csv                        LABEL,name; no header (also oidv7-class-descriptions-boxable.csv)
    SUBSET-images-boxable-with-rotation.csv               License, Author, Rotation, …; also image_ids_and_rotation.csv

The CSV files may also lie in `annotations/` or `metadata/`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator, Set
from pathlib import Path

from qk_bench.errors import UsageError, one_line
from qk_bench.text import plain
from qk_tasks.pairs.annotations import SAFE, Annotations, Entry, Mark, Problem, first_of, inside, require_folder, shown

SUBSETS = ("train", "validation", "test")
_PLACES = ("", "annotations/", "metadata/")
_SOURCE = ("License", "Author", "OriginalLandingURL", "Rotation")


def read(folder: Path) -> Annotations:
    """All photographs with segmented objects, and what is wrong with the annotations, item by item.

    Raises:
        UsageError: There is no segmentation CSV, or none that can be read, or no class descriptions.
    """
    require_folder(folder, "SUBSET-annotations-object-segmentation.csv, the masks and the images")
    found = Annotations()
    names = _classes(folder, found)
    first: dict[str, str] = {}  # the file that has an image, by its id
    unreadable = []
    tables = {s: first_of([folder / f"{p}{s}-annotations-object-segmentation.csv" for p in _PLACES]) for s in SUBSETS}
    there = {subset: table for subset, table in tables.items() if table is not None}
    for subset, table in there.items():
        try:
            _read_subset(folder, subset, table, names, first, found)
        except UsageError as error:
            unreadable.append(error)
            found.problems.append(Problem(str(table.relative_to(folder)), "file", error.message))
    if not there:
        raise UsageError(
            f"{folder} has no SUBSET-annotations-object-segmentation.csv", "name a folder in Open Images' layout"
        )
    if len(unreadable) == len(there):
        raise unreadable[0]
    return found


def _classes(folder: Path, found: Annotations) -> dict[str, str]:
    """What objects are called, by label. A label without a name, or with two, has none."""
    choices = ("class-descriptions-boxable.csv", "oidv7-class-descriptions-boxable.csv", "oidv7-class-descriptions.csv")
    path = first_of([folder / f"{place}{name}" for name in choices for place in _PLACES])
    if path is None:
        raise UsageError(f"{folder} has no class-descriptions-boxable.csv", "download it beside the segmentation CSV")
    names: dict[str, str] = {}
    unusable = set()
    for number, row in _lines(path):
        label, name = row[0], plain(row[1]).strip().lower()[:40] if len(row) > 1 else ""
        if not name or names.setdefault(label, name) != name:
            unusable.add(label)
            what = f"{shown(label)} is {shown(names[label])}, too; neither is used" if name else "there is no name"
            found.problems.append(Problem(str(path.relative_to(folder)), f"line {number}", what))
    return {label: name for label, name in names.items() if label not in unusable}


def _lines(path: Path) -> Iterator[tuple[int, list[str]]]:
    """The lines of a CSV file that are not empty, by number.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        with path.open(encoding="utf-8-sig", errors="replace", newline="") as file:
            reader = csv.reader(file)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except (csv.Error, OSError) as error:
        raise UsageError(f"{path} is not CSV: {one_line(error)}") from None


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str]]]:
    """The lines below the header by number, each by column; a line that is cut short has empty ones.

    Raises:
        UsageError: It cannot be read, or lacks a column.
    """
    lines = _lines(path)
    _, header = next(lines, (0, []))
    missing = [name for name in columns if name not in header]
    if missing:
        raise UsageError(f"{path} has no column `{missing[0]}`")
    for number, row in lines:
        yield number, dict(zip(header, row + [""] * len(header), strict=False))


def _sources(folder: Path, subset: str, images: Set[str]) -> dict[str, dict[str, str]]:
    """Licence, author, page and rotation of these images, by id; empty where the file is absent.

    The published file has 1.7 million lines: what is not asked for is not kept.
    """
    choices = (f"{subset}-images-boxable-with-rotation.csv", f"{subset}-images-with-rotation.csv",
               f"{subset}-images-with-labels-with-rotation.csv", "image_ids_and_rotation.csv")  # fmt: skip
    path = first_of([folder / f"{place}{name}" for name in choices for place in _PLACES])
    if path is None:
        return {}
    rows = (row for _, row in _rows(path, ("ImageID",)) if row["ImageID"] in images)
    return {row["ImageID"]: {name: row.get(name, "") for name in _SOURCE} for row in rows}


def _read_subset(
    folder: Path, subset: str, table: Path, names: dict[str, str], first: dict[str, str], found: Annotations
) -> None:
    file = str(table.relative_to(folder))
    marks, uncountable = _marks(folder, subset, table, names, found)
    images = marks.keys() - uncountable
    sources = _sources(folder, subset, images)
    for image in sorted(images):
        if first.setdefault(image, file) != file:
            what = f"its id is there twice, first in {first[image]}; the first one is used"
            found.problems.append(Problem(file, f"image {image}", what))
            continue
        source = sources.get(image, {})
        turned = source.get("Rotation", "").strip() or "0"
        if turned not in ("0", "0.0"):
            what = f"Rotation is {turned[:20]}: its masks do not fit its pixels"
            found.problems.append(Problem(file, f"image {image}", what))
            continue
        places = [folder / f"{place}{subset}{part}/{image}.jpg"
                  for place in ("", "images/", "data/", f"{subset}/") for part in ("", f"_{image[0]}")]  # fmt: skip
        by = " ".join(filter(None, (source.get("Author"), source.get("OriginalLandingURL"))))
        found.entries.append(
            Entry(
                id=image,
                path=first_of(places) or places[0],
                file=f"{subset}/{image}.jpg",
                size=None,
                licence=source.get("License", "")[:200],
                attribution=by[:300],
                marks=tuple(marks[image]),
            )
        )


def _marks(
    folder: Path, subset: str, table: Path, names: dict[str, str], found: Annotations
) -> tuple[dict[str, list[Mark]], set[str]]:
    """The objects by image, and the images that have one of unknown kind, so that none of theirs can be counted."""
    file = str(table.relative_to(folder))
    marks: dict[str, list[Mark]] = {}
    uncountable: set[str] = set()
    seen: dict[str, tuple[str, str]] = {}  # image and label, by mask
    for number, row in _rows(table, ("MaskPath", "ImageID", "LabelName")):
        mask, image, label = row["MaskPath"], row["ImageID"], row["LabelName"]
        paths = [inside(folder, f"{place}{mask}") for place in (f"{subset}-masks/", "masks/", f"masks/{subset}/")]
        problem = ""
        if not SAFE.fullmatch(image):
            problem = "field `ImageID` is missing or unusable"
            told = mask.split("_")[0]  # masks are named after their images
            if SAFE.fullmatch(told):
                problem += f"; image {told} is left out"
                uncountable.add(told)
        elif label not in names:
            problem = f"LabelName {shown(label)} has no name in the class descriptions; the image is left out"
            uncountable.add(image)
        elif mask in seen and seen[mask] == (image, label):
            problem = "its mask is there twice; the first one is used"
        elif mask in seen:
            problem = "its mask is that of another object, too; the images of both are left out"
            uncountable |= {image, seen[mask][0]}
        if problem:
            found.problems.append(Problem(file, f"line {number} ({mask or image})", problem))
            continue
        fault, path = "", None
        if not mask:
            fault = f"line {number}: field `MaskPath` is missing"
        elif any(path is None for path in paths):
            fault = f"line {number}: MaskPath {shown(mask)} does not lie in the folder"
        else:
            seen[mask] = image, label
            there = [path for path in paths if path is not None]
            path = first_of(there) or there[0]
        id = re.sub(r"[^A-Za-z0-9]+", "-", mask.rsplit(".", 1)[0].removeprefix(f"{image}_")).strip("-")[:40] or "mask"
        while any(other.id == id for other in marks.get(image, ())):
            id = f"{id}-{len(marks[image])}"
        marks.setdefault(image, []).append(Mark(id, names[label], file, mask=path, fault=fault))
    return marks, uncountable

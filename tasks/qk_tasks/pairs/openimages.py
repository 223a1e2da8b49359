"""Reads a folder in Open Images' published layout (V5 to V7, instance segmentation).

    SUBSET/ID.jpg                                         the images; SUBSET is train, validation or test
    SUBSET-masks/ID_LABEL_BOX.png                         the masks (also in masks/)
    SUBSET-annotations-object-segmentation.csv            MaskPath, ImageID, LabelName, BoxID, …
    class-descriptions-boxable.csv                        LABEL,name; no header (also oidv7-class-descriptions-boxable.csv)
    SUBSET-images-boxable-with-rotation.csv               License, Author, Rotation, …; also image_ids_and_rotation.csv

The CSV files may also lie in `annotations/` or `metadata/`.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterator
from pathlib import Path

from qk_bench.errors import UsageError
from qk_tasks.pairs.annotations import SAFE, Annotations, Entry, Mark, Problem, first_of, inside, require_folder, shown

SUBSETS = ("train", "validation", "test")
_PLACES = ("", "annotations/", "metadata/")


def read(folder: Path) -> Annotations:
    """All photographs with segmented objects, and what is wrong with the annotations, item by item.

    Raises:
        UsageError: There is no segmentation CSV, or no class descriptions.
    """
    require_folder(folder, "SUBSET-annotations-object-segmentation.csv, the masks and the images")
    found = Annotations()
    names = _classes(folder)
    first: dict[str, str] = {}  # the file that has an image, by its id
    any_file = False
    for subset in SUBSETS:
        table = first_of([folder / f"{place}{subset}-annotations-object-segmentation.csv" for place in _PLACES])
        if table is not None:
            any_file = True
            _read_subset(folder, subset, table, names, first, found)
    if not any_file:
        raise UsageError(
            f"{folder} has no SUBSET-annotations-object-segmentation.csv", "name a folder in Open Images' layout"
        )
    return found


def _classes(folder: Path) -> dict[str, str]:
    choices = ("class-descriptions-boxable.csv", "oidv7-class-descriptions-boxable.csv", "oidv7-class-descriptions.csv")
    path = first_of([folder / f"{place}{name}" for name in choices for place in _PLACES])
    if path is None:
        raise UsageError(f"{folder} has no class-descriptions-boxable.csv", "download it beside the segmentation CSV")
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        return {row[0]: row[1].strip().lower()[:40] for row in csv.reader(file) if len(row) >= 2}


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[tuple[int, dict[str, str | None]]]:
    with path.open(encoding="utf-8", errors="replace", newline="") as file:
        reader = csv.DictReader(file)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise UsageError(f"{path} has no column `{missing[0]}`")
        try:
            yield from enumerate(reader, start=2)
        except csv.Error as error:
            raise UsageError(f"{path} line {reader.line_num} is not CSV: {error}") from None


def _sources(folder: Path, subset: str) -> dict[str, dict[str, str | None]]:
    """Licence, author and rotation by image id; empty where the file is absent."""
    choices = (f"{subset}-images-boxable-with-rotation.csv", f"{subset}-images-with-rotation.csv",
               f"{subset}-images-with-labels-with-rotation.csv", "image_ids_and_rotation.csv")  # fmt: skip
    path = first_of([folder / f"{place}{name}" for name in choices for place in _PLACES])
    return {} if path is None else {row["ImageID"] or "": row for _, row in _rows(path, ("ImageID",))}


def _read_subset(
    folder: Path, subset: str, table: Path, names: dict[str, str], first: dict[str, str], found: Annotations
) -> None:
    sources = _sources(folder, subset)
    file = str(table.relative_to(folder))
    marks: dict[str, list[Mark]] = {}
    seen: set[str] = set()
    for number, row in _rows(table, ("MaskPath", "ImageID", "LabelName")):
        mask, image, label = row["MaskPath"] or "", row["ImageID"] or "", row["LabelName"] or ""
        paths = [inside(folder, f"{place}{mask}") for place in (f"{subset}-masks/", "masks/", f"masks/{subset}/")]
        problem = ""
        if not mask or not SAFE.fullmatch(image):
            problem = f"field `{'MaskPath' if not mask else 'ImageID'}` is missing or unusable"
        elif label not in names:
            problem = f"LabelName {shown(label)} is not in the class descriptions"
        elif mask in seen:
            problem = "its mask is there twice; the first one is used"
        elif any(path is None for path in paths):
            problem = f"MaskPath {shown(mask)} does not lie in the folder"
        if problem:
            found.problems.append(Problem(file, f"line {number} ({mask or image})", problem))
            continue
        seen.add(mask)
        there = [path for path in paths if path is not None]
        id = re.sub(r"[^A-Za-z0-9]+", "-", mask.rsplit(".", 1)[0].removeprefix(f"{image}_")).strip("-")[:40] or "mask"
        if any(other.id == id for other in marks.get(image, ())):
            id = f"{id}-{len(marks[image])}"
        path = first_of(there) or there[0]
        marks.setdefault(image, []).append(Mark(id, names[label], file, mask=path))
    for image in sorted(marks):
        if first.setdefault(image, file) != file:
            what = f"its id is there twice, first in {first[image]}; the first one is used"
            found.problems.append(Problem(file, f"image {image}", what))
            continue
        source = sources.get(image, {})
        turned = (source.get("Rotation") or "0").strip() or "0"
        if turned not in ("0", "0.0"):
            found.problems.append(
                Problem(file, f"image {image}", f"Rotation is {turned}: its masks do not fit its pixels")
            )
            continue
        places = [folder / f"{place}{subset}/{image}.jpg" for place in ("", "images/", "data/")]
        by = " ".join(filter(None, (source.get("Author"), source.get("OriginalLandingURL"))))
        found.entries.append(
            Entry(
                id=image,
                path=first_of(places) or places[0],
                file=f"{subset}/{image}.jpg",
                size=None,
                licence=(source.get("License") or "")[:200],
                attribution=by[:300],
                marks=tuple(marks[image]),
            )
        )

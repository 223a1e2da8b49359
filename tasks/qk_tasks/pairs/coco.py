"""Reads a folder in COCO's layout: `annotations/instances_NAME.json`, images in `NAME/` (or `images/NAME/`, `images/`)."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from qk_bench.errors import UsageError, one_line
from qk_bench.text import plain
from qk_tasks.pairs.annotations import SAFE, Annotations, Entry, Mark, Problem, first_of, inside, require_folder, shown

MAX_ID = 2**63  # annotations' ids become parts of file names


def read(folder: Path) -> Annotations:
    """All photographs with their objects, and what is wrong with the annotations, item by item.

    Raises:
        UsageError: It has no annotation file, or none that is COCO's JSON.
    """
    require_folder(folder, "annotations/instances_*.json and the images")
    files = sorted(folder.glob("annotations/instances_*.json")) or sorted(folder.glob("instances_*.json"))
    if not files:
        raise UsageError(f"{folder} has no annotations/instances_*.json", "name a folder in COCO's layout")
    found = Annotations()
    seen: dict[str, str] = {}
    unreadable = []
    for path in files:
        file = _File(folder, path, found, seen)
        try:
            file.read()
        except UsageError as error:
            unreadable.append(error)
            file.problem("file", error.message)
    if len(unreadable) == len(files):
        raise unreadable[0]
    return found


class _File:
    def __init__(self, folder: Path, path: Path, found: Annotations, seen: dict[str, str]) -> None:
        self.folder, self.path, self.found, self.seen = folder, path, found, seen
        self.name = str(path.relative_to(folder))
        self.subset = path.stem.removeprefix("instances_")
        self.marks: dict[object, list[Mark]] = {}  # by the image's id
        self.uncountable: set[object] = set()  # ids of images that have an object of unknown kind

    def problem(self, item: str, what: str) -> None:
        self.found.problems.append(Problem(self.name, item, what))

    def read(self) -> None:
        try:
            data = json.loads(self.path.read_bytes())
        except (ValueError, OSError, RecursionError) as error:
            raise UsageError(f"{self.path} is not JSON: {one_line(error)}") from None
        if not isinstance(data, dict) or not all(isinstance(data.get(k), list) for k in ("images", "annotations")):
            raise UsageError(f"{self.path} lacks the lists `images` and `annotations` of COCO's format")
        self.names = self._table(data.get("categories"), "categories", _name)
        self.licences = self._table(data.get("licenses"), "licenses", _licence)
        self.images = {row["id"] for row in data["images"] if _has_id(row)}
        self.contested = _contested(data["annotations"])
        self.ids: set[int] = set()
        for number, row in enumerate(data["annotations"]):
            self._annotation(number, row)
        contested = _contested(data["images"])
        for number, row in enumerate(data["images"]):
            entry = self._entry(number, row, contested)
            if entry is not None:
                self.found.entries.append(entry)

    def _table(self, rows: Any, key: str, text: Callable[[dict[str, Any]], str | None]) -> dict[int, str]:
        """What the entries of a list say, by id. An id that two of them give another meaning has none."""
        found: dict[int, str] = {}
        contested = set()
        if not isinstance(rows, list | None):
            self.problem(f"`{key}`", "is not a list")
            return {}
        for number, row in enumerate(rows or ()):
            said = text(row) if isinstance(row, dict) else None
            if said is None or type(row.get("id")) is not int:
                self.problem(f"{key}[{number}]", "is no object with an `id` and a `name`")
            elif row["id"] not in found:
                found[row["id"]] = said
            elif found[row["id"]] == said:
                self.problem(f"{key}[{number}]", f"its id {shown(row['id'])} is there twice; the first one is used")
            else:
                contested.add(row["id"])
                other = shown(found[row["id"]])
                self.problem(f"{key}[{number}]", f"its id {shown(row['id'])} is that of {other}, too; none is used")
        return {id: said for id, said in found.items() if id not in contested}

    def _annotation(self, number: int, row: Any) -> None:
        if not isinstance(row, dict):
            self.problem(f"annotations[{number}]", "is not an object")
            return
        id, image, category = row.get("id"), row.get("image_id"), row.get("category_id")
        item = f"annotation {shown(id)}" if id is not None else f"annotations[{number}]"
        if type(id) is int and id not in self.contested:
            if id in self.ids:
                self.problem(item, "its id is there twice; the first one is used")
                return
            self.ids.add(id)
        fault = self._fault(row)
        if isinstance(image, int | float | str) and image in self.images:  # 1.0 is no id, but means 1
            name = self.names.get(category) if type(category) is int else None
            if name is None:
                self.uncountable.add(image)
                fault += f"; image {shown(image)} is left out, since it has one more object of some kind"
            else:
                crowd = bool(fault or row.get("iscrowd", 0))
                mark = Mark(f"[{number}]" if fault else str(id), name, self.name, row.get("segmentation"), crowd=crowd)
                self.marks.setdefault(image, []).append(mark)
        if fault:
            self.problem(item, fault)

    def _fault(self, row: dict[str, Any]) -> str:
        missing = [key for key in ("id", "image_id", "category_id") if key not in row]
        if missing:
            return f"field `{missing[0]}` is missing"
        if type(row["id"]) is not int or not 0 <= row["id"] < MAX_ID:
            return f"`id` is {shown(row['id'])}, expected a whole number"
        if row["id"] in self.contested:
            return "its id is there twice, with other content; none is edited"
        if type(row["image_id"]) not in (int, str) or row["image_id"] not in self.images:
            return f"`image_id` {shown(row['image_id'])} is no image of this file"
        if type(row["category_id"]) is not int or row["category_id"] not in self.names:
            return f"`category_id` {shown(row['category_id'])} is no category of this file"
        if row.get("iscrowd", 0) not in (0, 1):
            return f"`iscrowd` is {shown(row['iscrowd'])}, expected 0 or 1"
        return ""

    def _entry(self, number: int, row: Any, contested: set[object]) -> Entry | None:
        if not isinstance(row, dict):
            self.problem(f"images[{number}]", "is not an object")
            return None
        item = f"image {shown(row['id'])}" if "id" in row else f"images[{number}]"
        missing = [key for key in ("id", "file_name", "width", "height") if key not in row]
        if missing:
            self.problem(item, f"field `{missing[0]}` is missing")
            return None
        id = f"{row['id']:012d}" if type(row["id"]) is int and row["id"] >= 0 else str(row["id"])
        size = (row["width"], row["height"])
        paths = [inside(self.folder, f"{place}{row['file_name']}") for place in self._places()]
        if not _has_id(row):
            self.problem(item, "its id is not a whole number or a text")
        elif not SAFE.fullmatch(id):
            self.problem(item, "its id cannot be used in file names; use letters, digits, - and _")
        elif any(type(v) is not int or v < 1 for v in size):
            self.problem(item, f"size {shown(size)} is not two whole numbers")
        elif row["id"] in contested:
            self.problem(item, "its id is there twice, with other content: whose annotations are whose is not known")
        elif id in self.seen:
            self.problem(item, f"its id is there twice, first in {self.seen[id]}; the first one is used")
        elif not isinstance(row["file_name"], str) or any(path is None for path in paths):
            self.problem(item, f"`file_name` {shown(row['file_name'])} does not lie in the folder")
        elif row["id"] not in self.uncountable:  # or its annotation is named already
            self.seen[id] = self.name
            there = [path for path in paths if path is not None]
            path = first_of(there) or there[0]
            marks = self.marks.get(row["id"], ())
            return Entry(
                id=id,
                path=path,
                file=f"{self.subset}/{row['file_name']}",
                size=size,
                licence=self.licences.get(row["license"], "") if type(row.get("license")) is int else "",
                attribution=plain(str(row.get("flickr_url") or row.get("coco_url") or ""))[:300],
                marks=tuple(sorted(marks, key=lambda mark: (len(mark.id), mark.id))),  # the order of numbers
            )
        return None

    def _places(self) -> tuple[str, ...]:
        return f"{self.subset}/", f"images/{self.subset}/", "images/", ""


def _has_id(row: Any) -> bool:
    return isinstance(row, dict) and type(row.get("id")) in (int, str)


def _contested(rows: list[Any]) -> set[object]:
    """The ids that rows of different content share."""
    first: dict[object, Any] = {}
    return {row["id"] for row in rows if _has_id(row) and first.setdefault(row["id"], row) != row}


def _name(category: dict[str, Any]) -> str | None:
    name = category.get("name")
    return " ".join(plain(name).split())[:40].strip() or None if isinstance(name, str) else None


def _licence(row: dict[str, Any]) -> str:
    """Its name and address; empty where the tool that wrote it left both empty."""
    words = [plain(str(row.get(key) or "")) for key in ("name", "url")]
    return " ".join(word for word in words if word)[:200]

"""Reads a folder in COCO's layout: `annotations/instances_NAME.json`, images in `NAME/` (or `images/NAME/`, `images/`)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from qk_bench.errors import UsageError, one_line
from qk_bench.text import plain
from qk_tasks.pairs.annotations import SAFE, Annotations, Entry, Mark, Problem, first_of, inside, require_folder, shown


def read(folder: Path) -> Annotations:
    """All photographs with their objects, and what is wrong with the annotations, item by item.

    Raises:
        UsageError: It has no annotation file, or one that is not COCO's JSON.
    """
    require_folder(folder, "annotations/instances_*.json and the images")
    files = sorted(folder.glob("annotations/instances_*.json")) or sorted(folder.glob("instances_*.json"))
    if not files:
        raise UsageError(f"{folder} has no annotations/instances_*.json", "name a folder in COCO's layout")
    found = Annotations()
    seen: dict[str, str] = {}
    for file in files:
        _File(folder, file, found, seen).read()
    return found


class _File:
    def __init__(self, folder: Path, path: Path, found: Annotations, seen: dict[str, str]) -> None:
        self.folder, self.path, self.found, self.seen = folder, path, found, seen
        self.name = str(path.relative_to(folder))
        self.subset = path.stem.removeprefix("instances_")

    def problem(self, item: str, what: str) -> None:
        self.found.problems.append(Problem(self.name, item, what))

    def read(self) -> None:
        try:
            data = json.loads(self.path.read_bytes())
        except (ValueError, OSError, RecursionError) as error:
            raise UsageError(f"{self.path} is not JSON: {one_line(error)}") from None
        if not isinstance(data, dict) or not all(isinstance(data.get(k), list) for k in ("images", "annotations")):
            raise UsageError(f"{self.path} lacks the lists `images` and `annotations` of COCO's format")
        names = {
            c["id"]: plain(c["name"])
            for c in _dicts(data.get("categories"))
            if type(c.get("id")) is int and isinstance(c.get("name"), str)
        }
        licences = {c["id"]: c for c in _dicts(data.get("licenses")) if type(c.get("id")) is int}
        marks: dict[int, list[Mark]] = {}
        ids: set[object] = set()
        images = {i["id"] for i in _dicts(data["images"]) if type(i.get("id")) in (int, str)}
        for number, row in enumerate(data["annotations"]):
            mark = self._mark(number, row, names, ids, images)
            if mark is not None:
                marks.setdefault(row["image_id"], []).append(mark)
        for number, row in enumerate(data["images"]):
            entry = self._entry(number, row, licences, marks)
            if entry is not None:
                self.found.entries.append(entry)

    def _mark(self, number: int, row: Any, names: dict[int, str], ids: set[object], images: set[object]) -> Mark | None:
        if not isinstance(row, dict):
            self.problem(f"annotations[{number}]", "is not an object")
            return None
        number_or_id = row.get("id")
        item = f"annotation {shown(number_or_id)}" if number_or_id is not None else f"annotations[{number}]"
        missing = [key for key in ("id", "image_id", "category_id") if key not in row]
        if missing:
            self.problem(item, f"field `{missing[0]}` is missing")
        elif type(row["id"]) is not int or row["id"] < 0:
            self.problem(item, f"`id` is {shown(row['id'])}, expected a whole number")
        elif row["id"] in ids:
            self.problem(item, "its id is there twice; the first one is used")
        elif not isinstance(row["image_id"], int | str) or row["image_id"] not in images:
            self.problem(item, f"`image_id` {shown(row['image_id'])} is no image of this file")
        elif row["category_id"] not in names if isinstance(row["category_id"], int) else True:
            self.problem(item, f"`category_id` {shown(row['category_id'])} is no category of this file")
        elif row.get("iscrowd", 0) not in (0, 1):
            self.problem(item, f"`iscrowd` is {shown(row['iscrowd'])}, expected 0 or 1")
        else:
            ids.add(row["id"])
            name = " ".join(names[row["category_id"]].split())[:40]
            return Mark(str(row["id"]), name, self.name, row.get("segmentation"), crowd=bool(row.get("iscrowd", 0)))
        return None

    def _entry(
        self, number: int, row: Any, licences: dict[int, dict[str, Any]], marks: dict[int, list[Mark]]
    ) -> Entry | None:
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
        if not SAFE.fullmatch(id):
            self.problem(item, "its id cannot be used in file names; use letters, digits, - and _")
        elif any(type(v) is not int or v < 1 for v in size):
            self.problem(item, f"size {shown(size)} is not two whole numbers")
        elif id in self.seen:
            self.problem(item, f"its id is there twice, first in {self.seen[id]}; the first one is used")
        elif not isinstance(row["file_name"], str) or any(path is None for path in paths):
            self.problem(item, f"`file_name` {shown(row['file_name'])} does not lie in the folder")
        else:
            self.seen[id] = self.name
            there = [path for path in paths if path is not None]
            path = first_of(there) or there[0]
            licence = licences.get(row["license"], {}) if isinstance(row.get("license"), int) else {}
            words = [plain(str(licence.get(key, ""))) for key in ("name", "url")]
            return Entry(
                id=id,
                path=path,
                file=f"{self.subset}/{row['file_name']}",
                size=size,
                licence=" ".join(word for word in words if word)[:200],
                attribution=plain(str(row.get("flickr_url") or row.get("coco_url") or ""))[:300],
                marks=tuple(sorted(marks.get(row["id"], ()), key=lambda mark: int(mark.id))),
            )
        return None

    def _places(self) -> tuple[str, ...]:
        return f"{self.subset}/", f"images/{self.subset}/", "images/", ""


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [item for item in value if isinstance(item, dict)] if isinstance(value, list) else []

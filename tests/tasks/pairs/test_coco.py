"""COCO files that contradict themselves are named, and no edit is built on what is in doubt."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from harness import Cli
from qk_tasks.pairs import coco, reader
from qk_tasks.pairs.annotations import Annotations, read_marked
from qk_tasks.pairs.builder import Options, build

from . import coco_folder

Spoil = Callable[[dict[str, Any]], None]
WIDTH, HEIGHT = 160, 120


def coco_of(folder: Path, spoil: Spoil | None = None) -> Path:
    """Photographs 1, 2, 3; annotations 1 to 3 (ball, sports car, apple) are of the first, 4 to 6 of the second."""
    return coco_folder.make(folder / "coco", 3, WIDTH, HEIGHT, spoil)


def said(found: Annotations) -> list[str]:
    return [f"{problem.item}: {problem.what}" for problem in found.problems]


def held(found: Annotations) -> list[str]:
    return [entry.id.lstrip("0") for entry in found.entries]


def test_photographs_of_one_id_are_left_out(tmp_path: Path) -> None:
    def spoil(data: dict[str, Any]) -> None:
        data["images"][1]["id"] = 1  # and the annotations of both with it
        for mark in data["annotations"][3:6]:
            mark["image_id"] = 1

    found = coco.read(coco_of(tmp_path, spoil))
    assert held(found) == ["3"]
    assert [line.split(",")[0] for line in said(found)] == ["image 1: its id is there twice"] * 2


def test_a_photograph_that_is_repeated_exactly_stays(tmp_path: Path) -> None:
    found = coco.read(coco_of(tmp_path, lambda data: data["images"].append(dict(data["images"][0]))))
    assert held(found) == ["1", "2", "3"]
    assert len(found.entries[0].marks) == 3 and len(found.problems) == 1


REFUSED: dict[str, Spoil] = {
    "annotations[1]: field `id` is missing": lambda data: data["annotations"][1].pop("id"),
    "annotation 2: `iscrowd` is 7": lambda data: data["annotations"][1].update(iscrowd=7),
    "annotation 1: its id is there twice, with other content": lambda data: data["annotations"][1].update(id=1),
    "annotation 1000": lambda data: data["annotations"][1].update(id=10**200),
    "annotation 2: `image_id` 1.0 is no image": lambda data: data["annotations"][1].update(image_id=1.0),
}


@pytest.mark.parametrize("words", REFUSED)
def test_no_edit_names_a_kind_of_which_an_object_was_refused(words: str, tmp_path: Path) -> None:
    def spoil(data: dict[str, Any]) -> None:
        data["annotations"][1]["category_id"] = 1  # two balls are in view
        REFUSED[words](data)

    folder = coco_of(tmp_path, spoil)
    found = coco.read(folder)
    assert said(found)[0].startswith(words)
    marks = {mark.id: mark for mark in found.entries[0].marks}
    assert marks["[1]"].crowd and read_marked(marks["[1]"], HEIGHT, WIDTH).any()  # an obstacle still
    options = Options("coco-edits", resolution=128, shares=(0, 0, 1), limit=1)
    build(folder, tmp_path / "pairs", options, note=lambda _: None)
    assert {item.row["object"] for item in reader.read(tmp_path / "pairs").items} == {"apple"}


UNKNOWN: dict[str, Spoil] = {
    "annotation 2: `category_id` 999 is no": lambda data: data["annotations"][1].update(category_id=999),
    "annotation 2: `category_id` True is no": lambda data: data["annotations"][1].update(category_id=True),
    "annotation 2: field `category_id` is missing": lambda data: data["annotations"][1].pop("category_id"),
}


@pytest.mark.parametrize("words", UNKNOWN)
def test_a_photograph_with_an_object_of_unknown_kind_is_left_out(words: str, tmp_path: Path) -> None:
    found = coco.read(coco_of(tmp_path, UNKNOWN[words]))
    assert held(found) == ["2", "3"]
    assert len(said(found)) == 1 and said(found)[0].startswith(words) and "image 1 is left out" in said(found)[0]


@pytest.mark.parametrize("name", ["", " \n ", None, 5])
def test_a_category_needs_a_name(name: object, tmp_path: Path) -> None:
    def spoil(data: dict[str, Any]) -> None:
        data["categories"].append({"id": 9, "name": name})
        data["annotations"][0]["category_id"] = 9

    found = coco.read(coco_of(tmp_path, spoil))
    assert said(found)[0].startswith("categories[3]: ") and held(found) == ["2", "3"]


def test_an_id_of_two_categories_or_licences_means_neither(tmp_path: Path) -> None:
    def spoil(data: dict[str, Any]) -> None:
        data["categories"] += [{"id": 3, "name": "zebra"}, {"id": 2, "name": "sports car"}, 5]
        data["licenses"] += [{"id": 4, "name": "Public domain", "url": ""}, {"id": 5, "name": None, "url": None}]
        del data["annotations"][2]  # the first photograph's only apple
        data["images"][0]["license"] = 5

    found = coco.read(coco_of(tmp_path, spoil))
    assert said(found)[:4] == [
        "categories[3]: its id 3 is that of 'apple', too; none is used",
        "categories[4]: its id 2 is there twice; the first one is used",
        "categories[5]: is no object with an `id` and a `name`",
        "licenses[1]: its id 4 is that of 'Attribution License CC-BY-2.0', too; none is used",
    ]
    assert held(found) == ["1"] and found.entries[0].licence == ""


@pytest.mark.parametrize("id", [None, True, 1.0, float("nan"), [1]])
def test_an_image_id_is_a_whole_number_or_a_text(id: object, tmp_path: Path) -> None:
    found = coco.read(coco_of(tmp_path, lambda data: data["images"][0].update(id=id)))
    assert held(found) == ["2", "3"]
    assert any(line.endswith("its id is not a whole number or a text") for line in said(found))


def test_one_broken_file_of_two_is_named_and_the_other_is_built(tmp_path: Path, cli: Cli) -> None:
    folder = coco_of(tmp_path)
    (folder / "annotations" / "instances_train2017.json").write_text('{"images": [')
    words = ("data", "build", "coco-edits", "--coco", folder, "--resolution", 128, "--workers", 1, "--out")
    code, out, err = cli(*words, tmp_path / "out")
    assert code == 5 and "instances_train2017.json: file: " in err and int(out.split()[0]) > 0
    (folder / "annotations" / "instances_val2017.json").write_text("[]")
    code, _, err = cli(*words, tmp_path / "none")
    assert code == 2 and "instances_train2017.json is not JSON" in err

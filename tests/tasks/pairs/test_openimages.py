"""Open Images as it is published is read; lines that contradict others are named, and no edit is built on them."""

from __future__ import annotations

import csv
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from qk_tasks.masks import MaskProblemError
from qk_tasks.pairs import openimages
from qk_tasks.pairs.annotations import Annotations, read_marked

from qk_bench.errors import UsageError

from . import coco_folder

WIDTH, HEIGHT = 160, 120


def said(found: Annotations) -> list[str]:
    return [f"{problem.item}: {problem.what}" for problem in found.problems]


def open_images(folder: Path) -> tuple[Path, list[dict[str, str]]]:
    """Two photographs, `a0` and `a1`, with three objects each; the rows of the segmentation table."""
    (folder / "train").mkdir(parents=True)
    (folder / "train-masks").mkdir()
    rows = []
    for number in range(2):
        pixels = coco_folder.photograph(number, WIDTH, HEIGHT)
        for k, (_, mask, _) in enumerate(coco_folder.objects(pixels, number)):
            rows.append({"MaskPath": f"a{number}_m0{k}.png", "ImageID": f"a{number}", "LabelName": f"/m/0{k}"})
            Image.fromarray(mask.astype(np.uint8)).save(folder / "train-masks" / rows[-1]["MaskPath"])
        Image.fromarray(pixels).save(folder / "train" / f"a{number}.jpg", quality=95)
    (folder / "class-descriptions-boxable.csv").write_text("/m/00,Ball\n/m/01,Car\n/m/02,Apple\n")
    write(folder, rows)
    return folder, rows


def write(folder: Path, rows: list[dict[str, str]], subset: str = "train") -> Path:
    path = folder / f"{subset}-annotations-object-segmentation.csv"
    with path.open("w", newline="") as file:
        writer = csv.DictWriter(file, ["MaskPath", "ImageID", "LabelName"])
        writer.writeheader()
        writer.writerows(rows)
    return path


def test_a_mask_that_cannot_be_read_is_still_an_object_of_open_images(tmp_path: Path) -> None:
    folder, rows = open_images(tmp_path / "oi")
    rows[0]["MaskPath"], rows[1]["MaskPath"] = "", "../../secret.png"
    write(folder, rows)
    found = openimages.read(folder)
    assert [mark.name for mark in found.entries[0].marks] == ["ball", "car", "apple"]
    for mark, words in zip(found.entries[0].marks, ("line 2: field `MaskPath`", "line 3: MaskPath '../"), strict=False):
        with pytest.raises(MaskProblemError, match=words):
            read_marked(mark, HEIGHT, WIDTH)


def test_an_image_with_an_object_of_unknown_kind_is_left_out(tmp_path: Path) -> None:
    folder, rows = open_images(tmp_path / "oi")
    write(folder, [*rows, {**rows[1], "MaskPath": "new.png", "LabelName": "/m/99"}])
    assert [entry.id for entry in openimages.read(folder).entries] == ["a1"]
    write(folder, [*rows, {**rows[1], "LabelName": "/m/00"}])  # the same mask is a car and a ball
    assert [entry.id for entry in openimages.read(folder).entries] == ["a1"]
    write(folder, [{**rows[0], "ImageID": ""}, *rows[1:]])
    found = openimages.read(folder)
    assert [entry.id for entry in found.entries] == ["a1"]
    assert said(found) == ["line 2 (a0_m00.png): field `ImageID` is missing or unusable; image a0 is left out"]
    write(folder, [*rows, rows[1]])
    found = openimages.read(folder)
    assert [entry.id for entry in found.entries] == ["a0", "a1"] and "there twice" in said(found)[0]


def test_a_label_without_a_name_or_with_two_names_no_object(tmp_path: Path) -> None:
    folder, rows = open_images(tmp_path / "oi")
    write(folder, [row for row in rows if row["MaskPath"] not in ("a0_m00.png", "a0_m01.png")])
    (folder / "class-descriptions-boxable.csv").write_text("/m/00, \n/m/01,Car\n/m/01,Cat\n/m/02,Apple\n/m/02,Apple\n")
    found = openimages.read(folder)
    assert [entry.id for entry in found.entries] == ["a0"]
    assert said(found)[:2] == ["line 1: there is no name", "line 3: '/m/01' is 'car', too; neither is used"]


def test_tables_with_a_byte_order_mark_are_read(tmp_path: Path) -> None:
    folder, _ = open_images(tmp_path / "oi")
    for path in folder.glob("*.csv"):
        path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    found = openimages.read(folder)
    assert not found.problems and [len(entry.marks) for entry in found.entries] == [3, 3]


def test_of_the_table_of_sources_only_what_is_needed_is_kept(tmp_path: Path) -> None:
    folder, _ = open_images(tmp_path / "oi")
    lines = [f"a{k},by,Me,http://a/{k},0.0,{'x' * 99}\n" for k in range(50)]
    header = "ImageID,License,Author,OriginalLandingURL,Rotation,Title\n"
    (folder / "train-images-boxable-with-rotation.csv").write_text("".join([header, *lines]))
    sources = openimages._sources(folder, "train", {"a1"})
    assert sources == {"a1": {"License": "by", "Author": "Me", "OriginalLandingURL": "http://a/1", "Rotation": "0.0"}}
    found = [(entry.licence, entry.attribution) for entry in openimages.read(folder).entries]
    assert found == [("by", "Me http://a/0"), ("by", "Me http://a/1")]


@pytest.mark.parametrize("place", ["train_a", "train/train_a", "images/train_a"])
def test_images_are_found_where_the_archives_unpack_them(place: str, tmp_path: Path) -> None:
    folder, _ = open_images(tmp_path / "oi")
    (folder / "train").rename(folder / "unpacked")
    (folder / place).parent.mkdir(exist_ok=True)
    shutil.move(folder / "unpacked", folder / place)
    assert [entry.path.is_file() for entry in openimages.read(folder).entries] == [True, True]


LONG = "a" * 200_000  # more than Python's csv reads


@pytest.mark.parametrize("table", [f'"{LONG}",x\n', f"MaskPath,ImageID,LabelName\n{LONG},x,y\n", "x,y\n", ""])
def test_a_broken_table_of_two_is_named_and_the_other_is_read(table: str, tmp_path: Path) -> None:
    folder, _ = open_images(tmp_path / "oi")
    (folder / "validation-annotations-object-segmentation.csv").write_text(table)
    found = openimages.read(folder)
    assert len(found.entries) == 2
    assert [problem.file for problem in found.problems] == ["validation-annotations-object-segmentation.csv"]
    (folder / "train-annotations-object-segmentation.csv").write_text(table)
    with pytest.raises(UsageError, match=r"train-annotations.* (is not CSV|has no column)"):
        openimages.read(folder)


def test_broken_class_descriptions_are_one_line(tmp_path: Path) -> None:
    folder, _ = open_images(tmp_path / "oi")
    (folder / "class-descriptions-boxable.csv").write_text(f"/m/x,{LONG}\n")
    with pytest.raises(UsageError, match=r"class-descriptions-boxable.csv is not CSV"):
        openimages.read(folder)

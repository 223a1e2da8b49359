"""The pair builder: deterministic, resumable, honest about what it leaves out."""

from __future__ import annotations

import csv
import hashlib
import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from harness import Cli
from PIL import Image
from qk_tasks.masks import encode_rle
from qk_tasks.pairs import reader, verifier
from qk_tasks.pairs.builder import Options, build
from qk_tasks.pairs.check import check
from qk_tasks.pairs.pairing import Instance, square
from qk_tasks.pairs.suite import DatasetSuite

from qk_bench.errors import UsageError
from qk_bench.records import pixels_digest

from . import coco_folder

OPTIONS = Options("coco-edits", resolution=128, shares=(0.5, 0.2, 0.3), photos_per_shard=3)


def quiet(_: str) -> None: ...


def contents(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)}


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coco_folder.make(tmp_path_factory.mktemp("coco") / "coco", 14, 200, 150)


@pytest.fixture(scope="module")
def built(coco: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("built") / "pairs"
    build(coco, out, OPTIONS, note=quiet)
    return out


def test_all_operations_are_built_and_every_pair_is_fair(built: Path) -> None:
    found = check(built)
    assert not found.problems
    assert {name.split()[1] for name in found.counts} == {"recolour", "remove", "insert", "move"}
    assert found.items >= 60


def test_two_workers_write_the_same_bytes_as_one(coco: Path, built: Path, tmp_path: Path) -> None:
    build(coco, tmp_path / "pairs", OPTIONS, workers=2, note=quiet)
    assert contents(tmp_path / "pairs") == contents(built)


@pytest.mark.parametrize("form", ["parquet", "webdataset", "imagefolder"])
def test_an_interrupted_build_goes_on_to_the_same_bytes(coco: Path, tmp_path: Path, form: Any) -> None:
    options = replace(OPTIONS, form=form, limit=6)

    def stop(text: str) -> None:
        if text.startswith("shard"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(coco, tmp_path / "stopped", options, note=stop)
    assert (tmp_path / "stopped" / ".work").is_dir()
    again = build(coco, tmp_path / "stopped", options, note=quiet)
    whole = build(coco, tmp_path / "whole", options, note=quiet)
    assert contents(tmp_path / "stopped") == contents(tmp_path / "whole")
    assert again.pairs == whole.pairs > 0
    assert not build(coco, tmp_path / "whole", options, note=quiet).fresh


def test_the_three_forms_hold_the_same_pairs(coco: Path, tmp_path: Path) -> None:
    held = []
    for form in ("parquet", "webdataset", "imagefolder"):
        build(coco, tmp_path / form, replace(OPTIONS, form=form, limit=4), note=quiet)  # type: ignore[arg-type]
        items = reader.read(tmp_path / form).items
        samples = [reader.to_sample(item, "x", "1", 0) for item in items]
        held.append({s.id: (s.instruction, s.split, s.cluster, pixels_digest(s.target)) for s in samples})  # type: ignore[arg-type]
    assert held[0] == held[1] == held[2]
    assert len(held[0]) > 15


def test_splits_share_no_photograph_and_keep_licences(built: Path) -> None:
    items = reader.read(built).items
    by_split: dict[str, set[str]] = {}
    for item in items:
        by_split.setdefault(item.split, set()).add(item.row["photo"])
        assert item.row["licence"] == "Attribution License CC-BY-2.0"
        assert item.row["attribution"].startswith("photo ")
    assert set(by_split) == {"train", "val", "test"}
    assert sum(map(len, by_split.values())) == len(set().union(*by_split.values()))


def test_near_duplicates_never_lie_in_two_splits(tmp_path: Path) -> None:
    coco = coco_folder.make(tmp_path / "coco", 4, 200, 150)
    path = coco / "annotations" / "instances_val2017.json"
    data = json.loads(path.read_text())
    for k in range(16):  # the first photograph again and again, compressed anew
        data["images"].append({**data["images"][0], "id": 100 + k, "file_name": f"copy{k}.jpg"})
        mark = data["annotations"][0]
        data["annotations"].append({**mark, "id": 900 + k, "image_id": 100 + k})
        with Image.open(coco / "val2017" / data["images"][0]["file_name"]) as image:
            image.save(coco / "val2017" / f"copy{k}.jpg", quality=70 + k)
    path.write_text(json.dumps(data))
    build(coco, tmp_path / "out", OPTIONS, note=quiet)
    copies = [item for item in reader.read(tmp_path / "out").items if item.row["cluster"] == "000000000001"]
    assert len({item.split for item in copies}) == 1
    removed = json.loads((tmp_path / "out" / "dataset.json").read_text())["near_duplicates_removed"]
    assert sum(removed.values()) > 0
    assert not check(tmp_path / "out").problems


def test_the_square_of_a_photograph_never_lies_in_another_split(tmp_path: Path) -> None:
    coco = coco_folder.make(tmp_path / "coco", 6, 240, 160)
    path = coco / "annotations" / "instances_val2017.json"
    data = json.loads(path.read_text())
    for number in range(6):  # the square that is cut from each, as a photograph of its own
        pixels = coco_folder.photograph(number, 240, 160)
        found = coco_folder.objects(pixels, number)
        instances = [Instance(str(category), "", mask) for category, mask, _ in found]
        image, kept, _ = square(pixels, instances, 160)
        name = f"square{number}.jpg"
        Image.fromarray(image).save(coco / "val2017" / name, quality=95)
        data["images"].append({"id": 50 + number, "file_name": name, "width": 160, "height": 160})
        for instance in kept:
            mark = {"id": len(data["annotations"]) + 1, "image_id": 50 + number, "category_id": int(instance.id)}
            counts = encode_rle(instance.mask)
            data["annotations"].append({**mark, "segmentation": {"size": [160, 160], "counts": counts}})
    path.write_text(json.dumps(data))
    options = replace(OPTIONS, shares=(0.4, 0.3, 0.3))
    build(coco, tmp_path / "out", options, note=quiet)
    assert not check(tmp_path / "out").problems
    described = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert sum(described["near_duplicates_removed"].values()) >= 2 and described["pairs"] > 20
    build(coco, tmp_path / "again", options, workers=2, note=quiet)
    assert contents(tmp_path / "again") == contents(tmp_path / "out")


def test_each_bad_item_is_named_and_the_rest_is_built(cli: Cli, tmp_path: Path) -> None:
    def spoil(data: dict[str, Any]) -> None:
        marks, images = data["annotations"], data["images"]
        del marks[12]["category_id"]
        marks[1]["segmentation"] = {"size": [150, 200], "counts": [5, 6]}
        marks[2]["segmentation"] = {"size": [99, 200], "counts": [19800]}
        marks[3]["segmentation"] = {"size": [150, 200], "counts": "not RLE, with blanks"}
        marks[5]["category_id"] = marks[3]["category_id"]  # "the ball" could be either of image 2
        marks.append(dict(marks[4]))
        images.append(dict(images[5]))
        images[6]["file_name"] = "../../../etc/passwd"
        del images[7]["width"]
        marks[40]["segmentation"] = None
        images.append({**images[13], "id": 77, "file_name": "long" * 70})
        images.append({**images[13], "id": 78, "file_name": "half of a pair \ud800"})
        images[13]["flickr_url"] = "half of a pair \ud800"
        del marks[41]["segmentation"]

    coco = coco_folder.make(tmp_path / "coco", 14, 200, 150, spoil)
    (coco / "val2017" / "000000000009.jpg").unlink()
    with Image.open(coco / "val2017" / "000000000010.jpg") as image:
        exif = Image.Exif()
        exif[0x0112] = 6
        image.save(coco / "val2017" / "000000000010.jpg", exif=exif)
        image.convert("L").save(coco / "val2017" / "000000000011.jpg")
        image.resize((100, 75)).save(coco / "val2017" / "000000000012.jpg")
    (coco / "val2017" / "000000000013.jpg").write_bytes(b"\xff\xd8\xff\xe0 cut short")
    code, out, err = cli(
        "data", "build", "coco-edits", "--coco", coco, "--out", tmp_path / "out", "--resolution", 128, "--workers", 1
    )
    assert code == 5
    assert "Traceback" not in err
    for words in (
        "annotation 13: field `category_id` is missing; image 5 is left out",
        "annotation 2 of image 000000000001: broken RLE: it covers 11 pixels",
        "annotation 3 of image 000000000001: RLE of size [99, 200]",
        "annotation 4 of image 000000000002: broken RLE",
        "annotation 5: its id is there twice",
        "image 6: its id is there twice",
        "image 7: `file_name` '../../../etc/passwd' does not lie in the folder",
        "image 8: field `width` is missing",
        "image 000000000009: there is no such image",
        "image 000000000010: image that EXIF (orientation 6) says to turn",
        "image 000000000011: a greyscale image",
        "image 000000000012: 100x75 pixels, but annotated as 200x150",
        "image 000000000013: ",
        "annotation 41 of image 000000000014: segmentation is neither polygons nor RLE",
        "annotation 42 of image 000000000014: segmentation is neither polygons nor RLE",
        "image 77: `file_name` 'longlong",
        "image 78: `file_name` 'half of a pair \\ud800' does not lie in the folder",
    ):
        assert words in err, words
    assert int(out.split()[0]) > 10
    assert len((tmp_path / "out" / "problems.jsonl").read_text().splitlines()) == 17
    assert json.loads((tmp_path / "out" / "dataset.json").read_text())["rejections"][
        "all: another of its kind has a broken mask"
    ]
    options = Options("coco-edits", resolution=128)
    assert not build(coco, tmp_path / "out", options, note=quiet).fresh
    (coco / "val2017" / "000000000009.jpg").write_bytes((coco / "val2017" / "000000000008.jpg").read_bytes())
    with pytest.raises(UsageError, match="or its input has changed since"):
        build(coco, tmp_path / "out", options, note=quiet)


def test_open_images_layout_is_read(tmp_path: Path) -> None:
    folder = tmp_path / "oi"
    (folder / "train").mkdir(parents=True)
    (folder / "train-masks").mkdir()
    rows, sources = [], []
    for number in range(4):
        pixels = coco_folder.photograph(number, 200, 150)
        for k, (_, mask, _) in enumerate(coco_folder.objects(pixels, number)):
            name = f"abc{number}_m0{k}_{k:08x}.png"
            high, half = 255 if k else 1, k == 2
            picture = Image.fromarray(mask.astype(np.uint8) * high)
            picture = picture.resize((400, 300), Image.Resampling.NEAREST) if half else picture
            picture.save(folder / "train-masks" / name)
            rows.append({"MaskPath": name, "ImageID": f"abc{number}", "LabelName": f"/m/0{k}"})
        Image.fromarray(pixels).save(folder / "train" / f"abc{number}.jpg", quality=95)
        sources.append(
            {
                "ImageID": f"abc{number}",
                "License": "CC BY 2.0",
                "Author": "A",
                "OriginalLandingURL": "u",
                "Rotation": "90.0" if number == 3 else "0.0",
            }
        )
    for name, table in (
        ("train-annotations-object-segmentation.csv", rows),
        ("validation-annotations-object-segmentation.csv", rows[:1]),
        ("train-images-boxable-with-rotation.csv", sources),
    ):
        with (folder / name).open("w", newline="") as file:
            writer = csv.DictWriter(file, list(table[0]))
            writer.writeheader()
            writer.writerows(table)
    (folder / "class-descriptions-boxable.csv").write_text("/m/00,Ball\n/m/01,Car\n/m/02,Apple\n")
    result = build(folder, tmp_path / "out", replace(OPTIONS, layout="openimages"), note=quiet)
    assert result.problems == 2
    said = (tmp_path / "out" / "problems.jsonl").read_text()
    assert "image abc3" in said and "Rotation is 90.0" in said
    assert "its id is there twice, first in train-annotations-object-segmentation.csv" in said
    items = reader.read(tmp_path / "out").items
    assert {item.row["object"] for item in items} == {"ball", "car", "apple"}
    assert {(item.row["licence"], item.row["attribution"]) for item in items} == {("CC BY 2.0", "A u")}


def test_a_card_counts_every_pair_and_every_rejection(built: Path) -> None:
    card, d = (built / "README.md").read_text(), json.loads((built / "dataset.json").read_text())
    assert "no public benchmark of the name COCO-EDITS was found" in card
    for reason, count in d["rejections"].items():
        assert f"| {reason} | {count} |" in card
    assert sum(sum(counts.values()) for counts in d["counts"].values()) == d["pairs"] == len(reader.read(built).items)


def test_another_build_in_the_folder_is_refused(coco: Path, built: Path, cli: Cli) -> None:
    code, _, err = cli("data", "build", "coco-edits", "--coco", coco, "--out", built, "--seed", 7)
    assert code == 2 and "holds another data set" in err
    code, _, err = cli("data", "build", "coco-edits", "--coco", coco / "nowhere", "--out", built)
    assert code == 2 and "there is no folder" in err


def test_controls_reach_the_ceiling_and_the_floor(built: Path, cli: Cli, tmp_path: Path) -> None:
    words = ("run", "--task", f"dataset:{built}", "--model", "oracle", "--model", "no-op", "--metric", "success")
    code, _, err = cli(*words, "--resolution", 128, "--limit", 3, "--out", tmp_path / "run", "--no-page")
    assert code == 0, err
    import pyarrow.parquet as pq

    scores = pq.read_table(tmp_path / "run" / "scores.parquet").to_pylist()
    assert {row["value"] for row in scores if row["model"] == "oracle"} == {1.0}
    assert {row["value"] for row in scores if row["model"] == "no-op"} == {0.0}


def own_folder(folder: Path) -> Path:
    """What a newcomer has: two pictures and a sentence for each edit."""
    (folder / "images").mkdir(parents=True)
    lines = []
    for number in range(3):
        pixels = coco_folder.photograph(number, 160, 120)
        after = pixels.copy()
        after[40:80, 50:100] = 255 - after[40:80, 50:100] // 2
        for name, image in (("before", pixels), ("after", after)):
            Image.fromarray(image).save(folder / "images" / f"{name}{number}.png")
        lines.append(
            {
                "id": f"edit-{number}",
                "instruction": "Brighten the middle.",
                "source_file_name": f"images/before{number}.png",
                "target_file_name": f"images/after{number}.png",
            }
        )
    (folder / "metadata.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return folder


def test_a_folder_made_by_hand_is_a_suite(tmp_path: Path, cli: Cli) -> None:
    folder = own_folder(tmp_path / "mine")
    assert cli("data", "check", folder)[0] == 0
    suite = DatasetSuite(str(folder))
    task = suite.tasks["editing"]
    assert (suite.name, task.size("test")) == ("mine", 3)
    for index in range(3):
        sample = task.sample("test", index, 128)
        assert sample.source is not None and sample.target is not None
        assert (sample.width, sample.height) == (128, 96)
        assert task.verify(sample, sample.target).success
        assert not task.verify(sample, sample.source).success
    shutil.copy(folder / "images" / "after0.png", folder / "images" / "after1.png")  # other pixels of the same name
    shutil.copy(folder / "images" / "before0.png", folder / "images" / "before1.png")
    assert DatasetSuite(str(own_folder(tmp_path / "again" / "mine"))).digest() == suite.digest()
    assert DatasetSuite(str(folder)).digest() != suite.digest()


@pytest.mark.parametrize("operation", ["recolour", "remove", "insert", "move", "edit"])
def test_nothing_passes_where_nothing_can_be_judged(operation: str, tmp_path: Path) -> None:
    item = reader.read(own_folder(tmp_path / "mine")).items[0]
    item.row.update(operation=operation, dx=0.2, dy=0.0)
    sample = reader.to_sample(item, "mine", "1", 0)
    assert sample.source is not None and sample.target is not None and sample.region is not None
    elsewhere = np.zeros((120, 160), bool)
    elsewhere[:10, :10] = True
    region = sample.region.model_copy(
        update={"mask": elsewhere if operation in ("recolour", "remove") else elsewhere & False}
    )
    blind = {"edit_mask": elsewhere & False} if operation in ("insert", "edit") else {}
    sample = sample.model_copy(update={"region": region, **blind})
    view = verifier.look(sample, sample.source)
    assert verifier.edit(view, sample) == verifier.NOTHING


def test_check_names_every_bad_item_and_a_run_leaves_them_out(tmp_path: Path, cli: Cli) -> None:
    folder = own_folder(tmp_path / "mine")
    good = json.loads((folder / "metadata.jsonl").read_text().splitlines()[0])
    shutil.copy(folder / "images" / "before0.png", folder / "images" / "copy.png")
    Image.fromarray(np.full((120, 160), 128, np.uint8)).save(folder / "images" / "grey.png")
    Image.fromarray(np.zeros((120, 160), np.uint8)).save(folder / "images" / "none.png")
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(folder / "images" / "small.png")
    elsewhere = np.zeros((120, 160), np.uint8)
    elsewhere[:10, :10] = 255
    Image.fromarray(elsewhere).save(folder / "images" / "elsewhere.png")
    bad = {
        "there twice": {},
        "`instruction` is missing": {"id": "a", "instruction": None},
        "there is no file images/gone.png": {"id": "b", "source_file_name": "images/gone.png"},
        "does not lie in the folder": {"id": "c", "source_file_name": "../../secret.png"},
        "source and target are the same": {"id": "d", "target_file_name": "images/copy.png"},
        "image of mode L, expected RGB": {"id": "e", "source_file_name": "images/grey.png"},
        "values 128; expected 0 and 1, or 0 and 255": {"id": "f", "edit_mask_file_name": "images/grey.png"},
        "80x60 pixels, but the image is 160x120": {"id": "g", "edit_mask_file_name": "images/small.png"},
        "changed pixels lie outside of edit_mask": {"id": "h", "edit_mask_file_name": "images/none.png"},
        "nothing of region_mask changes": {"id": "l", "region_mask_file_name": "images/elsewhere.png"},
        "operation 'paint' is not one of": {"id": "i", "operation": "paint"},
        "split 'tset' is not one of train, val, test": {"id": "n", "split": "tset"},
        "split \"['x']\" is not one of": {"id": "o", "split": ["x"]},
        "not safe as a file name": {"id": "../j"},
        "`target_file_name` (Parquet: `target`) is missing": {"id": "k", "target_file_name": None},
    }
    with (folder / "metadata.jsonl").open("a") as file:
        for change in bad.values():
            file.write(json.dumps({**good, **change}) + "\n")
        file.write("{not JSON\n")
        file.write(json.dumps({**good, "id": "m", "instruction": "half of a pair \ud800"}) + "\n")
    code, out, err = cli("data", "check", folder)
    assert code == 1 and "Traceback" not in err
    for words in (*bad, "line 19: is not a JSON object", "line 20: is not a JSON object", "half of a surrogate pair"):
        assert words in out, words
    assert "18 items; good: 3 test edit; 17 problems" in out
    words = ("run", "--task", f"dataset:{folder}", "--model", "oracle", "--metric", "success", "--no-page")
    code, out, err = cli(*words, "--resolution", 128, "--out", tmp_path / "run")
    assert code == 5, err  # the three good ones are judged
    assert err.count("left out: ") == 17 and "images/gone.png" in err
    import pyarrow.parquet as pq

    assert len(pq.read_table(tmp_path / "run" / "scores.parquet")) == 3

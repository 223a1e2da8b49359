"""Folders as they are downloaded and copied: several splits, hidden files, shards that are absent or broken, items named twice."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from PIL import Image

from qk_bench.errors import UsageError
from qk_bench.plugins import find_tasks
from tests.tasks.published import layouts


def magicbrush_row(session: str, turn: float = 1) -> dict[str, object]:
    source = layouts.picture(int(session)) // 2
    mask = source.copy()
    mask[3:9, 3:9] = 255
    return {
        "img_id": session, "turn_index": turn, "source_img": layouts.png(source), "mask_img": layouts.png(mask),
        "instruction": "edit", "target_img": layouts.png(layouts.edited(source)),
    }  # fmt: skip


def ids(task: str) -> list[str]:
    (found,) = find_tasks([task])
    return [found.task.sample("test", index, 64).id for index in range(found.task.size("test") or 0)]


def test_training_data_is_not_read_beside_another_split(tmp_path: Path) -> None:
    data = tmp_path / "data"
    layouts.write_parquet(data / "dev-00000-of-00001-ab12.parquet", [magicbrush_row("1")])
    layouts.write_parquet(data / "train-00000-of-00001-cd34.parquet", [magicbrush_row("2"), magicbrush_row("3")])
    assert ids(f"magicbrush:{tmp_path}") == ["single-turn-1-output1"]
    (found,) = find_tasks([f"magicbrush:{tmp_path}"])
    assert found.suite.notes == ["read from the files of its split validation; left out: train"]
    assert not found.suite.problems


def test_the_split_of_an_imagefolder_is_its_folders_name(tmp_path: Path) -> None:
    for split, number in (("train", 0), ("test", 1)):
        layouts.save(tmp_path / split / "0.png", layouts.picture(number))
        row = {"key": f"{split}-key", "task_type": "t", "instruction": "i", "instruction_language": "en"}
        (tmp_path / split / "metadata.jsonl").write_text(json.dumps({**row, "file_name": "0.png"}))
    assert ids(f"gedit-bench:{tmp_path}") == ["en-t-test-key"]


def test_paintbench_and_tinygrafixbench_are_not_pooled(tmp_path: Path) -> None:
    for name in ("PaintBench", "TinyGrafixBench"):
        layouts.paintbench(tmp_path / name)
    with pytest.raises(UsageError, match="holds PaintBench and TinyGrafixBench"):
        find_tasks([f"paintbench:{tmp_path}"])
    assert len(find_tasks([f"paintbench:{tmp_path / 'PaintBench'}"])) == 2


def test_a_samples_id_does_not_depend_on_which_other_items_are_there(tmp_path: Path) -> None:
    layouts.paintbench(tmp_path, ("recolor",), count=3)
    whole = ids(f"paintbench:{tmp_path}")
    assert whole == ["recolor-000", "recolor-001", "recolor-002"]
    (tmp_path / "recolor" / "000_answer.png").unlink()
    assert ids(f"paintbench:{tmp_path}") == whole[1:]


def test_a_key_that_cannot_be_in_a_files_name_is_told_apart_by_its_hash(tmp_path: Path) -> None:
    layouts.imgedit(tmp_path)
    item = {"id": "animal/000342021.jpg", "prompt": "p", "edit_type": "adjust"}
    (tmp_path / "basic_edit.json").write_text(json.dumps({"a/b": item, "a b": item, "x" * 500: item}))
    found = ids(f"imgedit-bench:{tmp_path}")
    assert len({*found}) == 3 and max(map(len, found)) < 128
    assert all(name.startswith(("adjust-a-b-", "adjust-xxx")) for name in found)


@pytest.mark.parametrize("part", ["source", "target"])
def test_what_exif_turns_beside_a_mask_or_target_is_named(tmp_path: Path, part: str) -> None:
    layouts.magicbrush(tmp_path, 1)
    path = tmp_path / "images" / "100" / {"source": "100-input.png", "target": "100-output2.png"}[part]
    exif = Image.Exif()
    exif[0x0112] = 3
    with Image.open(path) as image:
        image.save(path, exif=exif)
    (found,) = find_tasks([f"magicbrush:{tmp_path}"])
    (problem,) = found.suite.problems
    assert f"{path.name}: EXIF turns it (orientation 3)" in problem and found.task.size("test") == 1


@pytest.mark.parametrize("name", ["imgedit-bench", "pie-bench"])
def test_a_key_that_a_json_object_has_twice_is_named_and_the_first_counts(tmp_path: Path, name: str) -> None:
    path = tmp_path / ("basic_edit.json" if name == "imgedit-bench" else "mapping_file.json")
    (layouts.imgedit if name == "imgedit-bench" else layouts.piebench)(tmp_path)
    items = json.loads(path.read_text())
    key, first = next(iter(items.items()))
    prompt = "prompt" if name == "imgedit-bench" else "editing_instruction"
    again = json.dumps({key: {**first, prompt: "another"}})[1:]
    path.write_text(f"{json.dumps(items)[:-1]}, {again}")
    found = find_tasks([f"{name}:{tmp_path}"])
    assert found[0].suite.problems == [f"{name}, {path.name}: {key!r} is there twice; the first one counts"]
    said = [i.task.sample("test", n, 64).instruction for i in found for n in range(i.task.size("test") or 0)]
    assert len(said) == 3 and "another" not in said


@pytest.mark.parametrize("absent", ["input.png", "answer.png"])
def test_an_absent_picture_of_a_problem_is_named(tmp_path: Path, absent: str) -> None:
    layouts.paintbench(tmp_path, ("recolor",), count=3)
    (tmp_path / "recolor" / f"001_{absent}").unlink()
    (found,) = find_tasks([f"paintbench:{tmp_path}"])
    (problem,) = found.suite.problems
    assert f"recolor/001_{absent}: there is no such file" in problem and found.task.size("test") == 2


def test_imgedits_archive_with_its_hard_and_multi_turn_items(tmp_path: Path) -> None:
    """Benchmark.tar: of the fifty pictures of hard/annotation.jsonl two stand in multiturn/ only."""
    layouts.imgedit(tmp_path / "singleturn")
    shutil.rmtree(tmp_path / "singleturn" / "original_images" / "style")
    hard = [{"id": f"00000{n}.jpg", "prompt": f"think {n}"} for n in range(2)]
    layouts.save(tmp_path / "hard" / "000000.jpg", layouts.picture(0))
    layouts.save(tmp_path / "multiturn" / "content_memory" / "000001.jpg", layouts.picture(1))
    (tmp_path / "hard" / "annotation.jsonl").write_text("\n".join(map(json.dumps, hard)))
    turns = {"1": {"id": "000001.jpg", "turn1": "a", "turn2": "b"}}
    (tmp_path / "multiturn" / "content_memory.json").write_text(json.dumps(turns))
    found = find_tasks([f"imgedit-bench:{tmp_path}"])
    assert [(item.task.name, item.task.size("test")) for item in found] == [("adjust", 1), ("uge", 2)]
    assert len(found[0].suite.problems) == 2 and all("style/" in line for line in found[0].suite.problems)
    assert found[0].suite.notes == [
        "1 multi-turn items of content_memory.json are not run: in ImgEdit people judge them"
    ]
    assert ids(f"imgedit-bench:{tmp_path / 'hard'}") == ["uge-000000"]


def test_hidden_files_are_no_items(tmp_path: Path) -> None:
    """What macOS leaves beside each file, and what download tools keep."""
    layouts.paintbench(tmp_path / "p", ("recolor",))
    (tmp_path / "p" / "recolor" / "._000_input.png").write_bytes(b"\0\5\x16\7")
    layouts.write_parquet(tmp_path / "m" / "data" / "dev.parquet", [magicbrush_row("1")])
    for name in ("data/._dev.parquet", "__MACOSX/data/dev.parquet", ".cache/dev.parquet"):
        (tmp_path / "m" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "m" / name).write_bytes(b"\0\5\x16\7")
    for task in (f"paintbench:{tmp_path / 'p'}", f"magicbrush:{tmp_path / 'm'}"):
        (found,) = find_tasks([task])
        assert not found.suite.problems and found.task.size("test")


def test_a_table_that_is_broken_or_absent_is_named_and_the_rest_is_there(tmp_path: Path) -> None:
    layouts.write_parquet(tmp_path / "data" / "dev-00000-of-00003.parquet", [magicbrush_row("1"), magicbrush_row("2")])
    (tmp_path / "data" / "dev-00002-of-00003.parquet").write_text("version https://git-lfs.github.com/spec/v1\n")
    (found,) = find_tasks([f"magicbrush:{tmp_path}"])
    absent, broken = found.suite.problems
    assert "data/dev-00001-of-00003.parquet: there is no such file" in absent
    assert "data/dev-00002-of-00003.parquet: cannot be read as Parquet" in broken
    assert found.task.size("test") == 2


def test_lines_of_an_imagefolder_end_at_line_ends_only(tmp_path: Path) -> None:
    lines = []
    for number, instruction in enumerate(("one\u2028line", "two", "three")):
        layouts.save(tmp_path / f"{number}.png", layouts.picture(number))
        row = {"key": f"k{number}", "task_type": "t", "instruction": instruction, "instruction_language": "en"}
        lines.append(json.dumps({**row, "file_name": f"{number}.png"}, ensure_ascii=False))
    text = "\n".join([*lines, "{", "[1]", json.dumps({"key": "k", "file_name": "../0.png"})])
    (tmp_path / "metadata.jsonl").write_text(text, encoding="utf-8-sig")
    assert ids(f"gedit-bench:{tmp_path}") == ["en-t-k0", "en-t-k1", "en-t-k2"]
    (found,) = find_tasks([f"gedit-bench:{tmp_path}"])
    said = [problem.split("metadata.jsonl ")[1] for problem in found.suite.problems]
    assert said[:2] == ["line 4: not JSON", "line 5: not an object"] and "outside of" in said[2] and len(said) == 3


def test_whole_numbers_that_pandas_wrote_as_floats_are_turns(tmp_path: Path) -> None:
    layouts.write_parquet(tmp_path / "dev.parquet", [magicbrush_row("1", 2.0), magicbrush_row("1", 2.5)])
    assert ids(f"magicbrush:{tmp_path}") == ["single-turn-1-output2"]


def test_json_that_is_none_costs_no_other_file(tmp_path: Path) -> None:
    layouts.imgedit(tmp_path)
    (tmp_path / "results.json").write_text("{}\n{}\n")
    (tmp_path / "gone.json").symlink_to(tmp_path / "nowhere.json")
    (tmp_path / "folder.json").mkdir()
    found = find_tasks([f"imgedit-bench:{tmp_path}"])
    (problem,) = found[0].suite.problems
    assert "results.json is not JSON" in problem and sum(item.task.size("test") or 0 for item in found) == 3


def test_a_mask_that_is_torn_inside_is_named(tmp_path: Path) -> None:
    layouts.magicbrush(tmp_path, 1)
    path = tmp_path / "images" / "100" / "100-mask1.png"
    torn = bytearray(path.read_bytes())
    torn[torn.index(b"IDAT") + 6] ^= 0xFF
    path.write_bytes(torn)
    (found,) = find_tasks([f"magicbrush:{tmp_path}"])
    (problem,) = found.suite.problems
    assert "100-mask1.png: corrupt or truncated image" in problem and found.task.size("test") == 1


@pytest.mark.parametrize("kind", ["²", "9" * 5000, "10", "", "-1"])
def test_a_type_that_pie_bench_has_not_is_named(tmp_path: Path, kind: str) -> None:
    layouts.piebench(tmp_path, 2)
    items = json.loads((tmp_path / "mapping_file.json").read_text())
    items["000000000001"]["editing_type_id"] = kind
    (tmp_path / "mapping_file.json").write_text(json.dumps(items))
    (found,) = find_tasks([f"pie-bench:{tmp_path}"])
    (problem,) = found.suite.problems
    assert "item 000000000001: field 'editing_type_id' is" in problem


def test_items_of_two_tasks_that_would_have_one_id_are_told_apart(tmp_path: Path) -> None:
    layouts.imgedit(tmp_path)
    item = {"id": "animal/000342021.jpg", "prompt": "p"}
    items = {"x-a": {**item, "edit_type": "add"}, "a": {**item, "edit_type": "add-x"}}
    (tmp_path / "basic_edit.json").write_text(json.dumps(items))
    (problem,) = find_tasks([f"imgedit-bench:{tmp_path}"])[0].suite.problems
    assert "item add-x/a would have the id of add/x-a" in problem


def test_an_imagefolder_whose_files_are_called_as_in_another_layout_is_an_imagefolder(tmp_path: Path) -> None:
    layouts.paintbench(tmp_path / "p", ("recolor",))
    (tmp_path / "p" / "recolor").rename(tmp_path / "p" / "test")
    lines = []
    for number in range(2):
        meta = json.loads((tmp_path / "p" / "test" / f"{number:03d}.json").read_text())
        names = {f"{part}_image_file_name": f"{number:03d}_{part}.png" for part in ("input", "answer")}
        lines.append(json.dumps({**meta, **names}))
    (tmp_path / "p" / "test" / "metadata.jsonl").write_text("\n".join(lines))
    assert ids(f"paintbench:{tmp_path / 'p'}") == ["recolor-000", "recolor-001"]
    item = {"key": "7", "id": "animal/000342021.jpg", "prompt": "p", "edit_type": "adjust"}
    layouts.imgedit(tmp_path / "i")
    line = json.dumps({**item, "file_name": "original_images/animal/000342021.jpg"})
    (tmp_path / "i" / "metadata.jsonl").write_text(line)
    assert ids(f"imgedit-bench:{tmp_path / 'i'}") == ["adjust-7"]

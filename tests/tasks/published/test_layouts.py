"""The published benchmarks are read from exactly the layouts they are published in."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from harness import make_spec
from PIL import Image

from qk_bench.errors import UsageError
from qk_bench.manifest import RunSpec
from qk_bench.plugins import find_tasks
from qk_bench.run.spec import make_tasks, without_unusable
from tests.tasks.published import layouts


def test_paintbench_as_its_generator_writes_it(tmp_path: Path) -> None:
    layouts.paintbench(tmp_path)
    found = find_tasks([f"paintbench:{tmp_path}"])
    assert [item.task.name for item in found] == ["border", "recolor"]
    assert found[0].suite.groups["scored"] == ("border", "recolor")
    sample = found[1].task.sample("test", 1, 64)
    assert (sample.width, sample.height) == (layouts.SIDE + 8, layouts.SIDE)  # its own size, not the run's
    assert sample.instruction == "Do recolor number 1."
    assert sample.target is not None and sample.edit_mask is not None and sample.source is not None
    assert sample.edit_mask.sum() == (sample.source != sample.target).any(axis=2).sum() > 0


def test_own_sizes_are_said_and_leave_hashes_alone(tmp_path: Path) -> None:
    spec = make_spec("no-op", task=f"paintbench:{layouts.paintbench(tmp_path)}", metrics=("success",))
    assert spec.sizes == "own sizes"
    stored = spec.model_dump(mode="json")
    del stored["suites"][0]["own_size"]  # a run from before the field
    assert RunSpec.model_validate(stored).digest() == spec.digest()
    assert make_spec("no-op").sizes == "64 px"


def test_paintbenchs_diagnostic_is_run_when_it_is_named_and_never_pooled(tmp_path: Path) -> None:
    """PaintBench scores 20 tasks; on `preservation` a model that does nothing is perfect."""
    named = f"paintbench:{layouts.paintbench(tmp_path)}/preservation"
    spec = make_spec("no-op", task=named, metrics=("success",))
    assert [task.diagnostic for task in spec.tasks] == [True]
    stored = spec.model_dump(mode="json")
    del stored["tasks"][0]["diagnostic"]  # a run from before the field
    assert RunSpec.model_validate(stored).digest() == spec.digest()
    with pytest.raises(
        UsageError, match=r"paintbench/preservation is no part of what paintbench scores.* run of its own"
    ):
        make_tasks(find_tasks([f"paintbench:{tmp_path}", named]), "test", 2)


def test_paintbench_as_a_table_is_the_same(tmp_path: Path) -> None:
    layouts.paintbench(tmp_path / "files")
    rows = [
        {**json.loads(line), "input_image": {"bytes": path.read_bytes(), "path": None},
         "answer_image": {"bytes": path.with_name(path.name.replace("input", "answer")).read_bytes(), "path": None}}
        for line in (tmp_path / "files" / "problems.jsonl").read_text().splitlines()
        for meta in [json.loads(line)]
        for path in [tmp_path / "files" / meta["task"] / f"{meta['problem_id']:03d}_input.png"]
    ]  # fmt: skip
    layouts.write_parquet(tmp_path / "table" / "data" / "test-00000-of-00001.parquet", rows)
    one, other = (find_tasks([f"paintbench:{tmp_path / name}/recolor"])[0].task for name in ("files", "table"))
    for index in range(2):
        a, b = one.sample("test", index, 64), other.sample("test", index, 64)
        assert np.array_equal(a.source, b.source) and np.array_equal(a.target, b.target)  # type: ignore[arg-type]
        assert a.instruction == b.instruction


def test_paintbench_answer_succeeds_and_input_does_not(tmp_path: Path) -> None:
    layouts.paintbench(tmp_path)
    for item in find_tasks([f"paintbench:{tmp_path}/scored"]):
        sample = item.task.sample("test", 0, 64)
        assert sample.source is not None and sample.target is not None
        assert item.task.verify(sample, sample.target).success
        reason = item.task.verify(sample, sample.source).reason
        assert reason == "not the answer: IoU 0.00, success begins at 0.9"
        assert "IoU with the answer" in item.task.rule


def test_magicbrush_turns_start_from_the_annotated_source(tmp_path: Path) -> None:
    layouts.magicbrush(tmp_path)
    (found,) = find_tasks([f"magicbrush:{tmp_path}"])
    assert found.task.size("test") == 4
    first, second = (found.task.sample("test", index, 64) for index in (0, 1))
    assert np.array_equal(first.target, second.source)  # type: ignore[arg-type]
    assert first.cluster == second.cluster == "100"
    assert (first.source_caption, second.target_caption) == ("before", "after 2")
    assert first.edit_mask is not None and first.edit_mask.sum() == 12 * 14
    assert not found.task.decides


def test_magicbrush_as_a_table_reads_masks_of_white(tmp_path: Path) -> None:
    source = layouts.picture(1) // 2
    mask = source.copy()
    mask[3:9, 3:9] = 255
    row = {
        "img_id": "7", "turn_index": 1, "source_img": layouts.png(source), "mask_img": layouts.png(mask),
        "instruction": "edit", "target_img": layouts.png(layouts.edited(source)),
    }  # fmt: skip
    layouts.write_parquet(tmp_path / "data" / "dev-00000-of-00004.parquet", [row])
    sample = find_tasks([f"magicbrush:{tmp_path}"])[0].task.sample("test", 0, 64)
    assert sample.edit_mask is not None and sample.edit_mask.sum() == 36
    assert sample.attributes["key"] == "7-output1"


@pytest.mark.parametrize("photograph", ["in colour", "grey"])
def test_magicbrush_grey_mask_is_plain_beside_colour_and_white_on_a_grey_photograph(
    photograph: str, tmp_path: Path
) -> None:
    layouts.magicbrush(tmp_path, 1)
    folder = tmp_path / "images" / "100"
    grey = np.repeat(layouts.picture(7)[:, :, :1] // 2, 3, axis=2)
    marked = grey.copy()
    marked[3:9, 3:9] = 255
    layouts.save(folder / "100-mask1.png", marked)
    if photograph == "grey":
        layouts.save(folder / "100-input.png", grey)
    (found,) = find_tasks([f"magicbrush:{tmp_path}"])
    if photograph == "grey":
        mask = found.task.sample("test", 0, 64).edit_mask
        assert mask is not None and mask.sum() == 36
    else:
        (problem,) = found.suite.problems
        assert "100-mask1.png: values " in problem and "expected 0 and 1, or 0 and 255" in problem
        assert found.task.size("test") == 1


def test_pie_bench_masks_are_those_of_its_own_reader(tmp_path: Path) -> None:
    layouts.piebench(tmp_path)
    found = find_tasks([f"pie-bench:{tmp_path}"])
    assert [item.task.name for item in found] == ["add-object", "change-object", "random"]
    sample = found[2].task.sample("test", 0, 64)
    assert (sample.instruction, sample.target_caption) == ("make the bicycle blue", "a blue bicycle")
    due = np.zeros((512, 512), bool)
    due[100:102, 50:250] = True
    due[[0, -1]] = due[:, [0, -1]] = True
    assert np.array_equal(sample.edit_mask, due)  # type: ignore[arg-type]


def test_pie_bench_plus_plus_as_tables_with_text_masks(tmp_path: Path) -> None:
    row = {
        "image": layouts.png(layouts.picture(0, 512, 512)), "id": "0001", "source_prompt": "a cat", "target_prompt": "a dog",
        "edit_action": "{}", "aspect_mapping": "{}", "blended_words": "[]", "mask": "0 512 1024 512",
    }  # fmt: skip
    layouts.write_parquet(tmp_path / "1_change_object_80" / "V1-00000-of-00001.parquet", [row])
    (found,) = find_tasks([f"pie-bench:{tmp_path}"])
    sample = found.task.sample("test", 0, 64)
    assert found.task.name == "change-object" and sample.instruction == "a dog"
    assert sample.edit_mask is not None and sample.edit_mask[2].all() and not sample.edit_mask[1, 1:-1].any()


def test_gedit_bench_by_language_and_type_from_table_and_imagefolder(tmp_path: Path) -> None:
    rows = layouts.gedit_rows()
    layouts.write_parquet(tmp_path / "a" / "data" / "train-00000-of-00001.parquet", rows)
    names = ["cn-color_alter", "cn-subject-add", "en-color_alter", "en-subject-add"]
    found = find_tasks([f"gedit-bench:{tmp_path / 'a'}"])
    assert [item.task.name for item in found] == names
    assert found[0].suite.groups["en"] == ("en-color_alter", "en-subject-add")
    lines = []
    for number, row in enumerate(rows):
        (tmp_path / "b" / "train").mkdir(parents=True, exist_ok=True)
        (tmp_path / "b" / "train" / f"{number}.png").write_bytes(row["input_image"]["bytes"])
        plain = {k: v for k, v in row.items() if not k.startswith("input_image")}
        lines.append(json.dumps({**plain, "input_image_file_name": f"{number}.png"}))
    (tmp_path / "b" / "train" / "metadata.jsonl").write_text("\n".join(lines))
    other = find_tasks([f"gedit-bench:{tmp_path / 'b'}"])
    assert [item.task.name for item in other] == names
    one, two = (items[0].task.sample("test", 1, 64) for items in (found, other))
    assert np.array_equal(one.source, two.source) and one.instruction == two.instruction == "变红"  # type: ignore[arg-type]


def test_imgedit_bench_beside_its_originals(tmp_path: Path) -> None:
    layouts.imgedit(tmp_path)
    found = find_tasks([f"imgedit-bench:{tmp_path}"])
    assert [(item.task.name, item.task.size("test")) for item in found] == [("adjust", 1), ("style", 2)]
    samples = [found[1].task.sample("test", index, 64) for index in (0, 1)]
    assert samples[0].cluster == samples[1].cluster  # two edits of one picture are not independent
    assert samples[0].attributes["key"] == "673"
    assert found[0].suite.problems == []
    items = json.loads((tmp_path / "basic_edit.json").read_text())
    rows = [{**item, "key": key, "image": layouts.png(layouts.picture(0))} for key, item in items.items()]
    layouts.write_parquet(tmp_path / "table" / "data" / "train-00000-of-00001.parquet", rows)
    found = find_tasks([f"imgedit-bench:{tmp_path / 'table'}"])
    clusters = [
        item.task.sample("test", index, 64).cluster for item in found for index in range(item.task.size("test"))
    ]
    assert clusters == ["animal-000342021.jpg", "style-000278574.jpg", "style-000278574.jpg"]


def test_a_suites_digest_is_that_of_its_masks_too(tmp_path: Path) -> None:
    layouts.magicbrush(tmp_path, 1)
    before = find_tasks([f"magicbrush:{tmp_path}"])[0].suite.digest()
    assert find_tasks([f"magicbrush:{tmp_path}"])[0].suite.digest() == before
    path = tmp_path / "images" / "100" / "100-mask1.png"
    pixels = np.asarray(Image.open(path)).copy()
    pixels[2:14, 4:18, 3] = 255
    pixels[3:15, 4:18, 3] = 0  # one row lower
    layouts.save(path, pixels)
    assert find_tasks([f"magicbrush:{tmp_path}"])[0].suite.digest() != before


def test_each_bad_item_is_named_and_the_rest_is_there(tmp_path: Path) -> None:
    layouts.paintbench(tmp_path, ("recolor",), count=6)
    folder = tmp_path / "recolor"
    (folder / "001_answer.png").unlink()
    (folder / "002.json").write_text("{")
    whole = (folder / "003_input.png").read_bytes()
    (folder / "003_input.png").write_bytes(whole[: len(whole) // 2])
    (folder / "004.json").write_text(json.dumps({"task": "recolor", "problem_id": 4}))
    layouts.save(folder / "005_answer.png", layouts.picture(5, 30, 30))
    (found,) = find_tasks([f"paintbench:{tmp_path}"])
    assert found.task.size("test") == 1
    said = list(found.suite.problems)
    assert len(said) == 5
    for line, where, what in zip(
        said,
        ("001", "002", "003", "004", "005"),
        ("there is no such file", "is not JSON", "cut short", "'instruction' is missing", "not of the size"),
        strict=True,
    ):
        assert f"recolor/{where}_input.png" in line and what in line, line


def test_a_picture_that_is_torn_inside_is_named_when_a_run_asks_for_it(tmp_path: Path) -> None:
    layouts.paintbench(tmp_path, ("recolor",), count=3)
    path = tmp_path / "recolor" / "001_answer.png"
    torn = bytearray(path.read_bytes())
    torn[torn.index(b"IDAT") + 12] ^= 0xFF
    path.write_bytes(torn)
    found = find_tasks([f"paintbench:{tmp_path}"])
    _, tasks = make_tasks(found, "test", 3)
    _, (left,), (said,) = without_unusable(found, tasks, "test", 64)
    assert left.indices == ((0, 1), (2, 3))
    assert "item recolor/001: recolor/001_answer.png: corrupt or truncated image" in said


def test_a_jpeg_that_cannot_be_decoded_is_named_when_a_run_asks_for_it(tmp_path: Path) -> None:
    layouts.imgedit(tmp_path)
    found = find_tasks([f"imgedit-bench:{tmp_path}"])
    _, tasks = make_tasks(found, "test", 3)
    assert without_unusable(found, tasks, "test", 64)[2] == []
    (path,) = tmp_path.rglob("000342021.jpg")
    torn = path.read_bytes()
    inside = torn.index(b"\xff\xda") + 20
    path.write_bytes(torn[:inside] + b"\xff\xc4\x00\x00" + torn[inside:])  # a table of no length
    _, left, (said,) = without_unusable(found, tasks, "test", 64)
    assert sum(stop - start for task in left for start, stop in task.indices) == 2
    assert "000342021.jpg: corrupt or truncated image" in said


def test_half_of_a_surrogate_pair_is_a_bad_item(tmp_path: Path) -> None:
    layouts.imgedit(tmp_path)
    items = json.loads((tmp_path / "basic_edit.json").read_text())
    items["673"]["prompt"] = "make it \ud800 red"
    (tmp_path / "basic_edit.json").write_text(json.dumps(items))
    found = find_tasks([f"imgedit-bench:{tmp_path}"])
    assert sum(item.task.size("test") or 0 for item in found) == 2
    (said,) = found[0].suite.problems
    assert "673" in said and "half of a surrogate pair" in said


@pytest.mark.parametrize(
    ("mask", "said"),
    [
        ([1, 2, 3], "3 numbers, expected pairs"),
        ([600_000, 4], "a run of 4 pixels from 600000"),
        ([-1, 4], "from -1"),
        (["a", 4], "not a list of whole numbers"),
        (None, "not a list of whole numbers"),
    ],
)
def test_broken_run_lengths_are_named(tmp_path: Path, mask: object, said: str) -> None:
    layouts.piebench(tmp_path, 2)
    items = json.loads((tmp_path / "mapping_file.json").read_text())
    items["000000000001"]["mask"] = mask
    (tmp_path / "mapping_file.json").write_text(json.dumps(items))
    (found,) = find_tasks([f"pie-bench:{tmp_path}"])
    assert len(found.suite.problems) == 1
    assert said in found.suite.problems[0] and "item 000000000001" in found.suite.problems[0]


def test_rotated_and_grey_photographs_are_read_upright_in_colour(tmp_path: Path) -> None:
    layouts.imgedit(tmp_path)
    grey = Image.fromarray(layouts.picture(1, 20, 30)).convert("L")
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90 degrees to see it upright
    grey.save(tmp_path / "original_images" / "animal" / "000342021.jpg", exif=exif)
    sample = find_tasks([f"imgedit-bench:{tmp_path}/adjust"])[0].task.sample("test", 0, 64)
    assert (sample.width, sample.height) == (20, 30)


def test_a_name_cannot_lead_out_of_the_folder(tmp_path: Path) -> None:
    layouts.imgedit(tmp_path / "data")
    layouts.save(tmp_path / "secret.png", layouts.picture(0))
    items = {
        "1": {"id": "../../secret.png", "prompt": "p", "edit_type": "adjust"},
        "2": {"id": "animal/000342021.jpg", "prompt": "p"},
        "3": {"id": f"{'long' * 70}.png", "prompt": "p"},
        "4": {"id": "half of a pair \ud800.png", "prompt": "p"},
    }
    (tmp_path / "data" / "basic_edit.json").write_text(json.dumps(items))
    (found,) = find_tasks([f"imgedit-bench:{tmp_path / 'data'}"])
    assert found.task.name == "uge" and found.task.size("test") == 1
    assert len(found.suite.problems) == 3 and all("outside of" in line for line in found.suite.problems)


def test_images_that_are_linked_from_elsewhere_are_read(tmp_path: Path) -> None:
    layouts.imgedit(tmp_path / "data")
    path = tmp_path / "data" / "original_images" / "animal" / "000342021.jpg"
    path.rename(tmp_path / "blob")
    path.symlink_to(tmp_path / "blob")  # as the Hub's cache holds what it has downloaded
    assert find_tasks([f"imgedit-bench:{tmp_path / 'data'}/adjust"])[0].task.sample("test", 0, 64).width


@pytest.mark.parametrize("name", ["paintbench", "magicbrush", "pie-bench", "gedit-bench", "imgedit-bench"])
def test_an_empty_folder_is_one_line_that_says_what_should_be_there(tmp_path: Path, name: str) -> None:
    with pytest.raises(UsageError, match="it should hold"):
        find_tasks([f"{name}:{tmp_path}"])
    with pytest.raises(UsageError, match="there is no folder"):
        find_tasks([f"{name}:{tmp_path / 'no'}"])

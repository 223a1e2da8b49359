"""Samples go out, images come back, and score as they would have inside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from badfiles import bad_files
from harness import SQUARES, Cli, outcomes, scores
from PIL import Image

TASK = f"{SQUARES}/recolour"

EDITOR = """
import json, sys
from pathlib import Path
from PIL import Image, ImageDraw

export, outputs = map(Path, sys.argv[1:])
outputs.mkdir()
for line in (export / "test" / "metadata.jsonl").read_text().splitlines():
    row = json.loads(line)
    image = Image.open(export / "test" / row["source_file_name"]).convert("RGB")
    x0, y0, x1, y1 = (round(v * row["width"]) for v in row["region_box"])
    word = row["instruction"].split()[-1]
    colour = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 220), "yellow": (230, 220, 40)}
    if word in colour and word != "green":
        ImageDraw.Draw(image).rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour[word])
    image.save(outputs / (row["id"] + ".png"))
"""

MODEL = """
from PIL import Image, ImageDraw
from qk_bench.interfaces import Model
from qk_bench.records import ModelCard

class Editor(Model):
    def __init__(self):
        self.card = ModelCard(name="editor", version="1", uses_region=True)

    def generate(self, requests):
        return [self.edit(request) for request in requests]

    def edit(self, request):
        image = Image.fromarray(request.source)
        x0, y0, x1, y1 = (round(v * request.width) for v in request.region.box)
        word = request.instruction.split()[-1]
        colour = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 220), "yellow": (230, 220, 40)}
        if word in colour and word != "green":
            ImageDraw.Draw(image).rectangle((x0, y0, x1 - 1, y1 - 1), fill=colour[word])
        return image
"""


@pytest.fixture
def export(tmp_path: Path, cli: Cli) -> Path:
    code, out, _ = cli("data", "export", TASK, "--split", "test", "--limit", "30", "--out", tmp_path / "export")
    assert (code, out) == (0, f"30 samples in {tmp_path / 'export'}\n")
    return tmp_path / "export"


@pytest.fixture
def outputs(export: Path, tmp_path: Path) -> Path:
    """What an outside script, which knows nothing of the harness, made of the export."""
    subprocess.run([sys.executable, "-c", EDITOR, export, tmp_path / "outputs"], check=True)
    return tmp_path / "outputs"


def test_outside_edits_score_as_the_same_edits_inside(export: Path, outputs: Path, tmp_path: Path, cli: Cli) -> None:
    code, *_ = cli("score", outputs, "--task", TASK, "--samples", export, "--name", "editor", "--out", tmp_path / "a")
    assert code == 0
    (tmp_path / "editor.py").write_text(MODEL)
    words = ("--model", f"{tmp_path / 'editor.py'}:Editor", "--limit", "30", "--out", tmp_path / "b")
    assert cli("run", "--task", TASK, *words)[0] == 0
    assert scores(tmp_path / "a") == scores(tmp_path / "b")
    assert 0 < sum(row["value"] for row in scores(tmp_path / "a") if row["metric"] == "success") < 30


def test_export_loads_as_an_imagefolder(export: Path, tmp_path: Path) -> None:
    os.environ["HF_HOME"] = str(tmp_path / "cache")
    datasets = pytest.importorskip("datasets")
    loaded = datasets.load_dataset("imagefolder", data_dir=str(export), cache_dir=str(tmp_path / "cache"))
    assert list(loaded) == ["test"]
    row = loaded["test"][7]
    assert (row["id"], row["index"], row["split"]) == ("recolour-test-00007", 7, "test")
    from qk_bench.plugins import find_tasks

    sample = find_tasks([TASK])[0].task.sample("test", 7, 64)
    for name in ("source", "target"):
        assert np.array_equal(np.asarray(row[name]), getattr(sample, name))
    assert np.array_equal(np.asarray(row["edit_mask"]) > 0, sample.edit_mask)
    assert json.loads(row["target_scene"]) == sample.target_scene
    assert row["region_box"] == pytest.approx(sample.region.box)


@pytest.mark.parametrize("split", ["train", "test"])
def test_loader_finds_the_split_whatever_the_folder_is_called(split: str, tmp_path: Path, cli: Cli) -> None:
    datasets = pytest.importorskip("datasets")
    out = tmp_path / "test-train"
    assert cli("data", "export", SQUARES, "--split", split, "--limit", "3", "--out", out)[0] == 0
    loaded = datasets.load_dataset("imagefolder", data_dir=str(out), cache_dir=str(tmp_path / "cache"))
    assert {name: len(rows) for name, rows in loaded.items()} == {split: 6}


def test_export_is_deterministic_and_atomic_and_overwrites_nothing(export: Path, tmp_path: Path, cli: Cli) -> None:
    words = ("data", "export", TASK, "--split", "test", "--limit", "30", "--out")
    cli(*words, tmp_path / "again")
    files = sorted(path.relative_to(export) for path in export.rglob("*") if path.is_file())
    assert files == sorted(p.relative_to(tmp_path / "again") for p in (tmp_path / "again").rglob("*") if p.is_file())
    assert all((export / f).read_bytes() == (tmp_path / "again" / f).read_bytes() for f in files)
    assert cli(*words, export)[:2] == (0, f"{export} holds this export already\n")
    code, _, err = cli("data", "export", TASK, "--limit", "31", "--out", export)
    assert (code, "holds another export" in err) == (2, True)
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    code, _, err = cli(*words, tmp_path / "mine")
    assert (code, "something that is not an export" in err) == (2, True)
    assert [p.name for p in (tmp_path / "mine").iterdir()] == ["notes.txt"]
    code, _, err = cli("data", "export", TASK, "--resolution", "8", "--out", tmp_path / "small")
    assert code == 2
    assert not list(tmp_path.glob("*small*"))


def test_ids_that_are_no_safe_file_names_never_leave_the_folder(tmp_path: Path, cli: Cli) -> None:
    suite = tmp_path / "suite.py"
    text = Path(SQUARES.partition(":")[0]).read_text()
    hostile = text.replace(
        "return Sample(", "return Sample.model_construct(references=(), kind='edit', attributes={}, "
    )
    suite.write_text(hostile.replace('id=f"{self.name}-', 'id=f"../../{self.name}-'))
    code, _, err = cli("data", "export", f"{suite}:SUITE/recolour", "--out", tmp_path / "deep" / "export")
    assert code == 2
    assert "not unique or not a safe file name" in err
    assert sorted(p.name for p in tmp_path.rglob("*.png")) == []


def test_missing_and_unexpected_files_are_reported(export: Path, outputs: Path, tmp_path: Path, cli: Cli) -> None:
    for index in (3, 4):
        (outputs / f"recolour-test-{index:05d}.png").unlink()
    Image.new("RGB", (64, 64)).save(outputs / "sunset.png")
    code, out, err = cli("score", outputs, "--task", TASK, "--samples", export, "--out", tmp_path / "run")
    assert code == 5
    assert "2 missing" in out
    assert "2 missing files: recolour-test-00003.png, recolour-test-00004.png" in err
    assert f"1 unexpected file: {outputs / 'sunset.png'}" in err
    assert (tmp_path / "run" / "unexpected.txt").read_text() == f"{outputs / 'sunset.png'}\n"
    missing = [row for row in scores(tmp_path / "run") if row["status"] == "missing"]
    assert {row["sample_id"] for row in missing} == {"recolour-test-00003", "recolour-test-00004"}
    assert all(row["value"] is None for row in missing)


def test_without_an_export_the_folder_says_what_is_expected(outputs: Path, tmp_path: Path, cli: Cli) -> None:
    (outputs / "recolour-test-00029.png").unlink()
    (outputs / "recolour-test-00003.png").unlink()
    code, _, err = cli("score", outputs, "--task", TASK, "--out", tmp_path / "run")
    assert code == 5
    assert f"expected: samples 0 to 28 of recolour, as found in {outputs}" in err
    assert len(outcomes(tmp_path / "run")) == 29
    code, _, _ = cli("score", outputs, "--task", TASK, "--limit", "20", "--out", tmp_path / "limited")
    assert len(outcomes(tmp_path / "limited")) == 20
    code, _, err = cli("score", outputs, "--task", SQUARES, "--out", tmp_path / "both")
    assert code == 2
    assert "no file is named after a sample of squares/remove (such as remove-test-00000.png)" in err


def test_seeds_suffixes_and_folders_one_level_down(outputs: Path, tmp_path: Path, cli: Cli) -> None:
    made = tmp_path / "seeds"
    (made / "second").mkdir(parents=True)
    for index in range(4):
        name = f"recolour-test-{index:05d}"
        shutil.copy(outputs / f"{name}.png", made / f"{name}-seed0.png")
        Image.open(outputs / f"{name}.png").save(made / "second" / f"{name}-seed2.webp", lossless=True)
    for stray in ("sheet", "grid-seed1"):  # answer no sample, and tell of no seed
        Image.new("RGB", (64, 64)).save(made / f"{stray}.png")
    code, _, err = cli("score", made, "--task", TASK, "--out", tmp_path / "run")
    assert code == 0
    assert "2 unexpected files" in err
    assert sorted({(line["seed"], line["status"]) for line in outcomes(tmp_path / "run")}) == [(0, "ok"), (2, "ok")]


def test_every_bad_file_is_a_named_outcome_with_one_clear_line(
    export: Path, outputs: Path, tmp_path: Path, cli: Cli
) -> None:
    (tmp_path / "bad").mkdir()
    bad = bad_files(tmp_path / "bad")
    for index, (path, _) in enumerate(bad.values()):
        name = f"recolour-test-{index:05d}"
        (outputs / f"{name}.png").unlink()
        path.rename(outputs / f"{name}{path.suffix}")
    code, _, err = cli("score", outputs, "--task", TASK, "--samples", export, "--out", tmp_path / "run")
    assert code == 5
    assert "Traceback" not in err
    lines = {line["index"]: line for line in outcomes(tmp_path / "run")}
    for index, (kind, (_, said)) in enumerate(bad.items()):
        assert lines[index]["status"] == "invalid_output", kind
        assert said in lines[index]["detail"]
    assert {lines[index]["status"] for index in range(len(bad), 30)} == {"ok"}


def test_seed_that_no_table_can_hold_is_told_before_the_work(outputs: Path, tmp_path: Path, cli: Cli) -> None:
    far = outputs / "recolour-test-00003-seed3735928559.png"
    (outputs / "recolour-test-00003.png").rename(far)
    code, out, err = cli("score", outputs, "--task", TASK, "--limit", "4", "--out", tmp_path / "run")
    assert (code, out) == (2, "")
    assert f"error: {far} is for seed 3735928559; seed indices end at 2147483647" in err
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--samples", "EXPORT", "--limit", "3"), "--limit cannot be given beside it"),
        (("--samples", "OUTPUTS"), "has no metadata.jsonl"),
        (("--task", SQUARES, "--samples", "EXPORT"), "the export has no samples of squares/remove; it has: recolour"),
    ],
)
def test_mistakes_are_one_clear_line(
    words: tuple[str, ...], said: str, export: Path, outputs: Path, tmp_path: Path, cli: Cli
) -> None:
    places = {"EXPORT": export, "OUTPUTS": outputs}
    code, _, err = cli("score", outputs, "--task", TASK, *(places.get(w, w) for w in words), "--out", tmp_path / "run")
    assert code == 2
    assert said in err
    assert err.count("\n") == 1


def test_two_files_for_one_sample_and_changed_images_are_refused(outputs: Path, tmp_path: Path, cli: Cli) -> None:
    words = ("score", outputs, "--task", TASK, "--limit", "30", "--out", tmp_path / "run")
    assert cli(*words)[0] == 0
    Image.new("RGB", (64, 64)).save(outputs / "recolour-test-00000.png")
    code, _, err = cli(*words)
    assert code == 2
    assert "card.weights" in err
    Image.new("RGB", (64, 64)).save(outputs / "recolour-test-00000.webp")
    code, _, err = cli(*words)
    assert code == 2
    assert "two images are called recolour-test-00000" in err
    code, _, err = cli("score", tmp_path / "nowhere", "--task", TASK)
    assert (code, err) == (2, f"error: there is no folder {tmp_path / 'nowhere'}\n")


def test_export_taken_from_another_version_of_the_suite_is_refused(
    export: Path, outputs: Path, tmp_path: Path, cli: Cli
) -> None:
    metadata = export / "test" / "metadata.jsonl"
    whole = metadata.read_text()
    metadata.write_text(whole.replace('"suite_version": "1"', '"suite_version": "0"'))
    code, _, err = cli("score", outputs, "--task", TASK, "--samples", export, "--out", tmp_path / "run")
    assert (code, "the export is of squares 0, here is 1" in err) == (2, True)
    metadata.write_text("".join(whole.splitlines(keepends=True)[5:12]))
    code, _, err = cli("score", outputs, "--task", TASK, "--samples", export, "--out", tmp_path / "run")
    assert code == 0
    assert sorted(line["index"] for line in outcomes(tmp_path / "run")) == list(range(5, 12))
    assert "23 unexpected files" in err
    metadata.write_text("{")
    code, _, err = cli("score", outputs, "--task", TASK, "--samples", export, "--out", tmp_path / "run")
    assert (code, "metadata.jsonl line 1 cannot be read" in err) == (3, True)

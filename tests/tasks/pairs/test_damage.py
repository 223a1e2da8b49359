"""A built data set that was damaged is told from a whole one, and a see-through insertion from an opaque one."""

from __future__ import annotations

import io
import json
import shutil
import tarfile
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from harness import Cli
from qk_tasks.pairs import reader, verifier
from qk_tasks.pairs.builder import Options, build
from qk_tasks.pairs.check import check
from qk_tasks.pairs.formats import Format

from qk_bench.errors import UsageError

from . import coco_folder

FILES: dict[Format, str] = {
    "parquet": "data/test-00001.parquet", "webdataset": "test-00001.tar", "imagefolder": "test/metadata.jsonl",
}  # fmt: skip


def options(form: Format = "parquet") -> Options:
    return Options("coco-edits", resolution=128, shares=(0, 0, 1), form=form, photos_per_shard=2)


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coco_folder.make(tmp_path_factory.mktemp("coco") / "coco", 14, 200, 150)


@pytest.mark.parametrize("form", FILES)
def test_a_shard_that_is_gone_or_changed_is_named(form: Format, coco: Path, tmp_path: Path) -> None:
    out, name = tmp_path / "pairs", FILES[form]
    build(coco, out, options(form), note=lambda _: None)
    assert not check(out).problems
    shutil.copytree(out, tmp_path / "whole")
    whole = (out / name).read_bytes()
    if form == "imagefolder":  # its last line, which nothing else misses
        (out / name).write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))
    else:
        (out / name).unlink()
    said = f"{name}: file: is {'not what the build wrote' if form == 'imagefolder' else 'missing'}"
    assert [str(problem) for problem in check(out).problems] == [said]
    with pytest.raises(UsageError, match=name):  # not "holds this data set already"
        build(coco, out, options(form), note=lambda _: None)
    changed = whole.replace(b"Attribution License", b"Attribution Licence")
    assert changed != whole
    (out / name).write_bytes(changed)
    assert [str(problem) for problem in check(out).problems] == [f"{name}: file: is not what the build wrote"]


def test_a_damaged_page_of_parquet_costs_the_items_in_it_alone(coco: Path, tmp_path: Path, cli: Cli) -> None:
    build(coco, tmp_path / "pairs", options(), note=lambda _: None)
    path = tmp_path / "pairs" / FILES["parquet"]
    group = pq.ParquetFile(path).metadata.row_group(0)
    column = next(c for c in map(group.column, range(group.num_columns)) if c.path_in_schema == "target.bytes")
    data = bytearray(path.read_bytes())
    start = column.dictionary_page_offset or column.data_page_offset
    data[start : start + 40] = bytes(40)
    path.write_bytes(data)
    code, out, err = cli("data", "check", tmp_path / "pairs")
    assert code == 1 and "Traceback" not in err
    assert out.count("cannot be read from the Parquet file") == group.num_rows > 10
    assert f"{FILES['parquet']}: row 3 of group 0: " in out
    for described in (True, False):  # as built, and as if by hand
        if not described:
            (tmp_path / "pairs" / "dataset.json").unlink()
        words = ("run", "--task", f"dataset:{tmp_path / 'pairs'}", "--model", "oracle", "--metric", "success")
        code, out, err = cli(*words, "--resolution", 64, "--no-page", "--out", tmp_path / f"run{described}")
        assert code == 5, err
        assert "row 3 of group 0" in err and "Traceback" not in err
        assert set(pq.read_table(tmp_path / f"run{described}" / "scores.parquet")["value"].to_pylist()) == {1.0}


def test_a_tar_that_is_cut_short_keeps_the_samples_before_the_cut(coco: Path, tmp_path: Path) -> None:
    build(coco, tmp_path / "pairs", options("webdataset"), note=lambda _: None)
    items = len(reader.read(tmp_path / "pairs").items)
    path = tmp_path / "pairs" / FILES["webdataset"]
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    found = check(tmp_path / "pairs")
    said = [str(problem) for problem in found.problems]
    assert said[0].startswith(f"{FILES['webdataset']}: file: is not a readable tar: ")
    assert items > sum(found.counts.values()) > items // 2
    assert len(said) <= 2  # the file, and the sample that was cut


def test_two_samples_under_one_key_of_a_tar_are_told(coco: Path, tmp_path: Path) -> None:
    build(coco, tmp_path / "pairs", options("webdataset"), note=lambda _: None)
    (tmp_path / "mine").mkdir()
    with tarfile.open(tmp_path / "pairs" / FILES["webdataset"]) as source:
        members = [(member.name, source.extractfile(member).read()) for member in source]  # type: ignore[union-attr]
    with tarfile.open(tmp_path / "mine" / "mine.tar", "w") as archive:
        for name, data in members + members[5:8]:
            member = tarfile.TarInfo(f"./{name}")  # as `tar -c .` names them
            member.size = len(data)
            archive.addfile(member, io.BytesIO(data))
    key = members[5][0].partition(".")[0]
    found = check(tmp_path / "mine")
    said = f"mine.tar: {key}: its .source.png member is there twice: each sample needs a key of its own"
    assert [str(problem) for problem in found.problems] == [said]
    assert sum(found.counts.values()) == found.items == len(members) // 5 - 1 > 0


def test_a_description_of_something_else_is_one_line(coco: Path, tmp_path: Path, cli: Cli) -> None:
    build(coco, tmp_path / "pairs", options(), note=lambda _: None)
    (tmp_path / "pairs" / "dataset.json").write_text('{"name": "mine", "plan": {"form": "parquet"}, "shards": [{}]}')
    code, out, err = cli("data", "check", tmp_path / "pairs")
    assert code == 1 and "dataset.json: file: does not describe a build: KeyError" in out and "Traceback" not in err


def test_a_damaged_description_is_one_line(coco: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    build(coco, out, options(), note=lambda _: None)
    whole = json.loads((out / "dataset.json").read_text())
    for field in ("shards", "rejections", "pairs", "problems"):
        for value in (None, "x", [1], [{"name": "x-1", "bytes": 1}], {"x": []}, -1, 1.5):
            (out / "dataset.json").write_text(json.dumps({**whole, field: value}))
            with pytest.raises(UsageError, match=rf"dataset.json is damaged: {field}"):
                build(coco, out, options(), note=lambda _: None)
    (out / "dataset.json").write_text("[" * 100_000)
    with pytest.raises(UsageError, match="holds another data set"):
        build(coco, out, options(), note=lambda _: None)
    with pytest.raises(UsageError, match=r"dataset.json cannot be read: RecursionError"):
        check(out)


def test_what_a_build_killed_at_its_end_left_behind_is_removed(coco: Path, tmp_path: Path) -> None:
    out = tmp_path / "pairs"
    build(coco, out, options(), note=lambda _: None)
    (out / ".work").mkdir()
    for left in (out / ".work" / "plan.json", out / "data" / ".x.1.tmp"):
        left.write_text("x")
    assert not build(coco, out, options(), note=lambda _: None).fresh
    assert not (out / ".work").exists() and not (out / "data" / ".x.1.tmp").exists()


def _tar(pax: dict[str, str], size: bytes | None = None) -> bytes:
    """A tar of one sample with a bad image member: with these pax headers, or of this size in its header."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as archive:
        for name, headers in (("a.json", {}), ("a.source.png", pax)):
            member = tarfile.TarInfo(name)
            member.size, member.pax_headers = 2, headers
            archive.addfile(member, io.BytesIO(b"{}"))
    archived = bytearray(data.getvalue())
    if size is not None:
        header = archived[1024:1536]
        header[124:136], header[148:156] = size, b" " * 8
        header[148:156] = b"%06o\0 " % sum(header)
        archived[1024:1536] = header
    return bytes(archived)


SIZES = [b"\x80" + b"\x7f" * 11, b"\xff" * 10 + b"\xfc\x00"]  # 2^87 and more, -1024


@pytest.mark.parametrize("data", [_tar({"GNU.sparse.size": "x"}), *(_tar({}, size) for size in SIZES)])
def test_a_member_of_a_tar_that_cannot_be_is_a_problem(data: bytes, tmp_path: Path) -> None:
    (tmp_path / "a.tar").write_bytes(data)
    found = reader.read(tmp_path)
    assert [problem.what.split(":")[0] for problem in found.problems] == ["is not a readable tar"]
    assert [item.id for item in found.items] == ["a"]
    assert len(check(tmp_path).problems) == 2  # the file, and the sample


def test_a_tar_that_is_no_file_is_a_problem(tmp_path: Path) -> None:
    (tmp_path / "a.tar").mkdir()
    (tmp_path / "b.tar").symlink_to("nowhere")
    said = [str(problem) for problem in check(tmp_path).problems]
    assert [words.partition("Error")[0] for words in said] == [
        "a.tar: file: is not a readable tar: IsADirectory", "b.tar: file: is not a readable tar: FileNotFound",
    ]  # fmt: skip


@pytest.mark.parametrize("left", [0.4, 0.5])
def test_an_insertion_that_is_see_through_does_not_pass(left: float, coco: Path, tmp_path: Path) -> None:
    build(coco, tmp_path / "pairs", options(), note=lambda _: None)
    inserts = [item for item in reader.read(tmp_path / "pairs").items if item.operation == "insert"]
    assert len(inserts) >= 5
    for item in inserts:
        sample = reader.to_sample(item, "mine", "1", 0)
        assert sample.source is not None and sample.target is not None and sample.edit_mask is not None
        ghost = (left * sample.source + (1 - left) * sample.target).astype(np.uint8)
        assert not verifier.verify(sample, ghost).success, item.id
        plain = sample.target.copy()  # another object of the same colour
        plain[sample.edit_mask] = np.median(plain[sample.edit_mask], axis=0)
        assert verifier.verify(sample, plain).success, item.id

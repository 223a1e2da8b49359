"""`qkbench data build` where things are not as they should be: each is said in one line, and nothing is lost."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from harness import Cli
from qk_tasks.pairs.builder import Options, build
from qk_tasks.pairs.check import check
from qk_tasks.pairs.formats import Format, shard_file

from qk_bench.store import take_lock

from . import coco_folder

OPTIONS = Options("coco-edits", resolution=128, shares=(1, 0, 0), photos_per_shard=1)
WORDS = ("data", "build", "coco-edits", "--workers", 1, "--resolution", 128)
HOLDER = """
import sys, time
from pathlib import Path
from qk_bench.store import take_lock
take_lock(Path(sys.argv[1]) / ".work" / "lock", Path(sys.argv[1]), "build")
print("held", flush=True)
time.sleep(600)
"""


@pytest.fixture(scope="module")
def coco(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return coco_folder.make(tmp_path_factory.mktemp("coco") / "coco", 3, 200, 150)


def only_line(err: str) -> str:
    lines = [line for line in err.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1 and "Traceback" not in err
    return lines[0]


def test_an_out_that_is_a_file_is_refused(coco: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    code, _, err = cli(*WORDS, "--coco", coco, "--out", tmp_path / "file")
    assert code == 2 and f"{tmp_path / 'file'} is not a folder" in only_line(err)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_description_of_something_else_is_not_taken_for_a_build(coco: Path, cli: Cli, tmp_path: Path) -> None:
    for text in ("[]", "{"):
        (tmp_path / "dataset.json").write_text(text)
        code, _, err = cli(*WORDS, "--coco", coco, "--out", tmp_path)
        assert code == 2 and "holds another data set" in only_line(err)


@pytest.mark.parametrize("shares", ["nan,0.5,0.5", "0.5,nan,0.5", "inf,0,0", "1.5,-0.5,0"])
def test_shares_are_numbers_that_sum_to_one(shares: str, coco: Path, cli: Cli, tmp_path: Path) -> None:
    code, _, err = cli(*WORDS, "--coco", coco, "--out", tmp_path / "out", "--shares", shares)
    assert code == 2 and "are not three shares that sum to 1" in only_line(err)
    assert not (tmp_path / "out").exists()


def test_a_build_without_any_pair_says_why(coco: Path, cli: Cli, tmp_path: Path) -> None:
    for _ in range(2):  # the second time it is there already
        code, out, err = cli(*WORDS, "--resolution", 1024, "--coco", coco, "--out", tmp_path / "out")
        assert code == 5 and "0 pairs" in out
        reason = "photograph: photograph too small (3 times)"
        assert f"no pair could be made; the most frequent reason: {reason}\n" in err
    code, out, _ = cli("data", "check", tmp_path / "out")
    assert code == 1 and "out: data set: is empty" in out


def test_a_data_set_of_unreadable_photographs_is_told_to_be_empty(cli: Cli, tmp_path: Path) -> None:
    coco = coco_folder.make(tmp_path / "coco", 2, 200, 150)
    for path in (coco / "val2017").iterdir():
        path.write_bytes(b"not a picture")
    code, _, err = cli(*WORDS, "--coco", coco, "--out", tmp_path / "out")
    assert code == 5 and "no photograph can be used" in err and "2 problems in the input" in err
    code, out, err = cli("data", "check", tmp_path / "out")
    assert code == 1 and "out: data set: is empty" in out and not err
    code, _, err = cli("run", "--task", f"dataset:{tmp_path / 'out'}", "--out", tmp_path / "run")
    assert code == 2 and "holds no pair that can be used" in only_line(err)


def test_names_of_files_cannot_steer_the_terminal(cli: Cli, tmp_path: Path) -> None:
    def spoil(data: dict[str, Any]) -> None:
        data["images"][0]["file_name"] = "\x1b[31mred\x85\u2028\u202e\nfake.jpg"

    coco = coco_folder.make(tmp_path / "coco", 2, 200, 150, spoil)
    code, _, err = cli(*WORDS, "--coco", coco, "--out", tmp_path / "out")
    assert code == 5 and "there is no such image" in next(line for line in err.splitlines() if "[31mred" in line)
    assert not set(err) & {"\x1b", "\x85", "\u202e"}


@pytest.mark.parametrize("form", ["parquet", "webdataset", "imagefolder"])
@pytest.mark.parametrize("loss", ["gone", "cut short", "report cut short"])
def test_a_shard_that_was_lost_is_built_again(loss: str, form: Format, coco: Path, tmp_path: Path) -> None:
    out, options = tmp_path / "out", replace(OPTIONS, form=form)

    def stop(text: str) -> None:
        if text.startswith("shard train-00001"):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        build(coco, out, options, note=stop)
    path = out / (".work/train-00000.report.json" if "report" in loss else shard_file(form, "train", 0))
    if loss == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes()[:-20])
    assert build(coco, out, options, note=lambda _: None).pairs > 20
    assert not check(out).problems


def test_two_builds_in_one_folder_are_not_at_work_at_once(coco: Path, cli: Cli, tmp_path: Path) -> None:
    (tmp_path / ".work").mkdir()
    lock = take_lock(tmp_path / ".work" / "lock", tmp_path, "build")
    code, _, err = cli(*WORDS, "--coco", coco, "--out", tmp_path)
    assert code == 2
    assert f"{tmp_path} is being written by another build (process {os.getpid()} on " in only_line(err)
    os.close(lock)
    assert cli(*WORDS, "--coco", coco, "--out", tmp_path)[0] == 0
    assert not (tmp_path / ".work").exists()


def test_a_killed_build_leaves_no_lock(coco: Path, tmp_path: Path) -> None:
    (tmp_path / ".work").mkdir()
    with subprocess.Popen([sys.executable, "-c", HOLDER, tmp_path], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None and holder.stdout.readline() == "held\n"
        holder.kill()
    assert build(coco, tmp_path, OPTIONS, note=lambda _: None).pairs > 20
    assert not (tmp_path / ".work").exists()

"""A damaged run is noticed, what is whole is kept, and the rest can be done again."""

from __future__ import annotations

import json
import resource
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from harness import FAULTY, PAINTER, SQUARES, Cli, as_interrupted, command, make_spec, outcomes, run_spec, same_results

from qk_bench.errors import DamagedRunError, FullDiskError, UsageError
from qk_bench.manifest import digest
from qk_bench.run.score import lines_digest
from qk_bench.store import RunDirectory


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    run_spec(make_spec(PAINTER, limit=100), tmp_path / "whole")
    return tmp_path / "whole"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    run_spec(make_spec(PAINTER, limit=100), tmp_path / "run")
    return tmp_path / "run"


def an_image(out: Path) -> Path:
    return sorted(out.glob("images/*/*.png"))[3]


def tear(out: Path) -> None:
    path = out / "outcomes.jsonl"
    path.write_bytes(path.read_bytes()[:-20])


def change_a_line(out: Path) -> None:
    path = out / "outcomes.jsonl"
    lines = path.read_bytes().splitlines(keepends=True)
    lines[7] = b'{"seed": 1}\n'
    path.write_bytes(b"".join(lines))


def repeat_a_line(out: Path) -> None:
    path = out / "outcomes.jsonl"
    path.write_bytes(path.read_bytes() + path.read_bytes().splitlines(keepends=True)[5])


def fail_a_line(out: Path) -> None:
    path = out / "outcomes.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    lines[7] = lines[7].replace('"ok"', '"timeout"')
    path.write_text("".join(lines))


DAMAGES: dict[str, tuple[Callable[[Path], object], str]] = {
    "torn last line": (tear, "its last line is torn"),
    "missing image": (lambda out: an_image(out).unlink(), "missing image"),
    "corrupt image": (
        lambda out: an_image(out).write_bytes(an_image(out).read_bytes()[:-9] + b"123456789"),
        "corrupt image",
    ),
    "empty image": (lambda out: an_image(out).write_bytes(b""), "corrupt image"),
    "broken line": (change_a_line, "line 8: not an outcome"),
    "line twice": (repeat_a_line, "line 101: recolour-test-00005 of painter is there twice"),
    "edited status": (fail_a_line, "status timeout does not go with its image"),
    "other scores": (lambda out: (out / "scores.parquet").write_bytes(b"PAR1"), "scores.parquet is not the file"),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_damage_is_reported_then_mended_by_the_same_command(damage: str, whole: Path, out: Path, cli: Cli) -> None:
    do, said = DAMAGES[damage]
    do(out)
    code, shown, err = cli("show", out, "--format", "json")
    assert code == 3
    assert said in err
    assert err.count("\n") == 1
    if damage != "other scores":
        assert json.loads(shown)["status"] == "partial"
    with pytest.raises(DamagedRunError, match=said):
        run_spec(make_spec(PAINTER, limit=100), out)
    kept = len(outcomes(out))
    assert kept >= 99
    run_spec(make_spec(PAINTER, limit=100), out)
    assert same_results(whole, out)
    code, _, err = cli("show", out)
    assert (code, err) == (0, "")


def test_image_that_an_outcome_names_outside_the_run_is_not_touched(out: Path, tmp_path: Path) -> None:
    mine = tmp_path / "holiday.png"
    mine.write_bytes(b"mine")
    lines = outcomes(out)
    lines[7]["image"] = str(mine.with_suffix(""))
    (out / "outcomes.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    with pytest.raises(DamagedRunError, match="line 8: not an outcome"):
        run_spec(make_spec(PAINTER, limit=100), out)
    assert mine.read_bytes() == b"mine"


def replace_by_folder(name: str) -> Callable[[Path], object]:
    def do(out: Path) -> None:
        (out / name).unlink()
        (out / name).mkdir()

    return do


def stop(out: Path) -> None:
    """Make it a run that was stopped, whose tables nothing vouches for."""
    run = RunDirectory(out)
    manifest = run.read_manifest()
    assert manifest is not None
    run.write_manifest(manifest.model_copy(update={"status": "partial", "files": {}}))


def forge_a_journal(out: Path) -> None:
    lines = (out / "outcomes.jsonl").read_bytes().splitlines()[:64]
    (out / "scores.jsonl").write_text(
        json.dumps({"segment": 0, "block": 0, "outcomes": lines_digest(lines), "items": 5}) + "\n[]\n"
    )


def other_table(name: str) -> Callable[[Path], object]:
    return lambda out: pq.write_table(pa.table({"a": [1]}), out / name)


ODD: dict[str, tuple[Callable[[Path], object], str]] = {
    "nested manifest": (lambda out: (out / "manifest.json").write_text("[" * 200_000), "manifest.json cannot be read"),
    "folder for outcomes": (replace_by_folder("outcomes.jsonl"), "outcomes.jsonl cannot be read: Is a directory"),
    "folder for timings": (replace_by_folder("timings.jsonl"), "timings.jsonl cannot be read: Is a directory"),
    "other scores": (other_table("scores.parquet"), "scores.parquet has no column cluster"),
    "other aggregates": (other_table("aggregates.parquet"), "aggregates.parquet has no column column"),
}


@pytest.mark.parametrize("damage", ODD)
def test_stopped_run_with_something_else_in_place_of_a_file_is_one_line(damage: str, out: Path, cli: Cli) -> None:
    do, said = ODD[damage]
    stop(out)
    do(out)
    code, _, err = cli("show", out)
    assert (code, err.count("\n")) == (3, 1)
    assert said in err
    code, _, err = cli("compare", out)
    assert code in (2, 3)
    assert err.count("\n") == 1


def test_forged_line_of_the_journal_is_scored_again(whole: Path, out: Path, cli: Cli) -> None:
    as_interrupted(out)
    forge_a_journal(out)
    code, shown, err = cli("show", out, "--format", "json")
    assert (code, err, json.loads(shown)["scored"]) == (0, "", 0)
    run_spec(make_spec(PAINTER, limit=100), out)
    assert same_results(whole, out)


def test_timings_that_cannot_be_are_left_out(out: Path, cli: Cli) -> None:
    line = json.loads((out / "timings.jsonl").read_text().splitlines()[0])
    odd = [{"requests": 0}, {"seconds": -1}, {"seconds": 1e308}, {"seconds": float("nan")}]
    (out / "timings.jsonl").write_text("".join(json.dumps(line | change) + "\n" for change in [{}, *odd]))
    code, shown, err = cli("show", out, "--format", "json")
    assert (code, err) == (0, "")
    assert json.loads(shown)["models"][0]["efficiency"]["requests"] == 1


@pytest.mark.parametrize("name", ["lock", "timings.jsonl", "dropped.jsonl", "images/.tmp"])
def test_links_out_of_a_run_are_not_written_through(name: str, out: Path, tmp_path: Path) -> None:
    mine = tmp_path / "mine"
    mine.mkdir()
    (mine / "notes").write_text("mine, without an end of line")
    link = out / name
    if link.is_dir():
        link.rmdir()
    link.unlink(missing_ok=True)
    link.symlink_to(mine if name.startswith("images") else mine / "notes")
    tear(out)
    with pytest.raises((UsageError, DamagedRunError)):
        run_spec(make_spec(PAINTER, limit=100), out)
    assert (mine / "notes").read_text() == "mine, without an end of line"


@pytest.mark.parametrize("table", ["scores.parquet", "aggregates.parquet"])
@pytest.mark.parametrize("killed", [False, True])
def test_cut_table_of_a_run_that_was_stopped_is_noticed(table: str, killed: bool, tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "run"
    run_spec(make_spec(FAULTY, limit=20, arguments={FAULTY: {"fault": "raise"}}), out, max_failures=1)
    run = RunDirectory(out)
    manifest = run.read_manifest()
    assert manifest is not None
    if killed:  # between the tables and the manifest that vouches for them
        run.write_manifest(manifest.model_copy(update={"status": "running", "files": {}}))
    (out / table).write_bytes((out / table).read_bytes()[:-9])
    code, _, err = cli("show", out)
    assert (code, err.count("\n")) == (3, 1)
    assert f"{table} cannot be read" in err if killed else f"{table} is not the file the run wrote" in err


def test_torn_line_of_an_interrupted_run_is_just_the_request_in_flight(whole: Path, out: Path) -> None:
    as_interrupted(out)
    tear(out)
    run_spec(make_spec(PAINTER, limit=100), out)
    assert same_results(whole, out)
    assert (out / "dropped.jsonl").read_bytes().startswith(b'{"model":"painter"')


def test_torn_journal_and_timings_are_cut_back_to_whole_lines(whole: Path, out: Path) -> None:
    as_interrupted(out)
    (out / "scores.jsonl").write_bytes(b'{"segment": 0, "block": 0, "outc')
    with (out / "timings.jsonl").open("ab") as file:
        file.write(b'{"model": "pai')
    run_spec(make_spec(PAINTER, limit=100), out)
    assert same_results(whole, out)
    assert all(json.loads(line) for line in (out / "timings.jsonl").read_bytes().splitlines())


def test_outcomes_edited_with_care_are_refused_and_nothing_is_touched(out: Path, cli: Cli) -> None:
    lines = outcomes(out)
    lines[7]["image"] = lines[8]["image"]
    (out / "outcomes.jsonl").write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in lines))
    code, _, err = cli("show", out)
    assert code == 3
    assert "outcomes.jsonl is not the file the run wrote" in err
    for _ in range(2):
        with pytest.raises(DamagedRunError, match="was edited"):
            run_spec(make_spec(PAINTER, limit=100), out)


@pytest.mark.parametrize("edit", [("64", "63"), ("painter", "better-painter"), ('"ok": 100', '"ok": 101')])
def test_edited_manifest_is_refused_and_nothing_is_touched(edit: tuple[str, str], out: Path, cli: Cli) -> None:
    path = out / "manifest.json"
    path.write_text(path.read_text().replace(*edit))
    before = path.read_bytes()
    code, _, err = cli("show", out)
    assert code == 3
    assert "edited" in err
    with pytest.raises(DamagedRunError, match="was edited"):
        run_spec(make_spec(PAINTER, limit=100), out)
    assert path.read_bytes() == before
    assert len(outcomes(out)) == 100


def test_manifest_from_before_a_field_was_added_is_whole(out: Path, cli: Cli) -> None:
    path = out / "manifest.json"
    data = json.loads(path.read_text())
    del data["sessions"][0]["versions"]
    data["digest"] = digest({name: value for name, value in data.items() if name != "digest"})
    path.write_text(json.dumps(data))
    code, _, err = cli("show", out)
    assert (code, err) == (0, "")


def test_without_its_manifest_a_run_keeps_the_outcomes_that_fit_the_command(whole: Path, out: Path) -> None:
    as_interrupted(out)
    (out / "manifest.json").unlink()
    run_spec(make_spec(PAINTER, limit=100), out)
    assert same_results(whole, out)
    as_interrupted(out)
    (out / "manifest.json").unlink()
    other = make_spec(PAINTER, limit=100, arguments={PAINTER: {"seconds": 0.0001}})
    with pytest.raises(DamagedRunError, match="is of another run"):
        run_spec(other, out)
    assert outcomes(out) == []


def test_manifest_cut_short_is_one_clear_line(out: Path, cli: Cli) -> None:
    path = out / "manifest.json"
    path.write_bytes(path.read_bytes()[:100])
    code, _, err = cli("show", out)
    assert (code, err.count("\n")) == (3, 1)
    assert "manifest.json cannot be read" in err


def test_folder_that_is_no_run_cannot_be_shown(tmp_path: Path, cli: Cli) -> None:
    code, _, err = cli("show", tmp_path)
    assert code == 3
    assert "is not a run" in err


@pytest.fixture
def small_files() -> Iterator[Callable[[int], None]]:
    """Lets no file grow past a size: what a full disk does, without filling one."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda size: resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_full_disk_stops_the_run_and_leaves_it_whole(
    whole: Path, tmp_path: Path, small_files: Callable[[int], None]
) -> None:
    out = tmp_path / "small"
    small_files(9000)
    with pytest.raises(FullDiskError, match="no space left"):
        run_spec(make_spec(PAINTER, limit=100), out)
    small_files(resource.RLIM_INFINITY)
    lines = (out / "outcomes.jsonl").read_bytes()
    assert lines.endswith(b"\n")
    assert 10 < len(outcomes(out)) < 100
    run_spec(make_spec(PAINTER, limit=100), out)
    assert same_results(whole, out)


def test_full_file_system_stops_the_run_with_one_line(whole: Path, tmp_path: Path) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=300k", "none", disk], capture_output=True, check=False
    ).returncode:
        pytest.skip("cannot mount a small file system here")
    try:
        words = ["run", "--task", f"{SQUARES}/recolour", "--model", PAINTER, "--limit", "100", "--metric", "success"]
        full = subprocess.run(command(*words, "--out", disk / "run"), capture_output=True, text=True, check=False)
        assert full.returncode == 2
        assert full.stderr.splitlines()[-1].startswith("error: no space left to write")
        assert "Traceback" not in full.stderr
        subprocess.run(["mount", "-o", "remount,size=50m", disk], check=True)
        subprocess.run(command(*words, "--out", disk / "run"), capture_output=True, check=True)
        assert same_results(whole, disk / "run")
    finally:
        subprocess.run(["umount", disk], check=True)


def test_folder_that_cannot_be_written_is_one_clear_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    for place, said in (("file/run", "Not a directory"), ("r" * 300, "File name too long")):
        with pytest.raises(UsageError, match=f"cannot write .*: {said}"):
            run_spec(make_spec(), tmp_path / place)

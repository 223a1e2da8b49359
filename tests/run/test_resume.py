"""A run can be killed, continued, reordered and spread over processes, and is the same run."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import time
from pathlib import Path

import psutil
import pytest
from harness import (
    PAINTER,
    SQUARES,
    YARDSTICKS,
    Silent,
    as_interrupted,
    command,
    make_spec,
    outcomes,
    run_spec,
    same_results,
    scores,
)

from qk_bench.compare.scores import load_run
from qk_bench.errors import DamagedRunError, UsageError
from qk_bench.manifest import RunSpec, digest
from qk_bench.store import OURS, RunDirectory

IN_PLACE = f"{Path(__file__).parents[1] / 'adapters.py'}:InPlace"
METRICS = (f"{YARDSTICKS}:Error", f"{YARDSTICKS}:Brightness")


def the_command(out: Path) -> list[str]:
    words = ["run", "--task", SQUARES, "--model", PAINTER, "--model", "no-op", "--limit", "60", "--seeds", "0,1,2"]
    metrics = [word for metric in METRICS for word in ("--metric", metric)]
    return command(*words, *metrics, "--model-arg", f"{PAINTER}.seconds=0.004", "--out", out)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same run, not interrupted."""
    out = tmp_path_factory.mktemp("whole") / "run"
    subprocess.run(the_command(out), check=True, capture_output=True, timeout=120)
    return out


def kill_after(out: Path, lines: int) -> None:
    """Start the run and kill -9 it once it has stored so many outcomes."""
    with subprocess.Popen(the_command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        path = out / "outcomes.jsonl"
        while not path.exists() or path.read_bytes().count(b"\n") < lines:
            assert process.poll() is None
            time.sleep(0.002)
        process.kill()


def test_run_killed_again_and_again_is_byte_identical_to_an_uninterrupted_one(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    for lines in (1, 100, 230, 420):
        kill_after(out, lines)
        assert not (out / "scores.parquet").exists()
    done = subprocess.run(the_command(out), capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert same_results(whole, out)
    assert len(json.loads((out / "manifest.json").read_text())["sessions"]) == 5


def test_workers_die_with_a_killed_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(the_command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while not (out / "outcomes.jsonl").exists() or not (out / "outcomes.jsonl").stat().st_size:
        time.sleep(0.01)
    children = psutil.Process(process.pid).children()
    assert children
    process.kill()
    process.wait()
    gone, alive = psutil.wait_procs(children, timeout=30)
    assert gone
    assert not alive


def test_ctrl_c_stops_cleanly_and_says_how_to_continue(whole: Path, tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(the_command(out), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    while not (out / "outcomes.jsonl").exists() or not (out / "outcomes.jsonl").stat().st_size:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=30)
    assert process.returncode == 130, err
    assert "run the same command again" in err
    assert "Traceback" not in err
    assert json.loads((out / "manifest.json").read_text())["status"] == "partial"
    subprocess.run(the_command(out), check=True, capture_output=True, timeout=120)
    assert same_results(whole, out)


def test_order_and_what_was_done_before_do_not_matter(tmp_path: Path) -> None:
    spec = make_spec(PAINTER, "noise", task=SQUARES, limit=50, seeds=(0, 1), metrics=METRICS)
    first, second = tmp_path / "first", tmp_path / "second"
    run_spec(spec, first)
    shutil.copytree(first, second)
    lines = (second / "outcomes.jsonl").read_bytes().splitlines(keepends=True)
    random.Random(0).shuffle(lines)
    (second / "outcomes.jsonl").write_bytes(b"".join(lines[:170]))
    as_interrupted(second)
    run_spec(spec, second, score_workers=3)
    assert same_results(first, second)


def test_number_of_scoring_processes_does_not_matter(tmp_path: Path) -> None:
    spec = make_spec(PAINTER, task=SQUARES, limit=150, metrics=METRICS)
    for workers in (1, 3):
        run_spec(spec, tmp_path / str(workers), score_workers=workers)
    assert same_results(tmp_path / "1", tmp_path / "3")


def test_batch_size_of_a_model_does_not_change_its_images(tmp_path: Path) -> None:
    spec = {size: make_spec(PAINTER, arguments={PAINTER: {"batch_size": size}}, limit=11) for size in (1, 4)}
    images = []
    for size in (1, 4):
        run_spec(spec[size], tmp_path / str(size))
        images.append({line["sample_id"]: line["image"] for line in outcomes(tmp_path / str(size))})
    assert images[0] == images[1]


def test_model_that_draws_on_its_source_draws_on_it_once_whatever_shares_its_batch(tmp_path: Path) -> None:
    images = []
    for size in (1, 4):
        spec = make_spec(IN_PLACE, arguments={IN_PLACE: {"batch_size": size}}, limit=5, seeds=(0, 1))
        run_spec(spec, tmp_path / str(size))
        images.append({(line["sample_id"], line["seed"]): line["image"] for line in outcomes(tmp_path / str(size))})
    assert images[0] == images[1]


COUNTING = """
import importlib.util
spec = importlib.util.spec_from_file_location("squares_again", {squares!r})
squares = importlib.util.module_from_spec(spec)
spec.loader.exec_module(squares)

class Counting(squares.Squares):
    def verify(self, sample, image):
        with open({log!r}, "a") as file:
            print(sample.id, file=file)
        return super().verify(sample, image)

class SUITE(squares.SquaresSuite):
    tasks = {{"recolour": Counting("recolour", "recolour")}}
"""


@pytest.fixture
def stopped(tmp_path: Path) -> tuple[RunSpec, Path]:
    """A spec whose run stopped after two whole blocks, and the file that tells which samples were verified."""
    counting, log = tmp_path / "counting.py", tmp_path / "verified.txt"
    counting.write_text(COUNTING.format(squares=SQUARES.partition(":")[0], log=str(log)))
    fault = f"{Path(PAINTER.partition(':')[0])}:Faulty"
    spec = make_spec(
        fault,
        task=f"{counting}:SUITE",
        limit=200,
        arguments={fault: {"fault": "raise", "guilty": "recolour-test-00150"}},
    )
    assert run_spec(spec, tmp_path / "run", max_failures=1).stopped
    assert len(log.read_text().split()) == 128
    return spec, log


def test_what_was_scored_is_not_scored_again(stopped: tuple[RunSpec, Path], tmp_path: Path) -> None:
    spec, log = stopped
    run_spec(spec, tmp_path / "run")
    after = log.read_text().split()
    assert len(after) == len(set(after)) == 199


def test_what_other_code_has_scored_is_scored_again(stopped: tuple[RunSpec, Path], tmp_path: Path) -> None:
    spec, log = stopped
    run, reporter = RunDirectory(tmp_path / "run"), Silent()
    manifest = run.read_manifest()
    assert manifest is not None
    run.write_manifest(manifest.model_copy(update={"versions": {**manifest.versions, "numpy": "0"}}))
    result = run_spec(spec, tmp_path / "run", reporter)
    assert any("numpy 0 → " in note and "scored again" in note for note in reporter.notes)
    assert len(log.read_text().split()) == 128 + 199
    for session in result.manifest.sessions:
        assert session.versions["numpy"] != "0"
        assert "cores" in session.hardware


def test_complete_run_is_left_alone(tmp_path: Path) -> None:
    spec = make_spec("no-op")
    run_spec(spec, tmp_path / "run")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file() and p.name != "lock"}
    reporter = Silent()
    run_spec(spec, tmp_path / "run", reporter)
    after = {p: p.stat().st_mtime_ns for p in (tmp_path / "run").rglob("*") if p.is_file() and p.name != "lock"}
    assert "nothing to do" in reporter.notes[0]
    assert before == after


def test_a_page_build_that_was_killed_does_not_stop_a_run_from_being_continued(tmp_path: Path) -> None:
    run_spec(make_spec("no-op"), tmp_path / "run")
    (tmp_path / "run" / ".site.tmp" / "assets").mkdir(parents=True)
    as_interrupted(tmp_path / "run")
    assert run_spec(make_spec("no-op"), tmp_path / "run").manifest.status == "complete"


def test_identical_outputs_are_stored_once(tmp_path: Path) -> None:
    run_spec(make_spec("oracle", limit=20, seeds=(0, 1, 2)), tmp_path / "run")
    assert len(outcomes(tmp_path / "run")) == 60
    assert len(list((tmp_path / "run" / "images").glob("*/*.png"))) == 20


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"limit": 11}, "indices"),
        ({"seeds": (0, 1)}, "seeds: [0] → [0, 1]"),
        ({"resolution": 32}, "resolution: 64 → 32"),
        ({"timeout": 3.0}, "timeout: None → 3.0"),
        ({"arguments": {PAINTER: {"seconds": 0.001}}}, "models.painter.card.arguments.seconds: 0.0 → 0.001"),
        ({"metrics": METRICS}, "metrics."),
        ({"task": SQUARES}, "tasks.squares/remove: not there → there"),
    ],
)
def test_changed_spec_in_the_same_folder_is_refused_with_the_difference(
    change: dict[str, object], said: str, tmp_path: Path
) -> None:
    run_spec(make_spec(PAINTER), tmp_path / "run")
    before = (tmp_path / "run" / "outcomes.jsonl").read_bytes()
    with pytest.raises(UsageError) as refused:
        run_spec(make_spec(PAINTER, **change), tmp_path / "run")  # type: ignore[arg-type]
    assert said in str(refused.value)
    assert (tmp_path / "run" / "outcomes.jsonl").read_bytes() == before


def test_fresh_deletes_the_run_and_nothing_else(tmp_path: Path) -> None:
    out = tmp_path / "run"
    run_spec(make_spec("no-op"), out)
    (out / "notes.txt").write_text("mine")
    run_spec(make_spec("oracle", limit=3), out, fresh=True)
    assert len(outcomes(out)) == 3
    assert (out / "notes.txt").read_text() == "mine"
    assert {p.name for p in out.iterdir()} <= {*OURS, "notes.txt"}


def test_folder_that_is_not_a_run_is_neither_written_nor_deleted(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "holiday.png").write_text("mine")
    for fresh in (False, True):
        with pytest.raises(UsageError, match="is not a run"):
            run_spec(make_spec("no-op"), tmp_path, fresh=fresh)
    assert [p.name for p in tmp_path.rglob("*")] == ["images", "holiday.png"]


def test_folder_of_a_run_that_was_killed_before_it_signed_its_lock_can_be_used(tmp_path: Path) -> None:
    (tmp_path / "lock").touch()
    assert run_spec(make_spec("no-op"), tmp_path).manifest.status == "complete"


def test_file_system_without_locks_is_not_taken_for_another_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(UsageError, match=r"cannot be locked: No locks available \(name an --out"):
        run_spec(make_spec("no-op"), tmp_path / "run")


def test_fresh_does_not_follow_links_out_of_the_folder(tmp_path: Path) -> None:
    out, elsewhere = tmp_path / "run", tmp_path / "elsewhere"
    run_spec(make_spec("no-op"), out)
    (out / "images").rename(elsewhere)
    (out / "images").symlink_to(elsewhere)
    run_spec(make_spec("oracle", limit=3), out, fresh=True)
    assert len(list(elsewhere.glob("*/*.png"))) == 10


def test_suite_that_changed_without_saying_so_is_noticed(tmp_path: Path) -> None:
    suite = tmp_path / "suite.py"
    text = Path(SQUARES.partition(":")[0]).read_text()
    fixed = text.replace("return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()", "return 'a' * 64")
    suite.write_text(fixed)
    words = ["run", "--task", f"{suite}:SUITE/recolour", "--model", "no-op", "--limit", "5", "--out", tmp_path / "run"]
    subprocess.run(command(*words), check=True, capture_output=True)
    as_interrupted(tmp_path / "run")
    suite.write_text(fixed.replace("GROUND = (128, 128, 128)", "GROUND = (120, 128, 128)"))
    done = subprocess.run(command(*words), capture_output=True, text=True, check=False)
    assert done.returncode == DamagedRunError.exit_code
    assert "suite squares has changed" in done.stderr


def test_another_verifier_judges_the_same_outcomes_again(tmp_path: Path) -> None:
    suite, out = tmp_path / "suite.py", tmp_path / "run"
    text = Path(SQUARES.partition(":")[0]).read_text()
    fixed = text.replace("return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()", "return 'a' * 64")
    suite.write_text(fixed)
    words = [
        "run",
        "--task",
        f"{suite}:SUITE/recolour",
        "--model",
        "oracle",
        "--limit",
        "5",
        "--metric",
        "success",
        "--out",
        out,
    ]
    subprocess.run(command(*words), check=True, capture_output=True)
    before = outcomes(out)
    assert {row["value"] for row in scores(out)} == {1.0}
    suite.write_text(fixed.replace("> 8", "> -1"))
    done = subprocess.run(command(*words), capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "verifier of squares 1 " in done.stderr
    assert {row["value"] for row in scores(out)} == {0.0}
    assert outcomes(out) == before
    assert "nothing to do" in subprocess.run(command(*words), capture_output=True, text=True, check=True).stderr


def test_a_run_from_before_verifiers_were_recorded_is_whole_and_judged_again(tmp_path: Path) -> None:
    out, spec = tmp_path / "run", make_spec("oracle")
    run_spec(spec, out)
    old = json.loads((out / "manifest.json").read_text())
    del old["spec"]["suites"][0]["verifier"], old["spec"]["suites"][0]["own_size"], old["digest"]
    for task in old["spec"]["tasks"]:
        del task["diagnostic"]
    unnamed = json.loads(json.dumps(old["spec"]))
    for part in (*unnamed["suites"], *unnamed["models"]):
        del part["ref"]
    old["spec_digest"] = digest(unnamed)
    (out / "manifest.json").write_text(json.dumps({**old, "digest": digest(old)}))
    assert load_run(out).manifest.spec.suites[0].verifier == ""
    reporter = Silent()
    assert run_spec(spec, out, reporter).manifest.spec == spec
    assert "verifier of squares not recorded → 1" in reporter.notes[0]


def test_two_processes_cannot_write_one_run(tmp_path: Path) -> None:
    out = tmp_path / "run"
    process = subprocess.Popen(the_command(out), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        while not (out / "outcomes.jsonl").exists():
            time.sleep(0.01)
        second = subprocess.run(the_command(out), capture_output=True, text=True, check=False)
        assert second.returncode == 2
        assert second.stderr.startswith("error: ")
        assert f"process {process.pid}" in second.stderr
        assert second.stderr.count("\n") == 1
    finally:
        os.kill(process.pid, signal.SIGKILL)
        process.wait()


def test_edited_model_file_is_another_model_and_another_name_for_it_is_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tmp_path / "mine.py"
    model.write_text("from qk_baselines.controls import NoOp\nclass Mine(NoOp):\n    pass\n")
    run_spec(make_spec(f"{model}:Mine"), tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    reporter = Silent()
    run_spec(make_spec("mine.py:Mine"), tmp_path / "run", reporter)
    assert "nothing to do" in reporter.notes[0]
    model.write_text(model.read_text() + "\n")
    with pytest.raises(UsageError, match=r"models.no-op.code: \w+…? → \w+"):
        run_spec(make_spec("mine.py:Mine"), tmp_path / "run")

"""What single pages say: verdicts that are missing, costs, versions, claims, and how to run it all again."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from harness import PAINTER, SQUARES, Cli, make_spec
from qk_leaderboard import build
from qk_leaderboard.boards import make_boards
from qk_leaderboard.costs import make_costs
from qk_leaderboard.duels import Change, changes
from qk_leaderboard.pages.provenance import commands
from qk_leaderboard.reading import read_runs
from qk_leaderboard.scales import scale_of
from qk_leaderboard.suites import installed
from simulated import COLUMNS, simulate

from qk_bench.cli import execution
from qk_bench.manifest import Manifest, RunSpec, Session
from qk_bench.run.summary import summarise
from qk_bench.store import RunDirectory
from tests.leaderboard.conftest import simulated

LATER = "2026-02-01T00:00:00Z"


def data(path: Path) -> Any:
    """What a data file hands to the page that loads it."""
    return json.loads(path.read_text().partition(",")[2].removesuffix(");\n"))


def test_outputs_without_a_verdict_are_neither_wrong_nor_failures(tmp_path: Path) -> None:
    values = simulate(30, {"m": 0.5}, seeds=1)
    values["m"]["success"][:7] = np.nan
    build([simulated(tmp_path / "run", {"removal": values}, failure="judge_error")], tmp_path / "site")
    index = data(tmp_path / "site" / "data" / "scenes-1-test-64" / "index.js")
    kinds = {code: (kind, label) for code, kind, label in index["codes"]}
    found = [kinds[code] for code in index["verdicts"][0][0]]
    assert found.count(("unverified", "judge error")) == 7
    assert {kind for kind, _ in found} == {"right", "wrong", "unverified"}
    (view,) = data(tmp_path / "site" / "data" / "leaderboard.js")["views"].values()
    (row,) = view["rows"]
    assert row[8] == ""
    assert "No verdict, left out: 7 judge error." in row[9]


def test_runs_in_which_nothing_has_a_value_have_a_gallery_and_say_so(tmp_path: Path) -> None:
    values = simulate(12, {"m": 0.5, "n": 0.5}, seeds=1)
    for held in values.values():
        held["success"][:] = np.nan
    build([simulated(tmp_path / "run", {"removal": values}, failure="judge_error")], tmp_path / "site")
    index = (tmp_path / "site" / "index.html").read_text()
    assert "No output has a value on any metric" in index
    assert "<table" not in index
    assert (tmp_path / "site" / "gallery.html").is_file()
    assert not (tmp_path / "site" / "pairs.html").exists()


def test_a_suite_is_loaded_once_however_many_models_and_tasks(tmp_path: Path) -> None:
    tasks = {task: simulate(12, {"m": 0.5, "n": 0.5, "o": 0.5}) for task in ("removal", "insertion")}
    before = installed.cache_info().misses
    build([simulated(tmp_path / "run", tasks, suite_digest="seen once")], tmp_path / "site")
    assert installed.cache_info().misses == before + 1


def test_requests_that_gave_no_image_are_not_timed(small_run: Path) -> None:
    (board,) = make_boards(read_runs([small_run]))
    shown, costs = summarise(RunDirectory(small_run)), make_costs(board)
    assert costs["weak"].n == shown.counts["weak"]["ok"] == shown.costs["weak"].requests
    assert shown.counts["weak"]["refused"] > 0
    assert costs["weak"].throughput == pytest.approx(shown.costs["weak"].throughput)


def test_versions_are_put_side_by_side_on_the_tasks_that_all_have(tmp_path: Path) -> None:
    same = {"suite": "scenes", "suite_version": "1", "split": "test", "resolution": 64, "task": "removal", "model": "m"}
    fid = {**same, "metric": "fid", "column": "fid", "value": 9.0, "low": 8.0, "high": 10.0, "n": 30, "status": "ok",
           "reason": ""}  # fmt: skip
    easy, hard = simulate(30, {"m": 0.9}), simulate(30, {"m": 0.1})
    older = simulated(tmp_path / "older", {"removal": easy, "insertion": hard}, aggregates=[fid])
    newer = simulated(tmp_path / "newer", {"removal": easy}, started=LATER, privileged=["m"], aggregates=[fid])
    (board,) = make_boards(read_runs([older, newer]))
    found = changes(board, [*board.earlier["m"], board.entry("m")])
    assert found[0].estimates == found[1].estimates
    assert set(found[0].estimates) == {"success", "fid"}
    build([older, newer], tmp_path / "site")
    page = (tmp_path / "site" / "versions.html").read_text()
    assert "Values are on the task that all versions have: <bdi>removal</bdi>." in page
    assert page.count('<svg class="chart"') == 2


def test_versions_without_a_task_in_common_are_joined_by_no_line(tmp_path: Path) -> None:
    values = simulate(30, {"m": 0.9})
    older = simulated(tmp_path / "older", {"insertion": values})
    newer = simulated(tmp_path / "newer", {"removal": values}, started=LATER, privileged=["m"])
    build([older, newer], tmp_path / "site")
    page = (tmp_path / "site" / "versions.html").read_text()
    assert "no task in common" in page
    assert "<svg" not in page


def test_a_small_p_is_not_written_as_one_that_it_is_not(tmp_path: Path) -> None:
    older = simulated(tmp_path / "older", {"removal": simulate(200, {"m": 0.1})})
    newer = simulated(tmp_path / "newer", {"removal": simulate(200, {"m": 0.9})}, started=LATER, privileged=["m"])
    (board,) = make_boards(read_runs([older, newer]))
    change: Change = changes(board, [*board.earlier["m"], board.entry("m")])[1]
    assert change.texts("success", scale_of(COLUMNS["success"], []))["p"] == "< 0.0001"


CLAIMS = {
    "format": "qk-bench claims",
    "format_version": 1,
    "subject": "a test",
    "sources": {"paper": {"kind": "paper", "title": "T"}},
    "roles": {"new": {"description": "", "models": ["m"]}, "old": {"description": "", "models": ["n"]}},
}
BOTH = {"model": "new", "baseline": "old"}


@pytest.mark.parametrize(
    ("says", "text"),
    [
        ({"metric": "success", "value": 0.8, "margin": 0.05}, "success on all tasks, value of new: 80.0 ± 5.0 %"),
        (
            {"metric": "success", **BOTH, "measure": "difference", "bound": "at least", "value": 0.1},
            "success on all tasks, difference of new against old: at least 10.0 points",
        ),
        (
            {"metric": "drift", "task": "removal", "value": 0.18, "margin": 0.02},
            "drift on removal, value of new: 0.180 ± 0.020",
        ),
        (
            {"metric": "drift", **BOTH, "measure": "relative change", "bound": "at most", "value": -0.45},
            "drift on all tasks, relative change of new against old: at most −45.0 %",
        ),
        (
            {"metric": "peak-memory", "bound": "at most", "value": 3.2e10},
            "peak-memory on all tasks, value of new: at most 32.00 GB",
        ),
        ({"metric": "latency", "value": 0.5, "margin": 0.1}, "latency on all tasks, value of new: 0.500 ± 0.100 s"),
        (
            {"metric": "parameters", "value": 1.3e8, "margin": 1e7},
            "parameters on all tasks, value of new: 130.0 ± 10.0 M",
        ),
    ],
)
def test_a_claim_is_written_in_the_unit_of_what_it_measures(says: dict[str, Any], text: str, tmp_path: Path) -> None:
    claim = {"id": "c", "source": "paper", "quote": "q", "data": "d", "says": {"model": "new", **says}}
    file = tmp_path / "claims.yaml"
    file.write_text(yaml.safe_dump({**CLAIMS, "claims": [claim]}))
    values = simulate(30, {"m": 0.5, "n": 0.4}, drifts={"m": 0.2, "n": 0.3})
    build([simulated(tmp_path / "run", {"removal": values})], tmp_path / "site", claims=[file])
    assert f"Read as: <bdi>{text}</bdi>" in (tmp_path / "site" / "claims.html").read_text()


def test_each_result_of_a_model_says_which_version_and_run_made_it(versions_site: Path) -> None:
    page = (versions_site / "models" / "strong.html").read_text().partition("<h2>Results")[2]
    assert "Adapter version <bdi>2</bdi>, weights <code><bdi>abababababab</bdi></code>; from <a href=" in page


@pytest.mark.parametrize("metrics", [("success",), ("psnr", "ssim")], ids=["success alone", "others"])
def test_printed_commands_ask_for_the_very_same_spec(
    metrics: tuple[str, ...], cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    spec = make_spec(
        PAINTER, "no-op", task=SQUARES, limit=50, seeds=(0, 2), metrics=metrics, timeout=1234567.5, resolution=32,
        arguments={PAINTER: {"name": "12", "seconds": 0.5}},
    )  # fmt: skip
    assert [task.indices for task in spec.tasks] == [((0, 50),), ((0, 40),)]
    asked: list[RunSpec] = []
    monkeypatch.setattr(execution, "perform", lambda spec, *_, **__: asked.append(spec))
    for item in commands(Manifest(status="complete", spec_digest=spec.digest(), spec=spec, requests=1)):
        code, _, err = cli(*shlex.split(item["command"])[1:])
        assert code == 0, err
    assert asked == [spec.model_copy(update={"models": (model,)}) for model in spec.models]


def test_scored_images_are_made_again_by_the_command_that_scored_them() -> None:
    spec = make_spec("no-op")
    session = Session(command="qkbench score pictures --task recolour", started=LATER)
    manifest = Manifest(status="complete", spec_digest=spec.digest(), spec=spec, requests=10, sessions=(session,))
    assert [item["command"] for item in commands(manifest)] == [session.command]

"""Promises of the regression gate: what fails, what passes, and when it says that N cannot tell."""

from __future__ import annotations

from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import Result
from simulated import Values, simulate, write_run
from typer.testing import CliRunner

from qk_bench.cli import app
from qk_bench.compare.gate import evaluate
from qk_bench.compare.select import Options, between, parse_margins
from qk_bench.errors import UsageError


def _gate(*arguments: str) -> Result:
    return CliRunner().invoke(app, ["compare", *arguments, "--gate"], catch_exceptions=False)


def _injected(values: dict[str, Values], share: float) -> dict[str, Values]:
    """The same with this share of the samples turned from success to failure, whatever the seed."""
    result = {}
    for model, by_metric in values.items():
        success = by_metric["success"].copy()
        solved = np.flatnonzero(success.all(axis=1))
        success[solved[: round(share * len(success))]] = 0
        result[model] = {**by_metric, "success": success}
    return result


@pytest.mark.parametrize("seeds", [1, 3])
@pytest.mark.parametrize(("n", "code"), [(400, 1), (20, 4)])
def test_a_drop_of_10_points_fails_at_400_samples_and_is_inconclusive_at_20(
    tmp_path: Path, n: int, code: int, seeds: int
) -> None:
    base = simulate(n, {"m": 0.8}, seeds=seeds)
    a = write_run(tmp_path / "base", {"t": base}, salt="a")
    b = write_run(tmp_path / "new", {"t": _injected(base, 0.1)}, salt="b")
    assert _gate(str(a), str(b), "--margin", "success=0.02").exit_code == code


def test_a_drop_in_one_of_four_tasks_is_found(tmp_path: Path) -> None:
    base = {t: simulate(400, {"m": 0.8}, key=i) for i, t in enumerate("abcd")}
    a = write_run(tmp_path / "base", base, salt="a")
    b = write_run(tmp_path / "new", {**base, "c": _injected(base["c"], 0.1)}, salt="b")
    gate = evaluate(between(str(a), str(b), Options(margins={"success": 0.02})))
    assert {c.task for c in gate.cells if c.verdict == "drop"} - {"all"} == {"c"}
    assert gate.exit_code == 1


def test_a_rerun_with_identical_outputs_passes_however_small(tmp_path: Path) -> None:
    base = {"t": simulate(5, {"m": 0.8}, drifts={"m": 1.0})}
    a, b = write_run(tmp_path / "base", base), write_run(tmp_path / "again", base)
    result = _gate(str(a), str(b), "--margin", "success=0.001,drift=0.001")
    assert result.exit_code == 0
    assert "identical outputs" in result.stdout


def test_other_outputs_with_equal_scores_need_enough_samples(tmp_path: Path) -> None:
    for n, code in ((20, 4), (400, 0)):
        base = {"t": simulate(n, {"m": 0.8})}
        a = write_run(tmp_path / f"base{n}", base, salt="a")
        b = write_run(tmp_path / f"new{n}", base, salt="b")
        assert _gate(str(a), str(b), "--margin", "success=0.02").exit_code == code


def test_a_metric_that_should_be_low_fails_when_it_rises(tmp_path: Path) -> None:
    def run(name: str, drift: float) -> str:
        values = simulate(200, {"m": 0.8}, drifts={"m": drift})
        return str(write_run(tmp_path / name, {"t": values}, salt=name))

    base, more, less = run("base", 1.0), run("more", 2.0), run("less", 0.5)
    assert _gate(base, more, "--margin", "drift=0.5").exit_code == 1
    assert _gate(base, less, "--margin", "drift=0.1").exit_code == 0


def test_fewer_than_10_clusters_are_inconclusive_and_never_a_failure(tmp_path: Path) -> None:
    base = simulate(90, {"m": 0.9})
    a = write_run(tmp_path / "base", {"t": base}, salt="a", per_cluster=10)
    b = write_run(tmp_path / "new", {"t": _injected(base, 0.5)}, salt="b", per_cluster=10)
    assert _gate(str(a), str(b), "--margin", "success=0.02").exit_code == 4


def test_failed_outcomes_of_the_new_version_count_against_it(tmp_path: Path) -> None:
    base = simulate(200, {"m": 0.9})
    broken = {"m": {"success": np.where(np.arange(600).reshape(200, 3) % 5 == 0, np.nan, base["m"]["success"])}}
    a = write_run(tmp_path / "base", {"t": base}, salt="a")
    b = write_run(tmp_path / "new", {"t": broken}, salt="b")
    assert _gate(str(a), str(b), "--margin", "success=0.02").exit_code == 1


def test_junit_has_a_failure_for_a_drop_and_a_skip_for_what_cannot_be_told(tmp_path: Path) -> None:
    base = {"big": simulate(400, {"m": 0.8}), "small": simulate(20, {"m": 0.8}, key=1)}
    new = {"big": _injected(base["big"], 0.1), "small": base["small"]}
    a, b = write_run(tmp_path / "a", base, salt="a"), write_run(tmp_path / "b", new, salt="b")
    result = _gate(str(a), str(b), "--margin", "success=0.02", "--format", "junit")
    assert result.exit_code == 1
    suites = ElementTree.fromstring(result.stdout.encode())
    cases = {case.get("name"): case for case in suites.iter("testcase")}
    assert cases["success on big"].find("failure") is not None
    assert cases["success on small"].find("skipped") is not None
    assert (suites.get("tests"), suites.get("skipped")) == ("3", "1")


def test_a_gate_says_at_which_level_its_intervals_are(tmp_path: Path) -> None:
    base = {"t": simulate(50, {"m": 0.8})}
    a, b = write_run(tmp_path / "a", base, salt="a"), write_run(tmp_path / "b", base, salt="b")
    shown = [_gate(str(a), str(b), "--margin", "success=0.02", "--format", f).stdout for f in ("markdown", "junit")]
    assert "of the gate 90%" in shown[0]
    assert "at 90%, margin" in shown[1]


@pytest.mark.parametrize(
    ("margins", "part"),
    [
        ([], "needs the largest drop"),
        (["drft=1"], "no value per sample"),
        (["hue=1"], "no better or worse"),
        (["success=many"], "not a margin"),
        (["success=2"], "2 points are 0.02"),
    ],
)
def test_a_gate_that_cannot_be_tested_is_bad_usage_not_a_regression(
    tmp_path: Path, margins: list[str], part: str
) -> None:
    values = simulate(20, {"m": 0.8})
    values["m"]["hue"] = np.ones((20, 3))
    a, b = write_run(tmp_path / "a", {"t": values}), write_run(tmp_path / "b", {"t": values})
    with pytest.raises(UsageError) as error:
        evaluate(between(str(a), str(b), Options(margins=parse_margins(margins))))
    assert part in str(error.value)
    assert error.value.exit_code == 2


def test_a_gate_that_tests_nothing_does_not_pass(tmp_path: Path) -> None:
    base = {"t": simulate(20, {"m": 0.8})}
    a = write_run(tmp_path / "a", base, salt="a")
    b = write_run(tmp_path / "b", {"t": _injected(base["t"], 1.0)}, salt="b")
    for tasks in ({"all"}, {"t", "u"}):  # one task is not pooled with others
        with pytest.raises(UsageError, match=r"no task '(all|u)' in these runs \(known: t\)"):
            evaluate(between(str(a), str(b), Options(frozenset(tasks), margins={"success": 0.02})))

"""Promises of `qkbench power`."""

from __future__ import annotations

from pathlib import Path

import pytest
from simulated import simulate, write_run
from typer.testing import CliRunner

from qk_bench import stats
from qk_bench.cli import app
from qk_bench.compare.planning import Plan, read_pilot
from qk_bench.compare.select import Options, within_run
from qk_bench.errors import QKBenchError


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = simulate(120, {"a": 0.6, "b": 0.7}, drifts={"a": 1.0, "b": 1.0})
    return write_run(tmp_path_factory.mktemp("power") / "run", {"t": values})


def _plan(*arguments: str) -> Plan:
    result = CliRunner().invoke(app, ["power", *arguments, "--format", "json"], catch_exceptions=False)
    return Plan.model_validate_json(result.stdout)


def test_smaller_differences_need_more_samples_and_more_seeds_need_fewer(run: Path) -> None:
    plan = _plan(f"{run}:a", f"{run}:b", "--difference", "0.05", "--difference", "0.1", "--seeds", "1", "--seeds", "3")
    needed = {(n.difference, n.seeds): n.samples or 0 for n in plan.needed}
    assert needed[0.05, 1] > needed[0.1, 1] > needed[0.1, 3] > 10
    assert plan.seed_share is not None
    assert 0 < plan.seed_share <= 1


def test_what_is_needed_for_a_difference_shows_that_difference(run: Path) -> None:
    for metric, difference in (("success", "0.08"), ("drift", "0.1")):
        first = _plan(f"{run}:a", f"{run}:b", "--metric", metric, "--difference", difference, "--seeds", "3")
        n = first.needed[0].samples
        back = _plan(f"{run}:a", f"{run}:b", "--metric", metric, "--samples", str(n), "--seeds", "3")
        assert back.visible[0].difference == pytest.approx(float(difference), rel=0.1)


def test_samples_for_a_margin_are_told(run: Path) -> None:
    plan = _plan(str(run), "--baseline", "a", "--margin", "0.05", "--seeds", "3")
    assert [n.difference for n in plan.needed_for_margin] == [0.05]
    assert (plan.needed_for_margin[0].samples or 0) > 50


def test_samples_for_a_margin_pass_every_task_not_only_all_together(tmp_path: Path) -> None:
    tasks = {t: simulate(120, {"a": 0.6, "b": 0.65}, key=i) for i, t in enumerate("tuvw")}
    run = write_run(tmp_path / "r", tasks)
    plan = _plan(f"{run}:a", f"{run}:b", "--margin", "0.05", "--seeds", "3")
    n = plan.needed_for_margin[0].samples or 0
    question = within_run(str(run), "a", Options())
    chance = 1.0
    for task, samples in (*((t, n) for t in "tuvw"), ("all", 4 * n)):
        pilot = read_pilot(question, "success", task)[0]
        chance *= stats.non_inferiority_power(pilot, 0.05, samples, seeds=3)
    assert chance >= 0.8
    alone = _plan(f"{run}:a", f"{run}:b", "--margin", "0.05", "--seeds", "3", "--task", "t")
    assert (alone.needed_for_margin[0].samples or 0) < n
    shown = CliRunner().invoke(app, ["power", f"{run}:a", f"{run}:b", "--margin", "0.05"]).stdout
    assert "Samples of each task with which the gate passes" in shown


@pytest.mark.parametrize(("rate", "sign"), [(0.0, 1), (1.0, -1)])
def test_a_control_as_the_baseline_leaves_room_on_one_side_only(tmp_path: Path, rate: float, sign: int) -> None:
    run = write_run(tmp_path / "r", {"t": simulate(100, {"control": rate, "b": 0.5})})
    plan = _plan(f"{run}:control", f"{run}:b", "--margin", "0.02", "--samples", "100")
    assert [n.difference for n in plan.needed] == pytest.approx([sign * d for d in (0.02, 0.05, 0.1) for _ in range(3)])
    assert all(n.samples is not None for n in (*plan.needed, *plan.needed_for_margin))
    assert all(v.difference is not None and 0.02 < v.difference < 0.15 for v in plan.visible)
    error = CliRunner().invoke(app, ["power", f"{run}:control", f"{run}:b", "--difference", str(-0.1 * sign)]).exception
    assert isinstance(error, QKBenchError)
    assert "no model can differ" in str(error)


@pytest.mark.parametrize("suffix", ["svg", "png"])
def test_plot_is_drawn_and_the_same_every_time(run: Path, tmp_path: Path, suffix: str) -> None:
    files = [tmp_path / f"{i}.{suffix}" for i in range(2)]
    for file in files:
        assert CliRunner().invoke(app, ["power", f"{run}:a", f"{run}:b", "--plot", str(file)]).exit_code == 0
    assert files[0].read_bytes() == files[1].read_bytes()
    assert files[0].stat().st_size > 5000


def test_mistakes_are_told_in_one_line(run: Path, tmp_path: Path) -> None:
    same = write_run(tmp_path / "r", {"t": {"a": {"success": simulate(30, {"a": 1.0})["a"]["success"]}}})
    twin = write_run(tmp_path / "s", {"t": {"a": {"success": simulate(30, {"a": 1.0})["a"]["success"]}}})
    for arguments, part in (
        ([f"{run}:a", f"{run}:b", "--metric", "drft"], "no metric 'drft'"),
        ([f"{run}:a", f"{run}:b", "--task", "u"], "no task 'u'"),
        ([str(same), str(twin)], "no spread"),
        ([f"{run}:a", f"{run}:b", "--difference", "0"], "difference of 0"),
        ([f"{run}:a", f"{run}:b", "--margin", "2"], "2 points are 0.02"),
        ([f"{run}:a", f"{run}:b", "--plot", str(tmp_path / "x.nonsense")], "cannot write"),
    ):
        error = CliRunner().invoke(app, ["power", *arguments]).exception
        assert isinstance(error, QKBenchError)
        assert part in str(error)
        assert "\n" not in str(error)

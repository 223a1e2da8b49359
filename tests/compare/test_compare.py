"""Promises of `qkbench compare`: what it says, what it refuses, what it prints."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from simulated import simulate, write_run
from statsmodels.stats.multitest import multipletests
from typer.testing import CliRunner

from qk_bench import stats
from qk_bench.cli import app
from qk_bench.compare.engine import compare
from qk_bench.compare.records import Report
from qk_bench.compare.select import Options, between, within_run
from qk_bench.errors import DamagedRunError, NotComparableError, UsageError

RATES = {"no-op": 0.02, "base": 0.6, "better": 0.75, "same": 0.6}
DRIFTS = {"no-op": 0.5, "base": 2.0, "better": 1.5, "same": 2.0}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tasks = {t: simulate(150, RATES, key=i, drifts=DRIFTS) for i, t in enumerate(("color_swap", "removal"))}
    return write_run(tmp_path_factory.mktemp("compare") / "run", tasks, privileged=["no-op"])


def _report(*arguments: str) -> Report:
    result = CliRunner().invoke(app, ["compare", *arguments, "--format", "json"], catch_exceptions=False)
    return Report.model_validate_json(result.stdout)


def _by_key(report: Report) -> dict[tuple[str, str, str], object]:
    return {(c.b.label, c.task, c.metric): c for c in report.comparisons}


def test_verdicts_follow_the_truth_and_the_direction_of_the_metric(run: Path) -> None:
    found = {key: c.verdict for key, c in _by_key(_report(str(run), "--baseline", "base")).items()}
    assert found["better", "color_swap", "success"] == "better"
    assert found["better", "all", "drift"] == "better"  # lower drift
    assert found["no-op", "removal", "success"] == "worse"
    assert found["no-op", "removal", "drift"] == "better"
    assert found["same", "removal", "success"] == "inconclusive"


def test_values_and_differences_are_those_of_the_statistics(run: Path) -> None:
    (c,) = _report(f"{run}:base", f"{run}:better", "--metric", "success", "--task", "removal").comparisons
    values = simulate(150, RATES, key=1, drifts=DRIFTS)
    a, b, codes = values["base"]["success"], values["better"]["success"], np.repeat(np.arange(150), 3)
    expected = stats.rate_difference(a.ravel(), b.ravel(), codes)
    assert c.difference == pytest.approx(b.mean() - a.mean())
    assert (c.low, c.high) == pytest.approx(expected.interval(0.95))
    assert c.p == pytest.approx(stats.sign_flip_exact((b - a).sum(axis=1)))
    assert (c.a.value, c.a.low) == pytest.approx((a.mean(), stats.rate_interval(a.ravel(), codes).low))
    assert (c.n, c.n_clusters) == (450, 150)


def test_filters_and_the_choice_of_pairs_change_no_p_value(run: Path) -> None:
    everything = _report(str(run))
    assert everything.family_size == 6 * 2
    p = [c.p for c in everything.comparisons if c.family == "primary"]
    corrected = [c.p_corrected for c in everything.comparisons if c.family == "primary"]
    assert corrected == pytest.approx(multipletests(p, method="holm")[1])
    whole = {(c.a.label, c.b.label, c.task, c.metric): c.p_corrected for c in everything.comparisons}
    for arguments in (
        [str(run), "--baseline", "base"],
        [str(run), "--metric", "success", "--task", "removal"],
        [f"{run}:base", f"{run}:better", "--metric", "drift"],
    ):
        part = _report(*arguments)
        assert part.family_size == 12
        for c in part.comparisons:
            key = (c.a.label, c.b.label, c.task, c.metric)
            other = (c.b.label, c.a.label, c.task, c.metric)
            assert c.p_corrected == pytest.approx(whole.get(key, whole.get(other)))


def test_only_success_on_single_tasks_is_confirmatory(run: Path) -> None:
    for c in _report(str(run)).comparisons:
        assert (c.family == "primary") == (c.metric == "success" and c.task != "all")


def test_swapping_the_sides_turns_the_difference_round(run: Path) -> None:
    ab = _by_key(_report(f"{run}:base", f"{run}:better"))["better", "removal", "success"]
    ba = _by_key(_report(f"{run}:better", f"{run}:base"))["base", "removal", "success"]
    assert (ab.difference, ab.low, ab.high) == pytest.approx((-ba.difference, -ba.high, -ba.low))
    assert (ab.verdict, ba.verdict) == ("better", "worse")


def test_equivalence_is_claimed_only_within_a_stated_margin(run: Path) -> None:
    narrow = _by_key(_report(f"{run}:base", f"{run}:same", "--margin", "0.001"))["same", "all", "success"]
    wide = _by_key(_report(f"{run}:base", f"{run}:same", "--margin", "success=0.1"))["same", "all", "success"]
    assert (narrow.verdict, wide.verdict) == ("inconclusive", "equivalent")


def test_models_that_cannot_be_told_apart_share_ranks(run: Path) -> None:
    ranking = next(r for r in _report(str(run)).rankings if r.task == "removal")
    places = {rank.label: (rank.best, rank.worst) for rank in ranking.ranks}
    assert places["better"] == (1, 1)
    assert places["base"] == places["same"] == (2, 3)
    assert places["no-op"] == (4, 4)
    assert {"base", "same"} in [set(group) for group in ranking.groups]


def test_failures_are_unsuccessful_in_rates_left_out_of_means_and_counted(tmp_path: Path) -> None:
    models = simulate(60, {"a": 0.9, "b": 0.9}, drifts={"a": 1.0, "b": 1.0})
    models["b"]["success"][:20] = np.nan  # the model failed on a third of the samples
    models["b"]["drift"][:20] = np.nan
    found = _by_key(_report(str(write_run(tmp_path / "r", {"t": models}))))
    success, drift = found["b", "t", "success"], found["b", "t", "drift"]
    assert success.n == 180
    assert success.b.failures == 60
    assert success.b.value == pytest.approx(np.nan_to_num(models["b"]["success"]).mean())
    assert (drift.n, drift.without_pair, drift.b.n) == (120, 60, 120)
    assert drift.difference == pytest.approx((models["b"]["drift"] - models["a"]["drift"])[20:].mean())


def test_a_judge_that_failed_says_nothing_of_the_model(tmp_path: Path) -> None:
    models = simulate(60, {"a": 0.9, "b": 0.9})
    models["b"]["success"][:20] = np.nan
    found = _by_key(_report(str(write_run(tmp_path / "r", {"t": models}, failure="judge_error"))))["b", "t", "success"]
    assert (found.n, found.without_pair, found.b.failures) == (120, 60, 0)


def test_fewer_than_10_clusters_give_no_p_value(tmp_path: Path) -> None:
    run = write_run(tmp_path / "r", {"t": simulate(90, {"a": 0.1, "b": 0.9})}, per_cluster=10)
    found = _by_key(_report(str(run)))["b", "t", "success"]
    assert (found.n_clusters, found.p, found.verdict) == (9, None, "too few clusters")


def test_one_seed_without_clusters_is_mcnemars_test(tmp_path: Path) -> None:
    models = simulate(60, {"a": 0.5, "b": 0.7}, seeds=1)
    found = _by_key(_report(str(write_run(tmp_path / "r", {"t": models}))))["b", "t", "success"]
    d = (models["b"]["success"] - models["a"]["success"]).ravel()
    assert found.test == "exact McNemar"
    assert found.p == pytest.approx(stats.mcnemar_exact(int((d > 0).sum()), int((d < 0).sum())))


def test_metrics_of_whole_sets_and_infinite_values_are_shown_but_not_tested(tmp_path: Path) -> None:
    models = simulate(30, {"a": 0.5, "b": 0.7}, drifts={"a": 1.0, "b": 1.0})
    models["a"]["psnr"] = np.where(np.arange(90).reshape(30, 3) == 0, np.inf, 30.0)
    models["b"]["psnr"] = np.full((30, 3), 31.0)
    models["b"]["success"][:4, 0] = np.nan
    sets = [_of_set("a", 18.2), _of_set("b", 12.4)]
    found = _by_key(_report(str(write_run(tmp_path / "r", {"t": models}, aggregates=sets))))
    fid = found["b", "t", "fid[ref=targets]"]
    assert fid.difference == pytest.approx(-5.8)
    assert (fid.a.failures, fid.b.failures) == (0, 4)
    assert fid.verdict == found["b", "t", "psnr"].verdict == "not tested"
    assert fid.note == "fid[ref=targets,n=90] has no paired test"
    assert "infinite" in found["b", "t", "psnr"].note


def _of_set(model: str, value: float, n: int = 90) -> dict[str, object]:
    """A row of `aggregates.parquet`, whose id carries N as FID's does."""
    same = {"suite": "scenes", "suite_version": "1", "split": "test", "resolution": 64, "task": "t"}
    ids = {"metric": f"fid[ref=targets,n={n}]", "column": "fid[ref=targets]"}
    interval = {"value": value, "low": value - 1, "high": value + 1}
    return {**same, **ids, **interval, "model": model, "n": n, "status": "ok", "reason": ""}


def test_sets_of_unlike_size_do_not_compare_and_are_named(tmp_path: Path) -> None:
    sets = [_of_set("a", 18.2), _of_set("b", 12.4, n=86)]
    report = _report(str(write_run(tmp_path / "r", {"t": simulate(30, {"a": 0.5, "b": 0.7})}, aggregates=sets)))
    assert {c.metric for c in report.comparisons} == {"success"}
    (note,) = report.notes
    assert "fid[ref=targets,n=90] of a and fid[ref=targets,n=86] of b are of unlike sets" in note


def test_a_metric_of_whole_sets_is_not_narrowed_to_the_rows_in_common(tmp_path: Path) -> None:
    scores = {"t": simulate(60, {"m": 0.5})}
    a = write_run(tmp_path / "a", scores, aggregates=[_of_set("m", 18.2)])
    b = write_run(tmp_path / "b", scores, first=20, aggregates=[_of_set("m", 12.4)])
    found = _by_key(compare(between(str(a), str(b), Options(intersect=True))))
    assert "of the whole sets" in found["b:m", "t", "fid[ref=targets]"].note


def test_a_metric_that_another_file_computed_is_never_compared(tmp_path: Path) -> None:
    scores = {"t": simulate(20, {"m": 0.5}, drifts={"m": 1.0})}
    a, b = (write_run(tmp_path / name, scores, code=name) for name in "ab")
    report = compare(between(str(a), str(b), Options()))
    assert [c.metric for c in report.comparisons] == ["success"]
    assert report.notes == (f"computed by another file in {b}, and left out: drift",)
    for asked in (Options(metrics=frozenset(["drift"])), Options(margins={"drift": 0.1})):
        with pytest.raises(NotComparableError, match=r"drift was computed by another file in .*score both"):
            compare(between(str(a), str(b), asked))


def test_the_resolution_of_a_run_means_nothing_where_samples_keep_their_own_sizes(tmp_path: Path) -> None:
    scores = {"t": simulate(20, {"m": 0.5})}
    a, b = (write_run(tmp_path / f"{r}", scores, resolution=r, own_size=True) for r in (64, 128))
    (comparison,) = compare(between(str(a), str(b), Options())).comparisons
    assert comparison.difference == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"resolution": 128}, "resolution differs: 64"),
        ({"split": "val"}, "split differs: test"),
        ({"suite_version": "2"}, "version of suite scenes differs: 1"),
        ({"suite_digest": "e"}, "content of suite scenes differs"),
        ({"verifier": "2"}, "verifier of suite scenes differs: 1 in"),
        ({"verifier": ""}, "not recorded in"),
        ({"progress": "partial"}, "is partial"),
        ({"first": 30}, "sample sets differ: scenes/t: a:m has 180 (sample, seed) rows, b:m has 180, 90"),
    ],
)
def test_unlike_runs_are_refused_with_the_difference(tmp_path: Path, change: dict[str, object], message: str) -> None:
    scores = {"t": simulate(60, {"m": 0.5})}
    a, b = write_run(tmp_path / "a", scores), write_run(tmp_path / "b", scores, **change)  # type: ignore[arg-type]
    with pytest.raises(NotComparableError) as error:
        between(str(a), str(b), Options())
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    assert error.value.exit_code == 3


def test_runs_from_before_verifiers_were_recorded_are_compared_and_that_is_said(tmp_path: Path) -> None:
    a, b = (write_run(tmp_path / name, {"t": simulate(20, {"m": 0.5})}, verifier="") for name in "ab")
    report = compare(between(str(a), str(b), Options()))
    assert report.notes == ("the runs do not say by which version of its verifier suite scenes was judged",)


def test_intersection_is_compared_when_asked_and_said(tmp_path: Path) -> None:
    scores = {"t": simulate(60, {"m": 0.5})}
    a = write_run(tmp_path / "a", {**scores, "only_a": scores["t"]})
    b = write_run(tmp_path / "b", scores, first=20)
    report = compare(between(str(a), str(b), Options(intersect=True)))
    assert {c.n for c in report.comparisons} == {120}
    assert any("40 rows" in note or "common" in note for note in report.notes)
    assert any("only_a" in note for note in report.notes)


def test_two_runs_of_the_same_models_are_compared_by_name(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", {"t": simulate(40, {"m": 0.5, "n": 0.5, "gone": 0.5})})
    b = write_run(tmp_path / "b", {"t": simulate(40, {"m": 0.5, "n": 0.5})})
    report = compare(between(str(a), str(b), Options()))
    assert [(c.a.label, c.b.label) for c in report.comparisons] == [("a:m", "b:m"), ("a:n", "b:n")]
    one = compare(between(f"{a}:m", f"{b}:m", Options()))
    assert one.family_size == report.family_size == 2
    other = compare(between(f"{a}:gone", f"{b}:m", Options()))
    assert (len(other.comparisons), other.family_size) == (1, 3)


def test_a_run_whose_scores_were_changed_is_refused(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", {"t": simulate(20, {"m": 0.5, "n": 0.5})})
    b = write_run(tmp_path / "b", {"t": simulate(20, {"m": 0.9, "n": 0.5})})
    (a / "scores.parquet").write_bytes((b / "scores.parquet").read_bytes())
    with pytest.raises(DamagedRunError, match="is not what the run wrote"):
        within_run(str(a), None, Options())


def test_metrics_that_one_run_lacks_are_named(tmp_path: Path) -> None:
    a = write_run(tmp_path / "a", {"t": simulate(20, {"m": 0.5}, drifts={"m": 1.0})})
    b = write_run(tmp_path / "b", {"t": simulate(20, {"m": 0.5})})
    report = compare(between(str(a), str(b), Options()))
    assert [c.metric for c in report.comparisons] == ["success"]
    assert report.notes == ("not in all runs, and left out: drift",)


def test_usage_mistakes_are_one_line_that_names_the_mend(run: Path, tmp_path: Path) -> None:
    lonely = write_run(tmp_path / "lonely", {"color_swap": simulate(20, {"other": 0.5})})
    for ask, part in (
        (lambda: within_run(str(run), "bse", Options()), "did you mean base"),
        (lambda: within_run(str(lonely), None, Options()), "one model only"),
        (lambda: between(str(run), str(lonely), Options()), "no model in common"),
        (lambda: between(str(run), str(run), Options()), "are one run"),
        (lambda: within_run(str(tmp_path / "nowhere"), None, Options()), "is not a folder"),
        (lambda: compare(within_run(str(run), None, Options(metrics=frozenset(["sucess"])))), "no metric 'sucess'"),
        (lambda: compare(within_run(str(run), None, Options(margins={"success": 2}))), "2 points are 0.02"),
    ):
        with pytest.raises(UsageError) as error:
            ask()
        assert part in str(error.value)
        assert "\n" not in str(error.value)
    (tmp_path / "empty").mkdir()
    with pytest.raises(DamagedRunError):
        within_run(str(tmp_path / "empty"), None, Options())


def test_pairs_that_never_differ_are_said_to_be_so(tmp_path: Path) -> None:
    values = simulate(30, {"a": 0.5}, drifts={"a": 1.0})["a"]
    found = _by_key(_report(str(write_run(tmp_path / "r", {"t": {"a": values, "b": values}}))))
    assert {c.note for c in found.values()} == {"no pair differs"}
    assert found["b", "t", "success"].high - found["b", "t", "success"].low > 0.05
    assert found["b", "t", "drift"].p == 1


def test_json_holds_no_nan_and_keeps_its_schema(run: Path) -> None:
    text = CliRunner().invoke(app, ["compare", str(run), "--format", "json"]).stdout
    assert "NaN" not in text
    assert "Infinity" not in text
    assert json.loads(text)["format"] == "qk-bench comparison"
    assert Report.model_json_schema()["properties"]["comparisons"]


def test_hostile_names_stay_text(tmp_path: Path) -> None:
    evil = "<script>alert(1)</script>|x\u202e"
    run = write_run(tmp_path / "r", {"t [alex,0.1][/x]": simulate(20, {evil: 0.5, "b": 0.7})})
    table = CliRunner().invoke(app, ["compare", str(run)], catch_exceptions=False).stdout
    assert "t [alex,0.1][/x]" in table
    page = CliRunner().invoke(app, ["compare", str(run), "--format", "markdown"]).stdout
    assert "<script>" not in page
    assert "\u202e" not in page
    xml = CliRunner().invoke(app, ["compare", str(run), "--format", "junit"]).stdout
    assert ElementTree.fromstring(xml.encode()).tag == "testsuites"


def test_reports_are_the_same_every_time(run: Path) -> None:
    assert _report(str(run)) == _report(str(run))

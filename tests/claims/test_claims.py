"""Promises of `qkbench claims`: the verdicts, and the claims that ship."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import yaml
from simulated import simulate, write_run
from typer.testing import CliRunner

from qk_bench.claims.judge import decide, inconsistency, judge
from qk_bench.claims.load import installed, read
from qk_bench.claims.records import ClaimFile, ClaimVerdict, Says
from qk_bench.cli import app
from qk_bench.compare.scores import load_run
from qk_bench.errors import DamagedRunError, UsageError
from qk_bench.manifest import Session

CLAIMS = {
    "format": "qk-bench claims",
    "format_version": 1,
    "subject": "a test",
    "sources": {"paper": {"kind": "paper", "title": "T"}},
    "roles": {
        "new": {"description": "", "models": ["qk", "qk:*"]},
        "old": {"description": "", "models": ["base*"], "parameters": 1e9},
    },
    "claims": [],
}


def _file(*claims: dict[str, object]) -> ClaimFile:
    base = {"source": "paper", "quote": "q", "data": "d"}
    return ClaimFile.model_validate({**CLAIMS, "claims": [{"id": f"c{i}", **base, **c} for i, c in enumerate(claims)]})


def _says(value: float, **kw: object) -> dict[str, object]:
    margin = {} if "bound" in kw else {"margin": 0.05}
    return {"says": {"metric": "success", "model": "new", "value": value, **margin, **kw}}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rates, drifts = {"base": 0.6, "qk:micro": 0.8}, {"base": 2.0, "qk:micro": 1.0}
    tasks = {t: simulate(300, rates, key=i, drifts=drifts) for i, t in enumerate(("color_swap", "removal"))}
    same = {"suite": "scenes", "suite_version": "1", "split": "test", "resolution": 64, "task": "removal"}
    sets = [
        {**same, "metric": f"{c}[n=50]", "column": c, "model": m, "value": v, "low": v - 1, "high": v + 1, "n": 90,
        "status": "ok", "reason": ""} for c in ("fid", "kid", "kid-tf") for m, v in (("base", 20.0), ("qk:micro", 10.0))
    ]  # fmt: skip
    spread = {"metric": "stability[ciede2000]", "column": "stability[ciede2000]", "status": "ok", "reason": ""}
    sets += [
        {**same, **spread, "task": t, "model": m, "value": v, "low": v - 1, "high": v + 1, "n": n}
        for t, n in (("color_swap", 300), ("removal", 100)) for m, v in (("base", n / 10), ("qk:micro", n / 100 + 2))
    ]  # fmt: skip
    path = write_run(tmp_path_factory.mktemp("claims") / "run", tasks, aggregates=sets)
    timings = [
        {"model": m, "suite": "scenes", "task": t, "sample_id": f"{t}-{i:06d}",
         "seed": s, "seconds": seconds * 2, "requests": 2, "peak_memory_bytes": 3_000 + i}
        for m, seconds in (("base", 0.1), ("qk:micro", 0.12)) for t in tasks for i in range(300) for s in range(3)
    ]  # fmt: skip
    (path / "timings.jsonl").write_text("".join(json.dumps(t) + "\n" for t in timings))
    return path


def _verdict(run: Path, claim: dict[str, object]) -> ClaimVerdict:
    return judge(_file(claim), [load_run(run)], {}).verdicts[0]


@pytest.mark.parametrize(
    ("claim", "verdict"),
    [
        (_says(0.8), "supported"),
        (_says(0.6), "contradicted"),
        (_says(0.84), "inconclusive"),
        (_says(0.8, task="removal"), "supported"),
        (_says(0.1, baseline="old", measure="difference", bound="at least"), "supported"),
        (_says(0.35, baseline="old", measure="relative change", bound="at least"), "inconclusive"),
        (_says(0.6, baseline="old", measure="relative change", bound="at least"), "contradicted"),
        (_says(-0.3, metric="drift", baseline="old", measure="relative change", bound="at most"), "supported"),
        (_says(-0.5, metric="fid*", baseline="old", measure="relative change", margin=0.2), "supported"),
        (_says(0.2, metric="latency", baseline="old", measure="relative change", margin=0.05), "supported"),
        (_says(3299, metric="peak-memory", bound="at most"), "supported"),
        (_says(4.5, metric="stability*", margin=1.1), "supported"),  # (300 · 5 + 100 · 3) / 400
        (_says(0.8, task="remov*"), "supported"),
    ],
)
def test_verdict_compares_the_interval_with_the_claim(run: Path, claim: dict[str, object], verdict: str) -> None:
    found = _verdict(run, claim)
    assert found.verdict == verdict, found
    assert found.measurement is not None
    exact = claim["says"]["metric"] in ("latency", "peak-memory")  # type: ignore[index]
    assert found.measurement.low < found.measurement.high or exact


def test_a_bound_is_met_only_by_the_whole_interval() -> None:
    says = Says(metric="m", model="new", value=0.1, bound="at least")
    assert decide(says, 0.11, 0.2)[0] == "supported"
    assert decide(says, 0.05, 0.2)[0] == "inconclusive"
    assert decide(says, 0.0, 0.09)[0] == "contradicted"
    assert decide(says, None, None)[0] == "inconclusive"


@pytest.mark.parametrize(
    ("claim", "part"),
    [
        (_says(0.5, metric="geneval"), "has no metric geneval"),
        (_says(0.5, task="insertion"), "has no task insertion"),
        (_says(1e8, metric="parameters"), "does not declare its parameters"),
        (_says(10.0, metric="fid*", task="layout"), "no fid* of qk:micro with an interval on layout"),
        (_says(10.0, metric="kid*"), "fits several metrics of"),
        ({"untestable": "no data was published"}, "no data was published"),
    ],
)
def test_what_cannot_be_tested_says_why(run: Path, claim: dict[str, object], part: str) -> None:
    found = _verdict(run, claim)
    assert found.verdict == "not testable here"
    assert part in found.reason


def test_figures_that_do_not_fit_each_other_are_inconsistent_whatever_is_measured(run: Path) -> None:
    derivations = [{"relation": "relative change", "of": ["c0", x], "tolerance": 0.002} for x in ("c1", "c2")]
    claims = [_says(0.832), _says(0.704), _says(0.601)]
    wrong = {**_says(0.286, baseline="old", measure="relative change", bound="at least"), "follows_from": derivations}
    right = {**_says(0.182, baseline="old", measure="relative change", bound="at least"), "follows_from": derivations}
    file = _file(*claims, wrong, right)
    assert "neither 0.1818" in inconsistency(file.claims[3], file)
    assert inconsistency(file.claims[4], file) == ""
    verdicts = judge(file, [load_run(run)], {}).verdicts
    assert verdicts[3].verdict == "inconsistent"
    assert verdicts[3].measurement is not None


def test_a_test_on_other_data_or_another_size_is_an_analogue(run: Path) -> None:
    other = _verdict(run, _says(0.8, model="old"))
    assert other.measurement is not None
    assert other.measurement.kind == "analogue"
    assert "scenes" in other.measurement.scale
    same = _verdict(run, {**_says(0.8), "suites": ["scenes"]})
    assert same.measurement is not None
    assert same.measurement.kind == "analogue"  # the size of neither is known
    assert "size not declared" in same.measurement.scale


def test_a_small_model_does_not_contradict_the_size_of_the_published_one() -> None:
    run = load_run(Path(__file__).parent.parent / "reference/edit")
    file = read(installed()["query-kontext"])
    found = {v.claim.id: v for v in judge(file, [run], {}).verdicts}["article-parameters"]
    assert found.verdict == "not testable here"
    assert "M parameters instead of 130 M" in found.reason


def test_a_metric_of_whole_sets_that_is_no_mean_is_not_pooled_over_tasks(run: Path, tmp_path: Path) -> None:
    rows = pq.read_table(run / "aggregates.parquet").to_pylist()
    rates, drifts = {"base": 0.6, "qk:micro": 0.8}, {"base": 2.0, "qk:micro": 1.0}
    tasks = {t: simulate(20, rates, drifts=drifts) for t in ("color_swap", "removal")}
    sets = [{**row, "task": t} for t in tasks for row in rows if row["column"] == "fid"]
    both = write_run(tmp_path / "both", tasks, aggregates=sets)
    assert "(color_swap, removal): the claim must name one" in _verdict(both, _says(10.0, metric="fid*")).reason
    assert "several metrics" in _verdict(write_run(tmp_path / "none", tasks), _says(10.0, metric="*")).reason
    unlike = [row if row["model"] == "base" else {**row, "metric": "fid[n=49]"} for row in sets]
    other = write_run(tmp_path / "unlike", tasks, aggregates=unlike)
    says = _says(0.5, metric="fid*", task="removal", baseline="old", measure="relative change")
    assert "fid[n=49] and fid[n=50]" in _verdict(other, says).reason


def test_one_model_stands_for_one_role_and_one_only(run: Path, tmp_path: Path) -> None:
    against = _says(0.0, baseline="old", measure="difference", bound="at least")
    found = judge(_file(against), [load_run(run)], {"old": "qk:micro"}).verdicts[0]
    assert found.verdict == "not testable here"
    assert "qk:micro stands for both new and old" in found.reason
    two = load_run(write_run(tmp_path / "two", {"t": simulate(20, {"qk:a": 0.5, "qk:b": 0.9, "base": 0.5})}))
    assert "several models for new: qk:a, qk:b; say which with --model new=MODEL" in _verdict(two.path, against).reason
    measured = judge(_file(against), [two], {"new": "qk:b"}).verdicts[0].measurement
    assert measured is not None
    assert (measured.metric, measured.model, measured.baseline) == ("success", "qk:b", "base")


def test_a_partial_run_is_judged_on_what_there_is_and_says_so(tmp_path: Path) -> None:
    tasks = {"t": simulate(40, {"base": 0.5}), "u": simulate(40, {"base": 0.5, "qk": 0.9})}
    run = write_run(tmp_path / "r", tasks, progress="partial")
    against = {"baseline": "old", "measure": "difference", "bound": "at least"}
    assert "sample sets differ: scenes/t" in _verdict(run, _says(0.0, **against)).reason  # qk has no row of t
    measured = _verdict(run, {**_says(0.0, task="u", **against), "suites": ["scenes"]}).measurement
    assert measured is not None
    assert measured.tasks == ("u",)
    assert measured.kind == "analogue"
    assert "is partial" in measured.scale


def test_timings_are_read_whole_or_refused(run: Path, tmp_path: Path) -> None:
    claim = _says(0.2, metric="latency", baseline="old", measure="relative change", margin=0.05)
    copy = Path(shutil.copytree(run, tmp_path / "copy"))
    lines = (copy / "timings.jsonl").read_text().splitlines(keepends=True)
    other = json.dumps({**json.loads(lines[-1]), "suite": "photo", "seconds": 9e8})
    (copy / "timings.jsonl").write_text("".join(lines) + f"{other}\n" + lines[0][:20])  # another suite's; torn off
    assert _verdict(copy, claim).verdict == "supported"
    (copy / "timings.jsonl").write_text(lines[0] + "{}\n")
    with pytest.raises(DamagedRunError, match=f"line at byte {len(lines[0])} is not a timing"):
        _verdict(copy, claim)


def test_of_several_runs_the_one_with_most_clusters_decides(run: Path, tmp_path: Path) -> None:
    small = write_run(tmp_path / "small", {"removal": simulate(20, {"qk:micro": 0.1})})
    found = judge(_file(_says(0.8)), [load_run(small), load_run(run)], {}).verdicts[0]
    assert found.measurement is not None
    assert found.measurement.run == str(run)
    assert [m.run for m in found.others] == [str(small)]


def test_of_runs_of_one_size_the_newest_decides(run: Path) -> None:
    whole = load_run(run)
    days = ("2026-01-01T00:00:00+00:00", "2026-01-03T00:00:00+00:00", "2026-01-02T00:00:00+00:00")
    runs = [
        replace(whole, path=Path(day), manifest=whole.manifest.model_copy(update={"sessions": (session,)}))
        for day in days
        for session in [Session(command="", started=day)]
    ]
    found = judge(_file(_says(0.8)), runs, {}).verdicts[0]
    assert found.measurement is not None
    assert found.measurement.run == days[1]


def test_the_user_may_say_which_model_stands_for_a_role(run: Path) -> None:
    found = judge(_file(_says(0.58)), [load_run(run)], {"new": "base"}).verdicts[0]
    assert found.verdict == "supported"
    with pytest.raises(UsageError, match="no claim speaks of 'nwe'"):
        judge(_file(_says(0.6)), [], {"nwe": "base"})
    with pytest.raises(UsageError, match="no run has a model 'bsae' for new"):
        judge(_file(_says(0.6)), [load_run(run)], {"new": "bsae"})


def test_failures_count_against_a_success_claim(tmp_path: Path) -> None:
    values = simulate(200, {"qk": 0.9})
    values["qk"]["success"][::2] = np.nan
    run = write_run(tmp_path / "r", {"t": values})
    assert _verdict(run, _says(0.9)).verdict == "contradicted"


def test_shipped_claims_are_found_whole_and_name_the_inconsistencies() -> None:
    file = read(installed()["query-kontext"])
    assert {s.kind for s in file.sources.values()} == {"paper", "article", "third party"}
    verdicts = {v.claim.id: v for v in judge(file, [], {}).verdicts}
    assert verdicts["article-fidelity-gain"].verdict == "inconsistent"
    assert "COCO-EDITS, which cannot be found" in verdicts["article-fidelity-gain"].reason
    assert verdicts["article-success-table"].verdict == "inconsistent"
    assert verdicts["article-fid-reduction"].verdict == "not testable here"
    assert "the sources disagree" in verdicts["article-parameters"].reason
    assert all(v.reason for v in verdicts.values())
    for claim in (c for c in file.claims if c.says is not None):
        of_paper = file.sources[claim.source].kind != "article" and claim.id != "notes-gate-drift"  # which restates it
        for role in (claim.says.model, claim.says.baseline):  # type: ignore[union-attr]
            if role in ("query-kontext", "query-kontext-paper", "single-stage", "single-stage-paper"):
                assert role.endswith("-paper") == of_paper, claim.id


def test_report_is_markdown_with_quotations_and_json_without_nan(run: Path) -> None:
    page = CliRunner().invoke(app, ["claims", str(run), "--format", "markdown"])
    assert page.exit_code == 0
    assert "> 6.2M extra parameters" in page.stdout
    assert "judge-overall[viescore*" in CliRunner().invoke(app, ["claims", str(run)]).stdout  # no markup of rich's
    data = json.loads(CliRunner().invoke(app, ["claims", str(run), "--format", "json"]).stdout)
    assert data[0]["format"] == "qk-bench claim report"


def _derived(relation: str, *of: str) -> list[dict[str, object]]:
    base = {"source": "paper", "quote": "q", "data": "d"}
    derivation = {"relation": relation, "of": list(of), "tolerance": 0.1}
    return [{"id": "c0", **base, **_says(0.0)}, {"id": "c1", **base, **_says(0.5), "follows_from": [derivation]}]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"claims": [{"id": "a", "source": "web", "quote": "q", "data": "d", "untestable": "u"}]}, "'web' is not"),
        ({"claims": [{"id": "a", "source": "paper", "quote": "q", "data": "d"}]}, "claims.0"),
        ({"claims": [{"id": "a", "source": "paper", "quote": "q", "data": "d", "untestable": "u"}] * 2}, "there twice"),
        ({"format": "other"}, "format"),
        ({"claims": _derived("relative change", "c0")}, "of 2 claims, not of 1"),
        ({"claims": _derived("equal", "c0", "c0")}, "of 1 claim, not of 2"),
        ({"claims": _derived("relative change", "c1", "c0")}, "from 'c0', which is 0"),
    ],
)  # fmt: skip
def test_a_mistake_in_a_claim_file_is_one_line_with_the_field(
    tmp_path: Path, change: dict[str, object], part: str
) -> None:
    path = tmp_path / "claims.yaml"
    path.write_text(yaml.safe_dump({**CLAIMS, **change}))
    with pytest.raises(UsageError) as error:
        read(path)
    assert part in str(error.value)
    assert str(path) in str(error.value)
    assert "\n" not in str(error.value)

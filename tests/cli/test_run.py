"""`qkbench run` and `show`: results on stdout, progress on stderr, a user's mistake is one line."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from harness import FAULTY, PAINTER, SQUARES, YARDSTICKS, Cli, as_interrupted, make_spec, qkbench, run_spec

import qk_bench
from qk_bench.run import environment

TASK = ("--task", f"{SQUARES}/recolour", "--metric", "success")


def test_run_then_show_tells_the_floor_and_the_ceiling(tmp_path: Path, cli: Cli) -> None:
    out = tmp_path / "R"
    code, printed, err = cli("run", *TASK, "--model", "no-op", "--model", "oracle", "--limit", "64", "--out", out)
    assert code == 0
    assert "oracle (privileged)" in printed
    assert f"run: {out}" in printed
    assert "2 models x 64 samples x 1 seed of 1 task = 128 requests" in err
    code, printed, err = cli("show", out, "--format", "json")
    assert (code, err) == (0, "")
    shown = json.loads(printed)
    assert (shown["status"], shown["requests"], shown["done"], shown["scored"]) == ("complete", 128, 128, 128)
    rates = {m["model"]: (m["privileged"], m["results"][0]["value"], m["results"][0]["n"]) for m in shown["models"]}
    assert rates == {"no-op": (False, 0.0, 64), "oracle": (True, 1.0, 64)}
    interval = [(r["low"], r["high"]) for m in shown["models"] for r in m["results"] if r["metric"] == "success"]
    assert all(low < high for low, high in interval)


def test_controls_are_run_when_no_model_is_named(tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    code, printed, _ = cli("run", *TASK, "--limit", "4")
    assert code == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.endswith(json.loads((run / "manifest.json").read_text())["spec_digest"][:8])
    assert all(name in printed for name in ("no-op", "oracle (privileged)", "noise"))


def test_default_folder_of_many_tasks_has_a_name_that_can_be_written(
    tmp_path: Path, cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    code, *_ = cli("run", *TASK * 9, "--model", "no-op", "--limit", "4", "--no-page")
    assert code == 0
    (run,) = (tmp_path / "runs").iterdir()
    assert run.name.endswith(json.loads((run / "manifest.json").read_text())["spec_digest"][:8])


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--task", "edti"), "did you mean edit"),
        (("--task", SQUARES, "--model", "noop"), "there is no model 'noop'; did you mean no-op"),
        (("--task", SQUARES, "--seeds", "0,0"), "--seeds 0,0 names one twice"),
        (("--task", SQUARES, "--seeds", "a"), "is not a list of numbers"),
        (("--task", SQUARES, "--seeds", "-1"), "seed indices start at 0"),
        (("--task", SQUARES, "--limit", "0"), "Invalid value for '--limit'"),
        (("--task", SQUARES, "--model", "no-op", "--limit", str(10**9)), "this would be 1,000,000,040 requests"),
        (("--task", SQUARES, "--resolution", "8"), "squares are drawn from 16 to 256 pixels a side, not 8"),
        (("--task", SQUARES, "--resolution", "0"), "Invalid value for '--resolution'"),
        (("--task", SQUARES, "--split", "tset"), "has no split 'tset'; it has: train, test"),
        (("--task", SQUARES, "--timeout", "0"), "must be a positive number of seconds"),
        (("--task", SQUARES, "--timeout", "nan"), "must be a positive number of seconds"),
        (("--task", SQUARES, "--metric", "sucess"), "there is no metric 'sucess'; did you mean success"),
        (("--task", SQUARES, "--model", PAINTER, "--model-arg", "x"), "is not key=value"),
        (("--task", SQUARES, "--model", PAINTER, "--model-arg", "x=1"), "unexpected keyword argument 'x'"),
        (("--task", SQUARES, "--model", PAINTER, "--model-arg", "seconds=NaN"), "numbers must be finite"),
        (("--task", SQUARES, "--model", PAINTER, "--model-arg", "seconds=[1e999]"), "numbers must be finite"),
        (("--task", SQUARES, "--model", "no-op", "--model", "noise", "--model-arg", "x=1"), "which model?"),
        (("--task", SQUARES, "--model", "nowhere.py:Editor"), "there is no file nowhere.py"),
        (("--task", SQUARES, "--model", PAINTER, "--model", f"{FAULTY[:-6]}Painter:3"), "painter"),
        (("--task", SQUARES, "--model", "precomputed:/nowhere"), "there is no folder /nowhere"),
        ((), "Missing option '--task'"),
        (("--task", SQUARES, "--frobnicate"), "No such option"),
    ],
)
def test_mistake_is_one_clear_line_and_exit_code_2(words: tuple[str, ...], said: str, tmp_path: Path, cli: Cli) -> None:
    code, printed, err = cli("run", *words, "--out", tmp_path / "run")
    assert code == 2
    assert printed == ""
    assert said in err
    assert "Traceback" not in err
    assert err.startswith("error: ")
    assert err.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_failed_outcomes_are_exit_code_5_and_are_shown(tmp_path: Path, cli: Cli) -> None:
    words = ("--model", FAULTY, "--model-arg", "fault=raise", "--limit", "5", "--out", tmp_path / "run")
    code, printed, _ = cli("run", *TASK, *words)
    assert code == 5
    assert "1 model_error" in printed
    (model,) = json.loads(cli("show", tmp_path / "run", "--format", "json")[1])["models"]
    (success,) = model["results"]
    assert (success["n"], success["without_value"]) == (5, {"model_error": 1})  # of 5, as in the table


def test_model_that_cannot_be_loaded_is_exit_code_2_after_the_others_are_done(tmp_path: Path, cli: Cli) -> None:
    words = ("--model", FAULTY, "--model-arg", f"{FAULTY}.fault=setup", "--model", "oracle", "--limit", "5")
    code, printed, err = cli("run", *TASK, *words, "--out", tmp_path / "run")
    assert code == 2
    assert "100.0%" in printed
    assert "PARTIAL: 5 of 10 requests done" in printed
    assert err.splitlines()[-1].startswith("error: model faulty-setup cannot be used: FileNotFoundError: no weights")


def test_changed_spec_is_told_with_old_and_new(tmp_path: Path, cli: Cli) -> None:
    cli("run", *TASK, "--model", "no-op", "--limit", "4", "--out", tmp_path / "run")
    code, _, err = cli("run", *TASK, "--model", "no-op", "--limit", "4", "--seeds", "0,1", "--out", tmp_path / "run")
    assert code == 2
    assert "seeds: [0] → [0, 1] (name another --out, or use --fresh)" in err
    code, _, _ = cli(
        "run", *TASK, "--model", "no-op", "--limit", "4", "--seeds", "0,1", "--out", tmp_path / "run", "--fresh"
    )
    assert code == 0


def test_unfinished_run_is_shown_as_partial(tmp_path: Path, cli: Cli) -> None:
    spec = make_spec(FAULTY, limit=150, arguments={FAULTY: {"fault": "raise", "guilty": "recolour-test-00140"}})
    run_spec(spec, tmp_path / "run", max_failures=1)
    as_interrupted(tmp_path / "run")  # only the journal is there
    code, printed, err = cli("show", tmp_path / "run", "--format", "json")
    assert (code, err) == (0, "")
    shown = json.loads(printed)
    assert (shown["status"], shown["requests"], shown["scored"]) == ("partial", 150, 128)
    assert 141 <= shown["done"] < 150  # the next answer may have been on its way
    code, printed, _ = cli("show", tmp_path / "run")
    assert f"PARTIAL: {shown['done']} of 150 requests done, 128 scored" in printed


def test_markdown_has_a_row_per_model_and_task(tmp_path: Path, cli: Cli) -> None:
    run_spec(make_spec("no-op", "oracle", task=SQUARES), tmp_path / "run")
    code, printed, _ = cli("show", tmp_path / "run", "--format", "markdown")
    assert code == 0
    table = next(block for block in printed.split("\n\n") if "| task |" in block)
    rows = [line for line in table.splitlines() if line.startswith("| ")]
    assert len(rows) == 2 + 2 * 3
    assert rows[5].startswith("| oracle (privileged) | squares/recolour | 100.0% | \\[")


def test_markdown_shows_a_name_for_what_it_is(tmp_path: Path, cli: Cli) -> None:
    spec = make_spec(PAINTER, arguments={PAINTER: {"name": "a|<b>_c_"}}, metrics=("success", f"{YARDSTICKS}:Error"))
    run_spec(spec, tmp_path / "run")
    _, printed, _ = cli("show", tmp_path / "run", "--format", "markdown")
    assert "| a\\|&lt;b&gt;\\_c\\_ | squares/recolour |" in printed
    assert "| metric | a\\|&lt;b&gt;\\_c\\_ |" in printed
    assert "<b>" not in printed


def test_output_can_be_piped_into_head(tmp_path: Path) -> None:
    import subprocess

    from harness import command

    run_spec(make_spec("no-op"), tmp_path / "run")
    shell = " ".join(map(repr, command("show", tmp_path / "run", "--format", "json"))) + " | head -1"
    done = subprocess.run(shell, shell=True, capture_output=True, text=True, check=False)
    assert done.stdout == "{\n"
    assert "Traceback" not in done.stderr


def test_page_that_cannot_be_built_never_costs_the_run(tmp_path: Path) -> None:
    command = ("run", *TASK, "--model", "no-op", "--limit", "4", "--out", tmp_path / "run")
    assert qkbench(*command).returncode == 0
    (tmp_path / "run" / "site" / "site.json").unlink()  # what tells a site from other folders
    done = qkbench(*command)
    assert done.returncode == 0
    assert "the page could not be built: " in done.stderr and "is not a site" in done.stderr
    assert "page:" not in done.stdout
    assert (tmp_path / "run" / "site" / "index.html").exists()


def test_run_ends_with_its_page_whatever_was_imported_before(tmp_path: Path) -> None:
    for name in ("first", "again"):
        done = qkbench("run", *TASK, "--model", "no-op", "--limit", "4", "--out", tmp_path / name)
        assert done.returncode == 0
        page = tmp_path / name / "site" / "index.html"
        assert f"page: {page}" in done.stdout
        assert page.exists()


def test_run_whose_model_cannot_be_used_has_no_page_and_one_line_why(tmp_path: Path, cli: Cli) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text(BROKEN)
    code, printed, err = cli("run", *TASK, "--model", f"{broken}:Broken", "--limit", "4", "--out", tmp_path / "run")
    assert code == 2
    assert "page:" not in printed
    assert "weights are torn" in err
    assert "page could not be built" not in err
    code, _, err = cli("site", tmp_path / "run", "--out", tmp_path / "site")
    assert code == 3
    assert "holds no outcome yet" in err


BROKEN = """
from qk_bench.interfaces import Model
from qk_bench.records import ModelCard


class Broken(Model):
    def __init__(self):
        self.card = ModelCard(name="broken", version="1")

    def setup(self):
        raise OSError("weights are torn")

    def generate(self, requests):
        raise AssertionError
"""


def test_manifest_tells_what_ran_where(tmp_path: Path) -> None:
    done = qkbench("run", *TASK, "--model", PAINTER, "--limit", "4", "--seeds", "0,1", "--out", tmp_path / "run")
    assert done.returncode == 0
    manifest = json.loads((tmp_path / "run" / "manifest.json").read_text())
    (session,) = manifest["sessions"]
    assert session["command"].startswith("qkbench run --task")
    assert session["wall_seconds"] > 0
    assert session["cpu_seconds"] > 0
    assert session["peak_memory_bytes"] > 10e6
    assert session["worker_peak_memory_bytes"]["painter"] > 10e6
    assert manifest["counts"] == {"painter": {"ok": 8}}
    assert {"python", "qk-bench", "numpy", "pillow"} <= set(manifest["versions"])
    assert manifest["hardware"]["cores"] >= 1
    assert manifest["spec"]["suites"][0]["digest"]
    timings = [json.loads(line) for line in (tmp_path / "run" / "timings.jsonl").read_text().splitlines()]
    assert len(timings) == 8


def test_git_that_cannot_say_whether_the_checkout_is_dirty_does_not_say_it_is_clean(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = Path(qk_bench.__file__).parent.parent
    script = f'#!/bin/sh\ncase "$*" in *toplevel*) echo "{root}" ;; *HEAD*) echo abc ;; *) exit 128 ;; esac\n'
    (tmp_path / "git").write_text(script)
    (tmp_path / "git").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert environment.git() == {"revision": "abc", "dirty": None}


def test_show_tells_what_models_cost_apart_from_scores(tmp_path: Path, cli: Cli) -> None:
    guilty = ("--model-arg", f"{FAULTY}.fault=raise", "--model-arg", f"{FAULTY}.guilty=recolour-test-00001")
    words = ("run", "--task", f"{SQUARES}/recolour", "--model", FAULTY, "--model", "oracle", "--limit", "6", *guilty)
    assert cli(*words, "--out", tmp_path / "run")[0] == 5
    _, table, _ = cli("show", tmp_path / "run")
    (head,) = [line for line in table.splitlines() if line.startswith("measured")]
    assert head.split() == ["measured", "latency", "p95", "images", "peak", "memory", "on", "device", "parameters", "n"]
    _, markdown, _ = cli("show", tmp_path / "run", "--format", "markdown")
    assert "| measured | latency | p95 |" in markdown
    models = json.loads(cli("show", tmp_path / "run", "--format", "json")[1])["models"]
    faulty, oracle = (model["efficiency"] for model in models)
    assert oracle["requests"] == 6
    assert faulty["requests"] == 5  # a failure gave no image
    for cost in (faulty, oracle):
        assert 0 < cost["latency_median"] <= cost["latency_p95"]
        assert cost["throughput"] > 0
        assert cost["peak_memory"] > 1e6
        assert (cost["device_peak_memory"], cost["parameters"]) == (None, None)
    names = {row["metric"] for model in models for row in model["results"]}
    assert not {name for name in names if "latency" in name or "memory" in name}
    (tmp_path / "run" / "timings.jsonl").unlink()
    code, out, _ = cli("show", tmp_path / "run", "--format", "json")
    assert code == 0
    assert [model["efficiency"] for model in json.loads(out)["models"]] == [None, None]

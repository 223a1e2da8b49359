"""The verbs that look: help, list, schema, check, doctor."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from harness import FAULTY, PAINTER, SQUARES, Cli, qkbench

HEAVY = ("torch", "pandas", "diffusers", "transformers", "numpy", "pydantic", "pyarrow", "PIL", "scipy", "skimage")


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; sys.argv = ['qkbench', '--help']\nfrom qk_bench.cli import main\ntry: main()\nexcept SystemExit: pass\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


def test_help_shows_the_verbs_and_examples(cli: Cli) -> None:
    code, out, _ = cli("--help")
    assert code == 0
    for word in ("run", "score", "show", "list", "check", "data", "doctor", "schema", "Examples", "Exit codes"):
        assert word in out


def test_version(cli: Cli) -> None:
    assert cli("--version")[:2] == (0, "qk-bench 0.1.0\n")


def test_unknown_verb_is_one_line(cli: Cli) -> None:
    code, out, err = cli("rnu")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "No such command 'rnu'" in err


def test_a_name_that_is_not_utf8_is_one_line(tmp_path: Path) -> None:
    done = qkbench("run", "--task", "edit", "--out", str(tmp_path / "r\udcff"))
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.count("\n") == 1
    assert "is not UTF-8" in done.stderr


@pytest.mark.parametrize("what", ["models", "tasks", "metrics"])
def test_list_as_table_and_json(what: str, cli: Cli) -> None:
    code, table, _ = cli("list", what)
    assert code == 0
    code, out, _ = cli("list", what, "--format", "json")
    assert code == 0
    rows = json.loads(out)
    assert rows
    assert all(row["name"] in table for row in rows)


def test_schema_of_all_records_and_of_one(cli: Cli) -> None:
    code, out, _ = cli("schema")
    assert code == 0
    schemas = json.loads(out)
    assert {"Sample", "Request", "Outcome", "Score", "Manifest"} <= set(schemas)
    assert json.loads(cli("schema", "Outcome")[1]) == schemas["Outcome"]
    code, _, err = cli("schema", "Outcom")
    assert (code, err) == (2, "error: there is no record 'Outcom'; did you mean Outcome?\n")


def test_check_passes_what_is_right_and_fails_what_is_not(cli: Cli, tmp_path: Path) -> None:
    code, out, _ = cli("check", "model", PAINTER, "--task", SQUARES, "--model-arg", "batch_size=3")
    assert (code, out.splitlines()[-1]) == (0, "8 passed, 0 failed")
    guilty = ("--model-arg", "fault=larger", "--model-arg", "guilty=recolour-test-00001")
    code, out, _ = cli("check", "model", FAULTY, "--task", SQUARES, *guilty)
    assert code == 1
    assert "FAIL  outputs are 64x64 as requested" in out
    assert "mend: return request.width x request.height" in out
    code, out, _ = cli("check", "task", SQUARES, "--count", "6")
    assert code == 0
    assert out.splitlines()[-1] == "22 passed, 0 failed"
    code, _, err = cli("check", "model", "no-op", "--task", "nothing")
    assert code == 2
    assert err.startswith("error: there is no task")


def test_doctor_says_what_is_there_and_how_to_mend_the_rest(cli: Cli) -> None:
    code, out, _ = cli("doctor")
    assert code == 0
    assert "numpy" in out
    rows = json.loads(cli("doctor", "--format", "json")[1])
    assert {row["level"] for row in rows} <= {"ok", "slow", "lacks", "broken"}
    assert all(row["mend"] for row in rows if row["level"] != "ok")


def test_doctor_fails_where_nothing_can_be_written(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    done = qkbench("doctor", env={**__import__("os").environ, "TMPDIR": str(gone)})
    assert done.returncode in (0, 1)  # a missing TMPDIR falls back to another folder
    assert "Traceback" not in done.stderr

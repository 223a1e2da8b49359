"""The verbs that look: help, list, schema, check, doctor."""

from __future__ import annotations

import importlib.metadata
import json
import os
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from harness import FAULTY, PAINTER, SQUARES, Cli, command, qkbench

from qk_bench import plugins
from qk_bench.run.spec import make_metrics

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


@pytest.mark.parametrize(
    ("redirection", "code", "said"),
    [
        ("> /dev/full", 2, "error: cannot write the output: No space left on device (free some space)\n"),
        (">&-", 0, ""),
        ("2>&-", 0, ""),
    ],
)
def test_output_that_cannot_be_printed_is_no_traceback(redirection: str, code: int, said: str) -> None:
    shell = f"{shlex.join(command('schema'))} {redirection}"
    done = subprocess.run(shell, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (code, said)


def test_errors_do_not_come_out_among_results_where_stderr_is_closed() -> None:
    shell = f"{shlex.join(command('schema', 'Outcom'))} 2>&-"
    done = subprocess.run(shell, shell=True, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")


def test_terminal_without_arrows_and_lines_gets_what_it_can_show() -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = qkbench("list", "metrics", env=environment)
    assert (done.returncode, done.stderr) == (0, "")
    assert "success" in done.stdout


@pytest.mark.parametrize("what", ["models", "tasks", "metrics"])
def test_list_as_table_and_json(what: str, cli: Cli) -> None:
    code, table, _ = cli("list", what)
    assert code == 0
    code, out, _ = cli("list", what, "--format", "json")
    assert code == 0
    rows = json.loads(out)
    assert rows
    assert all(row["name"] in table for row in rows)


BROKEN = '''
from qk_bench.interfaces import Model, SampleMetric, Suite


class Unready(SampleMetric):
    columns = ()

    def availability(self):
        raise OSError("no disk")

    def compute(self, items):
        return []


class Columnless(Unready):
    columns = property(lambda self: 1 / 0)

    def availability(self):
        return True, ""


class Taskless(Suite):
    name = version = "taskless"

    def digest(self):
        return ""


class Mistyped(Model):
    def __init__(self):
        self.card = 1 + ""

    def generate(self, requests):
        return []


class Asking(Mistyped):
    """   """

    def __init__(self, folder):
        raise AssertionError
'''


@pytest.fixture
def broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Registers plug-ins that load and then fail, beside those that are installed."""
    (tmp_path / "broken_parts.py").write_text(BROKEN)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "broken_parts", raising=False)
    parts = {"metric": ("Unready", "Columnless"), "task": ("Taskless",), "model": ("Mistyped", "Asking"), "trainer": ()}
    installed = plugins._entries

    def entries(kind: plugins.Kind) -> dict[str, list[importlib.metadata.EntryPoint]]:
        group = plugins.GROUPS[kind]
        mine = {n.lower(): [importlib.metadata.EntryPoint(n, f"broken_parts:{n}", group)] for n in parts[kind]}
        return installed(kind) | mine

    monkeypatch.setattr(plugins, "_entries", entries)


@pytest.mark.usefixtures("broken")
@pytest.mark.parametrize(
    ("what", "problems"),
    [
        ("metrics", {"unready": "OSError: no disk", "columnless": "ZeroDivisionError", "success": ""}),
        ("tasks", {"taskless": "AttributeError", "scenes/removal": ""}),
        ("models", {"mistyped": "TypeError", "asking:ARGUMENT": "", "no-op": "", "precomputed:ARGUMENT": ""}),
    ],
)
def test_broken_plug_in_is_listed_with_its_problem_and_hides_no_other(
    what: str, problems: dict[str, str], cli: Cli
) -> None:
    code, out, _ = cli("list", what, "--format", "json")
    assert code == 0
    told = {row["name"]: row["problem"] for row in json.loads(out)}
    for name, problem in problems.items():
        assert problem in told[name] if problem else told[name] == ""


@pytest.mark.usefixtures("broken")
def test_broken_plug_in_is_diagnosed_and_left_out_of_runs(cli: Cli) -> None:
    code, out, _ = cli("doctor", "--format", "json")
    assert code == 1
    told = {row["what"] for row in json.loads(out) if row["level"] == "broken"}
    assert {"metric unready", "metric columnless", "suite taskless"} <= told
    specs, unavailable = make_metrics([])
    assert "success" in {spec.ref for spec in specs}
    assert {"unready", "columnless"} <= set(unavailable)


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
    head = "-> Sample:\n"
    text = Path(SQUARES.partition(":")[0]).read_text()
    (tmp_path / "sizes.py").write_text(text.replace(head, f"{head}        resolution += index\n", 1))
    code, _, err = cli("check", "model", "no-op", "--task", f"{tmp_path / 'sizes.py'}:SUITE")
    assert code == 2
    assert err.startswith("error: the first samples of squares/recolour differ in size")


def test_sheet_that_cannot_be_written_is_one_line(tmp_path: Path, cli: Cli) -> None:
    code, _, err = cli("sheet", "no-op", "--task", f"{SQUARES}/recolour", "--limit", "1", "--out", tmp_path)
    assert (code, err) == (2, f"error: cannot write {tmp_path}: Is a directory\n")


@pytest.mark.parametrize("fault", ["raise", "count", "grey", "none", "refused"])
def test_sheet_shows_what_a_model_does_wrong(fault: str, tmp_path: Path, cli: Cli) -> None:
    words = ["sheet", FAULTY, "--model-arg", f"fault={fault}", "--task", f"{SQUARES}/recolour", "--limit", "5"]
    code, out, err = cli(*words, "--out", tmp_path / "sheet.png")
    assert (code, out, err) == (0, f"{tmp_path / 'sheet.png'}: 5 samples\n", "")


def test_sheet_of_a_model_without_weights_is_one_line(tmp_path: Path, cli: Cli) -> None:
    words = ["sheet", FAULTY, "--model-arg", "fault=setup", "--task", f"{SQUARES}/recolour", "--limit", "1"]
    code, _, err = cli(*words, "--out", tmp_path / "sheet.png")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("error: model faulty-setup cannot be used: FileNotFoundError")


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

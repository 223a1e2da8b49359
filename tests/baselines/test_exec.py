"""`exec:COMMAND`: a worker answers, and what it does wrong costs one request; it is restarted and leaves nothing behind."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest
from harness import command, make_spec, outcomes, qkbench, run_spec, same_results

from qk_bench.errors import UsageError
from qk_bench.plugins import load_model

ROOT = Path(__file__).parents[2]
REFERENCE = f"exec:{shlex.join([sys.executable, str(ROOT / 'examples/workers/reference.py')])}"
GUILTY = "recolour-test-00001"
FAULTS = {
    "die": ("model_error", "the worker left with exit code 9; it is started again"),
    "hang": ("timeout", "the worker gave no answer within 1.5 s; it is started again"),
    "nonsense": ("invalid_output", "the worker said 'Loading checkpoint shards: 100%', expected 'result' for request 2; "),
    "other id": ("invalid_output", 'the worker said \'{"type": "result", "id": 3'),
    "endless": ("invalid_output", "the worker sent a line of more than 1048576 bytes; it is started again"),
    "refuse": ("refused", "not allowed"),
    "status": ("invalid_output", "the worker gave the status 'fine'; it is started again"),
    "no image": ("invalid_output", "the worker said ok and wrote no image"),
    "link": ("invalid_output", "the worker said ok and wrote no image"),
    "not an image": ("invalid_output", "not a readable PNG"),
}  # fmt: skip


def bad(fault: str, folder: Path) -> str:
    script = folder / "bad_worker.py"
    shutil.copy(Path(__file__).with_name("bad_worker.py"), script)
    return f"exec:{shlex.join([sys.executable, str(script), fault, GUILTY])}"


def gone(pid: int) -> bool:
    """Whether a process has ended; one that nobody has waited for yet has."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z"
    except FileNotFoundError:
        return True


def test_reference_worker_keeps_the_promises_and_the_protocol() -> None:
    assert len((ROOT / "examples/workers/reference.py").read_text().splitlines()) <= 40
    done = qkbench("check", "model", REFERENCE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "pass  protocol: it ends with exit code 0 when its input ends" in done.stdout


def test_conformance_finds_a_worker_that_breaks_the_protocol(tmp_path: Path) -> None:
    script = tmp_path / "strict.py"
    text = (ROOT / "examples/workers/reference.py").read_text()
    script.write_text(text.replace("except Exception as error:", "except ZeroDivisionError as error:"))
    done = qkbench("check", "model", f"exec:{shlex.join([sys.executable, str(script)])}")
    assert done.returncode == 1
    assert "FAIL  protocol: a request that fails is answered and the next one served" in done.stdout
    assert "1 failed" in done.stdout


def test_worker_makes_images_and_a_run_repeats_byte_for_byte(tmp_path: Path) -> None:
    for name in ("one", "two"):
        run_spec(make_spec(REFERENCE, limit=4, seeds=(0, 1)), tmp_path / name)
    assert [line["status"] for line in outcomes(tmp_path / "one")] == ["ok"] * 8
    assert len({line["image"] for line in outcomes(tmp_path / "one")}) == 8
    assert same_results(tmp_path / "one", tmp_path / "two")


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_costs_one_request_which_is_named(fault: str, tmp_path: Path) -> None:
    model = bad(fault, tmp_path)
    run_spec(
        make_spec(model, limit=4, arguments={model: {"timeout": 1.5 if fault == "hang" else 30}}), tmp_path / "run"
    )
    lines = {line["sample_id"]: line for line in outcomes(tmp_path / "run")}
    assert {line["status"] for name, line in lines.items() if name != GUILTY} == {"ok"}
    assert lines[GUILTY]["status"] == FAULTS[fault][0]
    assert lines[GUILTY]["detail"].startswith(FAULTS[fault][1])
    if fault == "hang":
        pids = (tmp_path / "bad_worker.py.pids").read_text().split()
        assert all(gone(int(pid)) for pid in pids)


def test_worker_that_cannot_be_started_again_leaves_its_requests_open(tmp_path: Path) -> None:
    result = run_spec(make_spec(bad("die for good", tmp_path), limit=4), tmp_path / "run")
    assert result.load_failures == {
        "exec:bad_worker.py": "exec:bad_worker.py cannot be started again: the worker left with exit code 2"
    }
    assert [line["status"] for line in outcomes(tmp_path / "run")] == ["ok", "model_error"]


@pytest.mark.parametrize(
    ("fault", "said"),
    [("not ready", "left with exit code 3"), ("protocol", "speaks protocol 2, not 1")],
)
def test_worker_that_does_not_get_ready_is_one_line(fault: str, said: str, tmp_path: Path) -> None:
    done = qkbench("run", "--task", make_spec().suites[0].ref, "--model", bad(fault, tmp_path), "--limit", "2",
                   "--metric", "success", "--no-page", "--out", tmp_path / "run")  # fmt: skip
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize(
    ("ref", "arguments", "said"),
    [
        ("exec:", {}, "names no command"),
        ("exec:python 'x", {}, "quote it as for a shell"),
        ("exec:true", {"kinds": "edit,paint"}, "some of edit, generate, compose"),
        ("exec:true", {"timeout": 0}, "a positive number of seconds"),
    ],
)
def test_mistake_is_one_line(ref: str, arguments: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        load_model(ref, arguments)


@pytest.mark.parametrize("mode", [0o644, 0o755])
def test_changed_script_is_a_changed_model(mode: int, tmp_path: Path) -> None:
    model = bad("none", tmp_path)
    (tmp_path / "bad_worker.py").chmod(mode)
    before = load_model(model).card
    (tmp_path / "bad_worker.py").write_text("# changed\n")
    assert load_model(model).card.weights != before.weights


def test_compiled_program_is_no_part_of_a_model(tmp_path: Path) -> None:
    program = tmp_path / "interpreter"
    shutil.copy(Path(sys.executable).resolve(), program)
    before = load_model(bad("none", tmp_path)).card.weights
    model = bad("none", tmp_path).replace(shlex.quote(sys.executable), str(program))
    assert load_model(model).card.weights == before
    assert load_model(f"exec:{program}").card.weights == ""


def test_killed_run_leaves_no_worker_behind(tmp_path: Path) -> None:
    import subprocess

    words = ["run", "--task", make_spec().suites[0].ref, "--model", bad("hang", tmp_path), "--metric", "success"]
    run = subprocess.Popen(command(*words, "--no-page", "--out", tmp_path / "run"), stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, env={**os.environ, "TMPDIR": str(tmp_path)})  # fmt: skip
    pids = tmp_path / "bad_worker.py.pids"
    deadline = time.monotonic() + 100
    while not (pids.exists() and len(pids.read_text().split()) == 2) and time.monotonic() < deadline:
        time.sleep(0.1)
    run.send_signal(signal.SIGKILL)
    run.wait()
    numbers = [int(pid) for pid in pids.read_text().split()]
    while not (all(map(gone, numbers)) and not list(tmp_path.glob("qk-bench-exec-*"))) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert all(map(gone, numbers))
    assert not list(tmp_path.glob("qk-bench-exec-*"))

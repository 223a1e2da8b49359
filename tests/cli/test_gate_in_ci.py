"""The regression gate as continuous integration runs it: the action's own script, and the one line of the page."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
import yaml
from simulated import simulate, write_run

ROOT = Path(__file__).parents[2]
ACTION = yaml.safe_load((ROOT / ".github/actions/regression-gate/action.yml").read_text())
PAGE = (ROOT / "docs/regression-gate.md").read_text()


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("gate")
    base = simulate(300, {"m": 0.8}, seeds=1)
    worse = {"m": {"success": np.where(np.arange(300)[:, None] % 5 == 0, 0.0, base["m"]["success"])}}
    few = simulate(20, {"m": 0.8}, seeds=1)
    return {
        "base": write_run(folder / "base", {"t": base}, salt="a"),
        "same": write_run(folder / "same", {"t": base}, salt="a"),
        "worse": write_run(folder / "worse", {"t": worse}, salt="b"),
        "few-base": write_run(folder / "few-base", {"t": few}, salt="a"),
        "few": write_run(folder / "few", {"t": few}, salt="b"),
        "other": write_run(folder / "other", {"t": base}, salt="a", resolution=128),
    }


def _environment(folder: Path) -> dict[str, str]:
    """An environment in which `qkbench` is the one under test."""
    bin_folder = folder / "bin"
    bin_folder.mkdir()
    script = bin_folder / "qkbench"
    script.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "from qk_bench.cli import main; main()" "$@"\n')
    script.chmod(0o755)
    return {**os.environ, "PATH": f"{bin_folder}{os.pathsep}{os.environ['PATH']}"}


@pytest.mark.parametrize(
    ("base", "new", "code", "status", "said"),
    [
        ("base", "same", 0, "0", ""),
        ("base", "worse", 1, "1", "::error"),
        ("few-base", "few", 0, "4", "::warning"),
        ("base", "other", 3, "3", ""),
    ],
)
def test_action_fails_on_a_drop_and_warns_where_it_cannot_tell(
    tmp_path: Path, runs: dict[str, Path], base: str, new: str, code: int, status: str, said: str
) -> None:
    step = ACTION["runs"]["steps"][0]
    given = {"base": str(runs[base]), "new": str(runs[new]), "margin": "success=0.02"}
    values = {name: given.get(name, entry.get("default")) for name, entry in ACTION["inputs"].items()}
    filled = {k: re.sub(r"\$\{\{ inputs\.(\w+) \}\}", lambda m: values[m[1]], v) for k, v in step["env"].items()}
    files = {"GITHUB_OUTPUT": str(tmp_path / "output"), "GITHUB_STEP_SUMMARY": str(tmp_path / "step")}
    environment = {**_environment(tmp_path), **filled, **files}
    done = subprocess.run(["bash", "-c", step["run"]], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert (tmp_path / "output").read_text() == f"exit-code={status}\n"
    assert said in done.stdout
    if code != 3:
        assert "### Gate: " in (tmp_path / "step").read_text()
        assert ElementTree.parse(tmp_path / "gate.xml").getroot().tag == "testsuites"


@pytest.mark.parametrize(("base", "new", "code"), [("base", "same", 0), ("base", "worse", 1), ("few-base", "few", 0)])
def test_the_line_for_other_ci_does_the_same(
    tmp_path: Path, runs: dict[str, Path], base: str, new: str, code: int
) -> None:
    (line,) = re.findall(r"```sh\n(.*)\n```", PAGE)
    (tmp_path / "base-run").symlink_to(runs[base])
    (tmp_path / "new-run").symlink_to(runs[new])
    done = subprocess.run(["sh", "-c", line], cwd=tmp_path, env=_environment(tmp_path), capture_output=True, text=True)
    assert done.returncode == code, done.stderr
    assert ("warning: inconclusive" in done.stderr) == (base == "few-base")
    assert (tmp_path / "gate.xml").stat().st_size > 0


def test_the_documented_workflow_is_valid_and_hands_the_action_what_it_needs() -> None:
    workflow = yaml.safe_load(re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)[0])
    steps = workflow["jobs"]["gate"]["steps"]
    (gate,) = [s for s in steps if "regression-gate" in s.get("uses", "")]
    required = {name for name, entry in ACTION["inputs"].items() if entry.get("required")}
    assert required <= set(gate["with"]) <= set(ACTION["inputs"])
    assert any("actions/cache" in s.get("uses", "") and s["with"]["path"] == gate["with"]["base"] for s in steps)
    runs = [s["run"] for s in steps if "$RUN" in s.get("run", "")]
    assert len(runs) == 2
    assert all("|| [ $? -eq 5 ]" in run for run in runs)  # failed outcomes are the gate's to judge

"""One small real run, and the site that is built from it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from qk_leaderboard import build
from simulated import Values, write_run

from qk_bench.manifest import Session
from qk_bench.store import RunDirectory

EDITORS = Path(__file__).with_name("editors.py")
HOSTILE = Path(__file__).with_name("hostile.py")


def run(out: Path, *models: str, task: str = "edit", arguments: Sequence[str] = ()) -> Path:
    """Run models in a process of its own, as a user would."""
    words = [word for model in models for word in ("--model", model)]
    main = [sys.executable, "-c", "from qk_bench.cli import main; main()"]
    command = [*main, "run", "--task", task, "--limit", "12", "--seeds", "0,1", *words]
    done = subprocess.run([*command, "--out", str(out), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 5), done.stderr
    return out


def simulated(path: Path, tasks: Mapping[str, Mapping[str, Values]], *, started: str = "", **options: Any) -> Path:
    """A run whose scores are made up, that began at a time: without images, and in a moment."""
    directory = RunDirectory(write_run(path, tasks, **options))
    manifest = directory.read_manifest()
    assert manifest is not None
    session = Session(command="qkbench run", started=started or "2026-01-01T00:00:00Z")
    directory.write_manifest(manifest.model_copy(update={"sessions": (session,)}))
    return path


@pytest.fixture(scope="session")
def small_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two controls and two editors of known strength, one of which sometimes declines."""
    folder = tmp_path_factory.mktemp("runs") / "small"
    metrics = ("--metric", "color-difference", "--metric", "psnr")
    return run(folder, "no-op", "oracle", f"{EDITORS}:Weak", f"{EDITORS}:Strong", arguments=metrics)


@pytest.fixture(scope="session")
def site(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of the small run."""
    out = tmp_path_factory.mktemp("site") / "site"
    build([small_run], out)
    return out


@pytest.fixture(scope="session")
def hostile_site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of a run whose every text is hostile."""
    names = ("InName", "InLink", "InPath", "InOrder", "InTemplate", "InFormula")
    folder = run(
        tmp_path_factory.mktemp("hostile") / "run", *(f"{HOSTILE}:{name}" for name in names),
        task=f"{HOSTILE}:SUITE", arguments=("--metric", "psnr"),
    )  # fmt: skip
    out = tmp_path_factory.mktemp("hostile-site") / "site"
    build([folder], out)
    return out


@pytest.fixture(scope="session")
def versions_site(small_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The site of two runs, the later with a worse version of one model."""
    later = run(tmp_path_factory.mktemp("later") / "run", f"{EDITORS}:Fallen", arguments=("--metric", "psnr"))
    out = tmp_path_factory.mktemp("versions-site") / "site"
    build([later, small_run], out)
    return out

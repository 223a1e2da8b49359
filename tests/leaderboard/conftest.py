"""One small real run, and the site that is built from it."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from qk_leaderboard import build

EDITORS = Path(__file__).with_name("editors.py")


def run(out: Path, *models: str, arguments: Sequence[str] = ()) -> Path:
    """Run models on the edit group in a process of its own, as a user would."""
    words = [word for model in models for word in ("--model", model)]
    main = [sys.executable, "-c", "from qk_bench.cli import main; main()"]
    command = [*main, "run", "--task", "edit", "--limit", "12", "--seeds", "0,1", *words]
    done = subprocess.run([*command, "--out", str(out), *arguments], capture_output=True, text=True, check=False)
    assert done.returncode in (0, 5), done.stderr
    return out


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

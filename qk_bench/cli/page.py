"""The page of a run, if the page builder is there. A page that cannot be built never costs the run."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from qk_bench.errors import one_line
from qk_bench.store import PAGE

MOST_OUTCOMES: Final = 20_000
"""No page is built unasked for a longer run: it would take minutes, and memory that grows with the run."""


def build_page(run: Path, outcomes: int) -> Path | None:
    """Build the page of a run into its folder and give where it is; None if it cannot be built, or is left out."""
    if outcomes > MOST_OUTCOMES:
        print(f"no page for {outcomes} outcomes unasked: qkbench site {run} --out {run / PAGE}", file=sys.stderr)
        return None
    try:
        build = find_builder()
        return None if build is None else build([run], run / PAGE)
    except Exception as error:
        print(f"the page could not be built: {one_line(error)}", file=sys.stderr)
        return None


def find_builder() -> Callable[[Sequence[Path], Path], Path] | None:
    """The page builder with all that it imports, which takes a second; None where it is not installed."""
    try:
        package = importlib.import_module("qk_leaderboard")
        importlib.import_module("qk_leaderboard.builder")
    except ImportError:
        return None
    build: Callable[[Sequence[Path], Path], Path] = package.build
    return build

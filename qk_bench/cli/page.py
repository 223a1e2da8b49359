"""The page of a run, if the page builder is there. A page that cannot be built never costs the run."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from qk_bench.errors import one_line
from qk_bench.store import PAGE


def build_page(run: Path) -> Path | None:
    """Build the page of a run into its folder and give where it is; None if it cannot be built."""
    try:
        build = getattr(importlib.import_module("qk_leaderboard"), "build", None)
        return None if build is None else Path(build([run], run / PAGE))
    except Exception as error:
        print(f"the page could not be built: {one_line(error)}", file=sys.stderr)
        return None

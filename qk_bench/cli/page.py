"""The page of a run, if the page builder is there. A page that cannot be built never costs the run."""

from __future__ import annotations

import contextlib
import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from qk_bench.errors import one_line
from qk_bench.store import PAGE

MOST_OUTCOMES: Final = 20_000
"""No page is built unasked for a longer run: it would take minutes, and memory that grows with the run."""


class PageBuilder:
    """A process that draws the pictures of a run's page while it goes on, and builds the page when it is over.

    Args:
        run: The run's folder.
        outcomes: How many outcomes it will have.
    """

    def __init__(self, run: Path, outcomes: int) -> None:
        self._run = run
        self._process: subprocess.Popen[str] | None = None
        self._too_many = outcomes > MOST_OUTCOMES
        self._installed = importlib.util.find_spec("qk_leaderboard") is not None

    def start(self) -> None:
        """Start it, if there will be a page: the run's folder must hold its manifest and its outcomes by then."""
        if self._installed and not self._too_many and self._process is None:
            command = [sys.executable, "-P", "-m", "qk_leaderboard.ahead", str(self._run)]
            try:
                self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)
            except OSError as error:
                print(f"the page could not be built: {one_line(error)}", file=sys.stderr)

    def build(self) -> None:
        """Have the page built: the run is over, and nothing of it changes any more."""
        self.start()
        if self._process is not None and self._process.stdin is not None:
            with contextlib.suppress(OSError), self._process.stdin as stdin:  # it died: `finish` says so
                stdin.write("build")

    def finish(self) -> Path | None:
        """Wait for the page and give where it is; None if it cannot be built, which has then been said, or is left out."""
        page = self._run / PAGE
        if self._too_many:
            print(f"no page for so many outcomes unasked: qkbench site {self._run} --out {page}", file=sys.stderr)
        if self._process is None:
            return None
        code = self._process.wait()
        if code < 0:
            print(f"the page could not be built: killed by signal {-code}", file=sys.stderr)
        return page / "index.html" if code == 0 else None

    def __enter__(self) -> Self:
        """As a context it leaves nothing running."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        """Stop a process that has not built its page, and remove what it drew."""
        if self._process is not None and self._process.poll() is None:
            self._process.kill()
            self._process.communicate()
            shutil.rmtree(self._run / f".{PAGE}.drawn", ignore_errors=True)

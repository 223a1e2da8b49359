"""Builds the page of a run that is still going: draws its pictures meanwhile, so that the page is there soon after its end.

`python -m qk_leaderboard.ahead RUN`, which `qkbench run` starts at its first outcome. When its stdin ends with `build`, the
run is over and the page is built; when it ends with nothing, there will be no page. What was not drawn by then is drawn
in the build: the page is the same, byte for byte.
"""

from __future__ import annotations

import atexit
import gc
import json
import os
import shutil
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from qk_bench.errors import DamagedRunError, one_line
from qk_bench.store import OUTCOMES, PAGE, RunDirectory
from qk_leaderboard.pictures import Drawn, Pencil, Place

BUILD: Final = "build"
NICENESS: Final = 10  # the model comes first
PAUSE: Final = 0.2  # seconds between looks for new outcomes
MOST_CHARACTERS: Final = 100_000_000
"""Of difference pictures held in memory; what is beyond is drawn in the build."""


class Ahead:
    """What is drawn of a run's gallery before its page is built.

    Args:
        run: The run's folder.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.images = run / f".{PAGE}.drawn"
        self.drawn: dict[tuple[str, str, str], Drawn] = {}
        self._characters = 0
        manifest = RunDirectory(run).read_manifest()
        if manifest is None:
            raise DamagedRunError(f"{run} has no manifest")
        spec = manifest.spec
        self._places = {
            suite.name: Place(suite.ref, suite.digest, spec.split, spec.resolution) for suite in spec.suites
        }
        self.clear()
        for byte in range(256):
            (self.images / f"{byte:02x}").mkdir(parents=True)

    def clear(self) -> None:
        """Remove the images, also those that a killed process left."""
        shutil.rmtree(self.images, ignore_errors=True)

    def draw(self, outcome: dict[str, Any]) -> None:
        """Draw the sample of an outcome and its difference picture, if it has an image and there is room for more."""
        if outcome["image"] is None or self._characters > MOST_CHARACTERS:
            return
        key = outcome["suite"], outcome["task"], outcome["sample_id"]
        known = self.drawn.get(key)
        if known is not None and outcome["image"] in known.differences:
            return
        pencil = Pencil(self._places[key[0]], outcome["task"], outcome["index"], outcome["sample_id"], self.images)
        pencil.draw(self.run, outcome["image"])
        self._characters += sum(map(len, pencil.drawn.differences.values()))
        if known is None:
            self.drawn[key] = pencil.drawn
        else:
            known.differences |= pencil.drawn.differences


def follow(path: Path, over: threading.Event) -> Iterator[dict[str, Any]]:
    """The outcomes in a file and those that come to it, until it is over."""
    with path.open("rb") as file:
        while not over.is_set():
            line = file.readline()
            if line.endswith(b"\n"):
                yield json.loads(line)
            else:  # nothing more yet, or the half of a line
                file.seek(-len(line), os.SEEK_CUR)
                over.wait(PAUSE)


def main() -> None:
    """Draw until told to build, or to stop."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # it is the run's to decide: it then says nothing more
    os.nice(NICENESS)
    atexit.register(gc.freeze)  # a last collection would only delay the page
    over, word, begun = threading.Event(), "", False

    def listen() -> None:
        nonlocal word
        word = sys.stdin.read()
        over.set()
        if word != BUILD and not begun:
            os._exit(0)  # nothing is drawn, and imports cannot be interrupted

    threading.Thread(target=listen, daemon=True).start()
    try:
        from qk_leaderboard.builder import build_site
        from qk_leaderboard.charts import warm_up
        from qk_leaderboard.site import templates

        warm_up()
        for name in templates().list_templates():
            templates().get_template(name)
        run, begun = Path(sys.argv[1]), True
        ahead = Ahead(run)
        try:
            for outcome in follow(run / OUTCOMES, over):
                ahead.draw(outcome)
            if word == BUILD:
                build_site([run], run / PAGE, ahead=ahead)
        finally:
            ahead.clear()
    except Exception as error:
        print(f"the page could not be built: {one_line(error)}", file=sys.stderr)
        sys.exit(1)


if __name__ == "__main__":
    main()

"""The page that a run draws while it goes on is the page that is built afterwards, and a run that stops leaves nothing."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from qk_leaderboard.ahead import Ahead
from qk_leaderboard.builder import build_site

from qk_bench.cli.page import MOST_OUTCOMES, PageBuilder
from tests.leaderboard.test_build import digests


def drawn(run: Path) -> Path:
    return run / ".site.drawn"


def copied(run: Path, folder: Path) -> Path:
    shutil.copytree(run, folder, ignore=shutil.ignore_patterns("site"))
    return folder


def test_what_was_drawn_ahead_is_not_drawn_again(small_run: Path, site: Path, tmp_path: Path) -> None:
    run = copied(small_run, tmp_path / "run")
    ahead = Ahead(run)
    for line in (run / "outcomes.jsonl").read_text().splitlines():
        ahead.draw(json.loads(line))
    shutil.rmtree(run / "images")
    build_site([run], tmp_path / "site", ahead=ahead)
    assert digests(tmp_path / "site") == digests(site)
    assert not drawn(run).exists()


def test_what_was_drawn_in_part_is_completed(small_run: Path, site: Path, tmp_path: Path) -> None:
    run = copied(small_run, tmp_path / "run")
    ahead = Ahead(run)
    for line in (run / "outcomes.jsonl").read_text().splitlines()[5::3]:
        ahead.draw(json.loads(line))
    build_site([run], tmp_path / "site", ahead=ahead)
    assert digests(tmp_path / "site") == digests(site)


def test_the_page_of_a_run_is_the_site_of_it(small_run: Path, site: Path) -> None:
    assert digests(small_run / "site") == digests(site)
    assert not drawn(small_run).exists()


@pytest.mark.parametrize("how", ["the run is killed", "the run stops"])
def test_a_run_that_does_not_end_leaves_neither_page_nor_pictures(small_run: Path, tmp_path: Path, how: str) -> None:
    run = copied(small_run, tmp_path / "run")
    if how == "the run stops":
        with PageBuilder(run, 1) as builder:
            builder.start()
            wait_for_pictures(run)
    else:
        command = [sys.executable, "-m", "qk_leaderboard.ahead", str(run)]
        process = subprocess.Popen(command, stdin=subprocess.PIPE)
        wait_for_pictures(run)
        process.communicate()  # its stdin ends, as it does when who holds it is killed
        assert process.returncode == 0
    assert not drawn(run).exists() and not (run / "site").exists()


def wait_for_pictures(run: Path) -> None:
    end = time.monotonic() + 120
    while not any(drawn(run).glob("*/*.png")):
        assert time.monotonic() < end
        time.sleep(0.02)


def test_a_long_run_gets_no_page_unasked(small_run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = copied(small_run, tmp_path / "run")
    with PageBuilder(run, MOST_OUTCOMES + 1) as builder:
        builder.start()
        assert builder.finish() is None
    assert f"qkbench site {run} --out {run / 'site'}" in capsys.readouterr().err

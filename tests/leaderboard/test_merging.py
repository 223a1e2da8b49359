"""Several runs become one site: versions over time, and what may not be mixed stays apart."""

from __future__ import annotations

from pathlib import Path

from qk_leaderboard import build
from qk_leaderboard.boards import make_boards
from qk_leaderboard.reading import read_runs

from tests.leaderboard.conftest import run


def test_the_newest_version_stands_on_the_board_and_the_older_one_in_its_history(versions_site: Path) -> None:
    page = (versions_site / "versions.html").read_text()
    assert page.index("adapter version <bdi>1</bdi>") < page.index("adapter version <bdi>2</bdi>")
    assert '<td class="wrong">worse</td>' in page
    assert "<svg" in page
    assert "<dd><bdi>2</bdi></dd>" in (versions_site / "models" / "strong.html").read_text()


def test_order_of_the_runs_does_not_matter(small_run: Path, versions_site: Path, tmp_path: Path) -> None:
    later = next(path.parent for path in versions_site.parent.parent.rglob("later*/run/manifest.json"))
    build([small_run, later], tmp_path / "site")
    assert (tmp_path / "site" / "versions.html").read_bytes() == (versions_site / "versions.html").read_bytes()
    assert (tmp_path / "site" / "index.html").read_bytes() == (versions_site / "index.html").read_bytes()


def test_other_resolutions_are_another_board(small_run: Path, tmp_path: Path) -> None:
    other = run(tmp_path / "other", "no-op", "oracle", arguments=("--resolution", "32", "--metric", "psnr"))
    boards = make_boards(read_runs([small_run, other]))
    assert [board.resolution for board in boards] == [64, 32]
    build([small_run, other], tmp_path / "site")
    index = (tmp_path / "site" / "index.html").read_text()
    assert '<select name="board">' in index
    assert (tmp_path / "site" / "gallery-scenes-1-test-32.html").is_file()


def test_a_run_named_twice_counts_once(small_run: Path) -> None:
    (board,) = make_boards(read_runs([small_run, small_run]))
    assert not board.earlier

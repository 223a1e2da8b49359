"""Several runs become one site: versions over time, and what may not be mixed stays apart."""

from __future__ import annotations

import json
from pathlib import Path

from qk_leaderboard import build
from qk_leaderboard.boards import make_boards
from qk_leaderboard.reading import read_runs
from qk_leaderboard.site import Site
from simulated import simulate

from tests.leaderboard.conftest import run, simulated
from tests.leaderboard.test_build import check_links
from tests.leaderboard.test_pages import data

LATER = "2026-02-01T00:00:00Z"


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


def test_the_resolution_of_a_run_divides_no_samples_that_keep_their_own_sizes(tmp_path: Path) -> None:
    """The same pictures were asked of both models, so they stand in one table and are compared."""
    first = simulated(tmp_path / "a", {"removal": simulate(30, {"m": 0.9})}, resolution=64, own_size=True)
    second = simulated(tmp_path / "b", {"removal": simulate(30, {"n": 0.2})}, resolution=128, own_size=True)
    (board,) = make_boards(read_runs([first, second]))
    assert set(board.models) == {"m", "n"} and board.title == "scenes 1, test split, own sizes"
    build([first, second], tmp_path / "site")
    check_links(tmp_path / "site")
    (row,) = json.loads((tmp_path / "site" / "downloads" / "comparisons.json").read_text())
    assert row["resolution"] is None and row["difference"] is not None
    (tmp_path / "other").mkdir()
    of_pixels = simulated(tmp_path / "other" / "c", {"removal": simulate(30, {"m": 0.9})}, resolution=64)
    build([first, of_pixels], tmp_path / "both")
    rows = json.loads((tmp_path / "both" / "downloads" / "results.json").read_text())
    assert {row["resolution"] for row in rows} == {64, None}


def test_a_diagnostic_is_shown_and_pooled_with_no_task_that_is_scored(tmp_path: Path) -> None:
    tasks = {task: simulate(30, {"m": 0.9, "n": 0.4}) for task in ("border", "recolor")}
    scored = simulated(tmp_path / "a", tasks)
    aside = simulated(tmp_path / "b", {"preservation": simulate(30, {"n": 1.0})}, diagnostics=["preservation"])
    (board,) = make_boards(read_runs([scored, aside]))
    whole, *single = board.scopes()
    assert whole.tasks == ("border", "recolor") and set(board.covering(whole)) == {"m", "n"}
    assert [scope.id for scope in single] == ["border", "recolor", "preservation"]


def test_a_run_named_twice_counts_once(small_run: Path) -> None:
    (board,) = make_boards(read_runs([small_run, small_run]))
    assert not board.earlier


def test_suites_of_one_name_and_other_content_are_told_apart(tmp_path: Path) -> None:
    first = simulated(tmp_path / "a", {"removal": simulate(30, {"m": 0.9, "n": 0.5})}, suite_digest="a" * 64)
    second = simulated(tmp_path / "b", {"insertion": simulate(20, {"m": 0.1, "n": 0.5})}, suite_digest="b" * 64)
    build([first, second], tmp_path / "site")
    check_links(tmp_path / "site")
    index = (tmp_path / "site" / "index.html").read_text()
    for digest, task in (("a" * 8, "removal"), ("b" * 8, "insertion")):
        assert f"scenes 1 (content {digest}), test split, 64 px" in index
        assert task in (tmp_path / "site" / "tasks" / f"scenes-1-test-64-{digest}-{task}.html").read_text()


def test_what_two_verifiers_judged_is_joined_by_no_line(tmp_path: Path) -> None:
    scores = {"removal": simulate(30, {"m": 0.9, "n": 0.5})}
    runs = [simulated(tmp_path / f"v{version}", scores, verifier=version) for version in ("", "1", "2")]
    boards = make_boards(read_runs(runs))
    assert not any(board.earlier for board in boards)
    assert sorted(board.title for board in boards) == [
        f"scenes 1 (verifier {version}), test split, 64 px" for version in ("1", "2", "not recorded")
    ]
    assert len({board.id for board in boards}) == 3


def test_a_newer_version_on_fewer_tasks_leaves_no_task_without_a_model(tmp_path: Path) -> None:
    older = simulated(tmp_path / "older", {t: simulate(30, {"m": 0.5, "n": 0.4}) for t in ("removal", "insertion")})
    newer = simulated(
        tmp_path / "newer", {"removal": simulate(30, {"m": 0.9, "n": 0.4})}, started=LATER, privileged=["m", "n"]
    )
    (board,) = make_boards(read_runs([older, newer]))
    assert list(board.tasks) == ["removal"]
    assert {name: len(held) for name, held in board.earlier.items()} == {"m": 1, "n": 1}
    build([older, newer], tmp_path / "site")
    check_links(tmp_path / "site")


def test_a_run_that_was_stopped_hides_no_task_of_the_run_before_and_is_named(tmp_path: Path) -> None:
    both = {task: simulate(30, {"m": 0.5}) for task in ("removal", "insertion")}
    whole = simulated(tmp_path / "whole", both)
    stopped = simulated(tmp_path / "stopped", {**both, "insertion": {}}, started=LATER, progress="partial")
    (board,) = make_boards(read_runs([whole, stopped]))
    assert [(entry.run.label[:7], [t.task for t in entry.tasks]) for entry in board.entries["m"]] == [
        ("2026-02", ["removal"]),
        ("2026-01", ["insertion"]),
    ]
    build([whole, stopped], tmp_path / "site")
    index = (tmp_path / "site" / "index.html").read_text()
    assert "Run 2026-02-01 00:00" in index
    assert "is not finished: 0 of 90 requests." in index
    assert index.count("(not finished)") == 1


def test_a_metric_that_one_run_lacks_is_still_compared_between_the_others(tmp_path: Path) -> None:
    with_drift = simulate(30, {"m": 0.5, "n": 0.4}, drifts={"m": 1.0, "n": 2.0})
    first = simulated(tmp_path / "a", {"removal": with_drift})
    second = simulated(tmp_path / "b", {"removal": simulate(30, {"o": 0.4})}, started=LATER)
    site = Site(make_boards(read_runs([first, second])), tmp_path / "site", {}, ())
    (board,) = site.boards
    duels = site.duels[board.id]
    assert duels is not None
    found = {(c.a.label, c.b.label): c.difference for c in duels.on(board.scopes()[0], "drift")}
    assert found["m", "n"] is not None
    assert found["o", "m"] is None


def test_models_that_the_first_table_lacks_are_on_the_pages_all_the_same(tmp_path: Path) -> None:
    both = {task: simulate(30, {"m": 0.5, "n": 0.4}) for task in ("removal", "insertion")}
    first = simulated(tmp_path / "a", both)
    second = simulated(tmp_path / "b", {"removal": simulate(30, {"late": 0.9})}, started=LATER)
    build([first, second], tmp_path / "site")
    pairs = (tmp_path / "site" / "pairs.html").read_text()
    assert '<tr data-model="late" hidden>' in pairs
    assert '<tr data-model="m">' in pairs
    index, _, by_task = (tmp_path / "site" / "index.html").read_text().partition("Success by task")
    assert "<bdi>late</bdi>" in by_task
    finding = index.partition('<p class="finding">')[2].partition("</p>")[0]
    assert "all 2 tasks" in finding
    assert "late" not in finding  # it did one task of the two
    rows = data(tmp_path / "site" / "data" / "leaderboard.js")["views"]["scenes-1-test-64|all|success"]["rows"]
    assert {row[0] for row in rows} == {"m", "n"}
    assert max(row[10][-1] for row in rows) == "2"


def test_pairs_lead_to_a_page_that_is_there_though_the_first_board_has_but_one_model(tmp_path: Path) -> None:
    alone = simulated(tmp_path / "a", {"removal": simulate(60, {"m": 0.5})})
    two = simulated(tmp_path / "b", {"removal": simulate(20, {"m": 0.5, "n": 0.5})}, resolution=32)
    build([alone, two], tmp_path / "site")
    check_links(tmp_path / "site")
    assert "32 px" in (tmp_path / "site" / "pairs.html").read_text()

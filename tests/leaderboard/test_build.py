"""The site holds what the run holds, is complete in itself, and comes out the same every time."""

from __future__ import annotations

import hashlib
import re
import shutil
from pathlib import Path

import pytest
from qk_leaderboard import build

from qk_bench.claims.load import installed
from qk_bench.errors import DamagedRunError, UsageError
from qk_bench.run.summary import summarise
from qk_bench.store import RunDirectory


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_leaderboard_shows_the_numbers_that_show_prints(small_run: Path, site: Path) -> None:
    page = (site / "index.html").read_text()
    for line in summarise(RunDirectory(small_run)).lines:
        if line.metric == "success" and line.estimate is not None:
            e = line.estimate
            assert f"{100 * e.value:.1f}" in page
            assert f"[{100 * e.low:.1f}, {100 * e.high:.1f}]" in page


def test_rebuilt_site_is_byte_identical(small_run: Path, site: Path, tmp_path: Path) -> None:
    build([small_run], tmp_path / "elsewhere" / "again")
    assert digests(tmp_path / "elsewhere" / "again") == digests(site)


def test_bytes_do_not_depend_on_where_the_run_lies(small_run: Path, tmp_path: Path) -> None:
    claims = list(installed().values())
    for name in ("here", "there"):
        shutil.copytree(small_run, tmp_path / name / "run")
        build([tmp_path / name / "run"], tmp_path / name / "site", claims=claims)
    assert digests(tmp_path / "here" / "site") == digests(tmp_path / "there" / "site")
    text = (tmp_path / "here" / "site" / "claims.html").read_text()
    assert re.search(r"no model of run \d{4}-\d\d-\d\d \d\d:\d\d \w{8} stands for query-kontext", text)


def test_a_rebuild_replaces_the_site_and_keeps_what_its_host_needs(site: Path, small_run: Path, tmp_path: Path) -> None:
    out = tmp_path / "site"
    (out / ".git").mkdir(parents=True)
    for name in (".git/HEAD", ".nojekyll", "CNAME"):
        (out / name).write_text("the host's")
    build([small_run], out)
    (out / "pairs" / "stale.html").write_text("of an earlier build")
    build([small_run], out)
    kept = {name: digest for name, digest in digests(out).items() if name not in digests(site)}
    assert list(kept) == [".git/HEAD", ".nojekyll", "CNAME"]
    assert digests(site).items() <= digests(out).items()
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


def test_every_link_and_image_leads_inside_the_folder(site: Path) -> None:
    check_links(site)


def check_links(site: Path) -> None:
    for page in site.rglob("*.html"):
        for target in re.findall(r'(?:src|href)="([^"]*)"', page.read_text()):
            if not target.startswith(("#", "data:")):
                path = (page.parent / target.partition("#")[0]).resolve()
                assert path.is_file(), (page, target)
                assert path.is_relative_to(site.resolve())


def test_pages_forbid_inline_script_and_every_other_origin(site: Path) -> None:
    for page in site.rglob("*.html"):
        text = page.read_text()
        policy = re.search(r'Content-Security-Policy" content="([^"]*)"', text)
        assert policy is not None
        assert policy[1].startswith("default-src 'none'")
        assert "unsafe" not in policy[1]
        assert "http" not in policy[1]
        assert not re.search(r"<script(?![^>]* src=)|<[^>]* (on\w+|style)=", text)


def test_a_folder_that_is_not_a_site_is_left_alone(small_run: Path, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UsageError, match="is not a site"):
        build([small_run], tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_an_edited_run_is_refused(small_run: Path, tmp_path: Path) -> None:
    copy = tmp_path / "run"
    shutil.copytree(small_run, copy)
    scores = copy / "scores.parquet"
    scores.write_bytes(scores.read_bytes()[:-1] + b"X")
    with pytest.raises(DamagedRunError):
        build([copy], tmp_path / "site")
    assert not (tmp_path / "site").exists()

"""Builds the site: reads runs, merges them into boards, computes, writes pages. Nothing is left of a failed build."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from qk_bench.claims.judge import judge
from qk_bench.claims.load import installed, read
from qk_bench.claims.records import ClaimReport
from qk_bench.compare.scores import load_run
from qk_bench.errors import UsageError
from qk_bench.store import writing
from qk_leaderboard.boards import make_boards
from qk_leaderboard.gallery import write_gallery
from qk_leaderboard.pages import claims as claims_page
from qk_leaderboard.pages import compute, downloads, gallery, leaderboard, models, pairs, provenance, tasks, versions
from qk_leaderboard.pictures import DrawnSamples
from qk_leaderboard.reading import Run, read_runs
from qk_leaderboard.site import PAGES, Site
from qk_leaderboard.training import read_trainings

if TYPE_CHECKING:
    from qk_leaderboard.ahead import Ahead

MARK: Final = "site.json"
IMAGES: Final = "images"
_DESCRIPTION: Final = {"format": "qk-bench site", "format_version": 1}


def build_site(
    run_dirs: Sequence[Path],
    out_dir: Path,
    training: Sequence[Path] = (),
    claims: Sequence[Path] = (),
    ahead: Ahead | None = None,
) -> Path:
    """Write the site of runs into a folder; see `qk_leaderboard.build`. `ahead` is what was drawn before, and is used up."""
    if not run_dirs:
        raise UsageError("a site needs at least one run")
    out = out_dir.absolute()
    if out.exists() and not _is_ours(out):
        raise UsageError(f"{out_dir} exists and is not a site", "name another folder with --out")
    trainings = read_trainings(training)
    runs = read_runs(run_dirs)
    boards, reports = make_boards(runs), _judged(runs, claims)
    temporary = out.with_name(f".{out.name}.building")
    shutil.rmtree(temporary, ignore_errors=True)  # what a killed build left
    with writing(out):
        try:
            temporary.mkdir(parents=True)
            if ahead is not None:
                ahead.images.replace(temporary / IMAGES)
            _write(Site(boards, temporary, trainings, reports), ahead.drawn if ahead else {})
            if out.exists():
                _replace(out, temporary)
            else:
                temporary.replace(out)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    return out_dir / "index.html"


def _replace(out: Path, built: Path) -> None:
    """Put what was built in the place of what is there, whose mark stays: after a kill it can be built again."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    old.mkdir()
    for entry in list(out.iterdir()):
        if entry.name != MARK and not _is_hosts(entry):
            entry.replace(old / entry.name)
    for entry in sorted(built.iterdir(), key=lambda entry: entry.name == MARK):
        entry.replace(out / entry.name)
    shutil.rmtree(old)


def _is_hosts(entry: Path) -> bool:
    """Whether it belongs to how the folder is published, such as `.git`, `.nojekyll` and `CNAME`: never ours."""
    return entry.name.startswith(".") or entry.name == "CNAME"


def _judged(runs: Sequence[Run], named: Sequence[Path]) -> list[ClaimReport]:
    """Verdicts on the claims of named files, and of installed ones as far as these runs speak to them."""
    loaded = [load_run(run.directory.path) for run in runs]
    reports = [(path, judge(read(path), loaded, {})) for path in dict.fromkeys([*named, *installed().values()])]
    return [
        report for path, report in reports if path in named or any(verdict.measurement for verdict in report.verdicts)
    ]


def _write(site: Site, drawn: DrawnSamples) -> None:
    assets = site.out / "assets"
    assets.mkdir()
    for item in sorted(files("qk_leaderboard").joinpath("assets").iterdir(), key=lambda item: item.name):
        (assets / item.name).write_bytes(item.read_bytes())
    data = site.out / "data"
    data.mkdir()
    for board in site.boards:
        site.galleries[board.id] = write_gallery(board, site.out / IMAGES, data / board.id, drawn)
    absent = set() if any(site.duels.values()) else {"pairs.html"}
    absent |= set() if versions.has_versions(site) else {"versions.html"}
    site.pages = {href for _, href in PAGES} - absent - (set() if site.claims else {"claims.html"})
    for page in (leaderboard, pairs, gallery, models, tasks, compute, versions, provenance, downloads, claims_page):
        page.write(site)
    (site.out / MARK).write_text(json.dumps(_DESCRIPTION) + "\n")


def _is_ours(folder: Path) -> bool:
    if not folder.is_dir():
        return False
    if all(map(_is_hosts, folder.iterdir())):
        return True
    try:
        found = json.loads((folder / MARK).read_bytes())
    except (OSError, ValueError):
        return False
    return isinstance(found, dict) and found.get("format") == _DESCRIPTION["format"]

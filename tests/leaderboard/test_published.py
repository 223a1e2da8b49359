"""The pages of a published benchmark: its own sizes, no rule that decides success, photographs instead of drawings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from harness import Cli
from PIL import Image
from qk_leaderboard import build
from qk_leaderboard.suites import installed

from tests.tasks.published import layouts

TASK = "tasks/magicbrush-2-test-own-sizes-single-turn.html"
NO_RULE = "magicbrush has no rule that tells success from the pixels"


@pytest.fixture
def run(tmp_path: Path, cli: Cli) -> tuple[Path, str]:
    """A run of MagicBrush's layout with pictures of 192 pixels, its site in it, and what was printed."""
    folder = layouts.magicbrush(tmp_path / "data", 1)
    for path in folder.rglob("*.png"):
        Image.open(path).resize((192, 192), Image.Resampling.NEAREST).save(path)
    words = ("run", "--task", f"magicbrush:{folder}", "--model", "no-op", "--model", "oracle", "--metric", "magicbrush")
    code, out, err = cli(*words, "--out", tmp_path / "run")
    assert code == 0, err
    assert "of images at most" not in err  # not known before they are read
    return tmp_path / "run", out


def samples(site: Path) -> list[dict[str, Any]]:
    (path,) = site.glob("data/*/samples-0.js")
    found: list[dict[str, Any]] = json.loads(path.read_text().partition(",")[2].removesuffix(");\n"))
    return found


def test_pages_of_a_benchmark_without_a_rule(run: tuple[Path, str], tmp_path: Path) -> None:
    path, out = run
    site = path / "site"
    assert out.startswith("split test, own sizes, 1 seed") and "no output has a value of: success" in out
    index, gallery, task = ((site / name).read_text() for name in ("index.html", "gallery.html", TASK))
    assert all("own sizes" in page and "64 px" not in page for page in (index, gallery, task))
    assert gallery.count(NO_RULE) == 1 and "judged right or wrong" not in gallery
    assert "Not from the pixels: magicbrush has no rule for that." in task
    assert "<dt>Samples by operation</dt><dd><bdi>edit</bdi> 2</dd>" in task
    first = samples(site)[0]
    assert first["key"] == "100-output1" and "100-output1" in gallery
    assert all(output["lead"].startswith("l1[magicbrush] ") and "why" not in output for output in first["outputs"])
    assert '#a=0">What it made</a>' in (site / "models" / "no-op.html").read_text()
    assert 'class="sample large"' in gallery and 'data-size="m"' in gallery and 'data-size="m"' in task

    (tmp_path / "data").rename(tmp_path / "elsewhere")
    installed.cache_clear()
    build([path], tmp_path / "site")
    first = samples(tmp_path / "site")[0]
    assert "source" not in first  # but outputs keep their shape
    assert [output["size"] for output in first["outputs"]] == [[192, 192], [192, 192]]

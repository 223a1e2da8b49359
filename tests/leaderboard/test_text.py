"""Texts of others are shown for what they are and name files safely."""

from __future__ import annotations

import json
import re
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st
from qk_leaderboard.text import file_name, script, visible

from tests.leaderboard import hostile


@given(st.text())
def test_file_names_stay_in_their_folder(name: str) -> None:
    assert re.fullmatch(r"[a-z0-9][a-z0-9._-]{0,63}", file_name(name))


@given(st.text(), st.text())
def test_different_names_get_different_files(a: str, b: str) -> None:
    assert (file_name(a) == file_name(b)) == (a == b)


@given(st.text())
def test_data_files_hold_no_markup_and_nothing_but_ascii(text: str) -> None:
    line = script("name", {"text": text, text: [text]})
    assert line.isascii()
    assert "<" not in line
    assert line.count("\n") == 1
    body = json.loads(line.removeprefix('qk.receive("name",').removesuffix(");\n"))
    assert body["text"] == visible(text)


def test_direction_overrides_are_spelled_out() -> None:
    assert visible("safe\u202egnp.exe") == "safe⟨U+202E⟩gnp.exe"


def test_no_hostile_text_becomes_markup(hostile_site: Path) -> None:
    pages = [
        path for path in hostile_site.rglob("*") if path.suffix in (".html", ".js") and path.parent.name != "assets"
    ]
    assert len(pages) > 20
    for page in pages:
        text = page.read_text()
        for attack in (hostile.SCRIPT, "<img src=x", "\u202e", "\u2028", "49$"):
            assert attack not in text, (page, attack)
        for target in re.findall(r'(?:href|src)="([^"]*)"', text):
            assert re.fullmatch(r"(\.\./)*[a-z0-9._/-]*(#.*)?|data:image/png;.*", target), (page, target)


def test_spreadsheets_get_no_formulas(hostile_site: Path) -> None:
    table = (hostile_site / "downloads" / "results.csv").read_text()
    assert ",'=HYPERLINK(1)," in table
    assert ",=HYPERLINK" not in table

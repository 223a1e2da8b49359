"""The cost chart can be read: every name has room beside its point, and covers nothing."""

from __future__ import annotations

import random
import re
from pathlib import Path

import numpy as np
import pytest
from qk_leaderboard import labels
from qk_leaderboard.charts import Point, quality_by_cost

from tests.leaderboard.browser import open_browser

NAMES = (
    "no-op", "oracle", "query-kontext", "two-stage", "blip3o", "unified-a", "flux-kontext", "qwen-image-edit",
    "step1x-edit", "omnigen2", "bagel", "instruct-pix2pix", "magicbrush", "ultraedit", "gpt-image-1", "seededit-3",
    "hidream-e1", "icedit", "emu2", "anyedit",
)  # fmt: skip


def points(count: int, seed: int, *, alike: bool = False) -> list[Point]:
    """Two controls at the left and models of some costs and qualities, or of nearly the same."""
    draw, found = random.Random(seed), []
    for number, name in enumerate(NAMES[:count]):
        x, y = (
            (draw.uniform(200, 320), draw.uniform(70, 76))
            if alike
            else (10 ** draw.uniform(0.2, 3.8), draw.uniform(5, 98))
        )
        x, y = (0.004, 100.0 * number) if number < 2 else (x, y)
        ends = x * draw.uniform(0.5, 0.95), x * draw.uniform(1.05, 2.5), y - draw.uniform(1, 9), y + draw.uniform(1, 9)
        found.append(Point(name, x, y, ends[0], ends[1], max(0, ends[2]), min(100, ends[3]), number < 2))
    return found  # fmt: skip


def test_a_name_at_the_right_end_stands_left_of_its_point() -> None:
    points = [Point("quick", 1.0, 50.0), Point("a model of a long name that is slow", 1000.0, 60.0)]
    svg = quality_by_cost(points, "time", "quality", share=True)
    found = re.findall(r'<text text-anchor="(\w+)"[^>]*>(quick|a model)[^<]*<', svg)
    assert sorted(found) == [("end", "a model"), ("start", "quick")]


def test_a_name_with_no_room_beside_its_point_is_joined_to_it_by_a_line() -> None:
    walls = np.array([(0.0, 80.0, 190.0, 120.0), (210.0, 80.0, 400.0, 120.0)])
    (free,) = labels.place(["name"], [(200.0, 100.0)], walls[:1], np.array((0.0, 0.0, 400.0, 200.0)))
    (led,) = labels.place(["name"], [(200.0, 100.0)], walls, np.array((0.0, 0.0, 400.0, 200.0)))
    assert free.line is None and free.align == "left" and free.x > 200
    assert led.line is not None and not 80 - labels.HEIGHT / 2 < led.y < 120 + labels.HEIGHT / 2


def test_where_there_is_no_room_at_all_names_are_still_written() -> None:
    full = np.array([(0.0, 0.0, 100.0, 50.0)])
    found = labels.place(["a", "b" * 99], [(50.0, 25.0)] * 2, full, full[0])
    assert len(found) == 2


@pytest.mark.parametrize(("count", "seed", "alike"), [(8, 1, False), (20, 1, False), (20, 4, False), (20, 9, True)])
def test_names_cover_no_point_no_whisker_and_no_name(tmp_path: Path, count: int, seed: int, alike: bool) -> None:
    """As the browser draws them, in its own font."""
    svg = quality_by_cost(points(count, seed, alike=alike), "time", "success", share=True)
    page = tmp_path / "chart.html"
    page.write_text(f"<!doctype html><meta charset=utf-8><style>:root{{--ink:#111;--muted:#666}}</style>{svg}")
    with open_browser(scripts=True) as browser:
        browser.get(page.as_uri())
        boxes = browser.execute_script(
            """
            const box = e => { const b = e.getBoundingClientRect(); return [b.left, b.top, b.right, b.bottom]; };
            const marks = '.mark-rule line:not([opacity]), .mark-symbol path';
            const names = [...document.querySelectorAll('.mark-text text')].filter(e => arguments[0].includes(e.textContent));
            return {names: names.map(e => [e.textContent, ...box(e)]), marks: [...document.querySelectorAll(marks)].map(box)};
            """,
            NAMES,
        )
    assert sorted(name for name, *_ in boxes["names"]) == sorted(NAMES[:count])
    assert len(boxes["marks"]) >= 3 * count
    for i, (name, *box) in enumerate(boxes["names"]):
        for other in [*boxes["marks"], *(rest for _, *rest in boxes["names"][:i])]:
            assert not _touch(box, other), f"{name} lies on something"


def _touch(a: list[float], b: list[float]) -> bool:
    """Whether letters meet a mark: the first and last pixel of a line of text hold none."""
    return a[0] < b[2] and b[0] < a[2] and a[1] + 1.5 < b[3] and b[1] < a[3] - 1.5

"""The cost chart can be read: every name has room beside its point."""

from __future__ import annotations

import re

from qk_leaderboard.charts import Point, quality_by_cost


def test_a_name_at_the_right_end_stands_left_of_its_point() -> None:
    points = [Point("quick", 1.0, 50.0), Point("a model of a long name that is slow", 1000.0, 60.0)]
    svg = quality_by_cost(points, "time", "quality", share=True)
    found = re.findall(r'<text text-anchor="(\w+)"[^>]*>(quick|a model)[^<]*<', svg)
    assert sorted(found) == [("end", "a model"), ("start", "quick")]

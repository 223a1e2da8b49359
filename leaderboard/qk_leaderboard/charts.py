"""Charts as SVG, drawn by Vega-Lite (vl-convert) while the site is built, so that pages read without JavaScript.

Colours are the style sheet's own variables: one drawing serves light, dark and print.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from markupsafe import Markup, escape

from qk_leaderboard import labels
from qk_leaderboard.scales import nice_step
from qk_leaderboard.text import visible

_INK, _MUTED, _LINE, _ACCENT = "var(--ink)", "var(--muted)", "var(--line)", "var(--accent)"
_X, _Y = "x-title", "y-title"
_SERIES: Final = (_ACCENT, "var(--wrong)", "var(--right)", _MUTED)
MANY: Final = 1000
"""With more points than this, a scatter counts them in squares instead of drawing each."""

_CONFIG: Final[dict[str, Any]] = {
    "background": "transparent",
    "font": "inherit",
    "view": {"stroke": None},
    "axis": {
        "domainColor": _MUTED, "tickColor": _MUTED, "gridColor": _LINE, "labelColor": _MUTED, "titleColor": _MUTED,
        "labelFontSize": 12, "titleFontSize": 12, "titleFontWeight": "normal", "titlePadding": 10, "labelPadding": 5,
        "tickSize": 4,
    },
    "legend": {"labelColor": _INK, "titleColor": _MUTED, "labelFontSize": 12, "orient": "top", "title": None},
    "header": {"labelColor": _INK, "labelFontSize": 13, "title": None},
}  # fmt: skip


@dataclass(frozen=True)
class Point:
    """One marked value with whiskers; any end may be missing."""

    name: str
    x: float
    y: float
    x_low: float | None = None
    x_high: float | None = None
    y_low: float | None = None
    y_high: float | None = None
    muted: bool = False


def quality_by_cost(points: Sequence[Point], x_title: str, y_title: str, *, share: bool) -> Markup:
    """Cost from left to right on a logarithmic axis, quality upwards, both with whiskers."""
    values = [_row(point) for point in points]
    lowest, highest = _ends(values, "x")
    left, right = lowest / 1.6, highest * 1.6
    low, high = (0.0, 100.0) if share else _rounded(*_ends(values, "y"))
    width, height = 620.0, max(340.0, 20.0 * len(values))  # many names need room

    def place_of(row: dict[str, Any], x_end: str, y_end: str) -> tuple[float, float]:
        across = math.log(row[x_end] / left) / math.log(right / left)
        return width * across, height * (high - row[y_end]) / (high - low)

    dots = [place_of(row, "x", "y") for row in values]
    marks = [(x - 6, y - 6, x + 6, y + 6) for x, y in dots]
    for row, (across, down) in zip(values, dots, strict=True):
        (x0, y0), (x1, y1) = place_of(row, "x_low", "y_low"), place_of(row, "x_high", "y_high")
        marks += [(x0 - 2, down - 2, x1 + 2, down + 2), (across - 2, y1 - 2, across + 2, y0 + 2)]
    area = np.array([0.0, 0.0, width, height])
    places = labels.place([row["name"] for row in values], dots, np.array(marks), area)
    for row, dot, place in zip(values, dots, places, strict=True):
        row |= {"name_x": place.x, "name_y": place.y, "align": place.align, "dot_x": dot[0], "dot_y": dot[1]}
        row |= {"line_x": place.line[0], "line_y": place.line[1]} if place.line else {"line_x": None}

    x = {
        "field": "x",
        "type": "quantitative",
        "scale": {"type": "log", "domain": [left, right], "nice": False},
        "title": _X,
        "axis": {"tickCount": 6, "grid": False, "format": "~g"},
    }
    y = {"field": "y", "type": "quantitative", "scale": {"domain": [low, high], "nice": False}, "title": _Y}
    colour = {"condition": {"test": "datum.muted", "value": _MUTED}, "value": _ACCENT}
    layers: list[dict[str, Any]] = [
        {
            "transform": [{"filter": "isValid(datum.line_x)"}],
            "mark": {"type": "rule", "strokeWidth": 1, "stroke": _MUTED, "opacity": 0.6},
            "encoding": {"x": _pixel("dot_x"), "x2": _pixel("line_x"), "y": _pixel("dot_y"), "y2": _pixel("line_y")},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 1.5},
            "encoding": {"x": {**x, "field": "x_low"}, "x2": {"field": "x_high"}, "y": y, "color": colour},
        },
        {
            "mark": {"type": "rule", "strokeWidth": 1.5},
            "encoding": {"x": x, "y": {**y, "field": "y_low"}, "y2": {"field": "y_high"}, "color": colour},
        },
        {"mark": {"type": "circle", "size": 70, "opacity": 1}, "encoding": {"x": x, "y": y, "color": colour}},
    ]
    layers += [
        {
            "transform": [{"filter": {"field": "align", "equal": align}}],
            "mark": {"type": "text", "align": align, "baseline": "middle", "fontSize": 12, "fill": _INK, "limit": 160},
            "encoding": {"x": _pixel("name_x"), "y": _pixel("name_y"), "text": {"field": "name"}},
        }
        for align in ("left", "right")
    ]
    spec = {"width": width, "height": height, "data": {"values": values}, "layer": layers}
    return _draw(spec, f"{y_title} against {x_title}", x_title, y_title)


def _pixel(field: str) -> dict[str, Any]:
    return {"field": field, "type": "quantitative", "scale": None, "axis": None}


def _ends(values: Sequence[dict[str, Any]], axis: str) -> tuple[float, float]:
    """The least and the greatest value on an axis, whiskers included."""
    found = [row[name] for row in values for name in (axis, f"{axis}_low", f"{axis}_high")]
    return min(found), max(found)


def _rounded(low: float, high: float) -> tuple[float, float]:
    """The ends of an axis that holds some values, on round numbers."""
    if high <= low:
        low, high = low - 0.5, high + 0.5
    step = nice_step(high - low)
    return math.floor(low / step) * step, math.ceil(high / step) * step


def scatter(xs: Sequence[float], ys: Sequence[float], x_title: str, y_title: str) -> Markup:
    """One point per sample and the line of equality; beyond `MANY` points, counts in squares."""
    low, high = min((*xs, *ys)), max((*xs, *ys))
    if high <= low:
        low, high = low - 0.5, low + 0.5
    scale = {"domain": [low, high], "nice": True, "zero": False}
    x: dict[str, Any] = {"field": "x", "type": "quantitative", "title": _X, "scale": scale}
    y: dict[str, Any] = {"field": "y", "type": "quantitative", "title": _Y, "scale": scale}
    points: dict[str, Any] = {
        "mark": {"type": "circle", "size": 22, "opacity": 0.45, "fill": _ACCENT},
        "encoding": {"x": x, "y": y},
    }
    values: list[dict[str, float]] = [{"x": a, "y": b} for a, b in zip(xs, ys, strict=True)]
    if len(values) > MANY:
        values = _squares(xs, ys, low, high)
        sizes = {"domain": [1, max(value["n"] for value in values)], "range": [6, 62]}
        points = {
            "mark": {"type": "square", "opacity": 1, "fill": _ACCENT},
            "encoding": {
                "x": x, "y": y,
                "size": {"field": "n", "type": "quantitative", "scale": sizes, "title": "samples"},
            },
        }  # fmt: skip
    line = {
        "data": {"values": [{"x": low, "y": low}, {"x": high, "y": high}]},
        "mark": {"type": "line", "stroke": _MUTED, "strokeDash": [3, 3], "strokeWidth": 1},
        "encoding": {"x": x, "y": y},
    }
    spec = {"width": 340, "height": 340, "data": {"values": values}, "layer": [line, points]}
    return _draw(spec, f"{y_title} against {x_title}, sample by sample", x_title, y_title)


def _squares(xs: Sequence[float], ys: Sequence[float], low: float, high: float) -> list[dict[str, float]]:
    side = (high - low) / 44
    counts: dict[tuple[int, int], int] = {}
    for a, b in zip(xs, ys, strict=True):
        key = (min(43, int((a - low) / side)), min(43, int((b - low) / side)))
        counts[key] = counts.get(key, 0) + 1
    return [{"x": low + (i + 0.5) * side, "y": low + (j + 0.5) * side, "n": n} for (i, j), n in sorted(counts.items())]


def trend(points: Sequence[Point], y_title: str, *, share: bool) -> Markup:
    """Versions in order from left to right, joined by a line."""
    values = [_row(point) for point in points]
    x = {"field": "name", "type": "ordinal", "sort": None, "title": None, "axis": {"labelAngle": 0, "labelLimit": 150}}
    y = {
        "field": "y",
        "type": "quantitative",
        "title": _Y,
        "scale": {"domain": [0, 100]} if share else {"zero": False},
    }
    layers = [
        {"mark": {"type": "line", "stroke": _LINE, "strokeWidth": 2}, "encoding": {"x": x, "y": y}},
        {
            "mark": {"type": "rule", "stroke": _ACCENT, "strokeWidth": 2},
            "encoding": {"x": x, "y": {**y, "field": "y_low"}, "y2": {"field": "y_high"}},
        },
        {"mark": {"type": "circle", "size": 70, "opacity": 1, "fill": _ACCENT}, "encoding": {"x": x, "y": y}},
    ]
    spec = {"width": max(260, 150 * len(values)), "height": 200, "data": {"values": values}, "layer": layers}
    return _draw(spec, f"{y_title} by version", "version", y_title)


def curves(series: dict[str, list[tuple[float, float]]], x_title: str, y_title: str) -> Markup:
    """Lines over steps, at most four, each named in the legend."""
    names = [visible(name) for name in series][: len(_SERIES)]
    values = [
        {"s": name, "x": a, "y": b}
        for name, line in zip(names, series.values(), strict=False)
        for a, b in _thinned(line)
        if math.isfinite(b)
    ]
    encoding = {
        "x": {"field": "x", "type": "quantitative", "title": _X, "axis": {"grid": False}},
        "y": {"field": "y", "type": "quantitative", "title": _Y, "scale": {"zero": False}},
        "color": {"field": "s", "type": "nominal", "scale": {"domain": names, "range": list(_SERIES[: len(names)])}},
    }
    spec = {
        "width": 620,
        "height": 240,
        "data": {"values": values},
        "mark": {"type": "line", "strokeWidth": 1.5},
        "encoding": encoding,
    }
    return _draw(spec, f"{y_title} over {x_title}", x_title, y_title)


def _thinned(line: list[tuple[float, float]], most: int = 400) -> list[tuple[float, float]]:
    return line[:: math.ceil(len(line) / most)] if line else []


def _row(point: Point) -> dict[str, Any]:
    def end(value: float | None, default: float) -> float:
        return default if value is None or not math.isfinite(value) else value

    return {
        "name": visible(point.name), "x": point.x, "y": point.y, "muted": point.muted,
        "x_low": end(point.x_low, point.x), "x_high": end(point.x_high, point.x),
        "y_low": end(point.y_low, point.y), "y_high": end(point.y_high, point.y),
    }  # fmt: skip


def warm_up() -> None:
    """Start what draws: the first chart waits for it, half a second."""
    _draw({"mark": "point", "data": {"values": []}}, "", "", "")


def _draw(spec: dict[str, Any], label: str, x_title: str, y_title: str) -> Markup:
    """Draw a chart. Titles are put in afterwards: Vega would build expressions, which are code, from what they say."""
    import vl_convert

    schema = "https://vega.github.io/schema/vega-lite/v5.json"
    svg = vl_convert.vegalite_to_svg({"$schema": schema, "config": _CONFIG, "padding": 4, **spec}, vl_version="v5.21")
    start = svg.index("viewBox=")
    view = svg[start : svg.index('"', start + 9) + 1]
    width, height = view[9:-1].split()[2:]
    body = svg[svg.index(">") + 1 :].replace(' role="graphics-symbol"', "").replace(' role="graphics-object"', "")
    body = _plain(body)
    for mark, title in ((_X, x_title), (_Y, y_title)):
        body = body.replace(f">{mark}<", f">{escape(visible(title))}<")
    head = f'<svg class="chart" role="img" {view} width="{width}" height="{height}" aria-label='
    return Markup(f'{head}"{escape(visible(label))}">{body}')  # its texts were escaped by Vega


def _plain(body: str) -> str:
    """The drawing without roles that would make its parts speak one by one inside an image."""
    return re.sub(r' aria-(?:roledescription|label|hidden)="[^"]*"', "", body)

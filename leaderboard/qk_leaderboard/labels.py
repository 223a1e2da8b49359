"""Places the names of a chart's points where they cover nothing: neither marks nor each other.

Places are tried beside the point first, then ever farther from it; a name that stands apart is joined to its point by a line.
(Vega's own `label` transform hides the names that it cannot place, and Vega-Lite does not have it.)
"""

from __future__ import annotations

import math
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
"""(N, 4), or (4,) of one: left, top, right, bottom, in pixels."""

HEIGHT: Final = 15.0
"""Of a name in letters of 12 px."""
WIDEST: Final = 160.0
"""Names are cut off there."""
BESIDE: Final = 16.0
"""A name whose box ends within so many pixels of the point's centre needs no line."""
_STEP: Final = 4.0
_TRIED: Final = 400
"""Free places, the nearest ones, of which the best is taken."""


@dataclass(frozen=True)
class Place:
    """Where a name stands: the middle of its left or right end, and the end of the line from its point, if it needs one."""

    x: float
    y: float
    align: str  # which end: left or right
    line: tuple[float, float] | None


def width(name: str) -> float:
    """Pixels that a name takes at 12 px, rather too many than too few: the page's font is the reader's."""
    letters = sum(12.5 if unicodedata.east_asian_width(letter) in "FW" else 7.2 for letter in name)
    return min(letters, WIDEST) + 2


def place(names: Sequence[str], points: Sequence[tuple[float, float]], marks: Boxes, area: Boxes) -> list[Place]:
    """A place for each name, in the order of the names.

    Args:
        names: The names.
        points: Where their points are, in pixels.
        marks: What may not be covered.
        area: One box (4,), where names may stand.
    """
    widths = [width(name) for name in names]
    room = [int((_clashes(_beside(*item, area), marks) == 0).sum()) for item in zip(widths, points, strict=True)]
    found: dict[int, Place] = {}
    written: Boxes = np.empty((0, 4))
    for i in sorted(range(len(names)), key=lambda i: (room[i], i)):  # first the points that have least room beside them
        spots = _beside(widths[i], points[i], area)
        free = spots[_clashes(spots, marks) == 0]
        if not len(free):
            free = _free(_anywhere(widths[i], points[i], area), marks)
        box = min(free[:_TRIED], key=partial(_cost, point=points[i], marks=marks, written=written))
        found[i] = _placed(box, points[i])
        written = np.vstack([written, box])
        marks = np.vstack([marks, box, _line(box, points[i])])
    return [found[i] for i in range(len(names))]


def _cost(box: Boxes, point: tuple[float, float], marks: Boxes, written: Boxes) -> float:
    """How bad a free place is: pixels from its point, more for each mark that its line crosses, and far more for a name."""
    line = _line(box, point)
    crossed = int((_clashes(marks, line) > 0).sum()), int((_clashes(written, line) > 0).sum())
    return math.dist(_end(box, point), point) * bool(len(line)) + 15 * crossed[0] + 1000 * crossed[1]


def _free(spots: Boxes, marks: Boxes) -> Boxes:
    """Those that touch nothing, or where there is none the one that touches least."""
    clashes = _clashes(spots, marks)
    return spots[clashes == 0] if (clashes == 0).any() else spots[[int(np.argmin(clashes))]]


def _beside(wide: float, point: tuple[float, float], area: Boxes) -> Boxes:
    """The boxes beside a point that lie in the area: right before left, above before below before level."""
    x, y = point
    corners = [
        (x + 8 if side > 0 else x - 8 - wide, y + 11 * level - HEIGHT / 2)
        for side, level in ((1, -1), (-1, -1), (1, 1), (-1, 1), (1, 0), (-1, 0))
    ]
    boxes = np.array([(left, top, left + wide, top + HEIGHT) for left, top in corners])
    return boxes[(boxes[:, :2] >= area[:2]).all(axis=1) & (boxes[:, 2:] <= area[2:]).all(axis=1)]


def _anywhere(wide: float, point: tuple[float, float], area: Boxes) -> Boxes:
    """A grid of boxes over the area, the nearest to a point first."""
    lefts, tops = np.meshgrid(
        np.arange(area[0], max(area[2] - wide, area[0]) + 1, _STEP),
        np.arange(area[1], max(area[3] - HEIGHT, area[1]) + 1, _STEP),
    )
    corners = np.stack([lefts.ravel(), tops.ravel()], axis=1)
    boxes = np.concatenate([corners, corners + np.array((wide, HEIGHT))], axis=1)
    return boxes[np.argsort(_distance(boxes, point), kind="stable")]


def _distance(boxes: Boxes, point: tuple[float, float]) -> NDArray[np.float64]:
    """From a point to the nearest place of each box."""
    off = np.maximum(0, np.maximum(boxes[:, :2] - point, np.asarray(point) - boxes[:, 2:]))
    return np.asarray(np.hypot(off[:, 0], off[:, 1]))


def _clashes(boxes: Boxes, marks: Boxes) -> NDArray[np.int64]:
    """How many marks each box touches."""
    apart = (boxes[:, None, :2] >= marks[None, :, 2:]) | (boxes[:, None, 2:] <= marks[None, :, :2])
    return np.asarray((~apart.any(axis=2)).sum(axis=1))


def _placed(box: Boxes, point: tuple[float, float]) -> Place:
    left, top, right, bottom = (float(value) for value in box)
    end = _end(box, point)
    turned = (left + right) / 2 < point[0]
    return Place(
        x=right - 1 if turned else left + 1,
        y=(top + bottom) / 2,
        align="right" if turned else "left",
        line=end if math.dist(end, point) > BESIDE else None,
    )


def _end(box: Boxes, point: tuple[float, float]) -> tuple[float, float]:
    """The place of a box that is nearest to a point."""
    x, y = np.clip(point, box[:2], box[2:])
    return float(x), float(y)


def _line(box: Boxes, point: tuple[float, float]) -> Boxes:
    """Small boxes along the line from a point to its name, none if it needs no line: no name should lie across it."""
    end = _end(box, point)
    length = math.dist(end, point)
    if length <= BESIDE:
        return np.empty((0, 4))
    centres = np.linspace(point, end, int(length / 3) + 1)
    return np.concatenate([centres - 1.5, centres + 1.5], axis=1)

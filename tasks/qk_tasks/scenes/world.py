"""The world of the scenes suite: coloured shapes at continuous places on a background.

Coordinates are fractions of the image side, x to the right and y down; an object lies within the disc of its radius `r`
around (x, y). Objects are drawn in list order, so a later one covers an earlier one.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, NamedTuple

SHAPES = ("circle", "square", "triangle", "diamond", "star", "ring", "cross", "heart")

COLOURS: dict[str, tuple[int, int, int]] = {  # sRGB; the closest two, blue and purple, are CIE76 ΔE 38 apart
    "red": (214, 34, 42),
    "orange": (245, 130, 32),
    "yellow": (250, 220, 50),
    "green": (34, 150, 60),
    "cyan": (50, 205, 215),
    "blue": (30, 85, 215),
    "purple": (140, 45, 150),
    "pink": (245, 125, 190),
}

SIZES: dict[str, float] = {"small": 0.085, "medium": 0.12, "large": 0.165}  # radius, fraction of the side
SIZE_JITTER = 0.06  # an object's radius is its size's, times 1 ± this

# An object may be this many times smaller or larger than it should be. A half-tone between two sizes has the radius that
# halves their areas, 0.87 of the larger at most and 1.2 of the smaller at least: it lies outside.
SIZE_SLACK = (0.90, 1.15)

RELATIONS = ("left", "right", "above", "below")
PLACES: dict[str, tuple[int, int]] = {  # column and row of a 3 x 3 grid
    "top left": (0, 0), "top centre": (1, 0), "top right": (2, 0),
    "middle left": (0, 1), "centre": (1, 1), "middle right": (2, 1),
    "bottom left": (0, 2), "bottom centre": (1, 2), "bottom right": (2, 2),
}  # fmt: skip

_PARTNERS = ("star", "cross", "ring", "heart", "triangle", "diamond", "circle", "square")
HELD_OUT = frozenset(zip(COLOURS, _PARTNERS, strict=True))
"""The (colour, shape) pairs that train, val, test and ood-phrasing never show: one of each colour, one of each shape."""

# How far from a boundary a spatial statement must be to be said, and how far over it a placement may be to be accepted.
MARGIN = 0.03


class Obj(NamedTuple):
    """One object. `id` stays with it through an edit."""

    id: int
    shape: str
    colour: str
    size: str
    x: float
    y: float
    r: float

    @property
    def name(self) -> str:
        """Such as `red circle`."""
        return f"{self.colour} {self.shape}"


@dataclass(frozen=True, slots=True)
class Background:
    """What lies behind the objects; never saturated, so that every object stands out.

    Attributes:
        kind: `gradient`, `clouds`, `stripes`, `checks` or `photo`.
        seed: Decides everything about a procedural background.
        photo: Name of the photograph, else empty.
        crop: x, y and side of the square cut from the photograph, as fractions of its short side.
    """

    kind: str
    seed: int
    photo: str = ""
    crop: tuple[float, float, float] = (0.0, 0.0, 1.0)


@dataclass(frozen=True, slots=True)
class Scene:
    """A scene graph."""

    background: Background
    objects: tuple[Obj, ...]

    def get(self, id: int) -> Obj:
        """The object with this id."""
        return next(o for o in self.objects if o.id == id)

    def put(self, obj: Obj) -> Scene:
        """The scene with one object exchanged for `obj` (same id), or with `obj` added on top."""
        if any(o.id == obj.id for o in self.objects):
            return replace(self, objects=tuple(obj if o.id == obj.id else o for o in self.objects))
        return replace(self, objects=(*self.objects, obj))

    def on_top(self, obj: Obj) -> Scene:
        """The scene with `obj` drawn last, whether or not its id was there."""
        return replace(self, objects=(*(o for o in self.objects if o.id != obj.id), obj))

    def without(self, *ids: int) -> Scene:
        """The scene less some objects."""
        return replace(self, objects=tuple(o for o in self.objects if o.id not in ids))

    def to_json(self) -> dict[str, Any]:
        """The graph as plain JSON values."""
        b = self.background
        return {
            "background": {"kind": b.kind, "seed": b.seed, "photo": b.photo, "crop": list(b.crop)},
            "objects": [o._asdict() for o in self.objects],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Scene:
        """The inverse of `to_json`."""
        b = data["background"]
        background = Background(b["kind"], b["seed"], b["photo"], tuple(b["crop"]))
        return cls(background, tuple(Obj(**o) for o in data["objects"]))


def in_place(x: float, y: float, place: str, margin: float) -> bool:
    """Whether a point lies in a cell of the 3 x 3 grid, the cell grown on its inner sides by `margin`."""
    for value, cell in zip((x, y), PLACES[place], strict=True):
        low, high = cell / 3 - margin, (cell + 1) / 3 + margin
        if (cell > 0 and value < low) or (cell < 2 and value > high):
            return False
    return True


def in_relation(x: float, y: float, relation: str, anchor: Obj, margin: float) -> bool:
    """Whether a point lies left, right, above or below an object: within 45° of that direction, loosened by `margin`."""
    dx, dy = x - anchor.x, y - anchor.y
    along, across = {"left": (-dx, dy), "right": (dx, dy), "above": (-dy, dx), "below": (dy, dx)}[relation]
    return along >= abs(across) - margin and along > -margin


def overlap(a: Obj, b: Obj, gap: float = 0.0) -> bool:
    """Whether the discs of two objects come nearer than `gap`."""
    return (a.x - b.x) ** 2 + (a.y - b.y) ** 2 < (a.r + b.r + gap) ** 2


def size_range(size: str) -> tuple[float, float]:
    """Smallest and largest radius that still counts as this size."""
    return SIZES[size] * SIZE_SLACK[0], SIZES[size] * SIZE_SLACK[1]

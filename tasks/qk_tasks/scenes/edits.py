"""The edit operations: what each does to a scene, and which placements each instruction allows."""

from __future__ import annotations

from typing import Any, NamedTuple

from qk_tasks.scenes.world import MARGIN, SIZE_SLACK, SIZES, Obj, Scene, in_place, in_relation, overlap, size_range

EXCHANGE_SLACK = 0.05  # how far an exchanged object may land from the other's old place, fraction of the side
FIXED_SLACK = 0.02  # how far an object may drift that the instruction leaves in place


class Edit(NamedTuple):
    """One operation with its arguments; those that the operation does not take are None.

    Attributes:
        operation: A key of `grammar.PHRASINGS`.
        x: Id of the edited object; for an insertion, of the object to come.
        y: Id of the second object of an exchange, or of the anchor of a relation.
    """

    operation: str
    x: int
    y: int | None = None
    colour: str | None = None
    shape: str | None = None
    size: str | None = None
    place: str | None = None
    relation: str | None = None

    @property
    def edited(self) -> tuple[int, ...]:
        """Ids of the objects that the edit changes."""
        return (self.x, self.y) if self.operation.startswith("exchange") and self.y is not None else (self.x,)

    @property
    def placed(self) -> tuple[int, ...]:
        """Ids of the objects whose place or size in the output is to be found, not known beforehand."""
        return () if self.operation in ("recolour", "exchange_colours", "remove") else self.edited

    def to_json(self) -> dict[str, Any]:
        """The arguments that the operation takes."""
        return {name: value for name, value in self._asdict().items() if value is not None}


def apply(edit: Edit, scene: Scene, placed: Obj | None = None) -> Scene:
    """The scene after an edit.

    Args:
        edit: The edit.
        scene: The scene before it.
        placed: The edited object where and as the sample's target has it, for insertions, moves and resizing.
    """
    x = None if edit.operation.startswith("insert") else scene.get(edit.x)
    match edit.operation:
        case "remove":
            return scene.without(edit.x)
        case "recolour" if x and edit.colour:
            return scene.put(x._replace(colour=edit.colour))
        case "change_shape" if x and edit.shape:
            return scene.put(x._replace(shape=edit.shape))
        case "resize" if placed:
            return scene.put(placed)
        case "exchange_colours" if x and edit.y is not None:
            y = scene.get(edit.y)
            return scene.put(x._replace(colour=y.colour)).put(y._replace(colour=x.colour))
        case "exchange_places" if x and edit.y is not None:
            y = scene.get(edit.y)
            return scene.on_top(x._replace(x=y.x, y=y.y)).on_top(y._replace(x=x.x, y=x.y))
        case _ if placed:
            return scene.on_top(placed)
    raise ValueError(f"incomplete edit {edit}")


def radii(edit: Edit, target: Obj) -> tuple[float, float]:
    """Least and greatest radius that an edit allows an object that it places, fractions of the side.

    Args:
        edit: The edit.
        target: The object as the sample's target has it.
    """
    if edit.operation == "resize" or (edit.operation.startswith("insert") and edit.size):
        return size_range(target.size)
    if edit.operation.startswith("insert"):
        return size_range("small")[0], size_range("large")[1]
    return SIZE_SLACK[0] * target.r, SIZE_SLACK[1] * target.r


def misplaced(edit: Edit, before: Scene, target: Obj, found: Obj) -> str | None:
    """Why an object stands where, or is as large as, the instruction does not allow; None if it is allowed.

    Args:
        edit: The edit.
        before: The scene that the instruction speaks of.
        target: The object as the sample's target has it.
        found: The same object as found in an output.
    """
    low, high = radii(edit, target)
    if not low <= found.r <= high:
        wanted = "not asked for" if edit.operation not in ("resize",) and not edit.size else f"not {edit.size}"
        return f"wrong size: radius {found.r:.3f} of the side, {wanted}"
    if edit.place is not None:
        return None if in_place(found.x, found.y, edit.place, MARGIN) else f"wrong place: not at the {edit.place}"
    if edit.relation is not None and edit.y is not None:
        anchor = before.get(edit.y)
        beside = not overlap(found._replace(r=0.0), anchor)  # with its centre in the anchor's disc it lies on it
        if beside and in_relation(found.x, found.y, edit.relation, anchor, MARGIN):
            return None
        words = {"left": "left of", "right": "right of"}.get(edit.relation, edit.relation)
        return f"wrong place: not {words} the {anchor.name}"
    slack = EXCHANGE_SLACK if edit.operation == "exchange_places" else FIXED_SLACK
    if max(abs(found.x - target.x), abs(found.y - target.y)) > slack:
        return f"wrong place: {max(abs(found.x - target.x), abs(found.y - target.y)):.0%} of the side off"
    return None


def other_sizes(size: str) -> list[str]:
    """The sizes that differ from this one."""
    return [s for s in SIZES if s != size]

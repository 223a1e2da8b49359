"""Draws a scene, an edit of it and an instruction. Everything is a pure function of (version, split, task, index)."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from random import Random
from typing import TypeVar

from qk_tasks.photographs import of_split
from qk_tasks.scenes import grammar
from qk_tasks.scenes.edits import Edit, apply, other_sizes
from qk_tasks.scenes.world import (
    COLOURS,
    HELD_OUT,
    MARGIN,
    PLACES,
    RELATIONS,
    SHAPES,
    SIZE_JITTER,
    SIZES,
    Background,
    Obj,
    Scene,
    in_place,
    in_relation,
    overlap,
)  # fmt: skip

SPLITS = ("train", "val", "test", "ood-phrasing", "ood-combination")
TASKS: dict[str, tuple[tuple[str, float], ...]] = {  # the operations of each task and their shares
    "color_swap": (("recolour", 0.75), ("exchange_colours", 0.25)),
    "insertion": (("insert_place", 0.5), ("insert_relative", 0.5)),
    "removal": (("remove", 1.0),),
    "layout": (("move_place", 0.375), ("move_relative", 0.375), ("exchange_places", 0.25)),
    "structural": (("resize", 0.5), ("change_shape", 0.5)),
}
COMPOSABLE = (
    "recolour",
    "insert_place",
    "insert_relative",
    "remove",
    "move_place",
    "move_relative",
    "resize",
    "change_shape",
)
BACKGROUNDS = (("gradient", 0.25), ("clouds", 0.2), ("stripes", 0.15), ("checks", 0.15), ("photo", 0.25))
OCCLUDED = 0.2  # share of scenes in which one object covers part of another
TRIES = 4  # how many edits are tried on a scene before another scene is drawn
GAP = 0.02  # least distance between the discs of two objects that do not cover each other
HALFWAY_MARGIN = MARGIN + 0.01  # a move is drawn so that half of it misses the goal by more than this
EDGE = 0.01  # least distance between a disc and the image's border

T = TypeVar("T")


@dataclass(frozen=True)
class Item:
    """What the sampler draws: all of a sample but its pixels."""

    source: Scene
    target: Scene
    edits: tuple[Edit, ...]
    operation: str
    instruction: str
    phrasing: str
    reference: str
    occluded: bool


@dataclass(frozen=True)
class Proposal:
    """One edit with the words for it."""

    edit: Edit
    target: Scene
    slots: dict[str, str]
    reference: str


def draw(version: str, split: str, task: str, index: int) -> Item:
    """The item at an index of a split of a task."""
    digest = hashlib.sha256(f"{version}/{split}/{task}/{index}".encode()).digest()
    rng = Random(int.from_bytes(digest[:8], "big"))
    background = _background(split, rng)
    occluded = rng.random() < OCCLUDED
    operations = _operations(task, rng)
    drawer = _Drawer(split, rng)
    while True:  # every operation fits most scenes, so this ends after a few turns
        scene = drawer.scene(background, occluded)
        for _ in range(TRIES if scene else 0):
            item = drawer.item(scene, operations, occluded)
            if item:
                return item


def operations(task: str) -> tuple[str, ...]:
    """What the samples of a task may ask for: one operation, or in `composition` two as `first+second`."""
    if task == "composition":
        return tuple(f"{first}+{second}" for first in COMPOSABLE for second in COMPOSABLE)
    return tuple(operation for operation, _ in TASKS[task])


def _operations(task: str, rng: Random) -> tuple[str, ...]:
    if task != "composition":
        return (_weighted(TASKS[task], rng),)
    first, second = _pick(COMPOSABLE, rng), _pick(COMPOSABLE, rng)
    return (first, second)


def _background(split: str, rng: Random) -> Background:
    kind, seed = _weighted(BACKGROUNDS, rng), int(rng.random() * 2**53)
    if kind != "photo":
        return Background(kind, seed)
    side = 0.45 + 0.55 * rng.random()
    crop = tuple(round(v, 4) for v in (rng.random() * (1 - side), rng.random() * (1 - side), side))
    return Background(kind, 0, _pick(of_split(split), rng), (crop[0], crop[1], crop[2]))


class _Drawer:
    """Draws scenes and edits of one split from one source of chance."""

    def __init__(self, split: str, rng: Random) -> None:
        self.rng = rng
        self.held_out_words = split == "ood-phrasing"
        self.novel = split == "ood-combination"

    # ---- scenes ----

    def scene(self, background: Background, occluded: bool) -> Scene | None:
        rng = self.rng
        scene = Scene(background, ())
        for id in range(2 + int(rng.random() * 4)):
            kind = self._new_kind(scene, novel=self.novel and id == 0)
            if occluded and id == 1:
                obj = self._covering(scene.objects[0], kind)
            else:
                obj = self._spot(scene, kind, lambda x, y: True)
            if obj:
                scene = scene.put(obj)
        return scene if len(scene.objects) >= 2 else None

    def _new_kind(self, scene: Scene, *, novel: bool) -> Obj:
        """An object without a place, unlike all others in (shape, colour, size)."""
        rng = self.rng
        while True:
            colour, shape = _pick(sorted(HELD_OUT), rng) if novel else (_pick(COLOURS, rng), _pick(SHAPES, rng))
            size = _pick(SIZES, rng)
            if (novel or (colour, shape) not in HELD_OUT) and not any(
                (o.shape, o.colour, o.size) == (shape, colour, size) for o in scene.objects
            ):
                id = 1 + max((o.id for o in scene.objects), default=-1)
                radius = SIZES[size] * (1 + SIZE_JITTER * (2 * rng.random() - 1))
                return Obj(id, shape, colour, size, 0.0, 0.0, round(radius, 5))

    def _spot(
        self, scene: Scene, obj: Obj, fits: Callable[[float, float], bool], cell: str | None = None
    ) -> Obj | None:
        """The object at a random free place that `fits`, or None after some tries."""
        rng, room = self.rng, obj.r + EDGE
        x0, y0, x1, y1 = room, room, 1 - room, 1 - room
        if cell:
            column, row = PLACES[cell]
            x0, x1 = max(x0, column / 3 + MARGIN), min(x1, (column + 1) / 3 - MARGIN)
            y0, y1 = max(y0, row / 3 + MARGIN), min(y1, (row + 1) / 3 - MARGIN)
        discs = [(o.x, o.y, (o.r + obj.r + GAP) ** 2) for o in scene.objects if o.id != obj.id]
        for _ in range(24):
            x, y = round(x0 + (x1 - x0) * rng.random(), 5), round(y0 + (y1 - y0) * rng.random(), 5)
            if fits(x, y) and all((x - ox) ** 2 + (y - oy) ** 2 >= reach for ox, oy, reach in discs):
                return obj._replace(x=x, y=y)
        return None

    def _covering(self, below: Obj, obj: Obj) -> Obj | None:
        """The object where it covers part of `below`: their discs overlap by up to a quarter of their radii's sum."""
        if obj.colour == below.colour:
            return None

        def fits(x: float, y: float) -> bool:
            reach = below.r + obj.r
            distance: float = ((x - below.x) ** 2 + (y - below.y) ** 2) ** 0.5
            return 0.75 * reach < distance < 0.92 * reach

        rng, room = self.rng, obj.r + EDGE
        for _ in range(60):
            span = below.r + obj.r
            x = round(below.x + span * (2 * rng.random() - 1), 5)
            y = round(below.y + span * (2 * rng.random() - 1), 5)
            if fits(x, y) and room <= x <= 1 - room and room <= y <= 1 - room:
                return obj._replace(x=x, y=y)
        return None

    # ---- edits ----

    def item(self, scene: Scene | None, operations: tuple[str, ...], occluded: bool) -> Item | None:
        if scene is None or (occluded and not _covered(scene)):
            return None
        first = self.propose(operations[0], scene, scene, ())
        if not first:
            return None
        proposals = [first]
        if len(operations) == 2:
            second = self.propose(operations[1], scene, first.target, self._touched(first.edit))
            if not second or first.edit.x in self._touched(second.edit):
                return None
            proposals.append(second)
        target = proposals[-1].target
        if not self._sound(target):
            return None
        phrased = [grammar.phrase(p.edit.operation, p.slots, self.rng, held_out=self.held_out_words) for p in proposals]
        joiner = _pick(grammar.JOINERS, self.rng) if len(phrased) == 2 else ""
        return Item(
            source=scene,
            target=target,
            edits=tuple(p.edit for p in proposals),
            operation="+".join(p.edit.operation for p in proposals),
            instruction=joiner.join(text for text, _ in phrased),
            phrasing="+".join(name for _, name in phrased),
            reference="+".join(p.reference for p in proposals),
            occluded=occluded,
        )

    @staticmethod
    def _touched(edit: Edit) -> tuple[int, ...]:
        return edit.edited if edit.y is None else (*edit.edited, edit.y)

    def _sound(self, target: Scene) -> bool:
        """Whether overlapping objects can be told apart, and no pair is shown that the split must not show."""
        pairs = [(a, b) for i, a in enumerate(target.objects) for b in target.objects[:i]]
        if any(a.colour == b.colour and overlap(a, b) for a, b in pairs):
            return False
        return bool(target.objects) and (self.novel or not any((o.colour, o.shape) in HELD_OUT for o in target.objects))

    def propose(self, operation: str, source: Scene, scene: Scene, taken: tuple[int, ...]) -> Proposal | None:
        """A random edit of `scene` whose words mean the same in `source`, leaving alone the objects in `taken`."""
        rng = self.rng
        free = [o for o in source.objects if o.id not in taken]
        if not free:
            return None
        x = free[0] if self.novel and not taken else _pick(free, rng)
        others = [o for o in free if o.id != x.id]
        slots: dict[str, str] = {}
        placed: Obj | None = None
        y: Obj | None = None
        edit = Edit(operation, x.id)
        match operation:
            case "recolour":
                colour = _pick([c for c in COLOURS if c != x.colour], rng)
                edit, slots = edit._replace(colour=colour), {"colour": colour}
            case "change_shape":
                shape = _pick([s for s in SHAPES if s != x.shape], rng)
                edit, slots = edit._replace(shape=shape), {"shape": shape}
            case "resize":
                size = _pick(other_sizes(x.size), rng)
                placed = x._replace(size=size, r=SIZES[size])
                if not _fits(placed, scene):
                    return None
                edit, slots = edit._replace(size=size), {"size": size}
            case "exchange_colours" | "exchange_places":
                if not others:
                    return None
                y = _pick(others, rng)
                if operation == "exchange_colours":
                    if x.colour == y.colour:
                        return None
                elif not _can_trade(x, y, scene):
                    return None
                edit = edit._replace(y=y.id)
            case "insert_place" | "insert_relative":
                kind = self._new_kind(scene, novel=self.novel)._replace(id=10 + len(taken))
                named_size = rng.random() < 0.4
                slots["new"] = f"a {kind.size} {kind.name}" if named_size else f"a {kind.name}"
                edit = edit._replace(x=kind.id, shape=kind.shape, colour=kind.colour)
                edit, x, others = edit._replace(size=kind.size) if named_size else edit, kind, free
        if operation.endswith("_place"):
            cell = _pick(PLACES, rng)
            if operation == "move_place" and in_place(x.x, x.y, cell, 2 * MARGIN):
                return None
            halfway = operation == "move_place"
            old_x, old_y = x.x, x.y

            def far_enough(px: float, py: float) -> bool:  # half of a move must not pass for the whole
                return not halfway or not in_place((px + old_x) / 2, (py + old_y) / 2, cell, HALFWAY_MARGIN)

            placed = self._spot(scene, x, far_enough, cell)
            edit, slots["place"] = edit._replace(place=cell), cell
        elif operation.endswith("_relative"):
            if not others:
                return None
            y, relation = _pick(others, rng), _pick(RELATIONS, rng)
            anchor = y
            if operation == "move_relative" and in_relation(x.x, x.y, relation, anchor, 2 * MARGIN):
                return None
            halfway, old_x, old_y = operation == "move_relative", x.x, x.y

            def related(px: float, py: float) -> bool:
                return in_relation(px, py, relation, anchor, -MARGIN) and not (
                    halfway and in_relation((px + old_x) / 2, (py + old_y) / 2, relation, anchor, HALFWAY_MARGIN)
                )

            placed = self._spot(scene, x, related)
            edit, slots["rel"] = edit._replace(y=y.id, relation=relation), relation
        if operation.startswith(("insert", "move")) and not placed:
            return None
        target = apply(edit, scene, placed)
        return self._worded(edit, source, scene, target, x, y, slots)

    def _worded(
        self, edit: Edit, source: Scene, scene: Scene, target: Scene, x: Obj, y: Obj | None, slots: dict[str, str]
    ) -> Proposal | None:
        """Find words for the objects that hold both in the source and in the scene before this edit."""
        kinds = []
        for slot, obj in (("x", x), ("y", y)):
            if obj is None or (slot == "x" and edit.operation.startswith("insert")):
                continue
            words = grammar.refer(source, obj, self.rng, bare=slot == "y" and edit.relation is not None)
            if words is None or (scene is not source and not grammar.means(scene, words[0], obj)):
                return None
            slots[slot] = words[0]
            kinds.append(words[1])
        return Proposal(edit, target, slots, "/".join(kinds) or "none")


def _fits(obj: Obj, scene: Scene) -> bool:
    room = obj.r + EDGE
    inside = room <= obj.x <= 1 - room and room <= obj.y <= 1 - room
    return inside and not any(overlap(obj, o, GAP) for o in scene.objects if o.id != obj.id)


def _can_trade(x: Obj, y: Obj, scene: Scene) -> bool:
    """Whether two objects fit at each other's places, and differ enough for that to be seen."""
    if (x.shape, x.colour) == (y.shape, y.colour):
        return False
    rest = scene.without(x.id, y.id)
    new_x, new_y = x._replace(x=y.x, y=y.y), y._replace(x=x.x, y=x.y)
    return _fits(new_x, rest) and _fits(new_y, rest) and not overlap(new_x, new_y, GAP)


def _covered(scene: Scene) -> bool:
    return any(overlap(a, b) for i, a in enumerate(scene.objects) for b in scene.objects[:i])


def _pick(options: Iterable[T], rng: Random) -> T:
    items = options if isinstance(options, (tuple, list)) else list(options)
    return items[int(rng.random() * len(items))]


def _weighted(options: tuple[tuple[str, float], ...], rng: Random) -> str:
    value = rng.random() * sum(w for _, w in options)
    for name, weight in options:
        value -= weight
        if value < 0:
            return name
    return options[-1][0]

"""Instructions: referring expressions, phrasings, and the reader that turns an instruction back into edits.

`refer` only says what holds with a margin to spare and is true of one object alone; `read` accepts everything that
could be meant. So a sample whose instruction has exactly one reading is unambiguous even to a generous reader.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache
from random import Random
from typing import Any

from qk_tasks.scenes.world import COLOURS, MARGIN, PLACES, RELATIONS, SHAPES, SIZES, Obj, Scene, in_place, in_relation

# Slots: {x} {y} objects, {colour}, {shape}, {size}, {place}, {rel} relation to {y}, {new} an object to come.
PHRASINGS: dict[str, tuple[str, ...]] = {
    "recolour": (
        "change the colour of {x} to {colour}", "make {x} {colour}", "turn {x} {colour}", "recolour {x} in {colour}",
        "paint {x} {colour}", "{x} should be {colour}", "give {x} a {colour} colour", "colour {x} {colour}",
    ),
    "exchange_colours": (
        "swap the colours of {x} and {y}", "exchange the colours of {x} and {y}", "let {x} and {y} trade colours",
        "{x} and {y} should swap colours", "switch the colours of {x} and {y}", "interchange the colours of {x} and {y}",
        "give {x} the colour of {y} and vice versa", "make {x} and {y} exchange their colours",
    ),
    "insert_place": (
        "add {new} at the {place}", "insert {new} at the {place}", "put {new} at the {place}", "place {new} at the {place}",
        "draw {new} at the {place}", "there should be {new} at the {place}", "at the {place}, add {new}",
        "create {new} at the {place}",
    ),
    "insert_relative": (
        "add {new} {rel} {y}", "insert {new} {rel} {y}", "put {new} {rel} {y}", "place {new} {rel} {y}",
        "draw {new} {rel} {y}", "there should be {new} {rel} {y}", "{rel} {y}, add {new}", "create {new} {rel} {y}",
    ),
    "remove": (
        "remove {x}", "delete {x}", "erase {x}", "take {x} away", "get rid of {x}", "{x} should disappear",
        "take {x} out of the picture", "clear {x} from the image",
    ),
    "move_place": (
        "move {x} to the {place}", "shift {x} to the {place}", "bring {x} to the {place}", "relocate {x} to the {place}",
        "{x} should go to the {place}", "drag {x} to the {place}", "put {x} into the {place}", "transfer {x} to the {place}",
    ),
    "move_relative": (
        "move {x} so that it is {rel} {y}", "shift {x} until it is {rel} {y}", "bring {x} to a spot {rel} {y}",
        "relocate {x} to a spot {rel} {y}", "{x} should go to a spot {rel} {y}", "drag {x} until it is {rel} {y}",
        "rearrange the picture so that {x} is {rel} {y}", "transfer {x} to a spot {rel} {y}",
    ),
    "exchange_places": (
        "swap the positions of {x} and {y}", "exchange the positions of {x} and {y}", "let {x} and {y} trade places",
        "{x} and {y} should swap places", "switch {x} with {y}", "interchange {x} and {y}",
        "put {x} where {y} is and vice versa", "make {x} and {y} change places",
    ),
    "resize": (
        "make {x} {size}", "resize {x} so that it is {size}", "change the size of {x} to {size}", "{x} should be {size}",
        "scale {x} until it is {size}", "turn {x} into a {size} one", "set the size of {x} to {size}", "redraw {x} as {size}",
    ),
    "change_shape": (
        "turn {x} into a {shape}", "change {x} into a {shape}", "make {x} a {shape}", "replace {x} with a {shape}",
        "transform {x} into a {shape}", "{x} should become a {shape}", "change the shape of {x} to a {shape}",
        "reshape {x} into a {shape}",
    ),
}  # fmt: skip

HELD_OUT_PHRASINGS: dict[str, tuple[str, ...]] = {
    "recolour": ("i would like {x} to be {colour}", "dye {x} {colour}", "let the new colour of {x} be {colour}"),
    "exchange_colours": ("{x} takes the colour of {y}, which takes its colour in return", "flip the colours of {x} and {y}", "colours of {x} and {y}: swap them"),
    "insert_place": ("i would like to see {new} at the {place}", "introduce {new} at the {place}", "the {place} needs {new}"),
    "insert_relative": ("i would like to see {new} {rel} {y}", "introduce {new} {rel} {y}", "what is missing {rel} {y} is {new}"),
    "remove": ("i do not want to see {x} any more", "leave {x} out", "the picture should no longer contain {x}"),
    "move_place": ("i would like {x} to sit in the {place}", "slide {x} over to the {place}", "the {place} is where {x} belongs"),
    "move_relative": ("i would like {x} to sit {rel} {y}", "slide {x} over so that it is {rel} {y}", "the spot {rel} {y} is where {x} belongs"),
    "exchange_places": ("{x} goes where {y} is now and the other way round", "flip the positions of {x} and {y}", "positions of {x} and {y}: swap them"),
    "resize": ("i would like {x} to be of {size} size", "bring {x} to {size} size", "{size} is the size {x} should have"),
    "change_shape": ("i would like {x} to be a {shape}", "morph {x} into a {shape}", "let {x} take the form of a {shape}"),
}  # fmt: skip

_RELATION_WORDS = {"left": "to the left of", "right": "to the right of", "above": "above", "below": "below"}
# Axis and sign: the object with the smallest signed coordinate is meant.
_EXTREMES = {"leftmost": (0, 1), "rightmost": (0, -1), "topmost": (1, 1), "lowest": (1, -1)}
_GENERIC = ("object", "shape")


@dataclass(frozen=True)
class Reading:
    """One way to understand an instruction: an operation and what fills its slots (object ids, names)."""

    operation: str
    slots: tuple[tuple[str, str | int], ...]


def refer(scene: Scene, obj: Obj, rng: Random, *, bare: bool = False) -> tuple[str, str] | None:
    """A random referring expression that is true of `obj` alone.

    Args:
        scene: The scene as the reader sees it.
        obj: The object meant; one of the scene's.
        rng: The source of chance.
        bare: Whether to do without a place and without another object: in `add a ring above the star in the top left
            part`, both the ring and the star could be meant to be there.

    Returns:
        The expression and its kind (such as `colour+shape`, `relation`), or None if every one tried was ambiguous.
    """
    kinds = [
        "colour+shape", "colour+shape", "colour", "shape", "size+shape", "size+colour+shape", "place", "extreme",
        "relation",
    ]  # fmt: skip
    if bare:
        kinds = [kind for kind in kinds if kind not in ("place", "relation")]
    shuffle(kinds, rng)
    for kind in [*kinds, "size+colour+shape", *([] if bare else ["place+all"])]:
        text = _describe(scene, obj, kind, rng)
        if text and means(scene, text, obj):
            return text, kind.replace("+all", "")
    return None


def _describe(scene: Scene, obj: Obj, kind: str, rng: Random) -> str | None:
    generic = _GENERIC[rng.random() < 0.5]
    noun = obj.shape if rng.random() < 0.6 else generic
    if kind == "colour":
        return f"the {obj.colour} {generic}"
    if kind == "relation":
        anchors = [o for o in scene.objects if o.id != obj.id]
        shuffle(anchors, rng)
        for anchor in anchors:
            for relation in RELATIONS:
                if in_relation(obj.x, obj.y, relation, anchor, -MARGIN):
                    return f"the {noun} {_RELATION_WORDS[relation]} the {anchor.name}"
        return None
    if kind in ("place", "place+all"):
        place = next((p for p in PLACES if in_place(obj.x, obj.y, p, -MARGIN)), None)
        head = f"{obj.size} {obj.name}" if kind == "place+all" else noun
        return place and f"the {head} in the {place} part"
    if kind == "extreme":
        word = list(_EXTREMES)[int(rng.random() * 4)]
        return f"the {word} {noun}"
    return "the " + " ".join(getattr(obj, part) for part in kind.split("+"))


def means(scene: Scene, text: str, obj: Obj) -> bool:
    """Whether a referring expression means `obj` and nothing else, to the strict and to the generous reader."""
    return _denotes(scene, text, strict=False) == [obj.id] == _denotes(scene, text, strict=True)


def phrase(operation: str, slots: dict[str, str], rng: Random, *, held_out: bool = False) -> tuple[str, str]:
    """An instruction for an operation in a random phrasing, and the id of the phrasing."""
    pool = (HELD_OUT_PHRASINGS if held_out else PHRASINGS)[operation]
    number = int(rng.random() * len(pool))
    values = dict(slots)
    if "rel" in values:
        values["rel"] = _RELATION_WORDS[values["rel"]]
    text = _articles(pool[number].format(**values))
    return text, f"{operation}{'*' if held_out else ''}-{number}"


def _articles(text: str) -> str:
    return re.sub(r"\ba (?=orange)", "an ", text)


# ---- reading -------------------------------------------------------------------------------------------------------

_COLOUR, _SHAPE, _SIZE = ("|".join(words) for words in (COLOURS, SHAPES, SIZES))
_PLACE = "|".join(sorted(PLACES, key=len, reverse=True))
_REL = "|".join(_RELATION_WORDS.values())
_NOUN = "|".join((*SHAPES, *_GENERIC))
_NP = re.compile(
    rf"the (?:(?P<extreme>{'|'.join(_EXTREMES)}) )?(?:(?P<size>{_SIZE}) )?(?:(?P<colour>{_COLOUR}) )?(?P<noun>{_NOUN})"
    rf"(?: in the (?P<place>{_PLACE}) part)?(?: (?P<rel>{_REL}) (?P<anchor>the .+))?"
)
_SLOTS = {
    "x": r"(?P<x>the .+?)", "y": r"(?P<y>the .+?)", "colour": rf"(?P<colour>{_COLOUR})", "shape": rf"(?P<shape>{_SHAPE})",
    "size": rf"(?P<size>{_SIZE})", "place": rf"(?P<place>{_PLACE})", "rel": rf"(?P<rel>{_REL})",
    "new": rf"an? (?P<new>(?:(?:{_SIZE}) )?(?:{_COLOUR}) (?:{_SHAPE}))",
}  # fmt: skip


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    patterns = []
    for table in (PHRASINGS, HELD_OUT_PHRASINGS):
        for operation, templates in table.items():
            for template in templates:
                parts = re.split(r"(\{\w+\})", _articles(template))
                regex = "".join(_SLOTS[p[1:-1]] if p.startswith("{") else re.escape(p) for p in parts)
                patterns.append((operation, re.compile(re.sub(r"(?<!\w)a\\ ", r"an?\\ ", regex))))
    return tuple(patterns)


@lru_cache(maxsize=4096)
def _noun_phrase(text: str) -> dict[str, str | None] | None:
    match = _NP.fullmatch(text)
    return match.groupdict() if match else None


def _denotes(scene: Scene, text: str, *, strict: bool) -> list[int]:
    """Ids of the objects a noun phrase may mean; `strict` counts only what holds with a margin to spare."""
    g = _noun_phrase(text)
    if g is None:
        return []
    margin = -MARGIN if strict else MARGIN
    found = [
        o for o in scene.objects
        if (not g["size"] or o.size == g["size"])
        and (not g["colour"] or o.colour == g["colour"])
        and (g["noun"] in _GENERIC or o.shape == g["noun"])
        and (not g["place"] or in_place(o.x, o.y, g["place"], margin))
    ]  # fmt: skip
    if g["anchor"]:
        relation = next(r for r, words in _RELATION_WORDS.items() if words == g["rel"])
        anchors = [scene.get(i) for i in _denotes(scene, g["anchor"], strict=strict)]
        if strict and len(anchors) != 1:  # "the purple square" promises that there is one
            return []
        found = [o for o in found if any(a.id != o.id and in_relation(o.x, o.y, relation, a, margin) for a in anchors)]
    if g["extreme"] and found:
        axis, sign = _EXTREMES[g["extreme"]]
        values = [sign * (o.x, o.y)[axis] for o in found]
        slack = 2 * MARGIN * (-1 if strict else 1)
        best = min(values)
        if strict:  # the first must lead clearly
            rest = sorted(values)[1:]
            found = [o for o, v in zip(found, values, strict=True) if v == best and all(r > best - slack for r in rest)]
        else:
            found = [o for o, v in zip(found, values, strict=True) if v <= best + slack]
    return [o.id for o in found]


def read(scene: Scene, instruction: str) -> list[Reading]:
    """Every reading of an instruction that fits a scene, over all operations and phrasings.

    A composition of two (`A, and B`) gives readings of operation `A+B`, with slots named `first.x`, `second.x` ….
    Borderline references count as possible, so more than one reading means that the instruction could be misunderstood.
    """
    readings = list(dict.fromkeys(_read_one(scene, instruction)))
    for first, second in _halves(instruction):
        for a in dict.fromkeys(_read_one(scene, first)):
            for b in dict.fromkeys(_read_one(scene, second)):
                slots = tuple((f"{w}.{k}", v) for w, r in (("first", a), ("second", b)) for k, v in r.slots)
                readings.append(Reading(f"{a.operation}+{b.operation}", slots))
    return list(dict.fromkeys(readings))


JOINERS = (", and ", ", then ", "; also, ")


def _halves(instruction: str) -> Iterator[tuple[str, str]]:
    for joiner in JOINERS:
        pieces = instruction.split(joiner)
        for cut in range(1, len(pieces)):
            yield joiner.join(pieces[:cut]), joiner.join(pieces[cut:])


def _read_one(scene: Scene, instruction: str) -> Iterator[Reading]:
    for operation, pattern in _patterns():
        match = pattern.fullmatch(instruction)
        if not match:
            continue
        groups = match.groupdict()
        if operation.endswith("_relative"):
            anchor = _noun_phrase(groups["y"]) or {}
            if anchor.get("place") or anchor.get("rel"):  # which may as well belong to what is placed
                yield Reading(operation, (("apart", groups["y"]),))
        choices: list[list[tuple[str, str | int]]] = []
        for slot in ("x", "y"):
            if slot in groups:
                choices.append([(slot, i) for i in _denotes(scene, groups[slot], strict=False)])
        fixed = [
            (slot, next(r for r, w in _RELATION_WORDS.items() if w == value) if slot == "rel" else value)
            for slot, value in groups.items()
            if slot not in ("x", "y")
        ]
        combinations: list[list[tuple[str, str | int]]] = [[]]
        for options in choices:
            combinations = [[*c, o] for c in combinations for o in options]
        for combination in combinations:
            ids = [v for _, v in combination]
            if len(set(ids)) == len(ids):
                if operation.startswith("exchange"):  # X and Y, Y and X: the same edit
                    combination = list(zip(("x", "y"), sorted(ids, key=int), strict=True))
                yield Reading(operation, (*combination, *sorted(fixed)))


def shuffle(items: list[Any], rng: Random) -> None:
    """Fisher-Yates from `rng.random()` alone, whose sequence Python guarantees to stay the same between versions."""
    for i in range(len(items) - 1, 0, -1):
        j = int(rng.random() * (i + 1))
        items[i], items[j] = items[j], items[i]

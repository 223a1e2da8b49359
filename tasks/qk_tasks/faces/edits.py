"""Draws the items of drawn-faces: a face, one edit of its look, and the instruction that asks for it."""

from __future__ import annotations

from collections.abc import Mapping
from random import Random
from typing import Final, NamedTuple

from qk_tasks.faces.drawing import Picture, draw
from qk_tasks.faces.person import (
    BACKGROUNDS,
    FRAMES,
    HAIR,
    HATS,
    LENSES,
    LIPSTICK,
    Colour,
    Face,
    Look,
    draw_look,
    draw_person,
)
from qk_tasks.scenes.lab import colour_distance

ITEMS_PER_PERSON: Final = 2
"""Items of one task that show the same person, in different looks."""
DISTINCT: Final = 30.0
"""Least CIE76 difference between the colour before an edit and the one asked for."""

OPERATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "hair_colour": ("change_hair_colour",),
    "lipstick": ("put_on_lipstick", "remove_lipstick"),
    "glasses": ("put_on_glasses", "remove_glasses"),
    "hat": ("put_on_hat", "remove_hat"),
    "smile": ("smile", "stop_smiling"),
    "background": ("change_background",),
}
PHRASINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "change_hair_colour": (
        "change the hair colour to {colour}", "dye the hair {colour}", "make the hair {colour}",
        "give this person {colour} hair", "the hair should be {colour}",
    ),
    "put_on_lipstick": (
        "put {colour} lipstick on this person", "paint the lips {colour}", "add {colour} lipstick", "make the lips {colour}",
    ),
    "remove_lipstick": ("remove the lipstick", "wipe the lipstick off", "take the lipstick off", "no lipstick, please"),
    "put_on_glasses": (
        "put {shape} {colour} glasses on this person", "add {shape} glasses with {colour} frames",
        "give this person {shape} {colour} glasses", "this person should wear {shape} {colour} glasses",
    ),
    "remove_glasses": ("remove the glasses", "take the glasses off", "this person should not wear glasses", "erase the glasses"),
    "put_on_hat": ("put a {colour} hat on this person", "add a {colour} hat", "give this person a {colour} hat", "this person should wear a {colour} hat"),
    "remove_hat": ("remove the hat", "take the hat off", "this person should not wear a hat", "erase the hat"),
    "smile": ("make this person smile", "let this person smile", "this person should smile", "add a smile"),
    "stop_smiling": ("make this person stop smiling", "remove the smile", "this person should not smile", "give this person a neutral mouth"),
    "change_background": (
        "change the background to {colour}", "make the background {colour}", "replace the background with a {colour} one",
        "the background should be {colour}",
    ),
}  # fmt: skip


class Item(NamedTuple):
    """One test item without its pixels."""

    source: Face
    target: Face
    operation: str
    instruction: str
    phrasing: int


def draw_item(seed: str, split: str, task: str, index: int) -> Item:
    """The item at an index: a pure function of its arguments.

    Args:
        seed: Name and version of the suite.
        split: `train`, `val` or `test`; people are never shared between splits.
        task: A key of `OPERATIONS`.
        index: From 0.
    """
    person = draw_person(Random(f"{seed}/{split}/person/{person_number(index)}"), split)
    rng = Random(f"{seed}/{split}/{task}/{index}")
    look = draw_look(rng)
    operation = rng.choice(OPERATIONS[task])
    place = (round(rng.uniform(0.47, 0.53), 3), round(rng.uniform(0.45, 0.49), 3), round(rng.uniform(0.9, 1.05), 3))
    before, after, words = _edit(operation, look, rng)
    phrasing = rng.randrange(len(PHRASINGS[operation]))
    instruction = PHRASINGS[operation][phrasing].format(**words)
    return Item(Face(person, before, *place), Face(person, after, *place), operation, instruction, phrasing)


def person_number(index: int) -> int:
    """Which person of a split an index shows: the same for every task, so that a person is one cluster."""
    return index // ITEMS_PER_PERSON


def render(item: Item, resolution: int) -> tuple[Picture, Picture]:
    """Source and target of an item."""
    return draw(item.source, resolution), draw(item.target, resolution)


def _edit(operation: str, look: Look, rng: Random) -> tuple[Look, Look, dict[str, str]]:
    """The looks before and after, and the words that fill the phrasing."""
    match operation:
        case "change_hair_colour":
            before = look._replace(hat=None)
            colour = _other(rng, HAIR, HAIR[look.hair], {look.background})
            return before, before._replace(hair=colour), {"colour": colour}
        case "put_on_lipstick":
            colour = rng.choice(list(LIPSTICK))
            return look._replace(lips=None), look._replace(lips=colour), {"colour": colour}
        case "remove_lipstick":
            before = look._replace(lips=rng.choice(list(LIPSTICK)))
            return before, before._replace(lips=None), {}
        case "put_on_glasses":
            colour, shape = rng.choice(list(FRAMES)), rng.choice(LENSES)
            after = look._replace(glasses=(colour, shape))
            return look._replace(glasses=None), after, {"colour": colour, "shape": shape}
        case "remove_glasses":
            before = look._replace(glasses=(rng.choice(list(FRAMES)), rng.choice(LENSES)))
            return before, before._replace(glasses=None), {}
        case "put_on_hat":
            colour = _other(rng, HATS, HAIR[look.hair], {look.background})
            return look._replace(hat=None), look._replace(hat=colour), {"colour": colour}
        case "remove_hat":
            before = look._replace(hat=_other(rng, HATS, HAIR[look.hair], {look.background}))
            return before, before._replace(hat=None), {}
        case "smile" | "stop_smiling":
            smile = operation == "smile"
            return look._replace(smile=not smile), look._replace(smile=smile), {}
        case "change_background":
            taken = {look.hair, look.hat or ""}
            colour = _other(rng, BACKGROUNDS, BACKGROUNDS[look.background], taken)
            return look, look._replace(background=colour), {"colour": colour}
    raise ValueError(f"unknown operation {operation}")


def _other(rng: Random, palette: Mapping[str, Colour], old: Colour, taken: set[str]) -> str:
    """A colour of a palette that is distinct from the old one and not used beside it."""
    return rng.choice([n for n, rgb in palette.items() if n not in taken and colour_distance(rgb, old) >= DISTINCT])

"""What the builder makes of objects on surroundings of a known kind."""

from __future__ import annotations

import numpy as np
import pytest
from qk_tasks.pairs import edits
from qk_tasks.pairs.edits import RejectedError
from qk_tasks.pairs.pairing import Instance, Pair, pairs
from qk_tasks.pairs.vision import Bool, Image, smooth, to_lab

SIDE = 256
YS, XS = np.mgrid[:SIDE, :SIDE]


def disc(x: int, y: int, radius: int) -> Bool:
    return np.asarray((XS - x) ** 2 + (YS - y) ** 2 < radius**2)


def surroundings(kind: str) -> Image:
    """A gradient with a little grain, alone or with other things in it."""
    values = 90 + 0.3 * XS[..., None] + np.array([0, 10, 30]) + np.random.default_rng(0).normal(0, 2, (SIDE, SIDE, 1))
    if kind == "two halves":
        values = np.where(XS[..., None] < 128, values, values + np.array([110, -60, -120]))
    elif kind == "a pole":
        values = np.where(np.abs(XS[..., None] - 168) < 3, 250, values)
    return np.asarray(np.clip(values, 0, 255), np.uint8)


def made(image: Image, instances: list[Instance]) -> dict[str, Pair | str]:
    """Pairs, or why there is none, by object and operation."""
    found: dict[str, Pair | str] = {}
    for item in pairs("photo", image, instances, {}, 0):
        if isinstance(item, Pair):
            found[f"{item.instance} {item.operation}"] = item
        else:
            found[f"{item[0]} {item[1]}"] = item[2]
    return found


def test_a_fill_goes_on_with_the_gradient_and_has_the_grain_of_the_surroundings() -> None:
    image, mask = surroundings("a gradient"), disc(128, 128, 30)
    with_object = np.where(mask[..., None], np.uint8(20), image)
    filled = edits.fill(with_object, mask, np.zeros_like(mask), np.random.default_rng(0))
    off = to_lab(filled) - to_lab(image)
    assert np.abs(np.stack([smooth(off[..., c], 3) for c in range(3)])[:, mask]).max() < 3
    fine = to_lab(filled)[..., 0] - smooth(to_lab(filled)[..., 0], 1.2)
    assert 0.7 < fine[mask].std() / fine[~edits.hole_of(mask)].std() < 1.4


def test_the_grain_is_not_that_of_edges_beside_it() -> None:
    image, mask = surroundings("a pole"), disc(128, 128, 26)
    filled = edits.fill(image, mask, np.zeros_like(mask), np.random.default_rng(0))
    fine = to_lab(filled)[..., 0] - smooth(to_lab(filled)[..., 0], 1.2)
    assert fine[disc(128, 128, 20)].std() < 1.5 * fine[disc(50, 128, 20)].std()


def test_a_place_between_two_colours_is_not_filled() -> None:
    with pytest.raises(RejectedError, match="too many colours"):
        edits.fill(
            surroundings("two halves"), disc(128, 128, 30), np.zeros((SIDE, SIDE), bool), np.random.default_rng(0)
        )


def test_what_lies_on_an_object_keeps_its_colour() -> None:
    """Outlines are often drawn around what lies on an object, too."""
    image, suit, cup = surroundings("a gradient"), disc(128, 128, 60), disc(140, 140, 16)
    image[suit], image[cup] = (150, 110, 90), (200, 200, 60)
    found = made(image, [Instance("1", "suit", suit), Instance("2", "cup", cup)])
    pair = found["1 recolour"]
    assert isinstance(pair, Pair)
    inside = disc(140, 140, 12)
    assert np.array_equal(pair.target[inside], image[inside]) and not (pair.region.mask & cup).any()
    assert isinstance(found["2 recolour"], Pair)  # the suit below is no reason to leave the cup alone


def test_an_object_that_others_cover_is_not_recoloured() -> None:
    image, table, cloth = surroundings("a gradient"), disc(128, 128, 60), disc(128, 128, 40)
    image[table], image[cloth] = (150, 110, 90), (200, 200, 60)
    found = made(image, [Instance("1", "table", table), Instance("2", "cloth", cloth)])
    assert found["1 recolour"] == "another object lies on it"

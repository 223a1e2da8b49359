"""Draws the items of the photo suite: a crop of a photograph with two or three lit objects on it, and an edit of them.

The photograph keeps its colours and contrast. Objects stand where they contrast with it, which is decided at 64 px, so that an item is
the same at every resolution. Shapes, colours and places are those of the scenes suite.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache
from random import Random

import numpy as np

from qk_tasks.pairs.vision import Bool, Float, Image
from qk_tasks.photographs import of_split, pyramid
from qk_tasks.scenes.lab import to_lab
from qk_tasks.scenes.render import coverage, quantise
from qk_tasks.scenes.world import COLOURS, HELD_OUT, MARGIN, PLACES, SHAPES, SIZES, Background, Obj, Scene, in_place

CONTRAST = 30.0  # least mean ΔE between an object's colour and the photograph below it
HUES_APART = 40.0  # least distance in a*, b* between an object's colour and the one it is given
CLEAR = 0.06  # least distance of two objects' discs, as a share of the side
SHAPES_USED = tuple(shape for shape in SHAPES if shape != "ring")  # a ring shows the photograph in its middle

PHRASES = {
    "recolour": ("Change the {old} to {colour}.", "Make the {old} {colour}.", "Recolour the {old} {colour}."),
    "remove": ("Remove the {old}.", "Take the {old} away.", "Erase the {old}."),
    "insert": ("Add a {size} {new} at the {place}.", "Put a {size} {new} at the {place}."),
    "move": ("Move the {old} to the {place}.", "Put the {old} at the {place}."),
}


@dataclass(frozen=True)
class Item:
    """All of a sample but its pixels. `edited` is the id of the object that changes."""

    source: Scene
    target: Scene
    operation: str
    instruction: str
    edited: int
    place: str  # where an inserted or moved object must go; empty for the others


def draw(version: str, split: str, operation: str, index: int) -> Item:
    """The item at an index: a pure function of the arguments. Photographs take turns."""
    photos = of_split(split)
    photo = photos[index % len(photos)]
    key = f"{version}\0{split}\0{operation}\0{index}"
    for attempt in range(1000):
        random = Random(hashlib.sha256(f"{key}\0{attempt}".encode()).digest())
        item = _try(random, photo, operation)
        if item is not None:
            return item
    raise RuntimeError(f"no {operation} could be drawn on {photo}")


def _try(random: Random, photo: str, operation: str) -> Item | None:
    levels = pyramid(photo)
    width, height = (n / min(levels[0].size) for n in levels[0].size)
    side = random.uniform(0.7, 1.0)
    crop = (random.uniform(0, width - side), random.uniform(0, height - side), side)
    background = Background("photo", 0, photo, crop)
    ground = to_lab(quantise(np.array(_ground(background, 64))))
    objects: list[Obj] = []
    count = random.choice((2, 3))
    for number in range(count):
        obj = _place(random, number, objects, ground)
        if obj is None:
            return None
        objects.append(obj)
    full = Scene(background, tuple(objects))
    chosen = objects[-1]
    words = {"old": chosen.name, "new": chosen.name, "size": chosen.size}
    place = ""
    if operation == "recolour":
        free = [c for c in COLOURS if all(o.colour != c for o in objects) and (c, chosen.shape) not in HELD_OUT]
        free = [c for c in free if _hues_apart(c, chosen.colour) >= HUES_APART]
        if not free:
            return None
        words["colour"] = random.choice(free)
        source, target = full, full.put(chosen._replace(colour=words["colour"]))
    elif operation == "remove":
        source, target = full, full.without(chosen.id)
    else:
        place = next(p for p in PLACES if in_place(chosen.x, chosen.y, p, 0))
        if not in_place(chosen.x, chosen.y, place, -MARGIN):
            return None
        words["place"] = place
        source, target = full.without(chosen.id), full
        if operation == "move":
            old = _place(random, chosen.id, objects, ground, like=chosen)
            if old is None or in_place(old.x, old.y, place, MARGIN):
                return None
            source = Scene(background, (*objects[:-1], old))
    return Item(source, target, operation, random.choice(PHRASES[operation]).format(**words), chosen.id, place)


def _place(random: Random, number: int, others: list[Obj], ground: Float, like: Obj | None = None) -> Obj | None:
    """An object of a colour, a shape and a place that fit; `like` keeps all but the place."""
    for _ in range(12):
        if like is None:
            colours = [c for c in COLOURS if all(o.colour != c for o in others)]
            shapes = [s for s in SHAPES_USED if all(o.shape != s for o in others)]
            colour, shape, size = random.choice(colours), random.choice(shapes), random.choice(list(SIZES))
            if (colour, shape) in HELD_OUT:
                continue
            r = SIZES[size]
        else:
            colour, shape, size, r = like.colour, like.shape, like.size, like.r
        x, y = random.uniform(r + 0.02, 0.98 - r), random.uniform(r + 0.02, 0.98 - r)
        obj = Obj(number, shape, colour, size, round(x, 4), round(y, 4), r)
        if any(np.hypot(o.x - x, o.y - y) < o.r + r + CLEAR for o in others):
            continue
        box, cover = coverage(obj, ground.shape[1])
        own = np.asarray(_colour_lab(colour), np.float32)[:, None]
        below = ground[:, *box][:, cover > 0.5]
        if float(np.sqrt(((below - own) ** 2).sum(axis=0)).mean()) >= CONTRAST:
            return obj
    return None


@lru_cache(maxsize=16)
def _colour_lab(name: str) -> tuple[float, float, float]:
    lab = to_lab(np.array([[COLOURS[name]]], np.uint8))[:, 0, 0]
    return float(lab[0]), float(lab[1]), float(lab[2])


def _hues_apart(a: str, b: str) -> float:
    (_, a1, b1), (_, a2, b2) = _colour_lab(a), _colour_lab(b)
    return float(np.hypot(a1 - a2, b1 - b2))


# Pixels


@lru_cache(maxsize=8)
def _ground(background: Background, resolution: int) -> Float:
    """The (3, R, R) float32 photograph in [0, 255]. Read-only: it is shared between calls."""
    levels = pyramid(background.photo)
    short = min(levels[0].size)
    x, y, side = (v * short for v in background.crop)
    level = max((k for k in range(len(levels)) if side / 2**k >= resolution), default=0)
    x0, y0, x1, y1 = (v / 2**level for v in (x, y, x + side, y + side))
    box = (x0, y0, min(x1, levels[level].width), min(y1, levels[level].height))
    pixels = np.asarray(levels[level].resize((resolution, resolution), box=box))
    canvas = np.ascontiguousarray(pixels.transpose(2, 0, 1), dtype=np.float32)
    canvas.setflags(write=False)
    return canvas


def render(scene: Scene, resolution: int) -> Image:
    """A scene as an (R, R, 3) uint8 image; each object is lit from the top left."""
    canvas = _ground(scene.background, resolution).copy()
    for obj in scene.objects:
        (rows, columns), cover = coverage(obj, resolution)
        height, width = cover.shape
        down = np.linspace(-1, 1, height, dtype=np.float32)[:, None]
        across = np.linspace(-1, 1, width, dtype=np.float32)[None, :]
        light = np.float32(0.96) - np.float32(0.09) * (down + across)
        colour = np.array(COLOURS[obj.colour], np.float32)[:, None, None]
        area = canvas[:, rows, columns]
        area += cover * (np.minimum(colour * light, np.float32(255)) - area)
    return quantise(canvas)


def silhouette(obj: Obj, resolution: int) -> Bool:
    """Where an object covers more than half of a pixel: (R, R)."""
    mask = np.zeros((resolution, resolution), np.bool_)
    box, cover = coverage(obj, resolution)
    mask[box] = cover > 0.5
    return mask

"""From one photograph and its instances to query-context pairs, each checked before it is kept.

A pair is kept only if its target passes the verification that outputs will get and its source does not: so the controls
reach 100 % and 0 % on every data set that is built.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from random import Random

import numpy as np

from qk_bench.records import RegionQuery, Sample
from qk_tasks.pairs import edits, verifier
from qk_tasks.pairs.edits import RejectedError
from qk_tasks.pairs.vision import Bool, Image, box_of, changed, grow, to_lab
from qk_tasks.scenes.suite import region_query
from qk_tasks.scenes.world import PLACES

OPERATIONS = ("recolour", "remove", "insert", "move")
TASKS = {"recolour": "recolouring", "remove": "removing", "insert": "inserting", "move": "moving"}
"""The task that holds each operation's pairs; bare names that no other suite has."""
AREA = (0.005, 0.40)  # share of the image that an object may have
MAX_UPSCALE = 1.5
SEEN = 0.9  # share of an object that must not lie under others to be recoloured


@dataclass(frozen=True)
class Instance:
    """One annotated object."""

    id: str
    name: str
    mask: Bool
    crowd: bool = False


@dataclass(frozen=True)
class Pair:
    """A query-context pair: what a sample is made of, without the suite's words."""

    photo: str
    instance: str
    operation: str
    instruction: str
    source: Image
    target: Image
    edit_mask: Bool
    region: RegionQuery
    name: str
    displacement: tuple[float, float] | None = None  # shares of width and height

    @property
    def id(self) -> str:
        """Safe as a file name and unique in the data set: photograph, instance, operation."""
        return f"{self.photo}-{self.instance}-{self.operation}"


def square(pixels: Image, instances: Sequence[Instance], size: int) -> tuple[Image, list[Instance], dict[str, str]]:
    """Cut the square that holds most of the objects, and bring it to `size` pixels.

    Returns:
        The square, the instances that lie in it (masks at its size), and why others do not, by instance id.

    Raises:
        RejectedError: The photograph is too small.
    """
    from PIL import Image as Pillow

    height, width = pixels.shape[:2]
    side = min(height, width)
    if side * MAX_UPSCALE < size:
        raise RejectedError("photograph too small")
    weight = sum((i.mask.astype(np.float32) for i in instances if not i.crowd), np.zeros((height, width), np.float32))
    total = float(weight.sum()) or 1.0
    cx = float((weight.sum(axis=0) * np.arange(width)).sum()) / total if weight.any() else width / 2
    cy = float((weight.sum(axis=1) * np.arange(height)).sum()) / total if weight.any() else height / 2
    x0, y0 = (int(np.clip(c - side / 2, 0, n - side)) for c, n in ((cx, width), (cy, height)))
    cut = slice(y0, y0 + side), slice(x0, x0 + side)
    image = Pillow.fromarray(np.ascontiguousarray(pixels[cut]))
    if side != size:
        image = image.resize((size, size), Pillow.Resampling.BICUBIC)
    kept, dropped = [], {}
    for instance in instances:
        if not instance.crowd and instance.mask[cut].sum() < 0.9 * instance.mask.sum():
            dropped[instance.id] = "cut off by the square"
            if not instance.mask[cut].any():
                continue
        mask = Pillow.fromarray(np.ascontiguousarray(instance.mask[cut])).convert("L")
        if side != size:
            mask = mask.resize((size, size), Pillow.Resampling.BILINEAR)
        kept.append(replace(instance, mask=np.asarray(mask) >= 128))
    return np.asarray(image, dtype=np.uint8), kept, dropped


def pairs(
    photo: str, image: Image, instances: Sequence[Instance], dropped: dict[str, str], seed: int
) -> Iterator[Pair | tuple[str, str, str]]:
    """All pairs of a square photograph, in a fixed order.

    Args:
        photo: Its id, safe as a file name.
        image: (R, R, 3).
        instances: With masks (R, R); crowds and cut-off ones are obstacles only.
        dropped: Why instances must not be edited, by id.
        seed: All choices are a function of it and of the ids.

    Yields:
        A pair, or (instance, operation, reason) where there is none.
    """
    for instance in instances:
        if instance.crowd:
            yield instance.id, "all", "crowd"
            continue
        try:
            phrase = _eligible(instance, instances, dropped)
        except RejectedError as reason:
            yield instance.id, "all", str(reason)
            continue
        others = [other for other in instances if other.id != instance.id]
        yield from _of_instance(photo, image, instance, phrase, others, seed)
    for number, why in dropped.items():
        if all(instance.id != number for instance in instances):
            yield number, "all", why


def _together(instances: Sequence[Instance], like: Bool) -> Bool:
    """The masks of some instances as one, of the shape of `like`."""
    result = np.zeros_like(like)
    for instance in instances:
        result |= instance.mask
    return result


def _eligible(instance: Instance, instances: Sequence[Instance], dropped: dict[str, str]) -> str:
    """How an instruction names an object: a phrase that fits no other of the photograph.

    Raises:
        RejectedError: It must not be edited, or has no such phrase.
    """
    if instance.id in dropped:
        raise RejectedError(dropped[instance.id])
    share = float(instance.mask.mean())
    if not AREA[0] <= share <= AREA[1]:
        raise RejectedError("too small" if share < AREA[0] else "too large")
    alike = [i for i in instances if i.name == instance.name and i.id != instance.id and i.mask.any()]
    if any(i.crowd for i in alike):
        raise RejectedError("not the only one of its kind, and no phrase tells it apart")
    if not alike:
        return f"the {instance.name}"
    mine, theirs = _centre(instance.mask)[0], [_centre(i.mask)[0] for i in alike]
    if mine < min(theirs) - 0.12:
        return f"the leftmost {instance.name}" if len(alike) > 1 else f"the {instance.name} on the left"
    if mine > max(theirs) + 0.12:
        return f"the rightmost {instance.name}" if len(alike) > 1 else f"the {instance.name} on the right"
    if instance.mask.sum() > 1.6 * max(i.mask.sum() for i in alike):
        return f"the largest {instance.name}"
    raise RejectedError("not the only one of its kind, and no phrase tells it apart")


def _of_instance(
    photo: str, image: Image, instance: Instance, phrase: str, others: Sequence[Instance], seed: int
) -> Iterator[Pair | tuple[str, str, str]]:
    mask, obstacles = instance.mask, _together(others, instance.mask)
    key = hashlib.sha256(f"{seed}\0{photo}\0{instance.id}".encode()).digest()
    random, noise = Random(key), np.random.default_rng(int.from_bytes(key[:8], "big"))

    def made(
        operation: str,
        words: str,
        source: Image,
        target: Image,
        region: Bool,
        displacement: tuple[float, float] | None = None,
    ) -> Pair:
        differ = changed(source, target)
        if not differ.any():
            raise RejectedError("nothing changes")
        pair = Pair(
            photo,
            instance.id,
            operation,
            words,
            source,
            target,
            differ,
            region_query(region),
            instance.name,
            displacement,
        )
        check(pair)
        return pair

    def recolour() -> Pair:
        on_it = [other for other in others if other.crowd or other.mask.sum() < mask.sum()]
        seen = mask & ~_together(on_it, mask)  # an object's outline is often drawn around what lies on it
        if seen.sum() < SEEN * mask.sum():
            raise RejectedError("another object lies on it")
        colour = edits.choose_colour(image, seen, random)
        words = random.choice(("Make {} {}.", "Change the colour of {} to {}.", "Recolour {} {}."))
        return made("recolour", words.format(phrase, colour), image, edits.recolour(image, seen, colour), seen)

    def free() -> Image:
        if (edits.hole_of(mask) & obstacles).sum() > 0.02 * mask.sum():
            raise RejectedError("another object touches it")
        return edits.fill(image, mask, obstacles, noise)

    def remove() -> Pair:
        words = random.choice(("Remove {}.", "Take {} away.", "Erase {}."))
        return made("remove", words.format(phrase), image, filled(), mask)

    def insert() -> Pair:
        x0, y0, x1, y1 = box_of(mask)
        own = to_lab(image[y0:y1, x0:x1])[mask[y0:y1, x0:x1]]
        colour = edits.colour_name(np.median(own, axis=0))
        words = random.choice(("Add {} {}.", "Put {} {}."))
        what = f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {instance.name}"
        return made("insert", words.format(what, _place(mask)), filled(), image, _box(mask))

    def move() -> Pair:
        below = filled()
        dx, dy = edits.places_to_go(mask, obstacles, random)
        size = mask.shape[0]
        way = ("right" if dx > 0 else "left") if dx else ("down" if dy > 0 else "up")
        side = "width" if dx else "height"
        words = f"Move {phrase} {way} by {abs(dx + dy) / size:.0%} of the picture's {side}."
        result = edits.move(image, below, mask, dx, dy)
        return made("move", words, image, result, mask, displacement=(dx / size, dy / size))

    memory: list[Image | RejectedError] = []

    def filled() -> Image:
        """The photograph without the object, made once."""
        if not memory:
            try:
                memory.append(free())
            except RejectedError as reason:
                memory.append(reason)
        if isinstance(memory[0], RejectedError):
            raise memory[0]
        return memory[0]

    for operation, make in (("recolour", recolour), ("remove", remove), ("insert", insert), ("move", move)):
        try:
            yield make()
        except RejectedError as reason:
            yield instance.id, operation, str(reason)


def check(pair: Pair) -> None:
    """Hold a pair to the verification that outputs will get. Outside of the edit its two images are equal.

    Raises:
        RejectedError: Its target fails, or its source passes.
    """
    sample = as_sample(pair, "pairs", "1", "train", 0)
    view = verifier.look(sample, pair.target, allow=False)
    if problem := verifier.edit(view, sample):
        raise RejectedError(f"the answer fails its own check: {problem.split(':')[0]}")
    if not verifier.edit(replace(view, output=view.source), sample):
        raise RejectedError("the source would pass as the answer")


def as_sample(pair: Pair, suite: str, version: str, split: str, index: int) -> Sample:
    """A pair as the harness's sample."""
    height, width = pair.edit_mask.shape
    moved = None if pair.displacement is None else {"dx": pair.displacement[0], "dy": pair.displacement[1]}
    return Sample(
        id=pair.id,
        suite=suite,
        suite_version=version,
        task=TASKS[pair.operation],
        operation=pair.operation,
        split=split,
        index=index,
        cluster=pair.photo,
        instruction=pair.instruction,
        width=width,
        height=height,
        source=pair.source,
        target=pair.target,
        edit_mask=pair.edit_mask,
        region=pair.region,
        target_scene=moved,
        attributes={"object": pair.name},
    )


def _centre(mask: Bool) -> tuple[float, float]:
    """X and y of a mask's centre of mass, as shares of width and height."""
    ys, xs = np.nonzero(mask)
    return float((xs.mean() + 0.5) / mask.shape[1]), float((ys.mean() + 0.5) / mask.shape[0])


_CELLS = {cell: name for name, cell in PLACES.items()}


def _place(mask: Bool) -> str:
    x, y = _centre(mask)
    cell = _CELLS[min(2, int(3 * x)), min(2, int(3 * y))]
    return f"in the {cell}" if cell == "centre" else f"at the {cell}"


def _box(mask: Bool) -> Bool:
    """The box of a mask with its hole, as a mask: where an inserted object may go."""
    x0, y0, x1, y1 = box_of(grow(mask, max(2, round(0.02 * mask.shape[0]))))
    box = np.zeros_like(mask)
    box[y0:y1, x0:x1] = True
    return box

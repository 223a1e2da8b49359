"""What the verifier of photographs is tried on: changes that a right edit survives, and wrong edits that must not pass.

`python -m tests.tasks.photo.corruptions [--resolution 256] [--cases 100] [--folder PAIRS]` prints the tables of docs/photo.md: of the photo suite,
or of a folder of pairs that `qkbench data build` made. The val split by default: thresholds are chosen there.
"""

from __future__ import annotations

import argparse
import functools
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from random import Random

import numpy as np
from qk_tasks.pairs.suite import DatasetSuite
from qk_tasks.pairs.vision import distance, to_lab
from qk_tasks.photo import SUITE
from qk_tasks.photo.draw import SHAPES_USED, render
from qk_tasks.scenes.render import coverage
from qk_tasks.scenes.world import COLOURS, PLACES, Obj, Scene, in_place

from qk_bench.errors import QKBenchError
from qk_bench.interfaces import Task
from qk_bench.records import Sample

from ..scenes import corruptions as scenes
from ..scenes.corruptions import Array, Change, bytes_of, pick

SceneChange = Callable[[Sample, Random, Scene, Scene, Obj], Array | None]
OF_SCENES = ("nothing done", "half of the edit's width done", "half-tone: source and target blended",
             "whole image tinted by ΔE 6", "blur, σ = 2 % of the width")  # fmt: skip
BENIGN: dict[str, Change] = {name: change for name, change in scenes.BENIGN.items() if not name.startswith("another")}
WRONG: dict[str, Change] = {name: scenes.WRONG[name] for name in OF_SCENES}


def wrong(change: Change) -> Change:
    """Put a wrong edit on the list under its docstring."""
    return WRONG.setdefault((change.__doc__ or "").rstrip("."), change)


def of_scene(*operations: str) -> Callable[[SceneChange], Change]:
    """Make a change of a scene one of a sample: None where the sample's operation is another, or its masks are real.

    The change is given the source, the target and the object that the edit is about.
    """

    def made(change: SceneChange) -> Change:
        @functools.wraps(change)
        def of_sample(sample: Sample, rng: Random) -> Array | None:
            if sample.suite != SUITE.name or not sample.source_scene or not sample.target_scene:
                return None
            if operations and sample.operation not in operations:
                return None
            source, target = (Scene.from_json(s["scene"]) for s in (sample.source_scene, sample.target_scene))
            edited = int(sample.target_scene["edited"])
            obj = next(o for o in (*target.objects, *source.objects) if o.id == edited)
            return change(sample, rng, source, target, obj)

        return of_sample

    return made


@of_scene("insert", "move")
def placement(sample: Sample, rng: Random, source: Scene, target: Scene, obj: Obj) -> Array | None:
    """Another placement that the instruction allows."""
    place = (sample.target_scene or {})["place"]
    for _ in range(200):
        there = obj._replace(x=rng.uniform(obj.r, 1 - obj.r), y=rng.uniform(obj.r, 1 - obj.r))
        apart = all(
            np.hypot(o.x - there.x, o.y - there.y) > o.r + there.r + 0.03 for o in target.objects if o.id != obj.id
        )
        if apart and in_place(there.x, there.y, place, 0):
            return render(target.put(there), sample.width)
    return None


@of_scene("insert", "recolour", "move")
def flat(sample: Sample, rng: Random, source: Scene, target: Scene, obj: Obj) -> Array | None:
    """The object in its flat colour, not lit."""
    box, cover = coverage(obj, sample.width)
    image = render(target.without(obj.id), sample.width).astype(float)
    image[box] += cover[..., None] * (np.array(COLOURS[obj.colour]) - image[box])
    return bytes_of(image)


BENIGN["another placement that the instruction allows"] = placement
BENIGN["the object in its flat colour, not lit"] = flat


@wrong
@of_scene("remove", "recolour", "move")
def _(sample: Sample, rng: Random, source: Scene, target: Scene, obj: Obj) -> Array | None:
    """The wrong object edited."""
    other = pick([o for o in source.objects if o.id != obj.id], rng)
    if sample.operation == "remove":
        return render(source.without(other.id), sample.width)
    if sample.operation == "recolour":
        return render(source.put(other._replace(colour=obj.colour)), sample.width)
    return render(source.put(other._replace(x=obj.x, y=obj.y)), sample.width)


@wrong
@of_scene("insert", "recolour", "move")
def _(sample: Sample, rng: Random, source: Scene, target: Scene, obj: Obj) -> Array | None:
    """Another colour than asked for."""
    colour = pick([c for c in COLOURS if c != obj.colour], rng)
    return render(target.put(obj._replace(colour=colour)), sample.width)


@wrong
@of_scene("insert", "recolour", "move")
def _(sample: Sample, rng: Random, source: Scene, target: Scene, obj: Obj) -> Array | None:
    """Another shape than asked for."""
    return render(target.put(obj._replace(shape=pick([s for s in SHAPES_USED if s != obj.shape], rng))), sample.width)


@wrong
@of_scene("insert", "move")
def _(sample: Sample, rng: Random, source: Scene, target: Scene, obj: Obj) -> Array | None:
    """At another place than asked for."""
    asked = (sample.target_scene or {})["place"]
    for _ in range(200):
        there = obj._replace(x=rng.uniform(obj.r, 1 - obj.r), y=rng.uniform(obj.r, 1 - obj.r))
        if not in_place(there.x, there.y, asked, 0.06) and any(in_place(there.x, there.y, p, 0) for p in PLACES):
            return render(target.put(there), sample.width)
    return None


@wrong
@of_scene("move")
def _(sample: Sample, rng: Random, source: Scene, target: Scene, obj: Obj) -> Array | None:
    """Moved, and a copy left behind."""
    return render(Scene(target.background, (*target.objects, source.get(obj.id)._replace(id=99))), sample.width)


@wrong
@of_scene()
def _(sample: Sample, rng: Random, source: Scene, target: Scene, obj: Obj) -> Array | None:
    """Another object recoloured as well."""
    other = pick([o for o in target.objects if o.id != obj.id], rng)
    return render(target.put(other._replace(colour=pick([c for c in COLOURS if c != other.colour], rng))), sample.width)


@wrong
@of_scene()
def _(sample: Sample, rng: Random, source: Scene, target: Scene, obj: Obj) -> Array | None:
    """Another object removed as well."""
    other = pick([o for o in target.objects if o.id != obj.id], rng)
    return render(target.without(other.id), sample.width)


@wrong
@of_scene()
def _(sample: Sample, rng: Random, source: Scene, target: Scene, obj: Obj) -> Array | None:
    """A small object too many."""
    for _ in range(60):
        extra = Obj(99, pick(list(SHAPES_USED), rng), pick(list(COLOURS), rng), "small", 0, 0, 0.085)
        extra = extra._replace(x=rng.uniform(0.1, 0.9), y=rng.uniform(0.1, 0.9))
        if all(np.hypot(o.x - extra.x, o.y - extra.y) > o.r + extra.r for o in target.objects):
            return render(target.on_top(extra), sample.width)
    return None


@wrong
def _(sample: Sample, rng: Random) -> Array | None:
    """A patch of 5 % of the rest changed by ΔE 20 or so."""
    side = round(np.sqrt(0.055) * sample.width)
    for _ in range(60):
        x, y = rng.randrange(sample.width - side), rng.randrange(max(1, sample.height - side))
        place = np.zeros_like(sample.edit_mask)
        place[y : y + side, x : x + side] = True
        if (place & sample.edit_mask).any():
            continue
        other = np.where(place[..., None], scenes.shifted_colour(sample.target, 25.0, rng), sample.target)
        if distance(to_lab(other), to_lab(sample.target))[place].mean() > 15:  # not clipped by the gamut
            return other
    return None


@wrong
def _(sample: Sample, rng: Random) -> Array | None:
    """Ghost: 40 % of the source's contrast left in the edit."""
    return bytes_of(sample.target + 0.4 * (sample.source.astype(float) - sample.target))


def cases(
    tasks: Sequence[Task], change: Change, split: str, resolution: int, number: int
) -> Iterator[tuple[Task, Sample, Array]]:
    """The first `number` cases a change can make, from all tasks in turn; fewer where the samples run out."""
    made = 0
    sizes = [task.size(split) for task in tasks]
    for index in range(20 * number):
        for task, size in zip(tasks, sizes, strict=True):
            if made == number or (size is not None and index >= size):
                continue
            sample = task.sample(split, index, resolution)
            image = change(sample, Random(f"{sample.id}"))
            if image is not None:
                made += 1
                yield task, sample, image


def one_colour(sample: Sample, rng: Random) -> Array | None:
    """Another object of the colour that is asked for: its place in the median colour of the target."""
    if sample.operation != "insert":
        return None
    median = np.median(sample.target[sample.edit_mask], axis=0)
    return bytes_of(np.where(sample.edit_mask[..., None], median, sample.target))


def main() -> None:
    """Print a table of docs/photo.md, and on stderr what was said of the cases that went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--cases", type=int, default=100)
    parser.add_argument("--split", default="val")
    parser.add_argument("--folder", help="a folder of pairs instead of the photo suite")
    options = parser.parse_args()
    tasks: list[Task] = list(SUITE.tasks.values())
    benign = BENIGN
    try:
        if options.folder:
            tasks = list(DatasetSuite(options.folder).tasks.values())
            benign = BENIGN | {"another object of the colour that is asked for": one_colour}
        tasks = [task for task in tasks if options.split in task.splits]
        if not tasks:
            parser.error(f"there is nothing in split {options.split!r}")
        tasks[0].sample(options.split, 0, options.resolution)
    except QKBenchError as error:
        parser.error(str(error))
    print(f"| change, at {options.resolution} px | cases | passed | by operation |\n| --- | ---: | ---: | --- |")
    for right, table in ((True, benign), (False, WRONG)):
        for name, change in table.items():
            of, passed = Counter[str](), Counter[str]()
            for task, sample, image in cases(tasks, change, options.split, options.resolution, options.cases):
                verdict = task.verify(sample, image)
                of[sample.operation] += 1
                passed[sample.operation] += verdict.success
                if verdict.success is not right:
                    print(f"{name}: {sample.id}: {verdict.reason or 'passed'}", file=sys.stderr)
            if of:
                each = ", ".join(f"{o} {passed[o]}/{n}" for o, n in sorted(of.items()))
                print(f"| {name} | {of.total()} | {passed.total() / of.total():.1%} | {each} |", flush=True)


if __name__ == "__main__":
    main()

"""What the scenes verifier is tried on: changes that a right edit survives, and wrong edits that must not pass.

`python tests/tasks/scenes/corruptions.py [--resolution 64] [--cases 500]` prints the table of docs/verifier.md.
"""

from __future__ import annotations

import argparse
import io
import warnings
from collections.abc import Callable, Iterator
from random import Random

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from qk_tasks.scenes import SUITE
from qk_tasks.scenes.edits import Edit, misplaced, other_sizes
from qk_tasks.scenes.render import coverage, render, visible
from qk_tasks.scenes.world import COLOURS, SHAPES, SIZE_JITTER, SIZES, Obj, Scene, overlap
from scipy import ndimage
from skimage.color import lab2rgb, rgb2lab

from qk_bench.records import Sample

Array = NDArray[np.uint8]
Change = Callable[[Sample, Random], Array | None]  # None: the sample offers no such case

BENIGN: dict[str, Change] = {}
WRONG: dict[str, Change] = {}


def benign(name: str) -> Callable[[Change], Change]:
    return lambda change: BENIGN.setdefault(name, change)


def wrong(name: str) -> Callable[[Change], Change]:
    return lambda change: WRONG.setdefault(name, change)


def cases(change: Change, split: str, resolution: int, number: int) -> Iterator[tuple[Sample, Array]]:
    """The first `number` cases a change can make, from all tasks in turn."""
    index = made = 0
    while made < number:
        for task in SUITE.tasks.values():
            sample = task.sample(split, index, resolution)
            image = change(sample, Random(index))
            if image is not None and made < number:
                made += 1
                yield sample, image
        index += 1


def pass_rate(change: Change, split: str, resolution: int, number: int) -> tuple[float, list[str]]:
    """Share of cases that the verifier lets pass, and what it said of each of the others and these."""
    said = []
    passed = 0
    for sample, image in cases(change, split, resolution, number):
        verdict = SUITE.tasks[sample.task].verify(sample, image)
        passed += verdict.success
        said.append(f"{sample.id}: {verdict.reason or 'passed'}")
    return passed / number, said


def bytes_of(image: NDArray[np.floating]) -> Array:
    return np.clip(image + 0.5, 0, 255).astype(np.uint8)


def parts(sample: Sample) -> tuple[Scene, Scene, list[Edit]]:
    assert sample.source_scene and sample.target_scene
    edits = [Edit(**e) for e in sample.target_scene["edits"]]
    return Scene.from_json(sample.source_scene), Scene.from_json(sample.target_scene), edits


def pick(options: list, rng: Random):
    return options[int(rng.random() * len(options))]


# ---- changes that a right edit survives ----


@benign("the target itself")
def _(sample: Sample, rng: Random) -> Array:
    return sample.target


@benign("JPEG, quality 90")
def _(sample: Sample, rng: Random) -> Array:
    buffer = io.BytesIO()
    Image.fromarray(sample.target).save(buffer, "JPEG", quality=90)
    return np.asarray(Image.open(buffer))


@benign("resampled through 0.5 to 2 times the resolution")
def _(sample: Sample, rng: Random) -> Array:
    side = round(sample.width * 2 ** (2 * rng.random() - 1))
    method = pick([Image.Resampling.BILINEAR, Image.Resampling.BICUBIC, Image.Resampling.LANCZOS], rng)
    there = Image.fromarray(sample.target).resize((side, side), method)
    return np.asarray(there.resize((sample.width, sample.height), method))


@benign("brightness ± 1 %")
def _(sample: Sample, rng: Random) -> Array:
    return bytes_of(sample.target * pick([0.99, 1.01], rng))


@benign("noise, σ = 2/255")
def _(sample: Sample, rng: Random) -> Array:
    noise = np.random.default_rng(int(rng.random() * 2**32)).normal(0, 2, sample.target.shape)
    return bytes_of(sample.target + noise)


@benign("shifted by one pixel (256 px and more)")
def _(sample: Sample, rng: Random) -> Array | None:
    if sample.width < 256:
        return None
    dx, dy = pick([(1, 0), (-1, 0), (0, 1), (0, -1), (1, 1), (-1, 1)], rng)
    padded = np.pad(sample.target, ((1, 1), (1, 1), (0, 0)), "edge")
    return padded[1 + dy : 1 + dy + sample.height, 1 + dx : 1 + dx + sample.width]


@benign("another placement that the instruction allows")
def _(sample: Sample, rng: Random) -> Array | None:
    before, target, edits = parts(sample)
    edit = edits[-1]
    if len(edits) > 1 or not edit.operation.startswith(("insert", "move")):
        return None
    goal = target.get(edit.x)
    for _ in range(200):
        margin = goal.r + 0.01
        x, y = (margin + (1 - 2 * margin) * rng.random() for _ in range(2))
        there = goal._replace(x=x, y=y)
        if misplaced(edit, before, goal, there) is None and not any(
            overlap(there, o, 0.02) for o in target.objects if o.id != goal.id
        ):
            return render(target.on_top(there), sample.width)
    return None


@benign("another size, where the instruction names none")
def _(sample: Sample, rng: Random) -> Array | None:
    _, target, edits = parts(sample)
    edit = edits[-1]
    if len(edits) > 1 or not edit.operation.startswith("insert") or edit.size:
        return None
    goal = target.get(edit.x)
    size = pick(other_sizes(goal.size), rng)
    there = goal._replace(size=size, r=SIZES[size] * (1 + rng.uniform(-SIZE_JITTER, SIZE_JITTER)))
    inside = there.r < min(there.x, there.y, 1 - there.x, 1 - there.y)
    if not inside or any(overlap(there, o, 0.02) for o in target.objects if o.id != goal.id):
        return None
    return render(target.on_top(there), sample.width)


@benign("another allowed placement, then JPEG, quality 90")
def _(sample: Sample, rng: Random) -> Array | None:
    image = BENIGN["another placement that the instruction allows"](sample, rng)
    return None if image is None else BENIGN["JPEG, quality 90"](sample.model_copy(update={"target": image}), rng)


# ---- wrong edits ----


@wrong("nothing done")
def _(sample: Sample, rng: Random) -> Array:
    return sample.source


@wrong("wrong colour")
def _(sample: Sample, rng: Random) -> Array | None:
    _, target, edits = parts(sample)
    there = [o for o in target.objects if any(o.id in e.edited for e in edits)]
    if not there:
        return None
    obj = pick(there, rng)
    return render(target.put(obj._replace(colour=pick([c for c in COLOURS if c != obj.colour], rng))), sample.width)


@wrong("wrong shape")
def _(sample: Sample, rng: Random) -> Array | None:
    _, target, edits = parts(sample)
    made = [e.x for e in edits if e.operation.startswith(("insert", "change_shape"))]
    if not made:
        return None
    obj = target.get(made[0])
    return render(target.put(obj._replace(shape=pick([s for s in SHAPES if s != obj.shape], rng))), sample.width)


@wrong("another size than asked for, or than it had")
def _(sample: Sample, rng: Random) -> Array | None:
    _, target, edits = parts(sample)
    edit = edits[-1]
    if len(edits) > 1 or not edit.placed or (edit.operation.startswith("insert") and not edit.size):
        return None
    obj = target.get(edit.x)
    size = pick(other_sizes(obj.size), rng)
    return render(target.put(obj._replace(size=size, r=SIZES[size])), sample.width)


@wrong("wrong object edited")
def _(sample: Sample, rng: Random) -> Array | None:
    before, target, edits = parts(sample)
    edit = edits[0]
    rest = [o for o in before.objects if o.id not in (*edit.edited, edit.y)]
    if len(edits) > 1 or not rest:
        return None
    other = pick(rest, rng)
    match edit.operation:
        case "remove":
            return render(before.without(other.id), sample.width)
        case "recolour" if other.colour != edit.colour:
            return render(before.put(other._replace(colour=edit.colour)), sample.width)
        case "change_shape" if other.shape != edit.shape:
            return render(before.put(other._replace(shape=edit.shape)), sample.width)
        case "move_place" | "move_relative":
            goal = target.get(edit.x)
            return render(before.on_top(other._replace(x=goal.x, y=goal.y)), sample.width)
    return None


def _bystander(sample: Sample, rng: Random) -> tuple[Scene, Obj] | None:
    """An object that the edit leaves alone and that is mostly seen."""
    _, target, edits = parts(sample)
    edited = {i for e in edits for i in e.edited}
    seen = visible(target, sample.width)
    free = [
        o for o in target.objects
        if o.id not in edited and seen[o.id][1].sum() > 0.5 * coverage(o, sample.width)[1].sum()
    ]  # fmt: skip
    return (target, pick(free, rng)) if free else None


@wrong("another object recoloured")
def _(sample: Sample, rng: Random) -> Array | None:
    found = _bystander(sample, rng)
    if not found:
        return None
    target, obj = found
    return render(target.put(obj._replace(colour=pick([c for c in COLOURS if c != obj.colour], rng))), sample.width)


@wrong("another object removed")
def _(sample: Sample, rng: Random) -> Array | None:
    found = _bystander(sample, rng)
    return found and render(found[0].without(found[1].id), sample.width)


@wrong("another object moved by 6 % of the side")
def _(sample: Sample, rng: Random) -> Array | None:
    found = _bystander(sample, rng)
    if not found:
        return None
    target, obj = found
    return render(target.put(obj._replace(x=obj.x + (0.06 if obj.x < 0.5 else -0.06))), sample.width)


@wrong("an object too many")
def _(sample: Sample, rng: Random) -> Array | None:
    _, target, _ = parts(sample)
    for _ in range(40):
        x, y = (0.1 + 0.8 * rng.random() for _ in range(2))
        obj = Obj(99, pick(list(SHAPES), rng), pick(list(COLOURS), rng), "small", x, y, 0.085)
        if not any(overlap(obj, o) for o in target.objects):
            return render(target.on_top(obj), sample.width)
    return None


@wrong("put on top of another object")
def _(sample: Sample, rng: Random) -> Array | None:
    """On the object it should be beside, or over most of another one where the instruction would have it."""
    before, target, edits = parts(sample)
    edit = edits[-1]
    if len(edits) > 1 or not edit.operation.startswith(("insert", "move")):
        return None
    goal, seen = target.get(edit.x), visible(target, sample.width)
    scenes = []
    for other in (o for o in target.objects if o.id != edit.x):
        there = goal._replace(x=other.x, y=other.y)
        left = visible(target.on_top(there), sample.width)[other.id][1].sum() / seen[other.id][1].sum()
        if other.id == edit.y or (left < 0.4 and misplaced(edit, before, goal, there) is None):
            scenes.append(target.on_top(there))
    return render(pick(scenes, rng), sample.width) if scenes else None


@wrong("half-finished move")
def _(sample: Sample, rng: Random) -> Array | None:
    before, target, edits = parts(sample)
    edit = edits[0]
    if len(edits) > 1 or not edit.operation.startswith(("move", "exchange_places")):
        return None
    scene = before
    for id in edit.edited:
        old, new = before.get(id), target.get(id)
        scene = scene.on_top(old._replace(x=(old.x + new.x) / 2, y=(old.y + new.y) / 2))
    return render(scene, sample.width)


@wrong("moved, and a copy left behind")
def _(sample: Sample, rng: Random) -> Array | None:
    before, target, edits = parts(sample)
    if len(edits) > 1 or not edits[0].operation.startswith("move"):
        return None
    return render(Scene(before.background, (*before.objects, target.get(edits[0].x)._replace(id=99))), sample.width)


@wrong("remnant: a third of a removed or moved object left")
def _(sample: Sample, rng: Random) -> Array | None:
    before, _, edits = parts(sample)
    seen = visible(before, sample.width)
    gone = [e.x for e in edits if e.operation.startswith(("remove", "move"))]
    if not gone:
        return None
    box, cover = seen[gone[0]]
    mask = np.zeros((sample.height, sample.width), dtype=bool)
    mask[box] = cover > 0.5
    ys, xs = np.nonzero(mask & sample.edit_mask)
    if not len(ys):
        return None
    angle = 2 * np.pi * rng.random()
    order = np.argsort(xs * np.cos(angle) + ys * np.sin(angle))[: max(1, len(ys) // 3)]
    image = sample.target.copy()
    image[ys[order], xs[order]] = sample.source[ys[order], xs[order]]
    return image


@wrong("half of the edit's width done")
def _(sample: Sample, rng: Random) -> Array:
    mask = sample.edit_mask.copy()
    columns = np.flatnonzero(mask.any(axis=0))
    mask[:, (columns[0] + columns[-1]) // 2 :] = False
    return np.where(mask[..., None], sample.source, sample.target)


@wrong("ghost: 15 % of the source's contrast left")
def _(sample: Sample, rng: Random) -> Array:
    return bytes_of(sample.target + 0.15 * (sample.source.astype(float) - sample.target))


@wrong("half-tone: source and target blended")
def _(sample: Sample, rng: Random) -> Array:
    return bytes_of(0.5 * sample.source.astype(float) + 0.5 * sample.target)


def shifted_colour(image: Array, distance: float, rng: Random) -> Array:
    """The image moved by a ΔE (CIE76) in a random direction of L*a*b*."""
    way = np.array([rng.random() - 0.5 for _ in range(3)])
    lab = rgb2lab(image) + distance * way / np.linalg.norm(way)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of colours outside of sRGB, which are clipped
        return bytes_of(255 * np.clip(lab2rgb(lab), 0, 1))


@wrong("background changed: ΔE 8 over 5 % of it")
def _(sample: Sample, rng: Random) -> Array | None:
    _, target, _ = parts(sample)
    ground = np.ones((sample.height, sample.width), dtype=bool)
    for box, cover in visible(target, sample.width).values():
        ground[box] &= cover == 0
    other = shifted_colour(sample.target, 8.0, rng)
    side = sample.width
    for _ in range(60):
        size = int(side * (0.2 + 0.4 * rng.random()))
        x, y = (int(rng.random() * (side - size)) for _ in range(2))
        patch = np.zeros_like(ground)
        patch[y : y + size, x : x + size] = True
        patch &= ground
        if 0.05 <= patch.sum() / ground.sum() < 0.10:
            return np.where(patch[..., None], other, sample.target)
    return None


@wrong("whole image tinted by ΔE 6")
def _(sample: Sample, rng: Random) -> Array:
    return shifted_colour(sample.target, 6.0, rng)


@wrong("blur, σ = 2 % of the width")
def _(sample: Sample, rng: Random) -> Array:
    sigma = 0.02 * sample.width
    return bytes_of(ndimage.gaussian_filter(sample.target.astype(np.float32), (sigma, sigma, 0)))


def main() -> None:
    """Print the table of docs/verifier.md."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--resolution", type=int, default=64)
    parser.add_argument("--cases", type=int, default=500)
    parser.add_argument("--split", default="test")
    options = parser.parse_args()
    print(f"| change, at {options.resolution} px | cases | passed |\n| --- | ---: | ---: |")
    for table in (BENIGN, WRONG):
        for name, change in table.items():
            if "256" in name and options.resolution < 256:
                continue
            rate, _ = pass_rate(change, options.split, options.resolution, options.cases)
            print(f"| {name} | {options.cases} | {rate:.1%} |", flush=True)


if __name__ == "__main__":
    main()

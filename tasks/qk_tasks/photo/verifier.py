"""Judges the photo suite. Remove as every pair; recolour, too, if the object keeps its shape; insert and move also at other places
that the instruction allows.

An inserted or moved object is looked for where the output differs from the source: the largest such blob gives its centre and
area, the scene is drawn again with the object there, and the output must be near to that drawing, nearer than to one with
another shape. docs/photo.md has the measurements that the thresholds come from.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from qk_bench.records import Sample, Verdict
from qk_tasks.pairs import verifier
from qk_tasks.pairs.verifier import EVIDENT, KEPT, View
from qk_tasks.pairs.vision import Bool, changed, cv, distance, grow, smooth, to_lab
from qk_tasks.photo.draw import SHAPES_USED, render, silhouette
from qk_tasks.scenes.world import COLOURS, MARGIN, SIZE_SLACK, Obj, Scene, in_place

DONE = 0.75  # how much of the way from the empty place to the object must be gone; right edits reach 0.86
NEAR = (
    0.25  # mean ΔE from the object as drawn, as a share of that way; right edits stay below 0.18, wrong ones above 0.3
)


def verify(sample: Sample, image: NDArray[np.uint8]) -> Verdict:
    """Decide whether an output does what the instruction asks.

    Args:
        sample: A sample of the photo suite.
        image: The (H, W, 3) uint8 output, of any size.
    """
    view = verifier.look(sample, image)
    if sample.operation in ("insert", "move"):
        problem = _placed(view, sample)
    else:
        problem = verifier.judge(view, sample)
        if not problem and sample.operation == "recolour":
            problem = _shape(view, *_asked(sample)[:2])
    return Verdict(success=not problem, reason=problem)


def _placed(view: View, sample: Sample) -> str:
    """What is wrong with an inserted or moved object; empty if nothing is."""
    scene, edited, place = _asked(sample)
    hole = view.region if sample.operation == "move" else np.zeros_like(view.region)
    first = _as_drawn(view, scene, edited, hole)
    if not first:
        return ""
    found = _look_for(view, edited, hole)
    if found is None:
        return first
    if not in_place(found.x, found.y, place, MARGIN):
        return f"wrong place: not at the {place}"
    if not SIZE_SLACK[0] <= found.r / edited.r <= SIZE_SLACK[1]:
        return f"wrong size: {found.r / edited.r:.2f} times what is asked"
    return _as_drawn(view, scene, found, hole)


def _asked(sample: Sample) -> tuple[Scene, Obj, str]:
    """The target's scene, the object that was edited in it, and the place that was asked for."""
    extra = sample.target_scene or {}
    scene = Scene.from_json(extra["scene"])
    return scene, scene.get(int(extra["edited"])), str(extra["place"])


def _as_drawn(view: View, scene: Scene, obj: Obj, hole: Bool) -> str:
    """How the output differs from the scene with the object as given; empty if it does not."""
    resolution = view.side
    source_like = scene.without(obj.id)
    drawn, without = render(scene.put(obj), resolution), render(source_like, resolution)
    target = smooth(to_lab(drawn), 0.8)
    edit = changed(without, drawn)
    there = view.edit & hole if hole.any() else hole
    problem = verifier.background(replace(view, target=target), edit | grow(there, view.margin(0.012)))
    if problem:
        return problem
    empty = smooth(to_lab(without), 0.8)
    evident = edit & (distance(empty, target) > EVIDENT)
    evident = evident if evident.any() else edit
    way = target[evident] - empty[evident]
    done = float(((view.output[evident] - empty[evident]) * way).sum() / max(float((way * way).sum()), 1e-6))
    name = f"{'an' if obj.name[0] in 'aeiou' else 'a'} {obj.name}"
    if done < DONE:
        return f"not done: {max(done, 0.0):.0%} of {name} there"
    off = float(distance(view.output, target)[evident].mean())
    if off > max(NEAR * float(np.linalg.norm(way, axis=1).mean()), 4.0):
        return f"wrong object: ΔE {off:.0f} from {name}"
    if problem := _shape(view, scene, obj):
        return problem
    left = hole & ~grow(edit, 1)
    return verifier.gone(view, left) if left.any() else ""


def _shape(view: View, scene: Scene, obj: Obj) -> str:
    """Whether the output is nearer to a drawing with another shape, as large or of the same area; empty if it is not."""
    own = silhouette(obj, view.side)
    around = grow(own, view.margin(0.03))

    def off(other: Obj) -> float:
        drawn = render(scene.put(other), view.side)
        return float(distance(view.output, smooth(to_lab(drawn), 0.8))[around].mean())

    limit = off(obj) - 0.01
    for shape in SHAPES_USED:
        rival = obj._replace(shape=shape)
        area = int(silhouette(rival, view.side).sum())
        sizes = (obj.r, obj.r * float(np.sqrt(own.sum() / max(area, 1))))
        if shape != obj.shape and min(off(rival._replace(r=r)) for r in sizes) < limit:
            return f"wrong shape: it looks like a {shape}"
    return ""


def _look_for(view: View, obj: Obj, hole: Bool) -> Obj | None:
    """The object with the place and size of the largest blob that is new in the output; None if there is none."""
    resolution = view.side
    own = to_lab(np.array([[COLOURS[obj.colour]]], np.uint8))  # (1, 1, 3)
    half = distance(np.broadcast_to(own, view.source.shape), view.source) / 2  # the contour of half coverage
    new = distance(view.output, view.source) > np.maximum(KEPT + view.allowance, half)
    new &= ~grow(hole, view.margin(0.02)) if hole.any() else True
    count, _, stats, centres = cv().connectedComponentsWithStats(new.astype(np.uint8), connectivity=8)
    if count < 2:
        return None
    blob = 1 + int(np.argmax(stats[1:, cv().CC_STAT_AREA]))
    area, (cx, cy) = float(stats[blob, cv().CC_STAT_AREA]), centres[blob]
    model = silhouette(obj, resolution)
    ys, xs = np.nonzero(model)
    if area < 9 or not len(ys):
        return None
    scale = float(np.sqrt(area / len(ys)))
    away_x, away_y = (xs.mean() + 0.5) / resolution - obj.x, (ys.mean() + 0.5) / resolution - obj.y
    x = (float(cx) + 0.5) / resolution - scale * float(away_x)
    y = (float(cy) + 0.5) / resolution - scale * float(away_y)
    return obj._replace(x=x, y=y, r=obj.r * scale)

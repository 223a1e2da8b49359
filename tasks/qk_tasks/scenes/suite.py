"""The scenes suite: its tasks, groups and splits, and how a drawn item becomes a sample with pixels."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qk_bench.interfaces import Suite, Task
from qk_bench.records import RegionQuery, Sample, Verdict
from qk_tasks import photographs
from qk_tasks.scenes import grammar, sampler, world
from qk_tasks.scenes.render import render_pair
from qk_tasks.scenes.world import PLACES, Scene

NAME, VERSION = "scenes", "1"
MIN_RESOLUTION, MAX_RESOLUTION = 32, 1024

DESCRIPTIONS = {
    "color_swap": "Recolour one object (3 in 4), or exchange the colours of two.",
    "insertion": "Add an object at a place, or beside another object.",
    "removal": "Take one object away.",
    "layout": "Move an object to a place or beside another (3 in 4), or exchange the positions of two.",
    "structural": "Resize an object, or change its shape.",
    "composition": "Two different edits in one instruction.",
}


class SceneTask(Task):
    """One task of the suite. Every split has an item for every index: splits have no end."""

    suite, version, splits = NAME, VERSION, sampler.SPLITS

    def __init__(self, name: str) -> None:
        self.name = name
        self.description = DESCRIPTIONS[name]
        self.operations = sampler.operations(name)

    def sample(self, split: str, index: int, resolution: int) -> Sample:
        """The sample at an index: a pure function of (suite version, split, index), drawn at `resolution` pixels."""
        self.check_asked(split, resolution, MIN_RESOLUTION, MAX_RESOLUTION)
        item = sampler.draw(f"{NAME}-{VERSION}", split, self.name, index)
        source, target = render_pair(item.source, item.target, resolution)
        r, g, b = np.moveaxis(source != target, 2, 0)
        edit_mask = r | g | b
        id = f"{self.name}-{split}-{index:06d}"
        return Sample(
            id=id,
            suite=NAME,
            suite_version=VERSION,
            task=self.name,
            operation=item.operation,
            split=split,
            index=index,
            cluster=id,
            instruction=item.instruction,
            width=resolution,
            height=resolution,
            source=source,
            target=target,
            edit_mask=edit_mask,
            region=region_query(edit_mask),
            source_caption=caption(item.source),
            target_caption=caption(item.target),
            source_scene=item.source.to_json(),
            target_scene={**item.target.to_json(), "edits": [edit.to_json() for edit in item.edits]},
            attributes={
                "background": item.source.background.kind,
                "objects": len(item.source.objects),
                "occluded": item.occluded,
                "phrasing": item.phrasing,
                "reference": item.reference,
            },
        )

    def verify(self, sample: Sample, image: NDArray[np.uint8]) -> Verdict:
        """Judge an output; the rules and thresholds are in docs/verifier.md."""
        from qk_tasks.scenes.verifier import verify

        return verify(sample, image)


def region_query(mask: NDArray[np.bool_]) -> RegionQuery:
    """The box, the mask and a point of the region that an edit changes."""
    height, width = mask.shape
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    ys, xs = np.divmod(np.flatnonzero(mask), width)
    nearest = int(np.argmin((ys - ys.mean()) ** 2 + (xs - xs.mean()) ** 2))
    return RegionQuery(
        box=(
            float(columns[0] / width), float(rows[0] / height),
            float((columns[-1] + 1) / width), float((rows[-1] + 1) / height),
        ),
        point=(float((xs[nearest] + 0.5) / width), float((ys[nearest] + 0.5) / height)),
        mask=mask,
    )  # fmt: skip


_CELLS = {cell: place for place, cell in PLACES.items()}
_SETTINGS = {
    "gradient": "on a plain background",
    "clouds": "on a cloudy background",
    "stripes": "on a striped background",
    "checks": "on a checked background",
    "photo": "on a photograph",
}


def caption(scene: Scene) -> str:
    """One sentence that names every object, its size and its place."""
    parts = []
    for o in scene.objects:
        place = _CELLS[min(2, int(3 * o.x)), min(2, int(3 * o.y))]
        article = "an" if o.size[0] in "aeiou" else "a"
        parts.append(f"{article} {o.size} {o.name} at the {place}")
    setting = _SETTINGS[scene.background.kind]
    return f"{', '.join(parts)}, {setting}" if parts else f"nothing but a background, {setting}"


class ScenesSuite(Suite):
    """The suite as the harness sees it."""

    name, version = NAME, VERSION
    groups = {"edit": ("color_swap", "insertion", "removal", "layout")}

    def __init__(self) -> None:
        self.tasks: dict[str, SceneTask] = {name: SceneTask(name) for name in DESCRIPTIONS}

    def digest(self) -> str:
        """A sha256 over the version, the vocabulary, the phrasings and the photographs.

        Code that changes samples without changing any of these must raise `VERSION`; a test with stored digests of
        rendered samples sees to that.
        """
        parts: list[Any] = [
            NAME, VERSION, world.SHAPES, world.COLOURS, world.SIZES, sorted(world.HELD_OUT), grammar.PHRASINGS,
            grammar.HELD_OUT_PHRASINGS, sampler.TASKS, [p.model_dump() for p in photographs.table().values()],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


SUITE = ScenesSuite()

"""The photo suite: objects on photographs that ship in packages, and edits of them with exact answers."""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

from qk_bench.interfaces import Suite, Task
from qk_bench.records import Sample, Verdict
from qk_tasks import photographs
from qk_tasks.pairs.vision import changed
from qk_tasks.photo.draw import PHRASES, SHAPES_USED, draw, render, silhouette
from qk_tasks.scenes import world
from qk_tasks.scenes.suite import region_query

NAME, VERSION = "photo", "1"
SPLITS = ("train", "val", "test")
MIN_RESOLUTION, MAX_RESOLUTION = 64, 1024
TASKS = {
    "photo_recolour": ("recolour", "Recolour an object on a photograph."),
    "photo_insertion": ("insert", "Add an object to a photograph, at a place."),
    "photo_removal": ("remove", "Take an object away, so that the photograph behind it shows."),
    "photo_layout": ("move", "Move an object on a photograph to a place."),
}


class PhotoTask(Task):
    """One task of the suite. Every split has an item for every index; its photographs take turns."""

    suite, version, splits = NAME, VERSION, SPLITS

    def __init__(self, name: str) -> None:
        self.name = name
        operation, self.description = TASKS[name]
        self.operation = operation
        self.operations = (operation,)

    def sample(self, split: str, index: int, resolution: int) -> Sample:
        """The sample at an index: a pure function of (suite version, split, index), drawn at `resolution` pixels."""
        self.check_asked(split, resolution, MIN_RESOLUTION, MAX_RESOLUTION)
        item = draw(f"{NAME}-{VERSION}", split, self.operation, index)
        source, target = render(item.source, resolution), render(item.target, resolution)
        edit_mask = changed(source, target)
        region = edit_mask if item.operation == "insert" else silhouette(item.source.get(item.edited), resolution)
        photo = item.source.background.photo
        return Sample(
            id=f"{self.name}-{split}-{index:06d}",
            suite=NAME,
            suite_version=VERSION,
            task=self.name,
            operation=item.operation,
            split=split,
            index=index,
            cluster=photo,
            instruction=item.instruction,
            width=resolution,
            height=resolution,
            source=source,
            target=target,
            edit_mask=edit_mask,
            region=region_query(region),
            source_scene={"scene": item.source.to_json()},
            target_scene={"scene": item.target.to_json(), "edited": item.edited, "place": item.place},
            attributes={"photograph": photo, "objects": len(item.source.objects)},
        )

    def verify(self, sample: Sample, image: NDArray[np.uint8]) -> Verdict:
        """Judge an output; the rules and thresholds are in docs/photo.md."""
        from qk_tasks.photo.verifier import verify

        return verify(sample, image)


class PhotoSuite(Suite):
    """The suite as the harness sees it."""

    name, version = NAME, VERSION

    def __init__(self) -> None:
        self.tasks: dict[str, PhotoTask] = {name: PhotoTask(name) for name in TASKS}

    def digest(self) -> str:
        """A sha256 over the version, the vocabulary, the phrasings and the photographs.

        Code that changes samples without changing any of these must raise `VERSION`.
        """
        parts = [
            NAME, VERSION, SHAPES_USED, world.COLOURS, world.SIZES, sorted(world.HELD_OUT), PHRASES,
            [p.model_dump() for p in photographs.table().values()],
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


SUITE = PhotoSuite()

"""The drawn-faces suite: faces drawn from parameters, the edits people ask for of portraits, and held-out people.

It stands in for CelebA-HQ where that folder is absent, and is not CelebA-HQ: results on it say nothing of photographs.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np
from numpy.typing import NDArray

from qk_bench.interfaces import Suite, Task
from qk_bench.records import Sample, Verdict
from qk_tasks.faces import edits, person
from qk_tasks.scenes.suite import region_query

NAME, VERSION = "drawn-faces", "1"
MIN_RESOLUTION, MAX_RESOLUTION = 48, 1024

DESCRIPTIONS = {
    "hair_colour": "Give the hair of a drawn face another colour.",
    "lipstick": "Put lipstick on a drawn face, or take it off.",
    "glasses": "Put round or square glasses on a drawn face, or take them off.",
    "hat": "Put a hat on a drawn face, or take it off.",
    "smile": "Make a drawn face smile, or stop smiling.",
    "background": "Give the background of a drawn face another colour.",
}


class DrawnFaceTask(Task):
    """One kind of edit. Splits have no end, and share no person."""

    suite, version, splits = NAME, VERSION, tuple(person.SPLIT_SHARES)

    def __init__(self, name: str) -> None:
        self.name, self.description, self.operations = name, DESCRIPTIONS[name], edits.OPERATIONS[name]

    def sample(self, split: str, index: int, resolution: int) -> Sample:
        """The sample at an index: a pure function of (suite version, split, index), drawn at `resolution` pixels."""
        self.check_asked(split, resolution, MIN_RESOLUTION, MAX_RESOLUTION)
        item = edits.draw_item(f"{NAME}-{VERSION}", split, self.name, index)
        source, target = (picture.image for picture in edits.render(item, resolution))
        edit_mask = (source != target).any(axis=2)
        who = f"{split}-person-{edits.person_number(index):05d}"
        return Sample(
            id=f"{self.name}-{split}-{index:06d}",
            suite=NAME,
            suite_version=VERSION,
            task=self.name,
            operation=item.operation,
            split=split,
            index=index,
            cluster=who,
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
            target_scene=item.target.to_json(),
            attributes={
                "person": who,
                "skin": item.source.person.skin,
                "hair_style": item.source.person.style,
                "phrasing": item.phrasing,
            },
        )

    def verify(self, sample: Sample, image: NDArray[np.uint8]) -> Verdict:
        """Judge an output; the rules and thresholds are in docs/faces.md."""
        from qk_tasks.faces.verifier import verify

        return verify(sample, image)


def caption(face: person.Face) -> str:
    """One sentence that tells the look."""
    look = face.look
    worn = [f"{look.lips} lipstick"] if look.lips else []
    worn += [f"{look.glasses[1]} {look.glasses[0]} glasses"] if look.glasses else []
    worn += [f"a {look.hat} hat"] if look.hat else []
    wearing = f", wearing {', '.join(worn)}" if worn else ""
    mouth = "smiling " if look.smile else ""
    return f"a drawn {mouth}face with {face.person.style} {look.hair} hair{wearing}, on a {look.background} background"


class DrawnFacesSuite(Suite):
    """The suite as the harness sees it."""

    name, version = NAME, VERSION

    def __init__(self) -> None:
        self.tasks: dict[str, DrawnFaceTask] = {name: DrawnFaceTask(name) for name in DESCRIPTIONS}

    def digest(self) -> str:
        """A sha256 over the version, the palettes, the features and the phrasings."""
        parts = [
            NAME, VERSION, [dict(palette) for palette in (person.HAIR, person.LIPSTICK, person.BACKGROUNDS, person.HATS,
            person.FRAMES)], person.LENSES, person.SKIN, person.IRIS, person.STYLES, person.FEATURES,
            dict(person.SPLIT_SHARES), dict(edits.OPERATIONS), dict(edits.PHRASINGS), edits.ITEMS_PER_PERSON,
        ]  # fmt: skip
        return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


SUITE = DrawnFacesSuite()

"""The CelebA-HQ holdout: attribute edits of real portraits from the user's folder, checked by their masks.

Hair, lips and background are decided by their masks, and have a composite as target; hats and glasses that are taken
off are decided by whether what is inside their mask was replaced. What no mask decides (smiles, and things put on) has
no success: read identity, drift and a judge there.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from random import Random
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import UsageError
from qk_bench.interfaces import Suite, Task
from qk_bench.records import Mask, Sample, Verdict
from qk_tasks.faces import celeba_checks as checks
from qk_tasks.faces.celeba_files import PARTS, SPLITS, Portrait, Portraits, check_masks, check_square, read_folder
from qk_tasks.faces.edits import PHRASINGS
from qk_tasks.faces.person import FRAMES, HATS, LENSES
from qk_tasks.masks import MaskProblemError, read_mask
from qk_tasks.published.files import BadItemError, existing_folder
from qk_tasks.scenes.suite import region_query

NAME, VERSION = "celeba-hq", "1"
MAX_RESOLUTION: Final = 1024
REFERENCE: Final = 128
"""The size at which the colour that a part has is taken."""
DISTINCT: Final = 25.0
"""Least difference between the colour that a part has and the one asked for, as `celeba_checks.apart` measures it."""


class Kind(NamedTuple):
    """One kind of edit: which portraits it is asked of, and where they may change."""

    operation: str
    description: str
    region: tuple[str, ...]  # parts
    needs: tuple[str, ...] = ()  # parts that must have a mask
    lacks: tuple[str, ...] = ()  # parts that must have none
    attributes: tuple[str, ...] = ()  # one of these must hold, if any is named
    without: tuple[str, ...] = ()  # attributes that must not
    margin: float = 0.0  # how far beyond the region's box or mask, share of the side
    boxed: bool = False  # the region is the box around its parts, not the parts
    decides: bool = True


KINDS: Final[Mapping[str, Kind]] = {
    "hair_colour": Kind(
        "change_hair_colour", "Give the hair of a portrait another colour.", ("hair",), needs=("hair",), lacks=("hat",),
        attributes=("Black_Hair", "Blond_Hair", "Brown_Hair", "Gray_Hair"), without=("Bald",),
    ),
    "lipstick": Kind(
        "put_on_lipstick", "Put lipstick of some colour on a portrait.", ("u_lip", "l_lip"), needs=("u_lip", "l_lip"),
        without=("Wearing_Lipstick",),
    ),
    "background": Kind("change_background", "Give a portrait a plain background.", PARTS, needs=("skin", "hair")),
    "remove_glasses": Kind("remove_glasses", "Take the glasses off.", ("eye_g",), needs=("eye_g",), margin=0.02),
    "remove_hat": Kind("remove_hat", "Take the hat off.", ("hat",), needs=("hat",), margin=0.06),
    "put_on_glasses": Kind(
        "put_on_glasses", "Put glasses on.", ("l_eye", "r_eye", "l_brow", "r_brow"), needs=("l_eye", "r_eye"),
        lacks=("eye_g",), without=("Eyeglasses",), margin=0.06, boxed=True, decides=False,
    ),
    "put_on_hat": Kind(
        "put_on_hat", "Put a hat on.", ("hair",), needs=("hair",), lacks=("hat",), without=("Wearing_Hat", "Bald"),
        margin=0.08, decides=False,
    ),
    "smile": Kind(
        "smile", "Make a portrait smile.", ("u_lip", "l_lip", "mouth", "nose"), needs=("u_lip", "l_lip"),
        without=("Smiling",), margin=0.08, boxed=True, decides=False,
    ),
}  # fmt: skip
OWN_COLOUR: Final = {"Black_Hair": "black", "Blond_Hair": "blond", "Brown_Hair": "brown", "Gray_Hair": "grey"}


class PortraitTask(Task):
    """One kind of edit of every portrait of the folder that fits it, each once."""

    suite, version, splits = NAME, VERSION, SPLITS

    def __init__(self, name: str, portraits: Portraits) -> None:
        self.name, self._kind, self._portraits = name, KINDS[name], portraits
        self.description, self.operations = self._kind.description, (self._kind.operation,)
        self.decides = self._kind.decides

    @cached_property
    def _fitting(self) -> dict[str, list[Portrait]]:
        found: dict[str, list[Portrait]] = {split: [] for split in SPLITS}
        for portrait in self._portraits.images:
            if _fits(self._kind, portrait):
                found[portrait.split].append(portrait)
        return found

    def size(self, split: str) -> int:
        """Number of portraits that the edit is asked of."""
        return len(self._fitting.get(split, ()))

    def unusable(self, split: str, indices: Iterable[int], resolution: int) -> dict[int, str]:
        """Portraits whose image is torn, or of which a mask has another size, other values than two, or shows nothing.

        Of masks that the edit does not need only the size is read.
        """
        found: dict[int, str] = {}
        if not 32 <= resolution <= MAX_RESOLUTION:  # which `sample` says
            return found
        for index in indices:
            portrait = self._fitting[split][index]
            try:
                picture = self._portraits.pictures(portrait)[0]
                check_square(picture, *picture.size(verify=True, unturned=True))
                masks = self._masks(portrait)
                for side in (resolution, REFERENCE) if self.name in checks.PALETTES else (resolution,):
                    self._part(masks, side)
            except (BadItemError, MaskProblemError) as problem:
                found[index] = f"{NAME}, image {portrait.number}: {problem}"
        return found

    def sample(self, split: str, index: int, resolution: int) -> Sample:
        """The portrait at an index, at `resolution` pixels a side.

        Raises:
            UsageError: There is no such portrait, or its image or a mask of it cannot be read.
        """
        if not 0 <= index < self.size(split):
            raise UsageError(f"{NAME}/{self.name} has no portrait {index} in split {split!r}")
        if not 32 <= resolution <= MAX_RESOLUTION:
            raise UsageError(f"resolution {resolution} is not within 32 to {MAX_RESOLUTION} pixels")
        portrait = self._fitting[split][index]
        try:
            pixels, masks = self._image(portrait), self._masks(portrait)
            source, part = _shrunk(pixels, resolution), self._part(masks, resolution)
            rng = Random(f"{NAME}-{VERSION}/{self.name}/{portrait.number}")
            words = self._words(portrait, pixels, masks, rng)
        except (BadItemError, MaskProblemError) as problem:
            raise UsageError(
                f"{NAME}, image {portrait.number}: {problem}", "download it again, or take it out"
            ) from None
        target = self._target(source, part, words.get("colour", ""))
        edit_mask = self._edit_mask(part)
        return Sample(
            id=f"{self.name}-{split}-{portrait.number:05d}",
            suite=NAME,
            suite_version=VERSION,
            task=self.name,
            operation=self._kind.operation,
            split=split,
            index=index,
            cluster=f"person-{portrait.identity}" if portrait.identity else f"image-{portrait.number}",
            instruction=rng.choice(PHRASINGS[self._kind.operation]).format(**words),
            width=resolution,
            height=resolution,
            source=source,
            target=target,
            edit_mask=edit_mask,
            region=region_query(edit_mask),
            source_scene={"part": _runs(part)},
            target_scene={"colour": words.get("colour", "")},
            attributes={"image": portrait.number, "labels": " ".join(sorted(portrait.attributes))},
        )

    def verify(self, sample: Sample, image: NDArray[np.uint8]) -> Verdict:
        """Judge an output by the mask of the part; see `celeba_checks`."""
        assert sample.source is not None and sample.source_scene is not None and sample.edit_mask is not None
        if not self.decides:
            raise NotImplementedError(f"no mask decides {self.name}")
        part = _from_runs(sample.source_scene["part"], sample.height, sample.width)
        if self.name in checks.PALETTES:
            assert sample.target_scene is not None
            return checks.judge_colour(self.name, sample.source, image, part, str(sample.target_scene["colour"]))
        return checks.judge_removal(sample.source, image, part, sample.edit_mask)

    def _image(self, portrait: Portrait) -> NDArray[np.uint8]:
        picture = self._portraits.pictures(portrait)[0]
        check_square(picture, *picture.size(unturned=True))
        return picture.read()

    def _masks(self, portrait: Portrait) -> list[Mask]:
        """The masks of the edit's parts, as they are stored; they are of one size, as all masks of the portrait are."""
        check_masks(self._portraits.pictures(portrait)[1:])
        masks = []
        for name in self._kind.region:
            if name in portrait.parts:
                path = self._portraits.mask_path(portrait.number, name)
                try:
                    masks.append(read_mask(path))
                except MaskProblemError as problem:
                    raise MaskProblemError(f"{path.name}: {problem}") from None
        return masks

    def _part(self, masks: Sequence[Mask], resolution: int) -> Mask:
        """The parts of the edit together, as (R, R) bool; for the background, what is no part."""
        part = np.logical_or.reduce([_resized(mask, resolution) for mask in masks])
        part = ~part if self.name == "background" else part
        if not part.any():
            raise MaskProblemError(f"the mask of {' and '.join(self._kind.region[:2])} is empty at {resolution} pixels")
        return np.ascontiguousarray(part)

    def _words(
        self, portrait: Portrait, pixels: NDArray[np.uint8], masks: Sequence[Mask], rng: Random
    ) -> dict[str, str]:
        """What fills the phrasing. A colour is asked for that the labels do not tell and the part does not have yet.

        The part's colour is taken at one size, so that the instruction is the same at every resolution.
        """
        match self._kind.operation:
            case "put_on_glasses":
                return {"colour": rng.choice(list(FRAMES)), "shape": rng.choice(LENSES)}
            case "put_on_hat":
                return {"colour": rng.choice(list(HATS))}
        if self.name not in checks.PALETTES:
            return {}
        own = {colour for label, colour in OWN_COLOUR.items() if label in portrait.attributes}
        names = [name for name in checks.PALETTES[self.name] if self.name != "hair_colour" or name not in own]
        rng.shuffle(names)
        now = checks.median_lab(_shrunk(pixels, REFERENCE), self._part(masks, REFERENCE))
        distances = {name: checks.apart(now, checks.lab_of(checks.PALETTES[self.name][name])) for name in names}
        far = next((name for name in names if distances[name] >= DISTINCT), None)
        return {"colour": far or max(names, key=lambda name: distances[name])}

    def _target(self, source: NDArray[np.uint8], part: Mask, colour: str) -> NDArray[np.uint8] | None:
        if self.name not in checks.PALETTES:
            return None
        compose = checks.filled if self.name == "background" else checks.recoloured
        return compose(source, part, checks.PALETTES[self.name][colour])

    def _edit_mask(self, part: Mask) -> Mask:
        mask = part
        if self._kind.boxed:
            rows, columns = np.flatnonzero(part.any(axis=1)), np.flatnonzero(part.any(axis=0))
            mask = np.zeros_like(part)
            mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1] = True
        radius = round(self._kind.margin * part.shape[0])
        return checks.grown(mask, radius) if radius else mask


class CelebaHqSuite(Suite):
    """CelebA-HQ holdout: attribute edits of real portraits, checked by CelebAMask-HQ's masks."""

    name, version = NAME, VERSION
    groups = {"decided": tuple(name for name, kind in KINDS.items() if kind.decides)}

    def __init__(self, folder: str) -> None:
        self._portraits = read_folder(existing_folder(folder))
        self.problems = self._portraits.problems
        if not self._portraits.images:
            why = f"; the first problem: {self.problems[0]}" if self.problems else ""
            raise UsageError(f"{Path(folder)} holds no usable portrait{why}", "see docs/faces.md for its layout")
        self.tasks: dict[str, PortraitTask] = {name: PortraitTask(name, self._portraits) for name in KINDS}

    def digest(self) -> str:
        """A sha256 over the version and every portrait's number, split, person, labels, and names and sizes of files."""
        whole = hashlib.sha256(f"{NAME}-{VERSION}".encode())
        for p in self._portraits.images:
            files = [picture.stamp() for picture in self._portraits.pictures(p)]
            whole.update(f"{p.number} {p.split} {p.identity} {sorted(p.attributes)} {files}\n".encode())
        return whole.hexdigest()


def _fits(kind: Kind, portrait: Portrait) -> bool:
    return (
        set(kind.needs) <= portrait.parts
        and not set(kind.lacks) & portrait.parts
        and not set(kind.without) & portrait.attributes
        and (not kind.attributes or len(set(kind.attributes) & portrait.attributes) == 1)
    )


def _shrunk(pixels: NDArray[np.uint8], resolution: int) -> NDArray[np.uint8]:
    from PIL import Image

    return np.asarray(Image.fromarray(pixels).resize((resolution, resolution), Image.Resampling.LANCZOS))


def _resized(mask: Mask, resolution: int) -> Mask:
    """A mask at another size, by nearest neighbour."""
    rows, columns = (np.arange(resolution) * size // resolution for size in mask.shape)
    return np.ascontiguousarray(mask[rows[:, None], columns])


def _runs(mask: Mask) -> list[int]:
    """Starts and ends of the true runs of a mask, row by row."""
    flat = np.concatenate([[0], mask.ravel().astype(np.int8), [0]])
    return [int(place) for place in np.flatnonzero(np.diff(flat))]


def _from_runs(runs: list[int], height: int, width: int) -> Mask:
    flat = np.zeros(height * width, np.bool_)
    for start, end in zip(runs[::2], runs[1::2], strict=True):
        flat[start:end] = True
    return flat.reshape(height, width)

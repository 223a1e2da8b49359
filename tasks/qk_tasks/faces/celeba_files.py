"""Reads CelebA-HQ and CelebAMask-HQ in their published layout. Nothing of either is shipped: their licence forbids it.

    FOLDER/CelebA-HQ-img/<n>.jpg
    FOLDER/CelebAMask-HQ-mask-anno/<n // 2000>/<nnnnn>_<part>.png      absent where a part is not seen
    FOLDER/CelebAMask-HQ-attribute-anno.txt                            count, names, then -1 or 1 for each
    FOLDER/CelebA-HQ-to-CelebA-mapping.txt                             idx, orig_idx, orig_file
    FOLDER/list_eval_partition.txt, FOLDER/identity_CelebA.txt         of CelebA; used where they are there

The split is CelebA's own, by the *file* an image comes from. (The script that CelebAMask-HQ publishes for this compares
`orig_idx`, which counts from 0, with bounds that count from 1, and so puts one image into the wrong split at each bound.)
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qk_bench.errors import UsageError
from qk_tasks.faces.celeba_lists import Listing, image_number, read_attributes, read_mapping, read_values
from qk_tasks.published.files import BadItemError, Picture

IMAGES: Final = "CelebA-HQ-img"
MASKS: Final = "CelebAMask-HQ-mask-anno"
ATTRIBUTES: Final = "CelebAMask-HQ-attribute-anno.txt"
MAPPING: Final = "CelebA-HQ-to-CelebA-mapping.txt"
PARTITION: Final = "list_eval_partition.txt"
IDENTITIES: Final = "identity_CelebA.txt"
FIRST_VAL, FIRST_TEST = 162_771, 182_638
"""Numbers of CelebA's first validation and test files, as its list_eval_partition.txt has them."""
SPLITS: Final = ("train", "val", "test")
PER_FOLDER: Final = 2000
PARTS: Final = (
    "skin", "nose", "eye_g", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip",
    "hair", "hat", "ear_r", "neck_l", "neck", "cloth",
)  # fmt: skip


@dataclass(frozen=True)
class Portrait:
    """One image: where it is, whose it is, and what is annotated."""

    number: int
    split: str
    identity: str  # CelebA's number of the person; empty where the folder does not tell
    attributes: frozenset[str]
    parts: frozenset[str]


@dataclass(frozen=True)
class Portraits:
    """The images of a folder, in order of number, and one line for whatever cannot be used."""

    folder: Path
    images: tuple[Portrait, ...]
    problems: tuple[str, ...]

    def image_path(self, number: int) -> Path:
        """Where an image is."""
        return self.folder / IMAGES / f"{number}.jpg"

    def mask_path(self, number: int, part: str) -> Path:
        """Where the mask of a part is."""
        return self.folder / MASKS / str(number // PER_FOLDER) / f"{number:05d}_{part}.png"

    def pictures(self, portrait: Portrait) -> list[Picture]:
        """The image of a portrait, then its masks."""
        masks = (self.mask_path(portrait.number, part) for part in sorted(portrait.parts))
        return [Picture(path.name, path) for path in (self.image_path(portrait.number), *masks)]


def read_folder(folder: Path) -> Portraits:
    """Read the annotations of a folder.

    Of images and masks of the holdout, beginnings and ends are looked at, and the checksums that masks have: that tells
    downloads that were cut short and masks that are torn inside. Decoding them all would take minutes. Those of the
    training split are only listed.

    Raises:
        UsageError: A file of the layout is missing or cannot be read.
    """
    for name in (IMAGES, MASKS, ATTRIBUTES, MAPPING):
        if not (folder / name).exists():
            raise UsageError(
                f"{folder} has no {name}",
                "name the folder that holds CelebAMask-HQ as it is published (see docs/faces.md)",
            )
    lists = _Lists.read(folder)
    files = {path.name for path in (folder / IMAGES).glob("*.jpg")}
    there = {number for name in files if (number := image_number(name)) is not None and name == f"{number}.jpg"}
    parts = _parts(folder / MASKS)
    images, problems = [], [f"celeba-hq, {line}" for line in (*lists.attributes.problems, *lists.originals.problems)]
    for number in sorted(there | lists.attributes.told.keys() | lists.attributes.faults.keys()):
        try:
            if number not in there:
                raise BadItemError(f"{IMAGES}/{number}.jpg is missing")
            images.append(lists.portrait(number, parts.get(number, frozenset())))
        except BadItemError as problem:
            problems.append(f"celeba-hq, image {number}: {problem}")
    return _without_broken(Portraits(folder, *_without_leaks(images, problems)))


@dataclass(frozen=True)
class _Lists:
    """What the text files of a folder say."""

    attributes: Listing[int, frozenset[str]]
    originals: Listing[int, str]
    partition: Listing[str, str] | None
    people: Listing[str, str] | None

    @classmethod
    def read(cls, folder: Path) -> _Lists:
        partition, people = folder / PARTITION, folder / IDENTITIES
        return cls(
            read_attributes(folder / ATTRIBUTES),
            read_mapping(folder / MAPPING),
            read_values(partition, "[012]", "0, 1 or 2") if partition.exists() else None,
            read_values(people, "[0-9]+", "a number") if people.exists() else None,
        )

    def portrait(self, number: int, parts: frozenset[str]) -> Portrait:
        """An image by what is annotated of it.

        Where there is a list of people, an image that it lacks is refused in every split: its person may be in another.

        Raises:
            BadItemError: A list has no line for it or one that cannot be used, or it has no mask.
        """
        attributes, original = self.attributes.of(number), self.originals.of(number)
        if not parts:
            raise BadItemError(f"{MASKS} has no mask of it")
        split = SPLITS[int(self.partition.of(original))] if self.partition else _split(original)
        return Portrait(number, split, self.people.of(original) if self.people else "", attributes, parts)


def _without_broken(found: Portraits) -> Portraits:
    """Take those out of the holdout of which a file cannot be read."""
    kept, problems = [], list(found.problems)
    for image in found.images:
        why = _fault(found.pictures(image)) if image.split != "train" else ""
        if why:
            problems.append(f"celeba-hq, image {image.number}: {why}")
        else:
            kept.append(image)
    return Portraits(found.folder, tuple(kept), tuple(problems))


def check_square(picture: Picture, height: int, width: int) -> None:
    """Refuse what is no portrait of CelebA-HQ; those of the training split are only listed before they are asked for."""
    if height != width:
        raise BadItemError(f"{picture.name}: {width}x{height} pixels, CelebA-HQ's are square")


def check_masks(masks: Sequence[Picture], *, verify: bool = False) -> None:
    """Refuse masks of one image that are not square and of one size: stretched to the image, they would not fit it.

    Args:
        masks: All masks of the image.
        verify: Whether to read all of them, as in `Picture.size`.

    Raises:
        BadItemError: They are not, or one cannot be read.
    """
    sizes = [mask.size(verify=verify) for mask in masks]
    for mask, (height, width) in zip(masks, sizes, strict=True):
        check_square(mask, height, width)
        if height != sizes[0][0]:
            of_first = f"{masks[0].name} has {sizes[0][1]}x{sizes[0][0]}"
            raise BadItemError(f"{mask.name}: {width}x{height} pixels, and {of_first}; they must be of one size")


def _fault(pictures: Sequence[Picture]) -> str:
    """What is wrong with an image or a mask of it; empty if nothing is. The image is not decoded: thousands are listed."""
    image, *masks = pictures
    try:
        check_square(image, *image.size(unturned=True))
        check_masks(masks, verify=True)
    except BadItemError as problem:
        return str(problem)
    return ""


def _without_leaks(images: list[Portrait], problems: list[str]) -> tuple[tuple[Portrait, ...], tuple[str, ...]]:
    """Take those out of the holdout whose person is in another split too, where identities are known."""
    trained = {image.identity for image in images if image.split == "train" and image.identity}
    kept = []
    for image in images:
        if image.split != "train" and image.identity in trained:
            problems.append(f"celeba-hq, image {image.number}: person {image.identity} is in the training split too")
        else:
            kept.append(image)
    return tuple(kept), tuple(problems)


def _split(original: str) -> str:
    number = image_number(original)
    assert number is not None  # a mapping has no other names
    return "train" if number < FIRST_VAL else "val" if number < FIRST_TEST else "test"


def _parts(folder: Path) -> dict[int, frozenset[str]]:
    """Image number → the parts that have a mask."""
    found: dict[int, set[str]] = {}
    for path in folder.glob("*/*.png"):
        name, _, part = path.stem.partition("_")
        number = image_number(name)
        if number is None or name != f"{number:05d}" or path.parent.name != str(number // PER_FOLDER):
            continue  # a copy, or another's
        if part in PARTS:
            found.setdefault(number, set()).add(part)
    return {number: frozenset(parts) for number, parts in found.items()}

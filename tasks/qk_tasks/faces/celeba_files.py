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

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qk_bench.errors import UsageError
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
    """The images of a folder, in order of number, and one line for each that cannot be used."""

    folder: Path
    images: tuple[Portrait, ...]
    problems: tuple[str, ...]

    def image_path(self, number: int) -> Path:
        """Where an image is."""
        return self.folder / IMAGES / f"{number}.jpg"

    def mask_path(self, number: int, part: str) -> Path:
        """Where the mask of a part is."""
        return self.folder / MASKS / str(number // PER_FOLDER) / f"{number:05d}_{part}.png"

    def files(self, portrait: Portrait) -> list[Path]:
        """The image of a portrait, then its masks."""
        masks = (self.mask_path(portrait.number, part) for part in sorted(portrait.parts))
        return [self.image_path(portrait.number), *masks]


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
    attributes = _attributes(folder / ATTRIBUTES)
    originals = _mapping(folder / MAPPING)
    splits, people = _table(folder / PARTITION), _table(folder / IDENTITIES)
    there = {int(path.stem) for path in (folder / IMAGES).glob("*.jpg") if path.stem.isdigit()}
    parts = _parts(folder / MASKS)
    problems, images = [], []
    for number in sorted(attributes):
        why = ""
        if number not in there:
            why = f"{IMAGES}/{number}.jpg is missing"
        elif number not in originals:
            why = f"{MAPPING} has no line for it"
        elif number not in parts:
            why = f"{MASKS} has no mask of it"
        if why:
            problems.append(f"celeba-hq, image {number}: {why}")
            continue
        original = originals[number]
        images.append(
            Portrait(
                number,
                _split(original, splits, folder),
                people.get(original, ""),
                attributes[number],
                parts[number],
            )
        )
    return _without_broken(Portraits(folder, *_without_leaks(images, problems)))


def _without_broken(found: Portraits) -> Portraits:
    """Take those out of the holdout of which a file cannot be read."""
    kept, problems = [], list(found.problems)
    for image in found.images:
        why = _fault(found.files(image)) if image.split != "train" else ""
        if why:
            problems.append(f"celeba-hq, image {image.number}: {why}")
        else:
            kept.append(image)
    return Portraits(found.folder, tuple(kept), tuple(problems))


def check_square(picture: Picture, height: int, width: int) -> None:
    """Refuse what is no portrait of CelebA-HQ; those of the training split are only listed before they are asked for."""
    if height != width:
        raise BadItemError(f"{picture.name}: {width}x{height} pixels, CelebA-HQ's are square")


def _fault(files: list[Path]) -> str:
    """What is wrong with an image or a mask of it; empty if nothing is. The image is not decoded: thousands are listed."""
    image, *masks = [Picture(path.name, path) for path in files]
    try:
        check_square(image, *image.size())
        for mask in masks:
            mask.size(verify=True)
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


def _split(original: str, splits: Mapping[str, str], folder: Path) -> str:
    if splits:
        value = splits.get(original, "")
        if value not in ("0", "1", "2"):
            raise UsageError(f"{folder / PARTITION} says {value or 'nothing'!r} of {original}", "expected 0, 1 or 2")
        return SPLITS[int(value)]
    number = int(original.partition(".")[0])
    return "train" if number < FIRST_VAL else "val" if number < FIRST_TEST else "test"


def _attributes(path: Path) -> dict[int, frozenset[str]]:
    """Image number → the attributes that are 1."""
    lines = _lines(path)
    names = lines[1].split() if len(lines) > 1 else []
    if not lines[0:1] or not lines[0].strip().isdigit() or not names:
        raise UsageError(f"{path} does not begin with a count and the names of attributes")
    found: dict[int, frozenset[str]] = {}
    for number, line in enumerate(lines[2:], start=3):
        name, *values = line.split()
        stem = name.partition(".")[0]
        if not stem.isdigit() or len(values) != len(names) or not set(values) <= {"-1", "1"}:
            raise UsageError(f"{path} line {number}: expected <n>.jpg and {len(names)} values of -1 or 1")
        if int(stem) in found:
            raise UsageError(f"{path} line {number}: image {stem} is there twice")
        found[int(stem)] = frozenset(n for n, value in zip(names, values, strict=True) if value == "1")
    return found


def _mapping(path: Path) -> dict[int, str]:
    """Image number → CelebA's file name."""
    found: dict[int, str] = {}
    for number, line in enumerate(_lines(path)[1:], start=2):
        cells = line.split()
        if len(cells) != 3 or not cells[0].isdigit() or not cells[2].partition(".")[0].isdigit():
            raise UsageError(f"{path} line {number}: expected idx, orig_idx and orig_file")
        found[int(cells[0])] = cells[2]
    return found


def _table(path: Path) -> dict[str, str]:
    """File name → value of one of CelebA's own two-column lists; empty where the list is absent."""
    if not path.is_file():
        return {}
    rows = [line.split() for line in _lines(path)]
    bad = next((number for number, row in enumerate(rows, start=1) if len(row) != 2), None)
    if bad is not None:
        raise UsageError(f"{path} line {bad}: expected a file name and a number")
    return {row[0]: row[1] for row in rows}


def _parts(folder: Path) -> dict[int, frozenset[str]]:
    """Image number → the parts that have a mask."""
    found: dict[int, set[str]] = {}
    for path in folder.glob("*/*.png"):
        number, _, part = path.stem.partition("_")
        if number.isdigit() and part in PARTS and path.parent.name == str(int(number) // PER_FOLDER):
            found.setdefault(int(number), set()).add(part)
    return {number: frozenset(parts) for number, parts in found.items()}


def _lines(path: Path) -> list[str]:
    return [line for line in path.read_text(encoding="utf-8", errors="replace").splitlines() if line.strip()]

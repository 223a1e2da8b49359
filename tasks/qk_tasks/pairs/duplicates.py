"""Which split a photograph belongs to, and which photographs are near-duplicates of each other.

The fingerprint is a difference hash (Krawetz 2013) of 64 bits along rows and 64 along columns: it survives compression,
resizing and small changes of tone. Two photographs at most `NEAR` bits apart count as the same.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

import numpy as np

from qk_tasks.pairs.vision import Image, shrink

NEAR = 7  # of 128 bits; with 8 bands of 16 bits two such photographs share at least one band
SPLITS = ("train", "val", "test")


def split_of(photo: str, seed: int, shares: Sequence[float]) -> str:
    """The split of a photograph: a function of its id alone, so that it stays when others come or go.

    Args:
        photo: Its id.
        seed: The data set's seed.
        shares: Of train, val and test; they sum to 1.
    """
    draw = int.from_bytes(hashlib.sha256(f"{seed}\0split\0{photo}".encode()).digest()[:8], "big") / 2**64
    if draw < shares[0]:
        return "train"
    return "val" if draw < shares[0] + shares[1] else "test"


def fingerprint(pixels: Image) -> int:
    """The 128-bit fingerprint of a photograph."""
    grey = np.asarray(pixels[..., 1] if pixels.ndim == 3 else pixels, np.float32)
    rows, columns = shrink(grey, 9, 8), shrink(grey, 8, 9)
    bits = np.concatenate([(rows[:, 1:] > rows[:, :-1]).ravel(), (columns[1:] > columns[:-1]).ravel()])
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def groups(prints: Mapping[str, Iterable[int]]) -> dict[str, str]:
    """For each photograph that has near-duplicates, the one that stands for its group (the least id).

    Args:
        prints: The fingerprints of each photograph; two photographs are near-duplicates if any two of theirs are near.
    """
    parent: dict[str, str] = {}

    def root(photo: str) -> str:
        while parent.get(photo, photo) != photo:
            parent[photo] = parent.get(parent[photo], parent[photo])
            photo = parent[photo]
        return photo

    def unite(one: str, other: str) -> None:
        a, b = sorted((root(one), root(other)))
        if a != b:
            parent[b] = a

    first: dict[int, str] = {}  # a photograph by its fingerprint: a thousand equal ones are compared as one
    for photo in sorted(prints):
        for value in prints[photo]:
            unite(first.setdefault(value, photo), photo)
    bands: dict[tuple[int, int], list[int]] = defaultdict(list)
    for value in first:
        for band in range(8):
            bands[band, value >> (16 * band) & 0xFFFF].append(value)
    for members in bands.values():
        if len(members) < 2:
            continue
        words = np.array([[value >> 64, value & (2**64 - 1)] for value in members], dtype=np.uint64)
        for i in range(len(members) - 1):
            apart = np.bitwise_count(words[i + 1 :] ^ words[i]).sum(axis=1)
            for j in np.flatnonzero(apart <= NEAR) + i + 1:
                unite(first[members[i]], first[members[int(j)]])
    linked = set(parent) | {root(photo) for photo in parent}
    return {photo: root(photo) for photo in prints if photo in linked}


def leaked(group: Mapping[str, str], split: Mapping[str, str]) -> set[str]:
    """The photographs to leave out so that no group lies in several splits: test keeps its own, then val."""
    members: dict[str, list[str]] = defaultdict(list)
    for photo, head in group.items():
        members[head].append(photo)
    out: set[str] = set()
    for photos in members.values():
        keep = max((split[photo] for photo in photos), key=SPLITS.index)
        out |= {photo for photo in photos if split[photo] != keep}
    return out

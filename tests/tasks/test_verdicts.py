"""A verifier that decides otherwise has another version: runs that two versions judged are never put side by side."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from types import ModuleType

import numpy as np
import pytest
from numpy.typing import NDArray
from qk_tasks import faces, photo, scenes
from qk_tasks.faces import verifier as faces_verifier
from qk_tasks.pairs import verifier as pairs_verifier
from qk_tasks.pairs.suite import DatasetSuite
from qk_tasks.photo import verifier as photo_verifier
from qk_tasks.scenes import edits, fitting, verifier, world

from qk_bench.interfaces import Suite

# Of the thresholds by name, and of the verdicts on `probes` of an item of each task. Whoever has to change one changes
# the verifier: raise the suite's `verifier_version` with it, or results of the two will be compared as if one had judged
# them. Verdicts alone would not do: most thresholds can move by a quarter and change none of these.
GOLDEN = {
    "scenes": ("1", "f528a45e4443a0d0", "88f02f11a5083ac4"),
    "photo": ("1", "1fd888b18a9df164", "52097f132d8f7e08"),
    "drawn-faces": ("1", "59079a9ebd1c8676", "667c9ed14e3a50c6"),
}
MODULES: dict[str, tuple[ModuleType, ...]] = {
    "scenes": (verifier, fitting, edits, world),
    "photo": (photo_verifier, pairs_verifier),
    "drawn-faces": (faces_verifier,),
    "dataset": (pairs_verifier,),
}


def thresholds(name: str) -> str:
    """A hash of the numbers that stand by name in a verifier's modules."""
    named = [
        {key: value for key, value in vars(module).items() if key.isupper() and isinstance(value, int | float)}
        for module in MODULES[name]
    ]
    return hashlib.sha256(json.dumps(named, sort_keys=True).encode()).hexdigest()[:16]


def test_thresholds_of_built_pairs_are_those_of_their_verifier_version() -> None:
    assert (DatasetSuite.verifier_version, thresholds("dataset")) == ("2", "4d322f48653284e5")


def probes(source: NDArray[np.uint8], target: NDArray[np.uint8]) -> Iterator[NDArray[np.uint8]]:
    """Outputs on the way from the source to the target, and targets with graded faults."""
    before, after = source.astype(float), target.astype(float)
    height, width = source.shape[:2]
    rows, columns = np.mgrid[:height, :width]
    grain = (rows * 7 + columns * 13) % 17 / 8 - 1  # -1 to 1, the same everywhere
    faulty = [before + (after - before) * share for share in (0, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1, 1.2)]
    faulty += [after + shift for shift in (-24, -12, 6, 18)]
    faulty += [after + grain[..., None] * strength for strength in (8, 16, 32)]
    faulty += [np.roll(after, pixels, axis=1) for pixels in (1, 2, 4)]
    for side in (2, 3, 4, 6, 10):
        faulty.append(after.copy())
        faulty[-1][height // 8 :, width // 8 :][:side, :side] = (200, 30, 160)
    for output in faulty:
        yield np.clip(np.round(output), 0, 255).astype(np.uint8)


@pytest.mark.parametrize("suite", [scenes.SUITE, photo.SUITE, faces.SUITE], ids=lambda suite: suite.name)
def test_verdicts_are_those_of_this_verifier_version(suite: Suite) -> None:
    decided = ""
    for task in suite.tasks.values():
        sample = task.sample("test", 1, 64)
        assert sample.source is not None
        assert sample.target is not None
        decided += "".join("01"[task.verify(sample, output).success] for output in probes(sample.source, sample.target))
    assert 0.1 < decided.count("1") / len(decided) < 0.9
    found = (suite.verifier_version, thresholds(suite.name), hashlib.sha256(decided.encode()).hexdigest()[:16])
    assert found == GOLDEN[suite.name]

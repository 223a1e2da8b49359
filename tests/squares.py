"""A small real suite: one coloured square on a grey ground, to be recoloured or removed, with an exact verifier."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import UsageError
from qk_bench.interfaces import Suite, Task
from qk_bench.records import RegionQuery, Sample, Verdict

COLOURS = {"red": (220, 30, 30), "green": (30, 180, 30), "blue": (30, 30, 220), "yellow": (230, 220, 40)}
GROUND = (128, 128, 128)


class Squares(Task):
    """Paints a square of one colour; the edit gives it another, or takes it away."""

    suite, version = "squares", "1"
    splits = ("train", "test")

    def __init__(self, name: str, operation: str, count: int | None = None) -> None:
        self.name, self.operations, self._count = name, (operation,), count

    def size(self, split: str) -> int | None:
        return self._count

    def sample(self, split: str, index: int, resolution: int) -> Sample:
        if not 16 <= resolution <= 256:
            raise UsageError(f"squares are drawn from 16 to 256 pixels a side, not {resolution}")
        rng = np.random.default_rng([len(split), index, self.name == "remove"])
        before, after = rng.choice(list(COLOURS), 2, replace=False)
        side = resolution // 4
        x, y = (int(v) for v in rng.integers(0, resolution - side, 2))
        mask = np.zeros((resolution, resolution), bool)
        mask[y : y + side, x : x + side] = True
        source = np.full((resolution, resolution, 3), GROUND, np.uint8)
        target = source.copy()
        source[mask] = COLOURS[before]
        if self.name == "recolour":
            target[mask] = COLOURS[after]
        box = tuple(v / resolution for v in (x, y, x + side, y + side))
        return Sample(
            id=f"{self.name}-{split}-{index:05d}",
            suite=self.suite,
            suite_version=self.version,
            task=self.name,
            operation=self.operations[0],
            split=split,
            index=index,
            cluster=f"{split}-{index // 2}",
            instruction=f"make the square {after}" if self.name == "recolour" else "remove the square",
            width=resolution,
            height=resolution,
            source=source,
            target=target,
            edit_mask=mask,
            region=RegionQuery(box=box, point=((box[0] + box[2]) / 2, (box[1] + box[3]) / 2), mask=mask),
            source_caption=f"a {before} square",
            target_caption=f"a {after} square" if self.name == "recolour" else "nothing",
            source_scene={"colour": str(before)},
            target_scene={"colour": str(after) if self.name == "recolour" else None},
        )

    def verify(self, sample: Sample, image: NDArray[np.uint8]) -> Verdict:
        from qk_bench.images import resample

        image = resample(image, sample.width, sample.height)
        off = np.abs(image.astype(int) - sample.target.astype(int)).max(axis=2) > 8
        return Verdict(success=not off.any(), reason=f"{off.mean():.0%} of the pixels are wrong" if off.any() else "")


class SquaresSuite(Suite):
    name, version = "squares", "1"
    tasks: ClassVar = {"recolour": Squares("recolour", "recolour"), "remove": Squares("remove", "removal", count=40)}
    groups: ClassVar = {"edit-squares": ("recolour", "remove")}

    def digest(self) -> str:
        return hashlib.sha256(Path(__file__).read_bytes()).hexdigest()


SUITE = SquaresSuite()

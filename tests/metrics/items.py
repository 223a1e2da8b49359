"""Scored items for the tests of metrics."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from qk_bench.interfaces import Scored, Task
from qk_bench.records import Sample, Verdict


class AnyTask(Task):
    """A task without samples of its own, for metrics that do not ask it anything."""

    name = suite = "test"
    version = "1"

    def sample(self, split: str, index: int, resolution: int) -> Sample:
        """Not asked for."""
        raise LookupError(split, index, resolution)

    def verify(self, sample: Sample, image: NDArray[np.uint8]) -> Verdict:
        """Not asked for."""
        raise LookupError(sample.id)


def scored(image: NDArray[np.uint8], index: int = 0, seed: int = 0, cluster: str = "", **fields: Any) -> Scored:
    """An output beside a sample with the given fields (source, target, edit_mask)."""
    height, width = image.shape[:2]
    sample = Sample(
        id=f"s{index}",
        suite="test",
        suite_version="1",
        task="test",
        operation="test",
        split="test",
        index=index,
        cluster=cluster or f"c{index}",
        instruction="",
        width=width,
        height=height,
        **fields,
    )
    return Scored(sample, image, seed, AnyTask(), image)

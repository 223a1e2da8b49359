"""Editors of known strength: they see the answer and give it with a known chance, else something wrong."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from qk_bench.interfaces import Failure, Model
from qk_bench.records import ModelCard, Request


class Editor(Model):
    """Gives the answer with a chance of `strength`, declines now and then, else spoils it."""

    name: ClassVar[str] = "editor"
    strength: ClassVar[float] = 0.5
    declines: ClassVar[float] = 0.0

    def __init__(self, version: str = "1") -> None:
        self.card = ModelCard(
            name=self.name,
            version=version,
            weights="ab" * 32,
            arguments={"num_inference_steps": 20},
            description="Stand-in for tests.",
            batch_size=4,
            privileged=True,
            parameters=12_000_000,
        )

    def generate(self, requests: Sequence[Request]) -> list[NDArray[np.uint8] | Failure]:
        """The target, the source, the target with inverted colours, or a refusal."""
        return [self._one(request) for request in requests]

    def _one(self, request: Request) -> NDArray[np.uint8] | Failure:
        sample = request.privileged
        assert sample is not None
        assert sample.source is not None
        assert sample.target is not None
        draw = np.random.default_rng([request.seed % (1 << 32), len(self.name)]).random(3)
        if draw[0] < self.declines:
            return Failure("refused", "declined by policy")
        if draw[1] < self.strength:
            return sample.target
        if draw[2] < 0.5:
            return sample.source
        spoiled = sample.target.copy()
        spoiled[sample.edit_mask] = 255 - spoiled[sample.edit_mask]
        return spoiled


class Weak(Editor):
    """Right three times in ten."""

    name, strength, declines = "weak", 0.3, 0.1


class Strong(Editor):
    """Right nine times in ten."""

    name, strength = "strong", 0.9

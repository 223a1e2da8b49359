"""The controls: what every result is read against.

`no-op` is the floor of every edit, `oracle` the ceiling, `noise` a model that answers without looking. A suite on
which the oracle does not succeed, or the no-op does, is broken.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qk_bench.interfaces import Failure, Model
from qk_bench.records import ModelCard, Request

BATCH = 16  # controls cost nothing; larger batches only save messages between processes


class NoOp(Model):
    """Returns the source image unchanged."""

    def __init__(self) -> None:
        self.card = ModelCard(
            name="no-op",
            version="1",
            description="Control: returns the source image unchanged.",
            kinds=("edit",),
            batch_size=BATCH,
            deterministic=True,
        )

    def generate(self, requests: Sequence[Request]) -> list[NDArray[np.uint8] | Failure]:
        """The source of each request."""
        return [Failure("model_error", "no source image") if r.source is None else r.source for r in requests]


class Oracle(Model):
    """Returns the target image: the answer itself."""

    def __init__(self) -> None:
        self.card = ModelCard(
            name="oracle",
            version="1",
            description="Control: returns the target image; it sees the answer.",
            kinds=("edit", "generate", "compose"),
            batch_size=BATCH,
            deterministic=True,
            privileged=True,
        )

    def generate(self, requests: Sequence[Request]) -> list[NDArray[np.uint8] | Failure]:
        """The target of each request."""
        return [
            Failure("missing", "the sample has no target image")
            if request.privileged is None or request.privileged.target is None
            else request.privileged.target
            for request in requests
        ]


class Noise(Model):
    """Returns uniform noise drawn from the request's seed."""

    def __init__(self) -> None:
        self.card = ModelCard(
            name="noise",
            version="1",
            description="Control: returns uniform noise.",
            kinds=("edit", "generate", "compose"),
            batch_size=BATCH,
        )

    def generate(self, requests: Sequence[Request]) -> list[NDArray[np.uint8]]:
        """Noise of the requested size for each request."""
        return [
            np.random.default_rng(r.seed).integers(0, 256, (r.height, r.width, 3), dtype=np.uint8) for r in requests
        ]

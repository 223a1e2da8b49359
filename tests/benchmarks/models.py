"""Models of a known cost, to measure what the harness adds."""

from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qk_bench.interfaces import Model
from qk_bench.records import ModelCard, Request


class Sleeping(Model):
    """Takes 20 ms an image without using a core, as a model on an accelerator or behind an API does."""

    seconds = 0.020

    def __init__(self) -> None:
        self.card = ModelCard(name=type(self).__name__.lower(), version="1", batch_size=1)

    def generate(self, requests: Sequence[Request]) -> list[NDArray[np.uint8]]:
        time.sleep(self.seconds * len(requests))
        return [self._edit(request) for request in requests]

    def _edit(self, request: Request) -> NDArray[np.uint8]:
        assert request.source is not None
        return request.source ^ np.uint8(request.seed % 251)  # every output is another image


class Busy(Sleeping):
    """Takes 20 ms an image of one core."""

    def generate(self, requests: Sequence[Request]) -> list[NDArray[np.uint8]]:
        end = time.perf_counter() + self.seconds * len(requests)
        while time.perf_counter() < end:
            pass
        return [self._edit(request) for request in requests]

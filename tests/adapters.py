"""Editors as their users write them: by function, hungry for memory, black, counting, and one that gives up."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from qk_bench.errors import UnusableModelError
from qk_bench.interfaces import Failure, Model
from qk_bench.plugins import load_model
from qk_bench.records import ModelCard, Request


def stripe(request: Request, height: int = 2, grey: int = 200) -> Any:
    """Draws a grey stripe under noise of the request's seed."""
    if request.source is None:
        return Failure("missing", "no source")
    image = request.source.copy()
    image[:height] = np.random.default_rng(request.seed).integers(0, grey, image[:height].shape)
    return image


def by_argument(argument: str = "") -> Model:
    """A bare name gives one class, a name with an argument another."""
    return load_model(f"precomputed:{argument}") if argument else load_model("no-op")


class Painter(Model):
    """Returns the source with a few pixels that depend on the seed."""

    def __init__(self, batch_size: int = 1, name: str = "painter") -> None:
        self.card = ModelCard(name=name, version="1", batch_size=batch_size)

    def generate(self, requests: Sequence[Request]) -> list[Any]:
        return [self.paint(request) for request in requests]

    def paint(self, request: Request) -> Any:
        return stripe(request, height=1)


class Hungry(Painter):
    """Cannot hold more than `fits` requests at a time, and says so as its library does."""

    def __init__(self, fits: int = 3, batch_size: int = 8, says: str = "memory") -> None:
        super().__init__(batch_size=batch_size, name="hungry")
        self.fits, self.says = fits, says

    def generate(self, requests: Sequence[Request]) -> list[Any]:
        if len(requests) > self.fits:
            if self.says == "memory":
                np.empty(1 << 60, np.uint8)  # numpy's own MemoryError
            if self.says == "torch":
                import torch

                torch.empty(1 << 60, dtype=torch.uint8)  # torch's own RuntimeError
            raise RuntimeError("CUDA error: out of memory")
        return super().generate(requests)


class Unlit(Painter):
    """Casts NaN to pixels on every sample but the first."""

    def paint(self, request: Request) -> Any:
        image = super().paint(request)
        if request.sample_id.endswith("0"):
            return image
        with np.errstate(invalid="ignore"):
            return np.full(image.shape, np.nan, np.float32).astype(np.uint8)


class Metered(Painter):
    """Counts calls, and cannot go on after `calls`; seeds mean nothing to it."""

    def __init__(self, calls: int = 1000) -> None:
        super().__init__()
        self.calls, self.made = calls, 0
        self.card = ModelCard(name="metered", version="1", unseeded=True)

    def usage(self) -> Mapping[str, float]:
        return {"calls": self.made}

    def generate(self, requests: Sequence[Request]) -> list[Any]:
        if self.made >= self.calls:
            raise UnusableModelError("the credit is used up", "buy more")
        self.made += 1
        return super().generate(requests)


class Miscounting(Painter):
    """Tells what it used in `way`s that no manifest can hold."""

    def __init__(self, way: str) -> None:
        super().__init__()
        self.way = way
        self.card = ModelCard(name="miscounting", version="1")

    def usage(self) -> Any:
        if self.way == "raise":
            raise ValueError("no meter")
        told = {"nan": {"cost": float("nan"), "calls": 1}, "text": {"cost": "3 $"}, "none": None}
        return told[self.way]


class InPlace(Painter):
    """Draws on the source that it was handed."""

    def __init__(self, batch_size: int = 1) -> None:
        super().__init__(batch_size)
        self.card = ModelCard(name="in-place", version="1", batch_size=batch_size, deterministic=True)

    def paint(self, request: Request) -> Any:
        assert request.source is not None
        image = request.source
        image //= 2
        return image

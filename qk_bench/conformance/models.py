"""Checks of a model: right images, reproducible, and independent of what else is in the batch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from qk_bench.conformance.checks import Check, attempt
from qk_bench.interfaces import Failure, Model
from qk_bench.records import ModelCard, Request, Sample
from qk_bench.run.plan import make_request
from qk_bench.run.worker import answer

Output = NDArray[np.uint8]


def check_model(model: Model, samples: Sequence[Sample]) -> list[Check]:
    """Check a model on a few samples.

    Args:
        model: The model; `setup` is called here.
        samples: At least two samples of one size, of a kind the model does.

    Returns:
        The checks in order; those after a failed setup are left out.
    """
    if len({(sample.width, sample.height) for sample in samples}) != 1 or len(samples) < 2:
        raise ValueError("check_model needs at least two samples of one size")
    setup = attempt("its weights load", "make setup() work in a fresh process", lambda: _setup(model))
    if not setup.passed:
        return [setup]
    return [setup, *_Checks(model, samples).all()]


def _setup(model: Model) -> str:
    if not isinstance(getattr(model, "card", None), ModelCard):
        return "the constructor does not set `card` to a ModelCard"
    model.setup()
    return ""


class _Checks:
    def __init__(self, model: Model, samples: Sequence[Sample]) -> None:
        self.model, self.card = model, model.card
        size = self.card.batch_size
        places = (list(samples) * size)[: max(size, 2)]
        self.first = [make_request(sample, self.card, 0) for sample in places]
        self.second = [make_request(sample, self.card, 1) for sample in places]

    def all(self) -> list[Check]:
        width, height = self.first[0].width, self.first[0].height
        seeded = [
            attempt("the same seed gives the same output", "draw all noise from request.seed", self._same_seed),
            attempt(
                "another seed gives another output, unless declared deterministic", self._seed_mend(), self._other_seed
            ),
            attempt(
                "outputs do not depend on the rest of the batch",
                "give each request a generator of its own, and avoid operations that mix the batch",
                self._neighbours,
            ),
        ]
        return [
            attempt("one output per request", "return as many outputs as requests, in order", self._counts),
            attempt("outputs are 8-bit RGB", "return (H, W, 3) uint8 arrays or RGB PIL images", self._modes),
            attempt(f"outputs are {width}x{height} as requested", "return request.width x request.height", self._sizes),
            attempt("requests are left unchanged", "copy an image before drawing on it", self._inputs),
            *([] if self.card.unseeded else seeded),
            *(attempt(own.name, own.mend, own.find_fault) for own in self.model.own_checks(self.first)),
        ]

    def _seed_mend(self) -> str:
        if self.card.deterministic:
            return "the card says deterministic=True: do not use the seed"
        return "draw noise from request.seed, or set deterministic=True in the card"

    def _raw(self, requests: Sequence[Request]) -> list[object]:
        size = self.card.batch_size
        outputs: list[object] = []
        for start in range(0, len(requests), size):
            batch = list(requests[start : start + size])
            batch += [batch[-1]] * (size - len(batch))
            outputs += list(self.model.generate(batch))[: len(requests) - start]
        return outputs

    def _images(self, requests: Sequence[Request]) -> list[Output]:
        images = []
        for request, value in zip(requests, self._raw(requests), strict=True):
            checked = answer(value)
            if checked.pixels is None:
                raise ValueError(f"{request.sample_id}: {checked.status}: {checked.detail}")
            images.append(checked.pixels)
        return images

    def _counts(self) -> str:
        size = self.card.batch_size
        got = len(list(self.model.generate(self.first[:1] * size)))
        return "" if got == size else f"{got} outputs for {size} requests"

    def _modes(self) -> str:
        for value in self._raw(self.first):
            if isinstance(value, Failure):
                return f"{value.status}: {value.detail}"
            checked = answer(value)
            if checked.pixels is None:
                return checked.detail
        return ""

    def _sizes(self) -> str:
        for request, image in zip(self.first, self._images(self.first), strict=True):
            if image.shape[:2] != (request.height, request.width):
                return f"{request.sample_id}: {image.shape[1]}x{image.shape[0]}; it is resampled for the metrics"
        return ""

    def _inputs(self) -> str:
        before = [request.model_dump_json() for request in self.first]
        self._raw(self.first)
        changed = [r.sample_id for r, old in zip(self.first, before, strict=True) if r.model_dump_json() != old]
        return f"changed: {', '.join(changed)}" if changed else ""

    def _same_seed(self) -> str:
        once = self._images(self.first)
        self._images(self.second)  # something else in between: state must not carry over
        return _differing(self.first, once, self._images(self.first))

    def _other_seed(self) -> str:
        one, other = self._images(self.first), self._images(self.second)
        if self.card.deterministic:
            return _differing(self.first, one, other)
        same = all(np.array_equal(a, b) for a, b in zip(one, other, strict=True))
        return "outputs under seeds 0 and 1 are equal" if same else ""

    def _neighbours(self) -> str:
        size = self.card.batch_size
        together = self._images(self.first)
        alone = [self._images([request] * size)[0] for request in self.first]
        turned = self._images(self.first[::-1])[::-1]
        return _differing(self.first, together, alone) or _differing(self.first, together, turned)


def _differing(requests: Sequence[Request], one: Sequence[Output], other: Sequence[Output]) -> str:
    for request, a, b in zip(requests, one, other, strict=True):
        if a.shape != b.shape:
            return f"{request.sample_id}: sizes differ"
        if not np.array_equal(a, b):
            off = np.abs(a.astype(int) - b.astype(int))
            return f"{request.sample_id}: {(off.max(axis=2) > 0).mean():.1%} of the pixels differ, by up to {off.max()}"
    return ""

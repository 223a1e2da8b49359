"""The process a model runs in.

Everything a model returns is checked here, so that the main process only ever sees arrays and named failures.

Messages in: `Load`, then `Batch`es. Messages out: `Loaded` or `LoadFailed`, then `Started` and `Answered` per batch.
"""

from __future__ import annotations

import gc
import math
import re
import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, get_args

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import QKBenchError, UnusableModelError, folded, one_line
from qk_bench.images import ImageProblemError, as_pixels
from qk_bench.interfaces import Failure, FailureStatus, Model
from qk_bench.plugins import load_model
from qk_bench.records import ModelCard, Request, Status
from qk_bench.run.channel import Parent

_MEMORY: Final = re.compile(r"out of memory|can't allocate memory|ALLOC_FAILED|RESOURCE_EXHAUSTED", re.IGNORECASE)


@dataclass(frozen=True)
class Load:
    """Make the model and load its weights."""

    ref: str
    arguments: Mapping[str, Any]
    card: ModelCard
    batch_size: int
    """Requests to a call: the card's, or fewer where the model is known to run out of memory."""


@dataclass(frozen=True)
class Loaded:
    """The model is ready."""

    seconds: float


@dataclass(frozen=True)
class LoadFailed:
    """The model cannot be used, or cannot be used any longer."""

    reason: str


@dataclass(frozen=True)
class Batch:
    """Requests to answer; at most as many as the model's batch size."""

    number: int
    requests: tuple[Request, ...]


@dataclass(frozen=True)
class Started:
    """The model was handed a batch."""

    number: int


@dataclass(frozen=True)
class Answer:
    """What a model made of one request: pixels, or a named failure."""

    status: Status
    pixels: NDArray[np.uint8] | None = None
    detail: str = ""


@dataclass(frozen=True)
class Answered:
    """The answers to a batch; or the one failure of the whole of it."""

    number: int
    answers: tuple[Answer, ...] | Answer
    seconds: float
    peak_memory_bytes: int
    device_peak_memory_bytes: int | None
    batch_size: int
    """Requests to a call, padding included; fewer than the batch has where the model ran out of memory."""
    usage: Mapping[str, float]
    """What this process has used so far, as the model tells."""


def main() -> None:
    """Load one model and answer batches until the parent has no more."""
    parent = Parent()
    load: Load = parent.receive()
    started = time.perf_counter()
    try:
        model = load_model(load.ref, load.arguments)
        if model.card != load.card:
            raise QKBenchError(
                "its card is not the same in two processes", "a card must depend on arguments and files only"
            )
        model.setup()
    except (Exception, SystemExit) as error:
        parent.send(LoadFailed(str(error) if isinstance(error, QKBenchError) else one_line(error)))
        return
    parent.send(Loaded(time.perf_counter() - started))
    size = load.batch_size
    while True:
        batch: Batch = parent.receive()
        parent.send(Started(batch.number))
        begun = time.perf_counter()
        try:
            result, size = _generate(model, batch.requests, size)
        except UnusableModelError as error:
            parent.send(LoadFailed(str(error)))
            return
        seconds = time.perf_counter() - begun
        answers: tuple[Answer, ...] | Answer
        if isinstance(result, Answer):
            answers = result
        else:
            answers = tuple(
                answer(value, black=_may_be_black(load.card, request))
                for value, request in zip(result, batch.requests, strict=True)
            )
        parent.send(Answered(batch.number, answers, seconds, peak_memory(), _device_peak_memory(), size, _usage(model)))


def _generate(model: Model, requests: tuple[Request, ...], size: int) -> tuple[list[Any] | Answer, int]:
    """Answer requests in calls of `size`; when memory runs out all of them again, with half the size.

    Returns:
        An output for each request, or the one failure of all of them; and the size that was possible.
    """
    while True:
        try:
            return _in_calls_of(size, model, requests), size
        except UnusableModelError:
            raise
        except ImageProblemError as problem:
            return Answer("invalid_output", detail=folded(str(problem))), size
        except (Exception, SystemExit) as error:
            if not _out_of_memory(error):
                return Answer("model_error", detail=one_line(error)), size
            if size == 1:
                return Answer("model_error", detail=folded(f"out of memory, even one at a time: {one_line(error)}")), 1
        size //= 2
        _free_memory()  # only here, when the exception no longer holds what filled the memory


def _in_calls_of(size: int, model: Model, requests: tuple[Request, ...]) -> list[Any] | Answer:
    images: list[Any] = []
    for start in range(0, len(requests), size):
        call = requests[start : start + size]
        made = list(model.generate(tuple(_with_own_images(r) for r in call + call[-1:] * (size - len(call)))))
        if len(made) != size:
            return Answer("invalid_output", detail=f"returned {len(made)} outputs for {size} requests")
        images += made[: len(call)]  # what answers the padding is dropped
    return images


def _with_own_images(request: Request) -> Request:
    """The request with images that no other one shares: padding and the seeds of one sample repeat them.

    A model that draws on its source would else draw on one image several times, how often depends on the batch.
    """
    references = tuple(image.copy() for image in request.references)
    source = None if request.source is None else request.source.copy()
    return request.model_copy(update={"source": source, "references": references})


def _usage(model: Model) -> dict[str, float]:
    """What the model says it has used, as far as it can be summed: answers are worth more than their book-keeping."""
    try:
        told = {folded(str(name)): float(amount) for name, amount in model.usage().items()}
    except Exception as error:
        print(f"usage cannot be read: {one_line(error)}", file=sys.stderr)
        return {}
    return {name: amount for name, amount in told.items() if math.isfinite(amount)}  # JSON has no others


def _out_of_memory(error: BaseException) -> bool:
    """Whether this, or what caused it, says that memory ran out: Python, numpy, torch (CPU, CUDA, MPS) or XLA."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError) or type(cause).__name__ == "OutOfMemoryError":
            return True
        if isinstance(cause, RuntimeError) and _MEMORY.search(str(cause)):
            return True
        cause = cause.__cause__
    return False


def _free_memory() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def _may_be_black(card: ModelCard, request: Request) -> bool:
    """Whether a wholly black output can be meant: an answer that was given, or an edit of a black image."""
    return card.privileged or (request.source is not None and not request.source.any())


def answer(value: object, *, black: bool = False) -> Answer:
    """Check one thing a model returned.

    Args:
        value: What it returned.
        black: Whether a wholly black image is accepted. Otherwise it is taken for what it mostly is: NaN that was
            cast to an image.
    """
    if isinstance(value, Failure):
        if value.status not in get_args(FailureStatus):
            return Answer("invalid_output", detail=folded(f"returned a Failure of status {value.status!r}"))
        return Answer(value.status, detail=folded(str(value.detail)))
    try:
        pixels = as_pixels(value)
        if not black and not pixels.any():
            return Answer("invalid_output", detail="every pixel is black: NaN becomes this when it is cast to an image")
        return Answer("ok", pixels)
    except ImageProblemError as problem:
        return Answer("invalid_output", detail=str(problem))
    except Exception as error:  # an image object that fails when its pixels are read
        return Answer("invalid_output", detail=one_line(error))


def peak_memory() -> int:
    """Largest resident size of this process so far, in bytes."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _device_peak_memory() -> int | None:
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_available():
        return None
    return int(torch.cuda.max_memory_allocated())

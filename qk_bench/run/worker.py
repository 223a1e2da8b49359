"""The process a model runs in.

Everything a model returns is checked here, so that the main process only ever sees arrays and named failures.

Messages in: `Load`, then `Batch`es. Messages out: `Loaded` or `LoadFailed`, then `Started` and `Answered` per batch.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, get_args

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import QKBenchError, folded, one_line
from qk_bench.images import ImageProblemError, as_pixels
from qk_bench.interfaces import Failure, FailureStatus, Model
from qk_bench.plugins import load_model
from qk_bench.records import ModelCard, Request, Status
from qk_bench.run.channel import Parent


@dataclass(frozen=True)
class Load:
    """Make the model and load its weights."""

    ref: str
    arguments: Mapping[str, Any]
    card: ModelCard


@dataclass(frozen=True)
class Loaded:
    """The model is ready."""

    seconds: float


@dataclass(frozen=True)
class LoadFailed:
    """The model cannot be used."""

    reason: str


@dataclass(frozen=True)
class Batch:
    """Requests to answer; as many as the model's batch size."""

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
    while True:
        batch: Batch = parent.receive()
        parent.send(Started(batch.number))
        begun = time.perf_counter()
        result = _generate(model, batch.requests)
        seconds = time.perf_counter() - begun
        answers = result if isinstance(result, Answer) else tuple(map(answer, result))
        parent.send(Answered(batch.number, answers, seconds, peak_memory(), _device_peak_memory()))


def _generate(model: Model, requests: tuple[Request, ...]) -> list[Any] | Answer:
    try:
        images = list(model.generate(requests))
    except ImageProblemError as problem:
        return Answer("invalid_output", detail=folded(str(problem)))
    except (Exception, SystemExit) as error:
        return Answer("model_error", detail=one_line(error))
    if len(images) != len(requests):
        return Answer("invalid_output", detail=f"returned {len(images)} outputs for {len(requests)} requests")
    return images


def answer(value: object) -> Answer:
    """Check one thing a model returned."""
    if isinstance(value, Failure):
        if value.status not in get_args(FailureStatus):
            return Answer("invalid_output", detail=folded(f"returned a Failure of status {value.status!r}"))
        return Answer(value.status, detail=folded(str(value.detail)))
    try:
        return Answer("ok", as_pixels(value))
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

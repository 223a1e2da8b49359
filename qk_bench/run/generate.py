"""Feeds one model's worker process and turns what happens there into outcomes.

The worker holds two batches: the one it works on and the next. A batch that fails as a whole (an exception, a crash, a
hang, a wrong number of outputs) says nothing about which request is guilty, so its requests are tried again one at a
time, each padded by repetition to the same batch shape; a batch that holds a single request is the verdict on it.
Only running out of memory changes that shape: the worker halves it, says so, and a restarted worker keeps to it.
"""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from qk_bench.manifest import ModelSpec
from qk_bench.records import Request
from qk_bench.run.channel import Child, Loop
from qk_bench.run.plan import Segment
from qk_bench.run.worker import Answer, Answered, Batch, Load, Loaded, LoadFailed, Started

LOAD_SECONDS: Final = 1800.0
"""How long a model may take to load its weights. Generous: it only keeps a hang from lasting for ever."""
DEPTH: Final = 2
"""Batches in the worker's hands at once: one to work on, one waiting in the pipe."""


@dataclass(frozen=True)
class Item:
    """A request on its way to the model, and where its outcome belongs."""

    segment: Segment
    position: int
    request: Request
    key: str


@dataclass(frozen=True)
class Cost:
    """What a batch cost."""

    seconds: float
    requests: int
    peak_memory_bytes: int | None
    device_peak_memory_bytes: int | None


@dataclass
class _Sent:
    number: int
    items: list[Item]
    started: float | None = None


Emit = Callable[[Item, Answer, Cost], None]


class Generation:
    """The requests of one model, from its queue to their answers.

    Args:
        loop: The loop its worker is watched by.
        model: The model.
        items: Its requests; drawn when the worker has room.
        emit: Called once for each request.
        timeout: Seconds a request may take; a batch may take as many times that as it has places.
        log: Where the worker's output goes.
        batch_size: Requests to a call, where an earlier session found the card's to be too many.
    """

    def __init__(
        self,
        loop: Loop,
        model: ModelSpec,
        items: Iterator[Item],
        emit: Emit,
        timeout: float | None,
        log: Path,
        batch_size: int | None = None,
    ) -> None:
        self._loop, self._model, self._items, self._emit = loop, model, items, emit
        self._size = model.card.batch_size
        self._limit = None if timeout is None else timeout * self._size
        self._timeout, self._log = timeout, log
        self._next: Item | None = next(items, None)
        self._retries: deque[list[Item]] = deque()
        self._sent: deque[_Sent] = deque()
        self._number = 0
        self._child: Child | None = None
        self._loaded = False
        self._launched = 0.0
        self._deaths = 0  # since the last answer, outside of any batch
        self.batch_size = batch_size or self._size
        """Requests to a call; less than the card's after the model ran out of memory."""
        self.at_size: Counter[int] = Counter()
        """How many requests were answered in calls of each size."""
        self._used: Counter[str] = Counter()  # by workers that are gone
        self._using: Mapping[str, float] = {}
        self.load_seconds: float | None = None
        self.load_failure: str | None = None
        """Why the model cannot be used; its remaining requests then have no outcome."""

    @property
    def usage(self) -> dict[str, float]:
        """What the model says it used, over all its workers."""
        return {
            name: self._used[name] + self._using.get(name, 0) for name in dict.fromkeys([*self._used, *self._using])
        }

    @property
    def finished(self) -> bool:
        """Whether every request has been answered, or none can be any more."""
        return self.load_failure is not None or not (self._next or self._retries or self._sent)

    def feed(self) -> bool:
        """Hand the worker one more batch if it has room. Returns whether there may be room for another."""
        if self.finished or len(self._sent) >= DEPTH or not (self._next or self._retries):
            return False
        if self._child is None:
            self._start()
        self._send(self._retries.popleft() if self._retries else self._draw())
        return len(self._sent) < DEPTH

    def patience(self) -> float | None:
        """Seconds until loading, or the batch in work, has used up its time; None if nothing is limited."""
        if self._child is not None and not self._loaded:
            return max(0.0, self._launched + LOAD_SECONDS - time.monotonic())
        if self._limit is None or not self._sent or self._sent[0].started is None:
            return None
        return max(0.0, self._sent[0].started + self._limit - time.monotonic())

    def check_time(self) -> None:
        """Kill the worker if it has used up its time."""
        if self.patience() != 0.0:
            return
        if not self._loaded:
            self._give_up(f"not ready within {LOAD_SECONDS:g} s")
        else:
            self.stop()
            self._fail(self._sent.popleft(), Answer("timeout", detail=f"no answer within {self._timeout:g} s"))
            self._requeue()

    def stop(self) -> None:
        """Kill the worker."""
        if self._child is not None:
            self._child.stop()
            self._child = None

    def _start(self) -> None:
        self._loaded, self._launched = False, time.monotonic()
        self._used, self._using = Counter(self.usage), {}
        self._child = Child(self._loop, "qk_bench.run.worker", self._log, self._on_message, self._on_exit)
        self._child.send(Load(self._model.ref, self._model.arguments, self._model.card, self.batch_size))

    def _draw(self) -> list[Item]:
        """The next requests that fit into one batch: of one size and one kind."""
        items: list[Item] = []
        while self._next is not None and len(items) < self._size:
            if items and _shape(self._next.request) != _shape(items[0].request):
                break
            items.append(self._next)
            self._next = next(self._items, None)
        return items

    def _send(self, items: list[Item]) -> None:
        assert self._child is not None
        self._number += 1
        self._sent.append(_Sent(self._number, items))
        self._child.send(Batch(self._number, tuple(item.request for item in items)))

    def _on_message(self, message: object) -> None:
        match message:
            case Loaded(seconds):
                self._loaded = True
                self.load_seconds = seconds
            case LoadFailed(reason):
                self._give_up(reason)
            case Started(number):
                assert number == self._sent[0].number
                self._sent[0].started = time.monotonic()
            case Answered(number, answers):
                sent = self._sent.popleft()
                assert number == sent.number
                self._deaths = 0
                self.batch_size, self._using = message.batch_size, message.usage
                cost = Cost(
                    message.seconds, len(sent.items), message.peak_memory_bytes, message.device_peak_memory_bytes
                )
                if isinstance(answers, Answer):
                    self._fail(sent, answers, cost)
                else:
                    for item, answer in zip(sent.items, answers, strict=True):
                        self._emit_counted(item, answer, cost)

    def _on_exit(self, reason: str) -> None:
        self._child = None
        if self._sent and self._sent[0].started is not None:
            self._fail(self._sent.popleft(), Answer("model_error", detail=reason))
            self._requeue()
            return
        self._deaths += 1
        if self._loaded and self._deaths == 1:  # between two batches: no request is to blame
            self._requeue()
        else:
            self._give_up(reason)

    def _give_up(self, reason: str) -> None:
        self.load_failure = reason
        self.stop()

    def _fail(self, sent: _Sent, answer: Answer, cost: Cost | None = None) -> None:
        """A batch failed as a whole: the verdict on its only request, or one more try for each of several."""
        if len(sent.items) > 1:
            self._retries.extend([item] for item in sent.items)
            return
        if cost is None:
            seconds = 0.0 if sent.started is None else time.monotonic() - sent.started
            cost = Cost(seconds, 1, None, None)
        self._emit_counted(sent.items[0], answer, cost)

    def _emit_counted(self, item: Item, answer: Answer, cost: Cost) -> None:
        self.at_size[self.batch_size] += 1
        self._emit(item, answer, cost)

    def _requeue(self) -> None:
        """What the dead worker had not begun goes to the next one."""
        while self._sent:
            self._retries.append(self._sent.popleft().items)


def _shape(request: Request) -> tuple[object, ...]:
    references = tuple(reference.shape for reference in request.references)
    source = None if request.source is None else request.source.shape
    return request.kind, request.width, request.height, source, references

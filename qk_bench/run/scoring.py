"""Keeps a few scoring processes busy with blocks of outcomes while the models generate."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path
from typing import Final

from qk_bench.errors import DamagedRunError, QKBenchError
from qk_bench.manifest import RunSpec
from qk_bench.run.channel import Child, Loop
from qk_bench.run.scorer import BlockScored, Open, ScoreBlock, ScoreSet, ScoringFailed, SetScored

ATTEMPTS: Final = 2
"""How often a job may take its process down before scoring is given up: once may be an accident from outside."""
SINGLE_THREADED: Final = dict.fromkeys(
    ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMEXPR_NUM_THREADS"), "1"
)
"""Processes are the parallelism, and the order of sums must not depend on how many cores there are."""

Job = ScoreBlock | ScoreSet


class ScorePool:
    """Scoring processes of one run.

    Args:
        loop: The loop they are watched by.
        workers: How many there are.
        spec: The run's spec.
        folder: The run's folder.
        on_scored: Called with each result.
    """

    def __init__(
        self,
        loop: Loop,
        workers: int,
        spec: RunSpec,
        folder: Path,
        on_scored: Callable[[BlockScored | SetScored], None],
    ) -> None:
        self._loop, self._spec, self._folder, self._on_scored = loop, spec, folder, on_scored
        self._waiting: deque[Job] = deque()
        self._attempts: dict[tuple[type[Job], int, int], int] = {}
        self._workers = [_Worker(self, number) for number in range(workers)]
        self.error: QKBenchError | None = None

    @property
    def backlog(self) -> int:
        """Jobs that are not done."""
        return len(self._waiting) + sum(len(worker.jobs) for worker in self._workers)

    @property
    def has_room(self) -> bool:
        """False once so much waits that generation should pause: what waits takes memory."""
        return self.backlog < 4 * len(self._workers)

    def submit(self, job: Job) -> None:
        """Queue a job."""
        self._waiting.append(job)
        self._assign()

    def check(self) -> None:
        """Raise what stopped scoring, if anything did."""
        if self.error is not None:
            raise self.error

    def _assign(self) -> None:
        while self._waiting:
            worker = min(self._workers, key=lambda w: len(w.jobs))
            if len(worker.jobs) >= 2:
                return
            worker.give(self._waiting.popleft())

    def scored(self, result: BlockScored | SetScored) -> None:
        """Pass a result on and hand out more work."""
        self._on_scored(result)
        self._assign()

    def died(self, jobs: list[Job], reason: str) -> None:
        """A process died at the first of its jobs: try again elsewhere, but not for ever."""
        if jobs:
            job = jobs[0]
            name = (type(job), job.segment, job.block if isinstance(job, ScoreBlock) else job.metric)
            self._attempts[name] = self._attempts.get(name, 0) + 1
            if self._attempts[name] >= ATTEMPTS:
                self.failed(QKBenchError(f"scoring stopped: {reason.replace('worker', 'scoring process')}"))
                return
        self._waiting.extendleft(reversed(jobs))
        self._assign()

    def failed(self, error: QKBenchError) -> None:
        """Scoring cannot go on; the first reason counts."""
        self.error = self.error or error

    def start(self, worker: _Worker) -> Child:
        """Start the process of a worker."""
        log = self._folder / "logs" / f"scoring-{worker.number}.log"
        child = Child(self._loop, "qk_bench.run.scorer", log, worker.on_message, worker.on_exit, SINGLE_THREADED)
        child.send(Open(self._spec, self._folder.absolute()))
        return child


class _Worker:
    def __init__(self, pool: ScorePool, number: int) -> None:
        self.pool, self.number = pool, number
        self.jobs: list[Job] = []
        self._child: Child | None = None

    def give(self, job: Job) -> None:
        self.jobs.append(job)
        if self._child is None:
            self._child = self.pool.start(self)
        self._child.send(job)

    def on_message(self, message: object) -> None:
        match message:
            case BlockScored() | SetScored():
                del self.jobs[0]
                self.pool.scored(message)
            case ScoringFailed(text, mend, damaged):
                self.pool.failed((DamagedRunError if damaged else QKBenchError)(text, mend))

    def on_exit(self, reason: str) -> None:
        self._child = None
        jobs, self.jobs = self.jobs, []
        if self.pool.error is None:
            self.pool.died(jobs, reason)

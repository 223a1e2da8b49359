"""Runs a spec in a folder: generates what is missing, scores it meanwhile, and writes the tables.

The same call continues a run that was killed. Everything that decides what comes out is in the spec; the options here
only say how the work is done.
"""

from __future__ import annotations

import contextlib
import re
import shutil
import threading
import time
from array import array
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from qk_bench.errors import UsageError
from qk_bench.images import encode_png
from qk_bench.interfaces import SetValue
from qk_bench.manifest import Manifest, ModelSpec, RunSpec, Session, Timing
from qk_bench.records import Outcome, ScoreStatus
from qk_bench.run import environment, tables
from qk_bench.run.admission import admit
from qk_bench.run.channel import Loop
from qk_bench.run.generate import Cost, Generation, Item
from qk_bench.run.interrupt import deferred_interrupts
from qk_bench.run.plan import (
    BLOCK,
    SampleReader,
    card_digest,
    make_request,
    outcome_key,
    positions,
    segments_of,
)
from qk_bench.run.score import load_tasks
from qk_bench.run.scorer import BlockScored, ScoreBlock, ScoreSet, SetScored
from qk_bench.run.scoring import ScorePool
from qk_bench.run.worker import Answer, peak_memory
from qk_bench.store import AGGREGATES, JOURNAL, LOGS, OUTCOMES, SCORES, RunDirectory

IDLE: Final = 0.5  # longest wait of the loop, so that progress is shown while a slow model works
READY_BLOCKS: Final = 8  # generation pauses when this many blocks wait to be scored


class Reporter(Protocol):
    """Where a run says what it is doing."""

    def planned(self, estimate: Estimate) -> None:
        """The work is known and about to start."""

    def progress(self, model: str, counts: dict[str, int], total: int) -> None:
        """A model has so many outcomes per status, of `total`."""

    def scoring(self, jobs: int) -> None:
        """Generation is over; so many scoring jobs are left."""

    def note(self, text: str) -> None:
        """Something worth a line."""


@dataclass(frozen=True)
class Estimate:
    """What a run is about to do."""

    folder: Path
    requests: int
    done: int
    models: int
    tasks: int
    samples: int
    seeds: int
    image_bytes: int | None  # at most; None where pictures have sizes of their own
    free_bytes: int


@dataclass(frozen=True)
class Options:
    """How a run is worked on; none of it changes what comes out."""

    fresh: bool = False
    max_failures: int | None = None
    score_workers: int = 1
    command: str = ""
    unavailable_metrics: dict[str, str] = field(default_factory=dict)
    beside: Callable[[], None] = lambda: None
    """Called once the first outcome is in: starts what goes on beside the run."""


@dataclass(frozen=True)
class Result:
    """What became of a run."""

    manifest: Manifest
    load_failures: dict[str, str]
    """Models that could not be used, and why; their requests have no outcome."""
    stopped: bool
    """Whether `max_failures` ended it."""

    @property
    def failures(self) -> int:
        """Number of outcomes that are not an image."""
        return _failures(self.manifest.counts)


def execute(spec: RunSpec, out: Path, options: Options, reporter: Reporter) -> Result:
    """Run a spec in a folder, or continue it there.

    Raises:
        UsageError: The folder holds another spec or something else, or is being written.
        DamagedRunError: The folder is damaged; what is whole was kept.
        FullDiskError: Nothing more can be written; what is stored is whole.
        KeyboardInterrupt: The user stopped it; the manifest says `partial`.
    """
    with RunDirectory(out, fresh=options.fresh) as run, deferred_interrupts() as check_interrupt:
        return _Execution(run, spec, options, reporter, check_interrupt).go()


class _Execution:
    def __init__(
        self,
        run: RunDirectory,
        spec: RunSpec,
        options: Options,
        reporter: Reporter,
        check_interrupt: Callable[[], None],
    ) -> None:
        self.run, self.spec, self.options, self.reporter = run, spec, options, reporter
        self.check_interrupt = check_interrupt
        self.started, self.clock, self.cpu = environment.now(), time.monotonic(), environment.cpu_seconds()
        self.segments = segments_of(spec)
        self.total = sum(map(len, self.segments))
        self.tasks = load_tasks(spec)
        self.earlier: Sequence[Session] = ()
        self.worker_peaks: dict[str, int] = {}
        self.batch_sizes: dict[str, dict[int, int]] = {}
        self.usage: dict[str, dict[str, float]] = {}
        self.load_failures: dict[str, str] = {}
        self.ready: deque[tuple[int, int]] = deque()
        self.aggregates: dict[tuple[int, int], list[tuple[SetValue, ScoreStatus]]] = {}
        self.unavailable = dict(options.unavailable_metrics)
        self.shown = 0.0
        self.versions, self.git, self.hardware = environment.versions(), environment.git(), environment.hardware()

    def go(self) -> Result:
        code = self.versions | self.git
        admitted = admit(self.run, self.spec, self.segments, self.tasks, code, self.reporter.note)
        manifest, self.found, self.journal = admitted.manifest, admitted.found, admitted.journal
        if manifest is not None and manifest.status == "complete":
            self.reporter.note(f"{self.run.path} is complete: nothing to do")
            (self.run.path / JOURNAL).unlink(missing_ok=True)
            return Result(manifest, {}, False)
        if manifest is not None:  # what an earlier session could not compute stays without values
            self.unavailable = manifest.unavailable_metrics | self.unavailable
        self._count_blocks()
        earlier = self.earlier = manifest.sessions if manifest else ()
        self._write_manifest("running", earlier, self._session())
        self.run.remove(SCORES, AGGREGATES)
        self.reporter.planned(self._estimate())
        self.loop = Loop()
        self.pool = ScorePool(self.loop, self.options.score_workers, self.spec, self.run.path, self._on_scored)
        try:
            stopped = self._generate_all()
            self._finish_scoring(whole=self.found.done == self.total)
        except BaseException:
            with contextlib.suppress(Exception):  # whatever stopped the run matters more than its manifest
                self.loop.close()
                self._write_manifest("partial", earlier, self._ended())
            raise
        self.loop.close()
        return Result(self._finish(earlier), self.load_failures, stopped and self.found.done < self.total)

    def _count_blocks(self) -> None:
        """Count what each block lacks; those that are whole, and not scored or with a judge's errors, are ready."""
        self.lacking = [array("h", [0]) * segment.blocks for segment in self.segments]
        for segment in self.segments:
            for block in range(segment.blocks):
                lacking = sum(offset < 0 for offset in self.journal.places(segment, block))
                self.lacking[segment.number][block] = lacking
                scored = self.journal.has(segment, block) and (segment.number, block) not in self.journal.judge_errors
                if not lacking and not scored:
                    self.ready.append((segment.number, block))

    def _estimate(self) -> Estimate:
        left = self.total - self.found.done
        own = any(suite.own_size for suite in self.spec.suites)
        return Estimate(
            folder=self.run.path,
            requests=self.total,
            done=self.found.done,
            models=len(self.spec.models),
            tasks=len(self.spec.tasks),
            samples=sum(segment.samples for segment in self.segments) // len(self.spec.models),
            seeds=len(self.spec.seeds),
            image_bytes=None if own else left * self.spec.resolution**2 * 3,
            free_bytes=shutil.disk_usage(self.run.path).free,
        )

    def _generate_all(self) -> bool:
        """Generate model by model. Returns whether it stopped because of too many failures."""
        if self._too_many_failures():
            return True
        for model in self.spec.models:
            log = self.run.path / LOGS / f"{re.sub(r'[^A-Za-z0-9._-]+', '_', model.card.name)[:80]}.log"
            size = self._batch_size(model)
            generation = Generation(self.loop, model, self._items(model), self._emit, self.spec.timeout, log, size)
            try:
                while not generation.finished and not self._too_many_failures():
                    more = len(self.ready) < READY_BLOCKS and generation.feed()
                    self._turn(0.0 if more else generation.patience())
                    generation.check_time()
                    if generation.batch_size < size:
                        size = generation.batch_size
                        self.reporter.note(f"model {model.card.name} ran out of memory: it now gets {size} at a time")
                generation.stop()
            finally:
                self._record(model, generation)
            if generation.load_failure is not None:
                self.load_failures[model.card.name] = generation.load_failure
                self.reporter.note(f"model {model.card.name} cannot be used: {generation.load_failure}")
            self._show(model.card.name)
            if self._too_many_failures():
                return True
        return False

    def _batch_size(self, model: ModelSpec) -> int:
        """The batch size of a model's card, or what an earlier session had to make of it for want of memory."""
        known = [size for session in self.earlier for size in session.batch_sizes.get(model.card.name, {})]
        return min([model.card.batch_size, *known])

    def _record(self, model: ModelSpec, generation: Generation) -> None:
        """Note what belongs into the manifest of how a model's requests were answered."""
        name = model.card.name
        if any(size != model.card.batch_size for size in generation.at_size):
            self.batch_sizes[name] = dict(sorted(generation.at_size.items(), reverse=True))
        if generation.usage:
            self.usage[name] = dict(sorted(generation.usage.items()))

    def _items(self, model: ModelSpec) -> Iterator[Item]:
        """The requests of a model that have no outcome yet, in plan order."""
        card = card_digest(model.card)
        for segment in self.segments:
            if segment.model is not model:
                continue
            task = self.tasks[segment.task.suite, segment.task.task]
            reader = SampleReader(task, self.spec.split, self.spec.resolution)
            for position in positions(segment, self.found.offsets[segment.number]):
                index, seed = segment.at(position)
                sample, content = reader.read(index)
                if not self.found.is_unique(sample.suite, sample.task, sample.id, index):
                    raise UsageError(
                        f"suite {sample.suite} calls two samples {sample.id}; one is {sample.task} {index}"
                    )
                request = make_request(sample, model.card, seed)
                yield Item(segment, position, request, outcome_key(card, content, request.seed))

    def _emit(self, item: Item, answer: Answer, cost: Cost) -> None:
        """Store an answer: the image first, then the line that names it."""
        if not self.shown:  # the first answer: the worker has started, a core may be free
            threading.Thread(target=_warm_up, daemon=True).start()
        request, model, detail = item.request, item.segment.model.card.name, answer.detail
        image, width, height = None, None, None
        if answer.pixels is not None:
            image = self.run.put_image(encode_png(answer.pixels))
            height, width = answer.pixels.shape[:2]
            if (width, height) != (request.width, request.height):
                detail = f"returned at {width}x{height}, resampled to {request.width}x{request.height} for metrics"
        index, seed = item.segment.at(item.position)
        outcome = Outcome(
            model=model, suite=request.suite, task=request.task, sample_id=request.sample_id, index=index, seed=seed,
            key=item.key, status=answer.status, image=image, width=width, height=height, detail=detail,
        )  # fmt: skip
        offset = self.run.outcomes.append(outcome.model_dump_json().encode())
        timing = Timing(
            model=model, suite=request.suite, task=request.task, sample_id=request.sample_id, seed=seed,
            seconds=cost.seconds, requests=cost.requests, peak_memory_bytes=cost.peak_memory_bytes,
            device_peak_memory_bytes=cost.device_peak_memory_bytes,
        )  # fmt: skip
        self.run.timings.append(timing.model_dump_json().encode())
        self.found.offsets[item.segment.number][item.position] = offset
        self.found.counts[model][answer.status] += 1
        self.worker_peaks[model] = max(self.worker_peaks.get(model, 0), cost.peak_memory_bytes or 0)
        block = item.position // BLOCK
        self.lacking[item.segment.number][block] -= 1
        if not self.lacking[item.segment.number][block]:
            self.ready.append((item.segment.number, block))
        if not self.shown:
            self.options.beside()
        if time.monotonic() - self.shown > 0.1:
            self._show(model)

    def _show(self, model: str) -> None:
        self.shown = time.monotonic()
        self.reporter.progress(model, self.found.counts[model], self.total // len(self.spec.models))

    def _turn(self, patience: float | None) -> None:
        """Let the children move: hand out blocks, wait for messages."""
        while self.ready and self.pool.has_room:
            segment, block = self.ready.popleft()
            places = tuple(self.journal.places(self.segments[segment], block))
            self.pool.submit(ScoreBlock(segment, block, places, self.journal.line(segment, block)))
        self.loop.poll(IDLE if patience is None else min(patience, IDLE))
        self.pool.check()
        self.check_interrupt()

    def _on_scored(self, result: BlockScored | SetScored) -> None:
        for metric, mend in result.unavailable.items():
            if self.unavailable.setdefault(metric, mend) is mend:
                self.reporter.note(f"metric {metric} is not computed: {mend}")
        if isinstance(result, BlockScored):
            self.journal.append(result.segment, result.block, result.line)
        else:
            self.aggregates[result.segment, result.metric] = result.values

    def _finish_scoring(self, *, whole: bool) -> None:
        """Score what is left; metrics of whole sets only when every set is whole."""
        sets = [
            ScoreSet(segment.number, number, self.found.offsets[segment.number])
            for segment in self.segments
            for number, metric in enumerate(self.spec.metrics)
            if whole and metric.whole_set and segment.task.kind in metric.kinds
        ]
        while self.ready or self.pool.backlog or sets:
            while sets and not self.ready and self.pool.has_room:
                self.pool.submit(sets.pop(0))
            self.reporter.scoring(len(self.ready) + self.pool.backlog + len(sets))
            self._turn(None)

    def _finish(self, earlier: Sequence[Session]) -> Manifest:
        """Write the tables, then the manifest that vouches for them, then remove the journal they came from.

        The journal stays where a judge failed: the next session takes from it what need not be scored again.
        """
        complete = self.found.done == self.total and self.journal.complete
        tables.write_scores(self.spec, self.run, self.journal)
        tables.write_aggregates(self.spec, self.run, self.segments, self.aggregates)
        names = (OUTCOMES, SCORES, AGGREGATES)
        files = {name: self.run.file_digest(name) or "" for name in names}
        manifest = self._write_manifest("complete" if complete else "partial", earlier, self._ended(), files)
        if complete and not self.journal.judge_errors:
            (self.run.path / JOURNAL).unlink(missing_ok=True)
        return manifest

    def _session(self) -> Session:
        """This session as it starts."""
        return Session(
            command=self.options.command,
            versions=self.versions,
            git=self.git,
            hardware=self.hardware,
            started=self.started,
        )

    def _ended(self) -> Session:
        """This session with what it cost."""
        return self._session().model_copy(
            update={
                "finished": environment.now(),
                "wall_seconds": round(time.monotonic() - self.clock, 3),
                "cpu_seconds": round(environment.cpu_seconds() - self.cpu, 3),
                "peak_memory_bytes": peak_memory(),
                "worker_peak_memory_bytes": self.worker_peaks,
                "batch_sizes": self.batch_sizes,
                "usage": self.usage,
            }
        )

    def _write_manifest(
        self, status: str, earlier: Sequence[Session], session: Session, files: dict[str, str] | None = None
    ) -> Manifest:
        return self.run.write_manifest(
            Manifest(
                status=status,  # type: ignore[arg-type]
                spec_digest=self.spec.digest(),
                spec=self.spec,
                requests=self.total,
                counts={model: dict(sorted(count.items())) for model, count in self.found.counts.items()},
                unavailable_metrics=self.unavailable,
                sessions=(*earlier, session),
                versions=self.versions,
                git=self.git,
                hardware=self.hardware,
                files=files or {},
            )
        )

    def _too_many_failures(self) -> bool:
        limit = self.options.max_failures
        return limit is not None and _failures(self.found.counts) >= limit


def _warm_up() -> None:
    """Import what the end of a run needs, so that nobody waits for it then."""
    with contextlib.suppress(Exception):  # what is missing will be reported where it is used
        tables.warm_up()
        import qk_bench.run.summary  # noqa: F401


def _failures(counts: Mapping[str, Mapping[str, int]]) -> int:
    return sum(n for count in counts.values() for status, n in count.items() if status != "ok")

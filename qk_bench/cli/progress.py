"""Progress of a run on stderr: bars where a person watches, a plain line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING, Any, Final, Self

if TYPE_CHECKING:
    from rich.progress import Progress, ProgressColumn, TaskID

    from qk_bench.run.execute import Estimate

QUIET_SECONDS: Final = 30.0


def make_steps() -> StepLines | StepBars:
    """For work of several steps, each of which knows how much it is: bars on a terminal, lines elsewhere."""
    return StepBars() if sys.stderr.isatty() else StepLines()


def make_reporter() -> Lines | Bars:
    """Bars on a terminal, lines elsewhere."""
    return Bars() if sys.stderr.isatty() else Lines()


def describe(estimate: Estimate) -> str:
    """The work of a run, in a line."""
    e = estimate
    parts = [_count(e.models, "model"), _count(e.samples, "sample"), _count(e.seeds, "seed")]
    text = f"{' x '.join(parts)} of {_count(e.tasks, 'task')} = {_count(e.requests, 'request')}"
    if e.done:
        text += f", {e.done} of them done"
    if e.image_bytes is None:
        return f"{text}; in {e.folder}"
    size = e.image_bytes / 1e6
    space = f"about {size / 1000:.1f} GB" if size >= 1000 else f"about {max(1, round(size))} MB"
    text += f"; {space} of images at most, in {e.folder}"
    if e.image_bytes > e.free_bytes:
        text += f"\nwarning: only {e.free_bytes / 1e9:.1f} GB are free there"
    return text


class Lines:
    """Plain lines: the plan, a line now and then, the end of each model."""

    def __init__(self) -> None:
        self._said = time.monotonic()

    def __enter__(self) -> Self:
        """Nothing to set up."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to tear down."""

    def planned(self, estimate: Estimate) -> None:
        """Say what is about to be done."""
        self.note(describe(estimate))

    def progress(self, model: str, counts: dict[str, int], total: int) -> None:
        """Say where a model is, if nothing was said for a while or it is done."""
        done = sum(counts.values())
        if done < total and time.monotonic() - self._said < QUIET_SECONDS:
            return
        self._said = time.monotonic()
        self.note(f"{model}: {done} of {total}, {_failed(counts)}")

    def scoring(self, jobs: int) -> None:
        """Say that scoring is left, if nothing was said for a while."""
        if time.monotonic() - self._said >= QUIET_SECONDS:
            self._said = time.monotonic()
            self.note(f"scoring: {_count(jobs, 'job')} left")

    def note(self, text: str) -> None:
        """Print a line."""
        print(text, file=sys.stderr, flush=True)


class Bars:
    """One bar per model, with failures and the time left."""

    def __init__(self) -> None:
        from rich.progress import TextColumn

        self._bars: dict[str, TaskID] = {}
        self._progress = _make_progress(TextColumn("{task.fields[failed]}"), refresh_per_second=4)

    def __enter__(self) -> Self:
        """Show the bars."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Leave the bars as they are."""
        self._progress.stop()

    def planned(self, estimate: Estimate) -> None:
        """Say what is about to be done."""
        self.note(describe(estimate))

    def progress(self, model: str, counts: dict[str, int], total: int) -> None:
        """Move a model's bar."""
        done = sum(counts.values())
        if model not in self._bars:
            self._bars[model] = self._progress.add_task(model, total=total, completed=done, failed="")
        self._progress.update(self._bars[model], completed=done, failed=_failed(counts))

    def scoring(self, jobs: int) -> None:
        """Show what is left to score."""
        if "scoring" not in self._bars:
            self._bars["scoring"] = self._progress.add_task("scoring", total=jobs, failed="")
        task = self._progress.tasks[self._progress.task_ids.index(self._bars["scoring"])]
        self._progress.update(task.id, completed=max(0, (task.total or 0) - jobs))

    def note(self, text: str) -> None:
        """Print a line above the bars."""
        self._progress.console.print(text, highlight=False, markup=False)


class StepLines:
    """A plain line at the start of a step and now and then, with the time left."""

    def __init__(self) -> None:
        self._step = ""
        self._began = self._said = 0.0

    def __enter__(self) -> Self:
        """Nothing to set up."""
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing to tear down."""

    def show(self, step: str, done: int, total: int) -> None:
        """Say how far a step is; a total of 0 is not known."""
        now = time.monotonic()
        if step != self._step:
            self._step, self._began, self._said = step, now, now
            print(f"{step}: {total}" if total else step, file=sys.stderr, flush=True)
        elif done < total and now - self._said >= QUIET_SECONDS:
            self._said = now
            left = (now - self._began) * (total - done) / done
            print(f"{step}: {done} of {total}, about {_duration(left)} left", file=sys.stderr, flush=True)


class StepBars:
    """One bar per step, with the time left."""

    def __init__(self) -> None:
        self._bars: dict[str, TaskID] = {}
        # The speed is taken over two minutes: features come many images at a time.
        self._progress = _make_progress(speed_estimate_period=120, transient=True)

    def __enter__(self) -> Self:
        """Show the bars."""
        self._progress.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Take the bars away."""
        self._progress.stop()

    def show(self, step: str, done: int, total: int) -> None:
        """Move a step's bar; a total of 0 is not known."""
        if step not in self._bars:
            self._bars[step] = self._progress.add_task(step, total=total or None)
        self._progress.update(self._bars[step], completed=done)


def _make_progress(*columns: ProgressColumn, **options: Any) -> Progress:
    """Bars on stderr: name, bar, count, these columns, time left."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    name = TextColumn("{task.description}")
    console = Console(stderr=True)
    return Progress(
        name, BarColumn(), MofNCompleteColumn(), *columns, TimeRemainingColumn(), console=console, **options
    )


def _duration(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 90 else f"{seconds / 60:.0f} min"


def _failed(counts: dict[str, int]) -> str:
    failed = {status: n for status, n in counts.items() if status != "ok" and n}
    return ", ".join(f"{n} {status}" for status, n in sorted(failed.items())) or "none failed"


def _count(n: int, word: str) -> str:
    return f"{n} {word}" if n == 1 else f"{n} {word}s"

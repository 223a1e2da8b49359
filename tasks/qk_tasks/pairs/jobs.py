"""The work of a build: done in parallel, and kept between interruptions."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from qk_bench.errors import QKBenchError


def parallel(work: Callable[[Any], dict[str, Any]], jobs: Sequence[Any], workers: int) -> Iterator[dict[str, Any]]:
    """Results in the order of the jobs.

    Raises:
        QKBenchError: A worker was killed.
    """
    if workers == 1 or len(jobs) < 2:
        yield from map(work, jobs)
        return
    quiet: dict[str, Any] = {
        "initializer": signal.signal,
        "initargs": (signal.SIGINT, signal.SIG_DFL),
    }  # Ctrl-C ends workers silently
    with ProcessPoolExecutor(min(workers, len(jobs)), mp_context=get_context("spawn"), **quiet) as pool:
        try:
            yield from pool.map(work, jobs)
        except BrokenProcessPool:
            raise QKBenchError(
                "a worker process was killed, perhaps for want of memory",
                "name fewer --workers; the same command goes on where this one stopped",
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def put(path: Path, text: str) -> None:
    """Write a whole file or nothing."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    temporary.write_text(text, encoding="utf-8")
    temporary.replace(path)


def kept(path: Path) -> dict[str, Any] | None:
    """What `put` wrote as JSON before an interruption; None if it is not there, or not whole after a power cut."""
    try:
        done: dict[str, Any] = json.loads(path.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    return done

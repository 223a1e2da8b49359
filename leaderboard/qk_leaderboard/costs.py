"""What a model costs: time an image, throughput, memory. From `timings.jsonl`, as far as requests gave an image."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from qk_leaderboard.boards import Board, Entry, rows_of


@dataclass(frozen=True)
class Cost:
    """Measured cost of one model on a board.

    Attributes:
        median: Seconds an image, the median over requests; the time of a batch is divided by its requests.
        low: 5th percentile.
        high: 95th percentile.
        throughput: Images a second, all of them over all their time inside the adapter.
        n: Number of images.
        peak_bytes: Largest memory of the worker process.
        device_peak_bytes: Largest memory of the accelerator.
    """

    median: float
    low: float
    high: float
    throughput: float
    n: int
    peak_bytes: int | None
    device_peak_bytes: int | None


def make_costs(board: Board) -> dict[str, Cost]:
    """The cost of each model of a board that was timed."""
    timings: dict[int, pd.DataFrame] = {}
    costs = {}
    for model, entries in board.entries.items():
        cost = _cost([_rows(board, entry, timings) for entry in entries])
        if cost is not None:
            costs[model] = cost
    return costs


def _rows(board: Board, entry: Entry, timings: dict[int, pd.DataFrame]) -> pd.DataFrame:
    frame = timings.setdefault(id(entry.run), pd.DataFrame())
    if frame.empty:
        frame = timings[id(entry.run)] = entry.run.timings()
    return rows_of(frame, board.suite, entry)


def _cost(parts: list[pd.DataFrame]) -> Cost | None:
    rows = pd.concat(parts, ignore_index=True)
    seconds = rows["seconds"].to_numpy(float)
    if not len(seconds):
        return None
    low, median, high = np.quantile(seconds, [0.05, 0.5, 0.95])
    total = float(seconds.sum())
    return Cost(
        float(median), float(low), float(high), len(seconds) / total if total > 0 else float("inf"), len(seconds),
        _largest(rows["peak"]), _largest(rows["device_peak"]),
    )  # fmt: skip


def _largest(values: pd.Series[float]) -> int | None:
    known = values.dropna()
    return int(known.max()) if len(known) else None

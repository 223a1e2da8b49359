"""Efficiency of a model in a run, from the rows of `timings.jsonl` and its card: latency, throughput, memory, size."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qk_bench.records import MetricColumn, ModelCard


@dataclass(frozen=True)
class Timing:
    """One request as it was measured."""

    model: str
    task: str
    sample_id: str
    seed: int
    seconds: float
    """Time inside the adapter for the request's batch over the batch's size."""
    peak_memory: int | None = None
    """Largest resident memory of the generating process so far, in bytes, where it was measured."""


@dataclass(frozen=True)
class Efficiency:
    """What a model costs on the hardware the run's manifest names."""

    requests: int
    latency_median: float
    """Seconds from a call to its images, that is, of a whole batch."""
    latency_p95: float
    throughput: float | None
    """Images per second inside the adapter; None where no time was measured."""
    peak_memory: int | None
    parameters: int | None


COLUMNS = (
    MetricColumn(id="latency-median", unit="s", direction="lower", low=0, description="median time of a call"),
    MetricColumn(id="latency-p95", unit="s", direction="lower", low=0, description="95th percentile of a call's time"),
    MetricColumn(id="throughput", unit="images/s", direction="higher", low=0, description="images per adapter second"),
    MetricColumn(id="peak-memory", unit="bytes", direction="lower", low=0, description="peak resident memory"),
    MetricColumn(id="parameters", direction="lower", low=0, description="parameters used in inference"),
)


def efficiency(rows: Iterable[Timing], card: ModelCard) -> Efficiency | None:
    """Summarise the timings of one model.

    Args:
        rows: Its requests; those of other models are ignored.
        card: Its card, for the batch size and the parameter count.

    Returns:
        The summary; None where the model has no row.
    """
    own = [row for row in rows if row.model == card.name]
    if not own:
        return None
    seconds = np.array([row.seconds for row in own])
    memory = [row.peak_memory for row in own if row.peak_memory is not None]
    median, p95 = np.quantile(seconds * card.batch_size, [0.5, 0.95])
    return Efficiency(
        requests=len(own),
        latency_median=float(median),
        latency_p95=float(p95),
        throughput=float(len(own) / seconds.sum()) if seconds.sum() > 0 else None,
        peak_memory=max(memory, default=None),
        parameters=card.parameters,
    )

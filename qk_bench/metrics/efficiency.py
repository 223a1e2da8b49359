"""Efficiency of a model in a run, from the rows of `timings.jsonl` and its card: latency, throughput, memory, size."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from qk_bench.manifest import Timing
from qk_bench.records import MetricColumn, ModelCard


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
    """Largest resident memory of the generating process, in bytes."""
    device_peak_memory: int | None
    """Of the accelerator, in bytes, where there is one."""
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
        rows: Its requests that gave an image; those of other models are ignored.
        card: Its card, for the parameter count.

    Returns:
        The summary; None where the model has no row.
    """
    own = [row for row in rows if row.model == card.name]
    if not own:
        return None
    calls = np.array([row.seconds for row in own])
    images = math.fsum(row.seconds / row.requests for row in own)  # a call of several requests is a row for each
    median, p95 = np.quantile(calls, [0.5, 0.95])
    return Efficiency(
        requests=len(own),
        latency_median=float(median),
        latency_p95=float(p95),
        throughput=len(own) / images if images > 0 else None,
        peak_memory=max((row.peak_memory_bytes for row in own if row.peak_memory_bytes is not None), default=None),
        device_peak_memory=max(
            (row.device_peak_memory_bytes for row in own if row.device_peak_memory_bytes is not None), default=None
        ),
        parameters=card.parameters,
    )

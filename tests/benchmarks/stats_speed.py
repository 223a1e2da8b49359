"""Speed of the statistics beside their peers: `python tests/benchmarks/stats_speed.py`.

Prints ratios of medians over interleaved repetitions, so that a busy machine slows both sides. Nothing here is
asserted.
"""

from __future__ import annotations

import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from scipy import stats as scipy_stats

from qk_bench import stats
from qk_bench.manifest import Manifest, MetricSpec, ModelSpec, RunSpec, SuiteSpec, TaskSpec
from qk_bench.records import MetricColumn, ModelCard
from qk_bench.run.tables import score_schema
from qk_bench.store import RunDirectory

REPETITIONS = 9
RESAMPLES = 9_999


def ratio(name: str, ours: Callable[[], object], peer: Callable[[], object]) -> None:
    """Time both in turn and print a line."""
    times: tuple[list[float], list[float]] = ([], [])
    for _ in range(REPETITIONS):
        for function, record in zip((ours, peer), times, strict=True):
            start = time.perf_counter()
            function()
            record.append(time.perf_counter() - start)
    mine, other = (statistics.median(t) for t in times)
    spread = [b / a for a, b in zip(*times, strict=True)]
    print(
        f"| {name} | {mine:.3f} s | {other:.3f} s | {other / mine:.0f}× ({min(spread):.0f}-{max(spread):.0f}) |",
        flush=True,
    )


def sign_flips(n: int) -> None:
    """Against scipy.stats.permutation_test, vectorised."""
    d = np.random.default_rng(0).normal(0.05, 1, n)
    ratio(
        f"sign flips, {n:,} clusters, {RESAMPLES:,} flips | scipy.stats.permutation_test",
        lambda: stats.sign_flip_test(d[:, None], flips=RESAMPLES),
        lambda: scipy_stats.permutation_test(
            (d,), lambda x, axis: x.sum(axis=axis), permutation_type="samples", n_resamples=RESAMPLES, vectorized=True
        ),
    )


def bootstrap(n: int, columns: int, *, by_id: bool = False) -> None:
    """Clusters of unequal size, against scipy.stats.bootstrap.

    The peer resamples cluster ids and looks their sums up (`by_id`), or, which is the fastest way to use it, resamples
    pairs of a cluster's sum and count that were added up beforehand.
    """
    rng = np.random.default_rng(1)
    counts = rng.integers(1, 6, n).astype(float)
    sums = rng.gamma(2.0, 1.0, (columns, n)) * counts
    options = {"vectorized": True, "method": "BCa", "n_resamples": RESAMPLES, "batch": 1000}

    def peer() -> None:
        for row in sums:
            if by_id:
                scipy_stats.bootstrap(
                    (np.arange(n),),
                    lambda ids, axis, row=row: row[ids].sum(axis=axis) / counts[ids].sum(axis=axis),
                    **options,
                )
            else:
                scipy_stats.bootstrap(
                    (row, counts), lambda s, c, axis: s.sum(axis=axis) / c.sum(axis=axis), paired=True, **options
                )

    def ours() -> None:
        for sample in stats.bootstrap_means(sums.T, np.repeat(counts[:, None], columns, axis=1), resamples=RESAMPLES):
            assert sample is not None
            sample.interval(0.95)

    how = "of cluster ids" if by_id else "of sums and counts"
    ratio(
        f"clustered BCa, {n:,} clusters, {columns} column{'s' * (columns > 1)} | scipy.stats.bootstrap {how}",
        ours,
        peer,
    )


def whole_comparison() -> None:
    """`qkbench compare` of 10 models × 10 metrics × 10,000 paired samples, every pair, in a process of its own."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "run"
        _large_run(path)
        command = [
            sys.executable,
            "-c",
            "from qk_bench.cli import main; main()",
            "compare",
            str(path),
            "--format",
            "json",
        ]
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20
    print(f"compare 10 models × 10 metrics × 10,000 samples, all 45 pairs: {seconds:.1f} s, peak memory {peak:.2f} GiB")


def _large_run(path: Path, n: int = 10_000, n_models: int = 10, n_metrics: int = 10) -> None:
    path.mkdir()
    rng = np.random.default_rng(2)
    hard = rng.normal(size=n)
    models = [f"model-{i}" for i in range(n_models)]
    columns = [MetricColumn(id="success", direction="higher")]
    columns += [MetricColumn(id=f"metric-{i}", direction="lower") for i in range(1, n_metrics)]
    samples = pa.array([f"sample-{i:06d}" for i in range(n)])
    tables = []
    for i, model in enumerate(models):
        for column in columns:
            quality = hard + rng.normal(0.02 * i, 1, n)
            values = (quality > 0).astype(float) if column.id == "success" else np.exp(quality)
            fixed = {"suite": "s", "suite_version": "1", "split": "test", "resolution": 64, "model": model, "task": "t"}
            fixed |= {"operation": "o", "seed": 0, "metric": column.id, "status": "ok", "reason": ""}
            arrays = {
                name: samples if name in ("sample_id", "cluster") else pa.array(values) if name == "value"
                else pa.array([fixed[name]] * n, type=score_schema().field(name).type)
                for name in score_schema().names
            }  # fmt: skip
            tables.append(pa.table(arrays, schema=score_schema()))
    pq.write_table(pa.concat_tables(tables), path / "scores.parquet", compression="zstd")
    spec = RunSpec(
        suites=(SuiteSpec(ref="s", name="s", version="1", digest="d"),),
        tasks=(TaskSpec(suite="s", task="t", indices=((0, n),)),),
        models=tuple(ModelSpec(ref=m, card=ModelCard(name=m, version="1")) for m in models),
        metrics=(MetricSpec(ref="m", kinds=("edit",), columns=tuple(columns)),),
        seeds=(0,),
        split="test",
        resolution=64,
    )
    manifest = Manifest(status="complete", spec_digest=spec.digest(), spec=spec, requests=n * n_models)
    RunDirectory(path).write_manifest(manifest)


if __name__ == "__main__":
    whole_comparison()
    print("| what | peer | ours | peer's | ratio (range) |\n|---|---|--:|--:|--:|")
    sign_flips(200)
    sign_flips(2_000)
    for clusters in (200, 2_000):
        bootstrap(clusters, 1, by_id=True)
        bootstrap(clusters, 1)
        bootstrap(clusters, 3)  # as `qkbench compare` does for a metric: A, B and B - A
        bootstrap(clusters, 20)

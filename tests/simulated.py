"""Run directories of the real format, filled with simulated scores whose truth is known."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from qk_bench.manifest import Aggregate, Manifest, MetricSpec, ModelSpec, RunSpec, SuiteSpec, TaskSpec
from qk_bench.records import MetricColumn, ModelCard
from qk_bench.run.tables import score_schema
from qk_bench.store import RunDirectory

Values = Mapping[str, NDArray[np.float64]]
"""By metric, (samples, seeds) values; NaN in `success` is a failed outcome."""

COLUMNS = {
    "success": MetricColumn(id="success", unit="", direction="higher", low=0, high=1),
    "drift": MetricColumn(id="drift", unit="ΔE00", direction="lower", low=0),
    "psnr": MetricColumn(id="psnr", unit="dB", direction="higher"),
    "hue": MetricColumn(id="hue", unit="°", direction="none"),
}


def simulate(
    n: int, rates: Mapping[str, float], *, seeds: int = 3, key: int = 0, drifts: Mapping[str, float] | None = None
) -> dict[str, Values]:
    """Successes (and drifts) of models that agree on what is hard."""
    rng = np.random.default_rng(key)
    hard = rng.random((n, 1))
    result: dict[str, Values] = {}
    for model, rate in rates.items():
        quality = np.clip(0.7 * hard + 0.3 * rng.random((n, seeds)), 0, 1)
        edge = np.quantile(0.7 * rng.random(200_000) + 0.3 * rng.random(200_000), rate)
        values = {"success": (quality <= edge).astype(float)}
        if drifts is not None:
            values["drift"] = drifts[model] * rng.gamma(4.0, 0.25, (n, seeds)) * (0.5 + hard)
        result[model] = values
    return result


def write_run(
    path: Path,
    tasks: Mapping[str, Mapping[str, Values]],
    *,
    per_cluster: int = 1,
    salt: str = "",
    suite_version: str = "1",
    suite_digest: str = "d",
    verifier: str = "1",
    split: str = "test",
    resolution: int = 64,
    first: int = 0,
    status: str = "ok",
    failure: str = "model_error",
    privileged: Sequence[str] = (),
    aggregates: Sequence[Mapping[str, Any]] = (),
    progress: Literal["partial", "complete"] = "complete",
    code: str = "",
    own_size: bool = False,
    diagnostics: Sequence[str] = (),
) -> Path:
    """Write a run directory.

    Args:
        path: Where.
        tasks: Values by task and model.
        per_cluster: Samples that share an image.
        salt: Runs with another salt have other output images.
        suite_version: Version of the suite.
        suite_digest: Digest of the suite.
        verifier: Version of the suite's verifier; empty for a run from before it was recorded.
        split: The split.
        resolution: Pixels a side.
        first: Index of the first sample.
        status: Status of outcomes with a success value.
        failure: Status of outcomes without one.
        privileged: Models that see the answer.
        aggregates: Rows of `aggregates.parquet`.
        progress: Status of the run.
        code: Hash of the file that the metrics beside success were named by; empty for none.
        own_size: Whether the suite's samples keep the size of their pictures.
        diagnostics: Tasks that the suite does not score.
    """
    path.mkdir(parents=True)
    models = list(dict.fromkeys(model for by_model in tasks.values() for model in by_model))
    metrics = list(dict.fromkeys(m for by_model in tasks.values() for v in by_model.values() for m in v))
    rows: dict[str, list[Any]] = {name: [] for name in score_schema().names}
    outcomes, n_seeds = [], 1
    for task, by_model in tasks.items():
        for model, values in by_model.items():
            n, n_seeds = values["success"].shape
            for i in range(n):
                for seed in range(n_seeds):
                    ok = not np.isnan(values["success"][i, seed])
                    sample, number = f"{task}-{first + i:06d}", [float(v[i, seed]) for v in values.values()]
                    image = hashlib.sha256(f"{salt}{model}{sample}{seed}{number}".encode()).hexdigest() if ok else None
                    state = status if ok else failure
                    identity = {"model": model, "suite": "scenes", "task": task, "sample_id": sample, "seed": seed}
                    outcome = {**identity, "index": first + i, "key": "", "status": state, "image": image}
                    outcomes.append(json.dumps(outcome))
                    for metric, value in zip(values, number, strict=True):
                        row = {
                            **identity,
                            "suite_version": suite_version,
                            "split": split,
                            "resolution": resolution,
                            "operation": "edit",
                            "cluster": f"image-{(first + i) // per_cluster}-{task if per_cluster == 1 else ''}",
                            "metric": metric,
                            "value": value if ok and not np.isnan(value) else None,
                            "status": state,
                            "reason": "",
                        }
                        for name in rows:
                            rows[name].append(row[name])
    pq.write_table(pa.table(rows, schema=score_schema()), path / "scores.parquet")
    if aggregates:
        whole = [Aggregate.model_validate(row).model_dump() for row in aggregates]
        pq.write_table(pa.Table.from_pylist(whole), path / "aggregates.parquet")
    (path / "outcomes.jsonl").write_text("".join(f"{line}\n" for line in outcomes))
    beside = tuple(COLUMNS[m] for m in metrics if m != "success")
    extra = tuple(MetricColumn(id=m, direction="lower") for m in dict.fromkeys(a["column"] for a in aggregates))
    spec = RunSpec(
        suites=(
            SuiteSpec(
                ref="scenes",
                name="scenes",
                version=suite_version,
                digest=suite_digest,
                verifier=verifier,
                own_size=own_size,
            ),
        ),
        tasks=tuple(
            TaskSpec(suite="scenes", task=t, indices=((first, first + 1),), diagnostic=t in diagnostics) for t in tasks
        ),
        models=tuple(ModelSpec(ref=m, card=ModelCard(name=m, version="1", privileged=m in privileged)) for m in models),
        metrics=(
            MetricSpec(ref="success", kinds=("edit",), columns=(COLUMNS["success"],)),
            *((MetricSpec(ref="simulated", code=code, kinds=("edit",), columns=beside),) if beside else ()),
            *((MetricSpec(ref="set", whole_set=True, kinds=("edit",), columns=extra),) if extra else ()),
        ),
        seeds=tuple(range(n_seeds)),
        split=split,
        resolution=resolution,
    )
    digest = hashlib.sha256((path / "scores.parquet").read_bytes()).hexdigest()
    manifest = Manifest(
        status=progress,
        spec_digest=spec.digest(),
        spec=spec,
        requests=len(outcomes),
        files={"scores.parquet": digest},
    )
    RunDirectory(path).write_manifest(manifest)
    return path

"""Writes a large synthetic run of the scenes suite: real samples, made-up models, every file that a run has."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray
from qk_tasks.scenes import SUITE

from qk_bench.images import encode_png
from qk_bench.manifest import Manifest, MetricSpec, ModelSpec, RunSpec, Session, SuiteSpec, TaskSpec
from qk_bench.metrics.color_difference import ColorDifference
from qk_bench.metrics.success import Success
from qk_bench.records import ModelCard, Sample
from qk_bench.run.tables import score_schema, write_aggregates
from qk_bench.store import AGGREGATES, OUTCOMES, SCORES, TIMINGS, RunDirectory

TASKS = ("color_swap", "insertion", "removal", "layout")
STRENGTHS = np.linspace(0.3, 0.8, 8)


def write_run(out: Path, samples: int, resolution: int = 64) -> Path:
    """Write a run of ten models: two controls and eight editors of rising strength."""
    cards = [
        ModelCard(name="no-op", version="1", deterministic=True),
        ModelCard(name="oracle", version="1", deterministic=True, privileged=True),
        *(ModelCard(name=f"editor-{n}", version="1", parameters=10**7 * (n + 1)) for n in range(len(STRENGTHS))),
    ]
    metrics = (("success", Success()), ("color-difference", ColorDifference()))
    spec = RunSpec(
        suites=(SuiteSpec(ref="scenes", name="scenes", version=SUITE.version, digest=SUITE.digest()),),
        tasks=tuple(TaskSpec(suite="scenes", task=task, indices=((0, samples // len(TASKS)),)) for task in TASKS),
        models=tuple(ModelSpec(ref=card.name, card=card) for card in cards),
        metrics=tuple(MetricSpec(ref=ref, kinds=("edit",), columns=metric.columns) for ref, metric in metrics),
        seeds=(0,),
        split="test",
        resolution=resolution,
    )
    with RunDirectory(out, fresh=True) as run:
        rows = _write_outcomes(run, spec)
        write_aggregates(spec, run, (), {})
    table = pa.table({name: [row[name] for row in rows] for name in score_schema().names}, schema=score_schema())
    pq.write_table(table, out / SCORES, compression="zstd")
    requests = len(cards) * samples
    manifest = Manifest(
        status="complete",
        spec_digest=spec.digest(),
        spec=spec,
        requests=requests,
        sessions=(
            Session(command="synthetic", started="2026-01-01T00:00:00+00:00", finished="2026-01-01T01:00:00+00:00"),
        ),
        files={name: run.file_digest(name) or "" for name in (OUTCOMES, SCORES, AGGREGATES)},
    )
    run.write_manifest(manifest)
    return out


def _write_outcomes(run: RunDirectory, spec: RunSpec) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    outcomes, timings = [], []
    columns = [column.id for metric in spec.metrics for column in metric.columns]
    for task in spec.tasks:
        for index in range(task.indices[0][1]):
            sample = SUITE.tasks[task.task].sample(spec.split, index, spec.resolution)
            for number, model in enumerate(spec.models):
                image, success, reason = _answer(sample, number, index)
                sha = run.put_image(encode_png(image))
                name = model.card.name
                same = {"model": name, "suite": "scenes", "task": task.task, "sample_id": sample.id, "seed": 0}
                size = {"width": spec.resolution, "height": spec.resolution}
                outcomes.append(
                    {**same, "index": index, "key": sha, "status": "ok", "image": sha, **size, "detail": ""}
                )
                timings.append({**same, "seconds": 0.01 * (number + 1), "requests": 1, "peak_memory_bytes": 10**8})
                away = float(np.abs(image.astype(float) - sample.target).mean()) if sample.target is not None else 0.0
                for column in columns:
                    rows.append(
                        {
                            **same, "suite_version": SUITE.version, "split": spec.split, "resolution": spec.resolution,
                            "operation": sample.operation, "cluster": sample.cluster, "metric": column, "status": "ok",
                            "value": float(success) if column == "success" else away, "reason": reason,
                        }
                    )  # fmt: skip
    for path, lines in ((run.path / OUTCOMES, outcomes), (run.path / TIMINGS, timings)):
        path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return rows


def _answer(sample: Sample, model: int, index: int) -> tuple[NDArray[np.uint8], bool, str]:
    """What a model makes of a sample, whether it is right, and why not."""
    assert sample.source is not None
    assert sample.target is not None
    rng = np.random.default_rng([model, index])
    if model == 1 or (model > 1 and rng.random() < STRENGTHS[model - 2]):
        jitter = rng.integers(0, 2, (1, 1, 3), dtype=np.uint8) if model > 1 else np.zeros((1, 1, 3), np.uint8)
        return sample.target ^ jitter, True, ""  # right, but no two models give the same file
    if model == 0 or rng.random() < 0.3:
        return sample.source, False, "not done: the object is as it was"
    noise = rng.integers(0, 40, sample.source.shape, dtype=np.uint8)
    return sample.source // 2 + noise, False, f"background changed: ΔE {rng.integers(8, 40)}"


if __name__ == "__main__":
    print(write_run(Path(sys.argv[1]), int(sys.argv[2])))

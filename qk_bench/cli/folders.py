"""What `qkbench score A --reference B` does: compare two plain folders and print it as a table or as JSON.

The JSON has these keys, which stay: `folder`, `reference`, `images` (files of each), `broken` (file: problem, of each),
`results` and `unavailable_metrics` (metric: why, with the mend). Each of `results` has `metric`, `direction`, `unit`,
`value`, `low`, `high` (95 % interval), `n` and `reason`. What has no value is null, and `reason` says why.
"""

from __future__ import annotations

import json
import math
import sys
from pathlib import Path
from typing import Any, Final

from qk_bench.cli.list import Format
from qk_bench.cli.progress import make_steps
from qk_bench.interfaces import Metric
from qk_bench.metrics import expand
from qk_bench.metrics.folders import Folder, FolderScore, score_folders
from qk_bench.plugins import load_metric, names

ARROWS: Final = {"higher": " ↑", "lower": " ↓", "none": ""}
DONE, DONE_WITH_FAILURES = 0, 5


def compare_folders(folder: Path, reference: Path, wanted: list[str], form: Format) -> int:
    """Compare two folders, print the result, and give the exit code: 5 where files were left out.

    Raises:
        UsageError: A folder holds no images, or there is no such metric.
    """
    outputs, references = Folder(folder), Folder(reference)
    metrics, unavailable = _load(wanted)
    with make_steps() as steps:
        scores = list(score_folders(outputs, references, metrics, unavailable, steps.show))
    if form is Format.json:
        print(json.dumps(_as_json(outputs, references, scores, unavailable), indent=2, ensure_ascii=False))
    else:
        _print_table(outputs, references, scores, unavailable)
    for side in (outputs, references):
        for name, why in sorted(side.broken.items()):
            print(f"left out: {side.path / name}: {why}", file=sys.stderr)
    return DONE_WITH_FAILURES if outputs.broken or references.broken else DONE


def _load(wanted: list[str]) -> tuple[dict[str, Metric], dict[str, str]]:
    """The metrics by name; of those that only `all` or a group names, a broken one is unavailable."""
    from qk_bench.errors import UsageError

    metrics: dict[str, Metric] = {}
    unavailable: dict[str, str] = {}
    for name in expand(wanted, names("metric")):
        try:
            metrics[name] = load_metric(name)
        except UsageError as error:
            if name in wanted:
                raise
            unavailable[name] = str(error)
    return metrics, unavailable


def _as_json(
    outputs: Folder, references: Folder, scores: list[FolderScore], unavailable: dict[str, str]
) -> dict[str, Any]:
    return {
        "folder": str(outputs.path),
        "reference": str(references.path),
        "images": {"folder": len(outputs.files), "reference": len(references.files)},
        "broken": {side: dict(sorted(f.broken.items())) for side, f in _sides(outputs, references)},
        "results": [
            {
                "metric": score.id, "direction": score.column.direction, "unit": score.column.unit,
                "value": score.value, "low": score.low, "high": score.high, "n": score.n, "reason": score.reason,
            }
            for score in scores
        ],
        "unavailable_metrics": unavailable,
    }  # fmt: skip


def _sides(outputs: Folder, references: Folder) -> tuple[tuple[str, Folder], ...]:
    return ("folder", outputs), ("reference", references)


def _print_table(outputs: Folder, references: Folder, scores: list[FolderScore], unavailable: dict[str, str]) -> None:
    from qk_bench.cli.tables import make_console, make_table

    console = make_console()
    sizes = [f"{f.path} ({len(f.files) - len(f.broken)} of {len(f.files)} images)" for f in (outputs, references)]
    console.print(f"{sizes[0]} against {sizes[1]}", markup=False)
    rows = []
    for score in scores:
        value = "-" if score.value is None else f"{score.value:.4g}"
        low, high = score.low, score.high  # infinite where one image tells nothing of others
        known = low is not None and high is not None and math.isfinite(high - low)
        interval = f"[{low:.4g}, {high:.4g}]" if known else "-"
        rows.append([f"{score.id}{ARROWS[score.column.direction]}", value, interval, str(score.n), score.reason])
    if rows:
        console.print(make_table(["metric", "value", "95 % interval", "n", ""], rows))
    by_reason: dict[str, list[str]] = {}
    for name, why in unavailable.items():
        by_reason.setdefault(why, []).append(name)
    for why, metrics in by_reason.items():
        console.print(f"not computed: {', '.join(metrics)}: {why}", markup=False)

"""The downloads: the numbers of the site as CSV, JSON and Parquet."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pandas as pd

from qk_leaderboard import scales
from qk_leaderboard.boards import Board
from qk_leaderboard.site import Site

_RISKY = ("=", "+", "-", "@", "\t", "\r")
"""A spreadsheet takes a text that begins so for a formula."""


def write(site: Site) -> None:
    """Write the files and `downloads.html`."""
    folder = site.out / "downloads"
    folder.mkdir()
    listed = []
    for name, about, frame in (
        ("results", "One row per board, scope, metric and model: value, interval, N.", _results(site)),
        (
            "comparisons",
            "One row per pair of models, scope and metric: paired difference, interval, test.",
            _pairs(site),
        ),
        ("costs", "One row per board and model: seconds an image, images a second, bytes, parameters.", _costs(site)),
        ("scores", "One row per output and metric, as in the runs.", _scores(site)),
    ):
        if len(frame):
            files = _write(folder, name, frame)
            listed.append({"name": name, "about": about, "rows": scales.count(len(frame)), "files": files,
                           "columns": list(frame.columns)})  # fmt: skip
    site.render("downloads.html", "downloads.html", title="Downloads", files=listed)


def _write(folder: Path, name: str, frame: pd.DataFrame) -> list[dict[str, str]]:
    frame.to_parquet(folder / f"{name}.parquet", index=False, compression="zstd")
    safe = frame.copy()
    for column in safe.select_dtypes(exclude="number").columns:
        texts = safe[column].astype(object)
        risky = texts.map(lambda value: isinstance(value, str) and value.startswith(_RISKY))
        safe[column] = texts.where(~risky, "'" + texts.astype(str))
    safe.to_csv(folder / f"{name}.csv", index=False, lineterminator="\n")
    if name != "scores":
        (folder / f"{name}.json").write_text(json.dumps(_records(frame), indent=1) + "\n")
    found = sorted(folder.glob(f"{name}.*"))
    return [
        {"kind": path.suffix[1:], "href": f"downloads/{path.name}", "size": f"{path.stat().st_size / 1024:,.0f} KB"}
        for path in found
    ]


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    def plain(value: Any) -> Any:
        return None if value is pd.NA or (isinstance(value, float) and not math.isfinite(value)) else value

    return [{str(key): plain(value) for key, value in row.items()} for row in frame.to_dict("records")]


def _resolution(board: Board) -> int | None:
    """Pixels a side; none where samples keep the size of their pictures."""
    return None if board.own_size else board.resolution


def _results(site: Site) -> pd.DataFrame:
    rows = []
    for board in site.boards:
        same = {
            "board": board.id,
            "suite": board.suite,
            "suite_version": board.version,
            "split": board.split,
            "resolution": _resolution(board),
        }
        for (scope, metric, model), cell in site.cells[board.id].items():
            e = cell.estimate
            rows.append(
                {
                    **same, "scope": scope, "metric": metric, "unit": board.metrics[metric].unit, "model": model,
                    "value": e.value if e else None, "low": e.low if e else None, "high": e.high if e else None,
                    "n": e.n if e else 0, "clusters": e.n_clusters if e else 0, "samples": cell.samples,
                    "without_value": sum(cell.without.values()),
                }
            )  # fmt: skip
    return _table(rows)


def _pairs(site: Site) -> pd.DataFrame:
    rows = []
    for board in site.boards:
        duels = site.duels[board.id]
        if duels is None:
            continue
        for view in site.views[board.id]:
            for c in duels.on(view.scope, view.metric.id):
                rows.append(
                    {
                        "board": board.id, "suite": board.suite, "suite_version": board.version, "split": board.split,
                        "resolution": _resolution(board), "scope": view.scope.id, "metric": c.metric, "a": c.a.label,
                        "b": c.b.label, "a_value": c.a.value, "b_value": c.b.value, "difference": c.difference,
                        "low": c.low, "high": c.high, "p": c.p, "p_corrected": c.p_corrected, "test": c.test,
                        "family": c.family, "effect": c.effect, "n": c.n, "clusters": c.n_clusters,
                        "verdict": c.verdict,
                    }
                )  # fmt: skip
    return _table(rows)


def _table(rows: list[dict[str, Any]]) -> pd.DataFrame:
    frame = pd.DataFrame(rows)
    return frame.astype({"resolution": "Int64"}) if rows else frame  # a whole number also beside a missing one


def _costs(site: Site) -> pd.DataFrame:
    rows = [
        {
            "board": board.id, "model": model, "seconds": c.median, "low": c.low, "high": c.high, "n": c.n,
            "images_per_second": c.throughput, "peak_memory_bytes": c.peak_bytes,
            "device_peak_memory_bytes": c.device_peak_bytes, "parameters": board.entry(model).card.parameters,
        }
        for board in site.boards
        for model, c in site.costs[board.id].items()
    ]  # fmt: skip
    whole = ("peak_memory_bytes", "device_peak_memory_bytes", "parameters")
    return pd.DataFrame(rows).astype(dict.fromkeys(whole, "Int64")) if rows else pd.DataFrame()


def _scores(site: Site) -> pd.DataFrame:
    parts = []
    for board in site.boards:
        frame = board.scores.copy()
        frame.insert(0, "board", board.id)
        frame.insert(2, "suite_version", board.version)
        frame.insert(3, "split", board.split)
        frame.insert(4, "resolution", pd.Series(_resolution(board), index=frame.index, dtype="Int64"))
        parts.append(frame)
    whole = pd.concat(parts, ignore_index=True)
    for column in whole.select_dtypes(include="category").columns:
        whole[column] = whole[column].astype(str)
    return whole

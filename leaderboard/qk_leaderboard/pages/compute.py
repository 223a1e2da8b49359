"""The compute page: what quality costs."""

from __future__ import annotations

import math
from typing import Any

from qk_leaderboard import charts, scales
from qk_leaderboard.boards import Board
from qk_leaderboard.site import Site, cost_note, milliseconds


def write(site: Site) -> None:
    """Write `compute.html`."""
    parts = [part for board in site.boards if (part := _part(site, board))]
    site.render("compute.html", "compute.html", title="Compute", parts=parts)


def _part(site: Site, board: Board) -> dict[str, Any] | None:
    costs, views = site.costs[board.id], site.views[board.id]
    if not costs or not views:
        return None
    view = views[0]
    factor = view.scale.factor
    estimates = {
        name: cell.estimate
        for (scope, metric, name), cell in site.cells[board.id].items()
        if scope == view.scope.id and metric == view.metric.id and cell.estimate
    }
    points = [
        charts.Point(
            name, costs[name].median * 1000, e.value * factor, costs[name].low * 1000, costs[name].high * 1000,
            e.low * factor, e.high * factor, bool(board.entry(name).role),
        )
        for name, e in estimates.items()
        if name in costs and costs[name].low > 0 and math.isfinite(e.value)
    ]  # fmt: skip
    share = scales.is_share(view.metric)
    quality = f"{view.metric.id}, {view.scale.unit}" if view.scale.unit else view.metric.id
    drawing = charts.quality_by_cost(points, "time an image, ms (log scale)", quality, share=share) if points else ""
    rows: list[dict[str, Any]] = []
    for name, cost in sorted(costs.items(), key=lambda item: item[1].median):
        card = board.entry(name).card
        rows.append(
            {
                "model": site.model(board, name), "time": milliseconds(cost), "note": cost_note(cost),
                "low": scales.milliseconds(cost.low), "high": scales.milliseconds(cost.high),
                "throughput": scales.significant(cost.throughput), "batch": card.batch_size,
                "peak": _mebibytes(cost.peak_bytes), "device": _mebibytes(cost.device_peak_bytes),
                "value": view.scale.text(estimates[name].value) if name in estimates else scales.MISSING,
            }
        )  # fmt: skip
    for row, text in zip(rows, scales.aligned(row["throughput"] for row in rows), strict=True):
        row["throughput"] = text
    machines: dict[str, list[str]] = {}
    for name in costs:
        for machine in dict.fromkeys(_hardware(entry.run.manifest.hardware) for entry in board.entries[name]):
            machines.setdefault(machine, []).append(name)
    return {"board": board, "scope": view.scope, "svg": drawing, "rows": rows, "quality": quality, "machines": machines}


def _hardware(found: dict[str, Any]) -> str:
    parts = [str(found.get("processor") or found.get("machine") or "unnamed processor")]
    if found.get("cores"):
        parts.append(f"{found['cores']} cores")
    if found.get("memory_bytes"):
        parts.append(f"{found['memory_bytes'] / 2**30:.0f} GiB")
    parts += [str(name) for name in found.get("accelerators") or []]
    return ", ".join(parts)


def _mebibytes(value: int | None) -> str:
    return scales.MISSING if value is None else scales.count(round(value / 2**20))

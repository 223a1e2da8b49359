"""The pairwise pages: a matrix of differences per board, and a page for each pair of models."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
from markupsafe import Markup

from qk_bench.compare.records import Comparison
from qk_bench.records import SUCCESS, MetricColumn
from qk_leaderboard import charts, scales
from qk_leaderboard.boards import Board, Scope
from qk_leaderboard.duels import Duels
from qk_leaderboard.scales import Scale
from qk_leaderboard.site import Site
from qk_leaderboard.text import script


@dataclass(frozen=True)
class _Matrix:
    scope: Scope
    metric: MetricColumn
    scale: Scale
    order: list[str]
    cells: dict[tuple[str, str], dict[str, Any]]


def write(site: Site) -> None:
    """Write `pairs.html` (one per board) and a page per pair."""
    for board in site.boards:
        duels = site.duels[board.id]
        if duels is None:
            continue
        matrices = list(_matrices(site, board, duels))
        first = matrices[0]
        data: dict[str, dict[str, Any]] = {
            "scopes": {},
            "views": {},
            "models": {name: site.model_href(name) for name in board.models},
        }
        for m in matrices:
            data["scopes"].setdefault(m.scope.id, {"title": m.scope.title, "metrics": []})["metrics"].append(
                m.metric.id
            )
            data["views"][f"{m.scope.id}|{m.metric.id}"] = {
                "order": m.order,
                "unit": _unit(m.scale),
                "cells": [[a, b, c["text"], c["look"], c["note"]] for (a, b), c in m.cells.items()],
            }
        (site.out / "data" / board.id / "pairs.js").write_text(script("pairs", data))
        site.render(
            "pairs.html",
            site.pairs_href(board),
            title="Pairwise",
            board=board,
            others=[{"title": o.title, "href": site.pairs_href(o)} for o in site.boards if site.duels[o.id]],
            matrix=first,
            models=[*first.order, *(name for name in board.models if name not in first.order)],
            unit=_unit(first.scale),
            hrefs={(a, b): _href(site, board, a, b) for a in board.models for b in board.models if a != b},
            report=duels.report,
            rankings=_rankings(board, duels),
        )
        for a, b in combinations(board.models, 2):
            _write_pair(site, board, duels, a, b)


def _href(site: Site, board: Board, a: str, b: str) -> str:
    """Either order of a pair leads to its one page."""
    order = board.models
    return site.pair_href(board, *((a, b) if order.index(a) < order.index(b) else (b, a)))


def _rankings(board: Board, duels: Duels) -> list[dict[str, Any]]:
    found = []
    for scope in board.scopes():
        ranks, groups = duels.ranks(scope)
        if ranks:
            found.append({"scope": scope, "groups": groups})
    return found


def _matrices(site: Site, board: Board, duels: Duels) -> Iterator[_Matrix]:
    for view in site.views[board.id]:
        found = duels.on(view.scope, view.metric.id)
        if not found:
            continue
        cells = {}
        for c in found:
            for sign, (row, column) in ((1, (c.b.label, c.a.label)), (-1, (c.a.label, c.b.label))):
                cells[row, column] = _cell(c, view.scale, sign)
        yield _Matrix(view.scope, view.metric, view.scale, [row.model for row in view.rows], cells)


def _cell(c: Comparison, scale: Scale, sign: int) -> dict[str, Any]:
    """The row's model less the column's."""
    look = {"better": 1, "worse": -1}.get(c.verdict, 0) * sign
    return {"text": _difference(c, scale, sign), "look": look, "note": _note(c, scale, sign)}


def _difference(c: Comparison, scale: Scale, sign: int = 1) -> str:
    if c.difference is None:
        return scales.MISSING
    return scales.decimal(sign * c.difference * scale.factor, scale.decimals, sign=True)


def _interval(c: Comparison, scale: Scale, sign: int = 1) -> str:
    if c.low is None or c.high is None:
        return ""
    ends = sorted((sign * c.low * scale.factor, sign * c.high * scale.factor))
    return f"[{', '.join(scales.decimal(end, scale.decimals, sign=True) for end in ends)}]"


def _unit(scale: Scale) -> str:
    """The unit of a difference: of percents, points."""
    return "points" if scale.unit == "%" else scale.unit


def _note(c: Comparison, scale: Scale, sign: int = 1) -> str:
    a, b = (c.a.label, c.b.label) if sign > 0 else (c.b.label, c.a.label)
    interval = _interval(c, scale, sign)
    parts = [f"{b} less {a}: {_difference(c, scale, sign)} {_unit(scale)}".strip()]
    if interval:
        parts[0] += f", 95 % interval {interval}"
    if c.p_corrected is not None:
        parts.append(f"corrected p {scales.probability(c.p_corrected)} ({c.test}, {c.family} family)")
    verdict = {"better": "worse", "worse": "better"}.get(c.verdict, c.verdict) if sign < 0 else c.verdict
    pairs = f"{scales.count(c.n)} pairs in {scales.count(c.n_clusters)} clusters"
    parts.append(f"{verdict}; {c.note if c.kind == 'set' else pairs}")
    return ". ".join(parts)


def _write_pair(site: Site, board: Board, duels: Duels, a: str, b: str) -> None:
    found = duels.of_pair(a, b)
    if not found:
        return
    rows = []
    for scope, c in found:
        view = site.view(board, scope.id, c.metric)
        if view is None:
            continue
        metric, scale = view.metric, view.scale
        both = [s.value for s in (c.a, c.b)]
        rows.append(
            {
                "scope": scope, "metric": metric, "unit": scale.unit, "family": c.family,
                "a": scale.text(both[0]), "b": scale.text(both[1]),
                "a_interval": scale.interval(c.a.low, c.a.high), "b_interval": scale.interval(c.b.low, c.b.high),
                "difference": _difference(c, scale), "interval": _interval(c, scale),
                "p": scales.probability(c.p_corrected),
                "effect": scales.MISSING if c.effect is None else scales.decimal(c.effect, 2, sign=True),
                "n": scales.count(c.n), "clusters": scales.count(c.n_clusters), "verdict": c.verdict,
                "test": c.test, "note": c.note or _note(c, scale),
            }
        )  # fmt: skip
    for name in ("a", "b", "difference"):
        for row, text in zip(rows, scales.aligned(str(row[name]) for row in rows), strict=True):
            row[name] = text
    site.render(
        "pair.html",
        site.pair_href(board, a, b),
        title=f"{b} against {a}",
        board=board,
        a=site.model(board, a),
        b=site.model(board, b),
        rows=rows,
        crosses=list(_crosses(board, duels, a, b)),
        seeds=np.unique(np.concatenate([task.seeds for task in duels.field.tasks])).tolist(),
        scatter=None if all(board.entry(name).role for name in (a, b)) else _scatter(board, duels, a, b),
        matrix_href=site.pairs_href(board),
        gallery_href=site.gallery_href(board),
        places={name: number for number, name in enumerate(board.models)},
    )


def _crosses(board: Board, duels: Duels, a: str, b: str) -> Iterator[dict[str, Any]]:
    """Per task, how often both, one or neither were right."""
    i, j = board.models.index(a), board.models.index(b)
    for task in duels.field.tasks:
        if SUCCESS not in task.values:
            continue
        x, y = task.values[SUCCESS][[i, j]]
        known = ~np.isnan(x + y)
        counts = {
            "both": ((x == 1) & (y == 1))[known], "only_a": ((x == 1) & (y == 0))[known],
            "only_b": ((x == 0) & (y == 1))[known], "neither": ((x == 0) & (y == 0))[known],
        }  # fmt: skip
        yield {"task": task.task, **{name: scales.count(int(held.sum())) for name, held in counts.items()}}


def _scatter(board: Board, duels: Duels, a: str, b: str) -> dict[str, Any] | None:
    """The first measured metric of both, sample by sample (mean over seeds)."""
    i, j = board.models.index(a), board.models.index(b)
    for metric in board.metrics.values():
        parts = [task for task in duels.field.tasks if metric.id in task.values]
        if metric.id == SUCCESS or not parts:
            continue
        xs: list[float] = []
        ys: list[float] = []
        for task in parts:
            samples = np.unique(task.samples, return_inverse=True)[1]
            pair = task.values[metric.id][[i, j]]
            known = np.isfinite(pair).all(axis=0)
            n = np.bincount(samples[known], minlength=samples.max() + 1)
            sums = [np.bincount(samples[known], side[known], samples.max() + 1) for side in pair]
            xs += (sums[0][n > 0] / n[n > 0]).tolist()
            ys += (sums[1][n > 0] / n[n > 0]).tolist()
        if len(xs) > 1:
            unit = f", {metric.unit}" if metric.unit else ""
            drawing: Markup = charts.scatter(xs, ys, f"{a}{unit}", f"{b}{unit}")
            return {"metric": metric, "svg": drawing, "n": scales.count(len(xs)), "binned": len(xs) > charts.MANY}
    return None

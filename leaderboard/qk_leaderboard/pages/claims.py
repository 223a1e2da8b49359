"""The claims page: published statements, their verdicts, and the measured interval against the published value."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any, Final

from qk_bench.claims.records import ClaimReport, ClaimVerdict, Measurement, Says
from qk_bench.compare.records import ALL_TASKS
from qk_bench.records import SUCCESS
from qk_leaderboard import scales
from qk_leaderboard.site import Site

_UNITS: Final = {"latency": (1.0, " s", 3), "parameters": (1e-6, " M", 1), "peak-memory": (1e-9, " GB", 2)}


def write(site: Site) -> None:
    """Write `claims.html`, if there are claims that these runs speak to."""
    if site.claims:
        reports = [_report(site, report) for report in site.claims]
        site.render("claims.html", "claims.html", title="Claims", reports=reports)


def _report(site: Site, report: ClaimReport) -> dict[str, Any]:
    counts = Counter(verdict.verdict for verdict in report.verdicts)
    verdicts = sorted(report.verdicts, key=lambda verdict: verdict.measurement is None)
    return {
        "subject": report.subject,
        "counts": [f"{n} {verdict}" for verdict, n in sorted(counts.items(), key=lambda item: (-item[1], item[0]))],
        "claims": [_claim(site, verdict) for verdict in verdicts],
    }


def _claim(site: Site, verdict: ClaimVerdict) -> dict[str, Any]:
    claim, says, m = verdict.claim, verdict.claim.says, verdict.measurement
    factor, unit, decimals = _written(says) if says else (1.0, "", 2)
    return {
        "claim": claim,
        "source": verdict.source,
        "verdict": verdict.verdict,
        "look": {"supported": "right", "contradicted": "wrong"}.get(verdict.verdict, "failed"),
        "reason": _without_folders(site, verdict.reason),
        "says": _says(says, factor, decimals, unit) if says else "",
        "measured": scales.decimal(m.value * factor, decimals) + unit if m else "",
        "interval": f"[{_end(m.low, factor, decimals, -1)}, {_end(m.high, factor, decimals, 1)}]" if m else "",
        "measurement": m,
        "scale": _without_folders(site, m.scale) if m else "",
        "plot": _plot(says, m) if says and m else None,
    }


def _written(says: Says) -> tuple[float, str, int]:
    """How the values of a claim are written: factor, unit, decimals."""
    name = says.metric.removesuffix("*")
    if says.measure == "relative change":
        return 100.0, " %", 1
    if name in (SUCCESS, "preference"):
        return 100.0, " %" if says.measure == "value" else " points", 1
    return _UNITS.get(name, (1.0, "", 2 if abs(says.value) >= 10 else 3))


def _without_folders(site: Site, text: str) -> str:
    """A text in which runs are called as on the other pages, not by the folders they lay in."""
    for run in sorted(site.runs, key=lambda run: -len(str(run.directory.path))):
        text = text.replace(str(run.directory.path), f"run {run.label}")
    return text


def _end(value: float | None, factor: float, decimals: int, side: int) -> str:
    return scales.decimal(side * math.inf if value is None else value * factor, decimals)


def _says(says: Says, factor: float, decimals: int, unit: str) -> str:
    bound = {"equal": "", "at least": "at least ", "at most": "at most "}[says.bound]
    margin = f" ± {scales.decimal(says.margin * factor, decimals)}" if says.margin else ""
    against = f" of {says.model} against {says.baseline}" if says.baseline else f" of {says.model}"
    value = scales.decimal(says.value * factor, decimals)
    task = "all tasks" if says.task == ALL_TASKS else says.task
    return f"{says.metric} on {task}, {says.measure}{against}: {bound}{value}{margin}{unit}"


def _plot(says: Says, m: Measurement) -> dict[str, float | None]:
    """Positions in percent: what was published (a band where it has a margin) and what was measured."""
    known = [says.value - says.margin, says.value + says.margin, m.value]
    known += [end for end in (m.low, m.high) if end is not None]
    low, high = min(known), max(known)
    room = (high - low) * 0.12 or abs(high) * 0.1 or 1.0
    low, high = low - room, high + room

    def at(value: float) -> float:
        return round(100 * (value - low) / (high - low), 2)

    return {
        "published": at(says.value),
        "from": at(says.value - says.margin), "to": at(says.value + says.margin),
        "at": at(m.value), "low": 0.0 if m.low is None else at(m.low), "high": 100.0 if m.high is None else at(m.high),
    }  # fmt: skip

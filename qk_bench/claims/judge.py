"""Verdicts: does what was measured support the claim, contradict it, or leave it open?"""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence

from qk_bench.claims.estimates import CONFIDENCE, Absent
from qk_bench.claims.measure import measure
from qk_bench.claims.records import (
    Claim,
    ClaimFile,
    ClaimReport,
    ClaimVerdict,
    Derivation,
    Judgement,
    Measurement,
    Says,
)
from qk_bench.compare.scores import Run
from qk_bench.errors import UsageError


def judge(file: ClaimFile, runs: Sequence[Run], names: dict[str, str]) -> ClaimReport:
    """Give every claim of a file its verdict from the runs.

    Args:
        file: The claims.
        runs: The runs to judge by; of several that can test a claim the one with the most clusters decides, the
            newest of those that have as many.
        names: By role, the model that stands for it, where the user says so.
    """
    models = sorted({model for run in runs for model in run.models})
    for role, name in names.items():
        if role not in file.roles:
            raise UsageError(f"no claim speaks of {role!r}", f"roles: {', '.join(file.roles)}")
        if runs and name not in models and not fnmatch.filter(models, name):
            raise UsageError(f"no run has a model {name!r} for {role}", f"models: {', '.join(models)}")
    newest_first = sorted(
        runs, key=lambda run: max((s.started for s in run.manifest.sessions), default=""), reverse=True
    )
    return ClaimReport(
        subject=file.subject,
        confidence=CONFIDENCE,
        runs=tuple(str(run.path) for run in runs),
        verdicts=tuple(_verdict(claim, file, newest_first, names) for claim in file.claims),
    )


def _verdict(claim: Claim, file: ClaimFile, runs: Sequence[Run], names: dict[str, str]) -> ClaimVerdict:
    source = file.sources[claim.source]
    if claim.says is None:
        return ClaimVerdict(claim=claim, source=source, verdict="not testable here", reason=claim.untestable)
    found = [measure(claim, file, run, names) for run in runs]
    measured = sorted((m for m in found if isinstance(m, Measurement)), key=lambda m: -m.n_clusters)
    best = measured[0] if measured else None
    contradiction = inconsistency(claim, file)
    verdict: Judgement
    if contradiction:
        verdict, reason = "inconsistent", contradiction
    elif best is None:
        reasons = list(dict.fromkeys(m.reason for m in found if isinstance(m, Absent)))
        verdict, reason = "not testable here", "; ".join(reasons) or "no run was given"
    else:
        verdict, reason = decide(claim.says, best.low, best.high)
    if claim.missing_benchmark:
        reason += f"; the source names {claim.missing_benchmark}, which cannot be found"
    if claim.conflicts_with:
        reason += f"; the sources disagree: see {', '.join(claim.conflicts_with)}"
    return ClaimVerdict(
        claim=claim, source=source, verdict=verdict, reason=reason, measurement=best, others=tuple(measured[1:])
    )


def decide(says: Says, low: float | None, high: float | None) -> tuple[Judgement, str]:
    """Hold an interval against a claim.

    A bound is supported if the whole interval lies beyond it, and contradicted if the whole interval falls short. A
    value is supported if the interval lies inside value ± margin, and contradicted if the two are disjoint.

    Args:
        says: The claim.
        low: Lower end of the interval, None if it has none.
        high: Upper end.
    """
    bottom = float("-inf") if low is None else low
    top = float("inf") if high is None else high
    floor = {"equal": says.value - says.margin, "at least": says.value, "at most": float("-inf")}[says.bound]
    ceiling = {"equal": says.value + says.margin, "at least": float("inf"), "at most": says.value}[says.bound]
    if floor <= bottom and top <= ceiling:
        return "supported", "the interval lies within what is claimed"
    if top < floor or ceiling < bottom:
        return "contradicted", "the interval lies outside what is claimed"
    return "inconclusive", "the interval reaches from within what is claimed to outside: more samples would tell"


def inconsistency(claim: Claim, file: ClaimFile) -> str:
    """Why a figure does not fit the sources' own other figures; empty if it does, or nothing is known."""
    if not claim.follows_from or claim.says is None:
        return ""
    says = {c.id: c.says for c in file.claims if c.says is not None}
    misfits = []
    for derivation in claim.follows_from:
        expected = _expected(derivation, [says[i].value for i in derivation.of])
        if abs(expected - claim.says.value) <= derivation.tolerance:
            return ""
        misfits.append(f"{expected:.4g} ({derivation.relation} of {' and '.join(derivation.of)})")
    either = "neither" if len(misfits) > 1 else "not"
    return f"the sources' own figures do not fit: {claim.says.value:g} is {either} {' nor '.join(misfits)}"


def _expected(derivation: Derivation, values: list[float]) -> float:
    if derivation.relation == "relative change":
        return values[0] / values[1] - 1
    return sum(values) / len(values)

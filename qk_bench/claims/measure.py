"""What a run says of a claim: the models that stand for its roles, the estimate, and what the test differs in."""

from __future__ import annotations

import fnmatch
import math

from qk_bench.claims.estimates import MEMORY, PARAMETERS, Absent, Found, estimate
from qk_bench.claims.records import Claim, ClaimFile, Measurement, Role
from qk_bench.compare.scores import Run


def measure(claim: Claim, file: ClaimFile, run: Run, names: dict[str, str]) -> Measurement | Absent:
    """Measure a claim on a run.

    Args:
        claim: A claim with `says`.
        file: The file it stands in.
        run: The run.
        names: By role, the model that stands for it, where the user says so.
    """
    says = claim.says
    assert says is not None
    models: list[str] = []
    for role in (says.model, says.baseline):
        if role is not None:
            model = _model(run, file.roles[role], role, names.get(role))
            if isinstance(model, Absent):
                return model
            models.append(model)
    if len(set(models)) < len(models):
        both = f"{models[0]} stands for both {says.model} and {says.baseline} in {run.path}"
        return Absent(f"{both}: say which model is which with --model {says.baseline}=MODEL")
    other = _other_size(run, models[0], file.roles[says.model])
    if says.metric in (PARAMETERS, MEMORY) and other:
        return Absent(f"{other}: its size says nothing of the published model's")
    found = estimate(run, says, models)
    if isinstance(found, Absent):
        return found
    value, low, high = found.estimate.value, found.estimate.low, found.estimate.high
    if not math.isfinite(value):
        return Absent(f"{found.metric} has no finite value in {run.path}")
    scale = _scale(claim, file, run, models, found)
    return Measurement(
        run=str(run.path),
        metric=found.metric,
        model=models[0],
        baseline=models[1] if len(models) > 1 else None,
        suites=found.suites,
        tasks=found.tasks,
        value=value,
        low=low if math.isfinite(low) else None,
        high=high if math.isfinite(high) else None,
        n=found.estimate.n,
        n_clusters=found.estimate.n_clusters,
        kind="analogue" if scale else "replication",
        scale=scale,
    )


def _model(run: Run, role: Role, name: str, named: str | None) -> str | Absent:
    for pattern in (named,) if named is not None else role.models:
        matches = [m for m in run.models if m == pattern] or fnmatch.filter(run.models, pattern)
        if len(matches) > 1:
            several = f"{run.path} has several models for {name}: {', '.join(matches)}"
            return Absent(f"{several}; say which with --model {name}=MODEL")
        if matches:
            return matches[0]
    return Absent(f"no model of {run.path} stands for {name}")


def _scale(claim: Claim, file: ClaimFile, run: Run, models: list[str], found: Found) -> str:
    """What the test differs in from what the claim was made with; empty if in nothing."""
    says = claim.says
    assert says is not None
    parts = []
    if not claim.suites or not set(found.suites) <= set(claim.suites):
        parts.append(f"data: {', '.join(found.suites) or 'none'} at {run.manifest.spec.sizes}")
    for role, model in zip((says.model, says.baseline), models, strict=False):
        assert role is not None
        mine = run.card(model).parameters
        if file.roles[role].parameters is None or mine is None:
            parts.append(f"{model} ({'size not declared' if mine is None else f'{mine / 1e6:.3g} M parameters'})")
        elif other := _other_size(run, model, file.roles[role]):
            parts.append(other)
    return "; ".join([*parts, *found.notes])


def _other_size(run: Run, model: str, role: Role) -> str:
    """How a model's size differs from the published one by more than a factor of two; empty if it does not."""
    mine, published = run.card(model).parameters, role.parameters
    if mine is None or published is None or 0.5 <= mine / published <= 2:
        return ""
    return f"{model} has {mine / 1e6:.3g} M parameters instead of {published / 1e6:.3g} M"

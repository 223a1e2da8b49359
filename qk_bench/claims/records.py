"""The format of claim files and of the verdicts on them. docs/claims.md explains every field with examples."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, model_validator

from qk_bench.records import Record

SourceKind = Literal["paper", "article", "third party"]
Measure = Literal["value", "difference", "relative change"]
Bound = Literal["equal", "at least", "at most"]
Relation = Literal["relative change", "mean", "equal"]
Judgement = Literal["supported", "contradicted", "inconclusive", "inconsistent", "not testable here"]


class Source(Record):
    """Where claims were published."""

    kind: SourceKind
    title: str
    reference: str = Field(default="", description="identifier or address")


class Role(Record):
    """A system that claims speak of, and which models of a run stand for it."""

    description: str
    models: tuple[str, ...] = Field(
        description="models in runs, shell patterns allowed; the first pattern that fits counts, and must fit one only"
    )
    parameters: float | None = Field(default=None, description="its size as published")


class Says(Record):
    """A statement in a form that can be measured."""

    metric: str = Field(
        description="id of a metric, `*` for any part; or `latency` (seconds an image), `peak-memory` (bytes) or "
        "`parameters`"
    )
    task: str = Field(default="all", description="a task of the run, `*` for any part; or `all`")
    model: str = Field(description="a role")
    baseline: str | None = Field(default=None, description="a role; needed for differences and relative changes")
    measure: Measure = "value"
    bound: Bound = "equal"
    value: float = Field(description="rates and relative changes as fractions")
    margin: float = Field(default=0.0, ge=0, description="for `equal`: how far off still counts as equal")

    @model_validator(mode="after")
    def _needs(self) -> Self:
        if (self.baseline is None) != (self.measure == "value"):
            raise ValueError("`baseline` belongs to `difference` and `relative change`, and to these only")
        if (self.margin > 0) != (self.bound == "equal"):
            raise ValueError("`margin` belongs to `bound: equal`, and must be above 0 there")
        return self


class Derivation(Record):
    """How a figure should follow from other figures of the sources."""

    relation: Relation = Field(
        description="`relative change`: from the second to the first; `mean`: of all; `equal`: to the one named"
    )
    of: tuple[str, ...] = Field(min_length=1, description="ids of claims with `says`")
    tolerance: float = Field(gt=0, description="what rounding may account for")

    @model_validator(mode="after")
    def _count(self) -> Self:
        needed = {"relative change": 2, "equal": 1}.get(self.relation, len(self.of))
        if len(self.of) != needed:
            raise ValueError(f"`{self.relation}` is of {needed} claim{'s' * (needed > 1)}, not of {len(self.of)}")
        return self


class Claim(Record):
    """One quantitative statement."""

    id: str = Field(pattern=r"^[a-z0-9][a-z0-9-]*$")
    source: str
    quote: str = Field(min_length=1, description="exact words of the source")
    says: Says | None = Field(default=None, description="absent where no run can measure it")
    data: str = Field(description="what data would test it")
    scale: str = Field(default="", description="the data, model and hardware the statement was made with")
    suites: tuple[str, ...] = Field(default=(), description="suites on which a test is a replication, else an analogue")
    untestable: str = Field(default="", description="why no run can test it; needed where `says` is absent")
    missing_benchmark: str = Field(default="", description="a benchmark the source names that cannot be found")
    follows_from: tuple[Derivation, ...] = Field(default=(), description="inconsistent if none of these fits")
    conflicts_with: tuple[str, ...] = Field(default=(), description="ids of claims that say otherwise")
    note: str = ""

    @model_validator(mode="after")
    def _either(self) -> Self:
        if (self.says is None) != bool(self.untestable):
            raise ValueError("give `says`, or say in `untestable` why no run can measure it")
        return self


class ClaimFile(Record):
    """A claim file: the claims about one work."""

    format: Literal["qk-bench claims"]
    format_version: Literal[1]
    subject: str
    sources: dict[str, Source]
    roles: dict[str, Role] = Field(default_factory=dict)
    claims: tuple[Claim, ...]

    @model_validator(mode="after")
    def _names(self) -> Self:
        ids = [c.id for c in self.claims]
        if twice := {i for i in ids if ids.count(i) > 1}:
            raise ValueError(f"claim {min(twice)} is there twice")
        with_value = {c.id: c.says.value for c in self.claims if c.says is not None}
        for claim in self.claims:
            if claim.source not in self.sources:
                raise ValueError(f"claim {claim.id}: source {claim.source!r} is not declared")
            for role in (claim.says.model, claim.says.baseline) if claim.says is not None else ():
                if role is not None and role not in self.roles:
                    raise ValueError(f"claim {claim.id}: role {role!r} is not declared")
            for other in claim.conflicts_with:
                if other not in ids:
                    raise ValueError(f"claim {claim.id}: conflicts_with names {other!r}, which is not there")
            for other in (o for d in claim.follows_from for o in d.of):
                if other not in with_value or claim.says is None:
                    raise ValueError(f"claim {claim.id}: follows_from needs `says` here and in {other!r}")
            for derivation in claim.follows_from:
                if derivation.relation == "relative change" and with_value[derivation.of[1]] == 0:
                    raise ValueError(f"claim {claim.id}: no relative change from {derivation.of[1]!r}, which is 0")
        return self


class Measurement(Record):
    """What one run says of a claim. Numbers that are not finite are null: an interval without that end."""

    run: str
    metric: str = Field(description="id of the metric that was taken")
    model: str
    baseline: str | None
    suites: tuple[str, ...]
    tasks: tuple[str, ...]
    value: float
    low: float | None
    high: float | None
    n: int
    n_clusters: int
    kind: Literal["replication", "analogue"]
    scale: str = Field(description="what the test differs in from what the claim was made with; empty for nothing")


class ClaimVerdict(Record):
    """A claim with its verdict."""

    claim: Claim
    source: Source
    verdict: Judgement
    reason: str
    measurement: Measurement | None = None
    others: tuple[Measurement, ...] = Field(default=(), description="from further runs, with fewer clusters")


class ClaimReport(Record):
    """What `qkbench claims --format json` prints."""

    format: Literal["qk-bench claim report"] = "qk-bench claim report"
    format_version: Literal[1] = 1
    subject: str
    confidence: float
    runs: tuple[str, ...]
    verdicts: tuple[ClaimVerdict, ...]

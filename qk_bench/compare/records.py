"""What a comparison says: the records that `qkbench compare --format json` prints. Their JSON Schema is a contract."""

from __future__ import annotations

import math
from typing import Literal

from pydantic import Field

from qk_bench.records import Direction, Record

Kind = Literal["rate", "mean", "set"]
Verdict = Literal["better", "worse", "different", "equivalent", "inconclusive", "too few clusters", "not tested"]
GateVerdict = Literal["drop", "non-inferior", "inconclusive"]
ALL_TASKS = "all"


class Side(Record):
    """One model's value on one task and metric. Numbers that do not exist or are not finite are null."""

    run: str = Field(description="the run directory, as given")
    model: str
    label: str = Field(description="how the model is called in the report; unique in it")
    privileged: bool = Field(description="true for controls that see the answer")
    uses_region: bool = Field(description="true for models that are given the region query")
    unseeded: bool = Field(default=False, description="true for models that cannot be seeded")
    value: float | None
    low: float | None = Field(default=None, description="lower end of the interval at the report's confidence")
    high: float | None = None
    n: int = Field(description="rows (sample, seed) the value rests on")
    failures: int = Field(description="outcomes that are a failure of the model")


class Comparison(Record):
    """B against A on one task and metric: every difference is B - A."""

    suite: str
    task: str = Field(description="the task, or `all` for all tasks together")
    metric: str
    unit: str
    direction: Direction
    kind: Kind = Field(description="`set`: a metric of a whole set, such as FID")
    a: Side
    b: Side
    difference: float | None
    low: float | None = Field(default=None, description="lower end of the paired difference's interval, uncorrected")
    high: float | None = None
    p: float | None = Field(default=None, description="two-sided; null with fewer than 10 clusters")
    p_corrected: float | None = None
    test: str = Field(default="", description="the test of no difference")
    family: Literal["primary", "exploratory"] = Field(description="primary is corrected by Holm, exploratory by BH")
    effect: float | None = Field(default=None, description="Cohen's h of rates, Cliff's delta of measurements")
    n: int = Field(description="pairs (sample, seed) with a value on both sides")
    n_clusters: int
    without_pair: int = Field(description="rows where one side or both have no value")
    margin: float | None = Field(default=None, description="the largest difference that does not matter, if stated")
    p_equivalent: float | None = Field(default=None, description="two one-sided tests against the margin")
    verdict: Verdict
    note: str = ""


class GateCell(Record):
    """One test of the regression gate: has B dropped beyond the margin on this task and metric?"""

    suite: str
    task: str
    metric: str
    a: str = Field(description="label of the baseline")
    b: str
    margin: float
    difference: float | None
    low: float | None = Field(default=None, description="lower end of the interval at confidence 1 - 2 alpha")
    high: float | None = None
    p_drop: float | None = Field(default=None, description="of `no drop beyond the margin`, Holm-corrected")
    p_non_inferior: float | None = Field(default=None, description="of `a drop of the margin or more`")
    n: int
    n_clusters: int
    identical: bool = Field(description="every output of B is byte for byte that of A")
    verdict: GateVerdict
    note: str = ""


class Gate(Record):
    """The regression gate: `drop` if any cell shows one, `non-inferior` if every cell is shown to be."""

    verdict: GateVerdict
    cells: tuple[GateCell, ...]

    @property
    def exit_code(self) -> int:
        """0 non-inferior, 1 a drop beyond a margin, 4 inconclusive."""
        return {"non-inferior": 0, "drop": 1, "inconclusive": 4}[self.verdict]


class Rank(Record):
    """A model's place on one task: the ranks that the corrected tests leave open."""

    label: str
    value: float | None
    best: int
    worst: int


class Ranking(Record):
    """Models of one run ordered by the primary metric."""

    suite: str
    task: str
    ranks: tuple[Rank, ...]
    groups: tuple[tuple[str, ...], ...] = Field(description="labels of models that cannot be told apart, best first")


class Report(Record):
    """Everything `qkbench compare` has to say."""

    format: Literal["qk-bench comparison"] = "qk-bench comparison"
    format_version: Literal[1] = 1
    alpha: float
    confidence: float
    primary_metric: str
    family_size: int = Field(description="hypotheses in the primary family: pairs of models × tasks, before any filter")
    exploratory_size: int
    notes: tuple[str, ...] = ()
    comparisons: tuple[Comparison, ...]
    rankings: tuple[Ranking, ...] = ()
    gate: Gate | None = None


def finite(value: float | None) -> float | None:
    """A number as JSON can hold it: None where it is not finite."""
    return float(value) if value is not None and math.isfinite(value) else None

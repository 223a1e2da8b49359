"""Identity of drawn faces, by the drawing's own parameters: face embedders need real faces."""

from __future__ import annotations

from collections.abc import Sequence

from qk_bench.interfaces import SampleMetric, Scored, Value
from qk_bench.records import MetricColumn
from qk_tasks.faces.person import Face
from qk_tasks.faces.suite import NAME
from qk_tasks.faces.verifier import kept_identity


class DrawnIdentity(SampleMetric):
    """Share of a person's features in which nobody who differs in that feature alone fits the output better."""

    needs = frozenset(("source",))
    kinds = frozenset(("edit",))
    default = False

    @property
    def columns(self) -> tuple[MetricColumn, ...]:
        """One column."""
        text = "share of a drawn person's features that the output keeps, outside of the edit"
        return (
            MetricColumn(id="identity[drawing]", unit="share", direction="higher", low=0, high=1, description=text),
        )

    def compute(self, items: Sequence[Scored]) -> list[tuple[Value, ...]]:
        """The share for each item; none for samples of other suites."""
        return [(_share(item),) for item in items]


def _share(item: Scored) -> Value:
    sample = item.sample
    if sample.suite != NAME or sample.source_scene is None or sample.target_scene is None:
        return Value(None, f"not a sample of {NAME}")
    wrong, share = kept_identity(
        Face.from_json(sample.source_scene), Face.from_json(sample.target_scene), item.returned
    )
    return Value(share, f"{wrong.replace('_', ' ')} is off" if wrong else "")

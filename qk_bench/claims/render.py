"""A claim report as a table or as Markdown. JSON is the report itself."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from qk_bench.claims.records import ClaimReport, ClaimVerdict, Measurement, Says
from qk_bench.text import markdown_safe, markdown_table, plain

if TYPE_CHECKING:
    from rich.console import Console

_HEAD = ["claim", "published", "measured", "n", "verdict", "test", "why"]


def print_table(report: ClaimReport, console: Console) -> None:
    """Print for a terminal."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for name in _HEAD:
        table.add_column(name)
    for verdict in report.verdicts:
        table.add_row(*(escape(plain(cell)) for cell in _row(verdict)))
    console.print(table)
    console.print(_summary(report), markup=False)


def markdown(report: ClaimReport) -> str:
    """The report as Markdown: an overview, then each claim with its quotation."""
    parts = [f"# Claims: {markdown_safe(report.subject)}", "", markdown_safe(_summary(report)), ""]
    parts += markdown_table(_HEAD, [_row(v) for v in report.verdicts])
    for v in report.verdicts:
        c = v.claim
        quote = " ".join(c.quote.split())
        parts += ["", f"## {markdown_safe(c.id)}: {v.verdict}", "", f"> {markdown_safe(quote)}", ""]
        test = f"{_kind(v.measurement)}; {v.measurement.scale or 'the same'}" if v.measurement else ""
        lines = [
            f"Source: {v.source.title} ({v.source.kind}{', ' + v.source.reference if v.source.reference else ''})",
            f"Published: {_published(c.says)}",
            *([f"Measured: {_measured(v.measurement)} in {v.measurement.run}"] if v.measurement else []),
            f"Why: {v.reason}",
            *([f"Scale of the claim: {c.scale}"] if c.scale else []),
            *([f"Scale of the test: {test}"] if test else []),
            f"What would test it: {c.data}",
            *([f"Note: {c.note}"] if c.note else []),
        ]
        parts += [f"- {markdown_safe(' '.join(line.split()))}" for line in lines]
    return "\n".join(parts)


def _summary(report: ClaimReport) -> str:
    counts = Counter(v.verdict for v in report.verdicts)
    parts = ", ".join(f"{n} {verdict}" for verdict, n in counts.most_common())
    return f"{len(report.verdicts)} claims: {parts}. Intervals at {report.confidence:.0%}."


def _row(v: ClaimVerdict) -> list[str]:
    m = v.measurement
    n, kind = (str(m.n), _kind(m)) if m is not None else ("", "")
    return [v.claim.id, _published(v.claim.says), _measured(m), n, v.verdict, kind, v.reason]


def _published(says: Says | None) -> str:
    if says is None:
        return "-"
    sign = {"equal": "", "at least": "≥ ", "at most": "≤ "}[says.bound]
    margin = f" ± {says.margin:g}" if says.margin else ""
    against = f" against {says.baseline}" if says.baseline else ""
    kind = "" if says.measure == "value" else f"{says.measure} of "
    return f"{kind}{says.metric} on {says.task}, {says.model}{against}: {sign}{says.value:g}{margin}"


def _measured(m: Measurement | None) -> str:
    if m is None:
        return ""
    ends = ", ".join("∞" if end is None else f"{end:.4g}" for end in (m.low, m.high))
    against = f" against {m.baseline}" if m.baseline else ""
    return f"{m.metric} of {m.model}{against}: {m.value:.4g} [{ends}]"


def _kind(m: Measurement) -> str:
    return f"{m.kind} on {', '.join(m.tasks)}" if m.tasks else m.kind

"""A report as a table, as Markdown or as JUnit XML. JSON is the report itself."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING
from xml.etree import ElementTree

from qk_bench.compare.records import Comparison, GateCell, Ranking, Report, Side
from qk_bench.text import markdown_safe, markdown_table, plain

if TYPE_CHECKING:
    from rich.console import Console

_ARROWS = {"higher": "↑", "lower": "↓", "none": ""}
_HEAD = ["metric", "task", "A", "B", "B - A", "p", "effect", "n", "failed A / B", "verdict"]
_GATE_HEAD = ["metric", "task", "B", "margin", "B - A", "p drop", "p non-inferior", "n", "gate"]
_RANK_HEAD = ["task", "rank", "model", "success"]


def print_table(report: Report, console: Console) -> None:
    """Print for a terminal."""
    from rich import box
    from rich.markup import escape
    from rich.table import Table

    for title, head, rows in _sections(report):
        table = Table(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False, title_justify="left", title=None)
        for name in head:
            table.add_column(name, no_wrap=name in ("B - A", "A", "B"))
        for row in rows:
            table.add_row(*(escape(plain(cell)) for cell in row))
        console.print(f"\n{plain(title)}", markup=False)
        console.print(table)
    for line in _footer(report):
        console.print(plain(line), markup=False)


def markdown(report: Report) -> str:
    """The report as Markdown, for a page or a comment on a change."""
    parts = []
    for title, head, rows in _sections(report):
        parts += [f"### {markdown_safe(title)}", "", *markdown_table(head, rows), ""]
    parts += [f"- {markdown_safe(line)}" for line in _footer(report)]
    return "\n".join(parts)


def junit(report: Report) -> str:
    """The report as JUnit XML: a case per comparison; with a gate a case per cell, which fails only on a drop."""
    root = ElementTree.Element("testsuites", name="qkbench compare")
    if report.gate is not None:
        cases = [_gate_case(cell, _gate_level(report)) for cell in report.gate.cells]
        _suite(root, "regression gate", cases)
    else:
        for pair in dict.fromkeys((c.a.label, c.b.label) for c in report.comparisons):
            here = [c for c in report.comparisons if (c.a.label, c.b.label) == pair]
            _suite(root, f"{pair[1]} against {pair[0]}", [_case(c) for c in here])
    totals = {name: sum(int(s.get(name, "0")) for s in root) for name in ("tests", "failures", "skipped")}
    root.attrib.update({name: str(n) for name, n in totals.items()} | {"errors": "0"})
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def _suite(root: ElementTree.Element, name: str, cases: list[ElementTree.Element]) -> None:
    suite = ElementTree.SubElement(root, "testsuite", name=plain(name), tests=str(len(cases)), errors="0")
    for kind in ("failure", "skipped"):
        suite.set("failures" if kind == "failure" else kind, str(sum(c.find(kind) is not None for c in cases)))
    suite.extend(cases)


def _case(c: Comparison) -> ElementTree.Element:
    name = f"{c.metric} on {c.task}"
    case = ElementTree.Element("testcase", classname=plain(f"{c.b.label} against {c.a.label}"), name=plain(name))
    text = f"{c.verdict}: {_difference(c)}, {_p(c)}, n = {c.n}"
    if c.verdict in ("inconclusive", "too few clusters", "not tested"):
        ElementTree.SubElement(case, "skipped", message=plain(text))
    ElementTree.SubElement(case, "system-out").text = plain(text)
    return case


def _gate_case(cell: GateCell, level: str) -> ElementTree.Element:
    case = ElementTree.Element(
        "testcase", classname=plain(f"{cell.b} against {cell.a}"), name=plain(f"{cell.metric} on {cell.task}")
    )
    text = f"{cell.verdict}: {_gate_text(cell, level)}"
    if cell.verdict == "drop":
        ElementTree.SubElement(case, "failure", message=plain(text), type="regression")
    elif cell.verdict == "inconclusive":
        ElementTree.SubElement(case, "skipped", message=plain(text))
    ElementTree.SubElement(case, "system-out").text = plain(text)
    return case


def _sections(report: Report) -> Iterable[tuple[str, list[str], list[list[str]]]]:
    """(title, head, rows) of each table."""
    if report.gate is not None:
        rows = [_gate_row(cell) for cell in report.gate.cells]
        yield f"Gate: {report.gate.verdict}", _GATE_HEAD, rows
    for pair in dict.fromkeys((c.a.label, c.b.label) for c in report.comparisons):
        here = [c for c in report.comparisons if (c.a.label, c.b.label) == pair]
        yield f"B = {_named(here[0].b)} against A = {_named(here[0].a)}", _HEAD, [_row(c) for c in here]
    if report.rankings:
        yield "Ranks the tests leave open", _RANK_HEAD, [row for r in report.rankings for row in _rank_rows(r)]


def _named(side: Side) -> str:
    marks = [name for name in ("privileged", "uses_region", "unseeded") if getattr(side, name)]
    return f"{side.label} ({', '.join(marks).replace('uses_region', 'is given the region')})" if marks else side.label


def _row(c: Comparison) -> list[str]:
    verdict = c.verdict + (f" (within {c.margin:g})" if c.verdict == "equivalent" else "")
    return [
        f"{c.metric} {_ARROWS[c.direction]}".strip() + ("" if c.family == "primary" else " *"),
        c.task,
        _value(c, c.a),
        _value(c, c.b),
        _difference(c),
        _p(c),
        "" if c.effect is None else f"{'h' if c.kind == 'rate' else 'δ'} {c.effect:+.2f}",
        str(c.n) + (f" ({c.without_pair} without)" if c.without_pair else ""),
        f"{c.a.failures} / {c.b.failures}",
        f"{verdict}; {c.note}" if c.note else verdict,
    ]


def _rank_rows(ranking: Ranking) -> Iterable[list[str]]:
    for rank in ranking.ranks:
        place = str(rank.best) if rank.best == rank.worst else f"{rank.best}-{rank.worst}"
        yield [ranking.task, place, rank.label, "-" if rank.value is None else f"{rank.value:.1%}"]


def _gate_row(cell: GateCell) -> list[str]:
    return [
        cell.metric,
        cell.task,
        cell.b,
        f"{cell.margin:g}",
        _signed(cell.difference, cell.low, cell.high),
        _number_p(cell.p_drop),
        _number_p(cell.p_non_inferior),
        str(cell.n),
        f"{cell.verdict}; {cell.note}" if cell.note else cell.verdict,
    ]


def _gate_level(report: Report) -> str:
    """The confidence of the gate's intervals, whose ends are those of its one-sided tests."""
    return f"{100 * (1 - 2 * report.alpha):g}%"


def _gate_text(cell: GateCell, level: str) -> str:
    text = f"B - A {_signed(cell.difference, cell.low, cell.high)} at {level}, margin {cell.margin:g}, n = {cell.n}"
    return f"{text}; {cell.note}" if cell.note else text


def _value(c: Comparison, side: Side) -> str:
    if side.value is None:
        return "-"
    form = "{:.1%}" if c.kind == "rate" else "{:.4g}"
    if side.low is None or side.high is None:
        return form.format(side.value)
    return f"{form.format(side.value)} [{form.format(side.low)}, {form.format(side.high)}]"


def _difference(c: Comparison) -> str:
    if c.kind == "rate" and c.difference is not None and c.low is not None and c.high is not None:
        return f"{100 * c.difference:+.1f} [{100 * c.low:+.1f}, {100 * c.high:+.1f}] points"
    return _signed(c.difference, c.low, c.high)


def _signed(value: float | None, low: float | None, high: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:+.4g}" if low is None or high is None else f"{value:+.4g} [{low:+.4g}, {high:+.4g}]"


def _p(c: Comparison) -> str:
    return _number_p(c.p_corrected)


def _number_p(p: float | None) -> str:
    return "-" if p is None else "< 0.0001" if p < 1e-4 else f"{p:.4f}"


def _footer(report: Report) -> list[str]:
    size, other = report.family_size, report.exploratory_size
    gate = "" if report.gate is None else f" (of the gate {_gate_level(report)}: its tests are one-sided)"
    return [
        *report.notes,
        f"{report.primary_metric}: p by Holm over a family of {size} (every pair of models × task). "
        f"Rows marked * are exploratory: p by Benjamini-Hochberg over {other}.",
        f"Intervals are at {report.confidence:.0%} each{gate}, uncorrected; verdicts at α = {report.alpha:g}.",
    ]

"""How numbers are written: one scale per column, so that decimal points align and units are said once."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

from qk_bench.records import MetricColumn
from qk_bench.stats import Estimate

MINUS = "\u2212"
MISSING = "–"


@dataclass(frozen=True)
class Scale:
    """How the values of one metric are written and drawn.

    Attributes:
        unit: Unit of the written values; `%` for shares.
        factor: Written value over stored value.
        decimals: Digits after the point.
        low: Left end of the axis, as stored.
        high: Right end of the axis, as stored.
    """

    unit: str
    factor: float
    decimals: int
    low: float
    high: float

    def text(self, value: float | None) -> str:
        """A value without its unit."""
        return MISSING if value is None else decimal(value * self.factor, self.decimals)

    def interval(self, low: float | None, high: float | None) -> str:
        """An interval without its unit."""
        if low is None or high is None or math.isnan(low) or math.isnan(high):
            return ""
        return f"[{self.text(low)}, {self.text(high)}]"

    def at(self, value: float) -> float:
        """Where on the axis a value is, in percent of its length."""
        share = (value - self.low) / (self.high - self.low)
        return round(100 * min(max(share, 0.0), 1.0), 2)


def decimal(value: float, decimals: int, *, sign: bool = False) -> str:
    """A number with a fixed number of decimals, a true minus, and no negative zero."""
    if math.isnan(value):
        return MISSING
    if math.isinf(value):
        return "∞" if value > 0 else f"{MINUS}∞"
    text = f"{value:{'+' if sign else ''},.{decimals}f}".replace(",", "\u202f")
    if not any(digit in text for digit in "123456789"):
        text = text.lstrip("+-")
    return text.replace("-", MINUS)


def is_share(column: MetricColumn) -> bool:
    """Whether a metric is written in percent."""
    return column.unit in ("", "share", "%") and column.low == 0.0 and column.high == 1.0


def scale_of(column: MetricColumn, estimates: Iterable[Estimate]) -> Scale:
    """The scale of one metric over the estimates of a table.

    Shares have an axis of 0 to 100 %, but errors that all are below 10 % one that ends at 1, 2, 5 or 10 %. Others span
    what is shown, ends included, with enough decimals for two digits of a usual interval.
    """
    if is_share(column):
        ends = [v for e in estimates for v in (e.value, e.low, e.high) if math.isfinite(v)]
        if column.direction == "lower" and 0 < max(ends, default=1.0) <= 0.1:
            return Scale("%", 100.0, 2, 0.0, next(end for end in (0.01, 0.02, 0.05, 0.1) if max(ends) <= end))
        return Scale("%", 100.0, 1, 0.0, 1.0)
    values, widths = [], []
    for e in estimates:
        ends = [v for v in (e.value, e.low, e.high) if math.isfinite(v)]
        values += ends
        if math.isfinite(e.high - e.low) and e.high > e.low:
            widths.append((e.high - e.low) / 2)
    low, high = (min(values), max(values)) if values else (0.0, 1.0)
    if high <= low:
        low, high = low - 0.5, low + 0.5
    largest = max(abs(low), abs(high))
    usual = sorted(widths)[len(widths) // 2] if widths else largest / 100
    decimals = min(max(1 - math.floor(math.log10(usual)), 0), 4) if usual > 0 else 2
    if largest >= 100:
        decimals = min(decimals, 1)
    step = nice_step(high - low)
    return Scale(column.unit, 1.0, decimals, math.floor(low / step) * step, math.ceil(high / step) * step)


def nice_step(span: float) -> float:
    """A step of 1, 2 or 5 times a power of ten that divides a span into four to ten parts."""
    power = 10.0 ** math.floor(math.log10(span / 4))
    # the tolerance: span / 4 may lie a rounding error below the very power of ten whose logarithm it has
    return next(power * m for m in (5, 2, 1) if power * m <= span / 4 * (1 + 1e-9))


def duration(seconds: float) -> tuple[str, str]:
    """A time as (number, unit) with three digits."""
    for unit, size in (("h", 3600.0), ("min", 60.0), ("s", 1.0), ("ms", 1e-3)):
        if seconds >= size * (2 if size > 1 else 1):
            return significant(seconds / size), unit
    return significant(seconds / 1e-6), "µs"


def significant(value: float, digits: int = 3) -> str:
    """A number with so many significant digits, never in powers of ten."""
    if value == 0 or not math.isfinite(value):
        return decimal(value, 0)
    return decimal(value, max(0, digits - 1 - math.floor(math.log10(abs(value)))))


def aligned(texts: Iterable[str]) -> list[str]:
    """Numbers with different decimals, padded with spaces as wide as a digit so that their points align."""
    found = list(texts)
    tails = [len(text.partition(".")[2]) if "." in text else -1 for text in found]
    longest = max(tails, default=-1)
    return [
        text + "\u2008" * (tail < 0 <= longest) + "\u2007" * (longest - max(tail, 0))
        for text, tail in zip(found, tails, strict=True)
    ]


def probability(p: float | None) -> str:
    """A p-value, never rounded to zero."""
    if p is None:
        return MISSING
    return "< 0.0001" if p < 0.0001 else f"{p:.4f}"


def milliseconds(seconds: float) -> str:
    """A time in ms with two decimals."""
    return "< 0.01" if 0 < seconds < 1e-5 else decimal(seconds * 1000, 2)


def count(value: int) -> str:
    """A whole number with thin spaces between thousands."""
    return f"{value:,}".replace(",", "\u202f")


def size(value: int | None) -> str:
    """A number of parameters or bytes, abbreviated: 1.2 M, 7.0 B."""
    if value is None:
        return MISSING
    for unit, power in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
        if value >= power:
            return f"{value / power:.{0 if value >= 100 * power else 1}f}\u202f{unit}"
    return str(value)

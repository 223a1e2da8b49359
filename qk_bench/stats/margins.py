"""Tests against a margin: has B dropped, is it non-inferior, are the two equivalent?"""

from __future__ import annotations

from typing import Literal, Protocol


class Difference(Protocol):
    """A paired difference, B - A, that can be tested against any value: `RateDifference` or `Bootstrap`."""

    @property
    def value(self) -> float:
        """The estimated difference."""
        ...

    def interval(self, confidence: float) -> tuple[float, float]:
        """The two-sided interval."""
        ...

    def p_value(self, null: float, alternative: Literal["greater", "less"]) -> float:
        """One-sided p-value of the hypothesis that the true difference is `null`."""
        ...


def drop_p(difference: Difference, margin: float, *, higher_is_better: bool = True) -> float:
    """P-value of "B is worse than A by no more than the margin"; small where the drop is beyond it.

    Args:
        difference: B - A.
        margin: The largest drop that is accepted, at least 0, in the metric's unit.
        higher_is_better: The metric's direction.
    """
    return difference.p_value(-margin, "less") if higher_is_better else difference.p_value(margin, "greater")


def non_inferiority_p(difference: Difference, margin: float, *, higher_is_better: bool = True) -> float:
    """P-value of "B is worse than A by the margin or more"; small where B is non-inferior.

    Equals the test whether the one-sided interval excludes the margin (ICH E9, 1998, section 3.3.2).

    Args:
        difference: B - A.
        margin: The largest drop that is accepted, above 0, in the metric's unit.
        higher_is_better: The metric's direction.
    """
    return difference.p_value(-margin, "greater") if higher_is_better else difference.p_value(margin, "less")


def equivalence_p(difference: Difference, margin: float) -> float:
    """P-value of "A and B differ by the margin or more", by two one-sided tests (Schuirmann, JPB 15, 1987).

    Args:
        difference: B - A.
        margin: The largest difference that does not matter, above 0, in the metric's unit.
    """
    return max(difference.p_value(-margin, "greater"), difference.p_value(margin, "less"))

"""What a check is."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

from qk_bench.errors import one_line


@dataclass(frozen=True)
class Check:
    """One promise, whether it is kept, and what to do if not."""

    name: str
    passed: bool
    reason: str = ""
    mend: str = ""


def failures(checks: Iterable[Check]) -> list[Check]:
    """The checks that failed."""
    return [check for check in checks if not check.passed]


def attempt(name: str, mend: str, find_fault: Callable[[], str]) -> Check:
    """Run one check.

    Args:
        name: The promise.
        mend: What to do if it is broken.
        find_fault: Gives what is wrong, empty if nothing is. What it raises is what is wrong.
    """
    try:
        fault = find_fault()
    except Exception as error:
        fault = one_line(error)
    return Check(name, not fault, fault, mend if fault else "")

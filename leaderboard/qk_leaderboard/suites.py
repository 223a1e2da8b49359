"""The suite that was run, as far as it is still installed."""

from __future__ import annotations

from functools import cache

from qk_bench.errors import QKBenchError
from qk_bench.interfaces import Suite
from qk_bench.plugins import load_suite


@cache
def installed(ref: str, digest: str) -> Suite | None:
    """The suite of a name if its content is that of the run; a folder of samples is read once, not for every page."""
    try:
        suite = load_suite(ref)
    except QKBenchError:
        return None
    return suite if suite.digest() == digest else None

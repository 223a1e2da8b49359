"""Whether what a metric needs is here, asked without importing it."""

from __future__ import annotations

from importlib.util import find_spec

from qk_bench import weights


def available(modules: tuple[str, ...], names: tuple[str, ...], extra: str) -> tuple[bool, str]:
    """Whether modules can be imported and weights are in the cache, and if not, the mend.

    Args:
        modules: Top-level modules.
        names: Weights, by their name in the table.
        extra: The extra of qk-bench that installs the modules.
    """
    for module in modules:
        if find_spec(module) is None:
            return False, f"{module} is not installed: pip install 'qk-bench[{extra}]'"
    for name in names:
        found, mend = weights.present(name)
        if not found:
            return False, mend
    return True, ""

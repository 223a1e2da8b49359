"""Metrics of images: one module each, found through the entry points `qk_bench.metrics`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qk_bench.errors import UsageError

GROUPS: Mapping[str, tuple[str, ...]] = {
    "pixel": ("psnr", "ssim", "color-difference", "paintbench", "drift"),
    "perceptual": ("lpips", "lpips-vgg", "drift-lpips", "identity"),
    "distribution": ("fid", "fid-tf", "kid", "precision-recall"),
}
"""Groups that `--metric` takes besides metrics; `all` stands for every installed metric, strangers' included."""


def expand(names: Iterable[str], installed: Iterable[str]) -> list[str]:
    """The metrics that names stand for, each once.

    Args:
        names: Metrics, groups, or `all`.
        installed: Names of the entry points found.

    Raises:
        UsageError: A name is neither.
    """
    known = list(installed)
    chosen: list[str] = []
    for name in names:
        members = known if name == "all" else GROUPS.get(name, (name,))
        for member in members:
            if member not in known:
                raise UsageError(f"there is no metric {member!r}", f"known: {', '.join([*known, *GROUPS, 'all'])}")
        chosen += members
    return list(dict.fromkeys(chosen))

"""Metrics of images: one module each, found through the entry points `qk_bench.metrics`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from qk_bench.errors import UsageError
from qk_bench.plugins import near

GROUPS: Mapping[str, tuple[str, ...]] = {
    "pixel": ("psnr", "ssim", "color-difference", "paintbench", "drift"),
    "perceptual": ("lpips", "lpips-vgg", "drift-lpips", "identity"),
    "distribution": ("fid", "fid-tf", "kid", "precision-recall"),
}
"""Groups that `--metric` takes besides metrics; `all` stands for every installed metric, strangers' included."""


def expand(names: Iterable[str], installed: Iterable[str]) -> list[str]:
    """The metrics that names stand for, each once.

    Args:
        names: Metrics, groups, `all`, or `path/to/file.py:ClassName`.
        installed: Names of the entry points found.

    Raises:
        UsageError: A name is none of these.
    """
    known = list(installed)
    chosen: list[str] = []
    for name in names:
        if name not in known and name not in GROUPS and name != "all" and ".py" not in name:
            raise UsageError(f"there is no metric {name!r}{near(name, [*known, *GROUPS, 'all'])}")
        chosen += known if name == "all" else GROUPS.get(name, (name,))
    return list(dict.fromkeys(chosen))

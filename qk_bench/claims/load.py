"""Finds claim files (entry point group `qk_bench.claims`, or a path) and reads them."""

from __future__ import annotations

from importlib.metadata import entry_points
from pathlib import Path

from qk_bench.claims.records import ClaimFile
from qk_bench.errors import UsageError, one_line

GROUP = "qk_bench.claims"


def installed() -> dict[str, Path]:
    """The claim files that installed packages bring: each entry point holds a path."""
    found = {}
    for entry in sorted(entry_points(group=GROUP), key=lambda e: e.name):
        try:
            found[entry.name] = Path(entry.load())
        except Exception as error:
            raise UsageError(f"entry point {entry.name} of {GROUP} cannot be loaded: {one_line(error)}") from error
    return found


def read(path: Path) -> ClaimFile:
    """Read a claim file.

    Raises:
        UsageError: It cannot be read or does not fit the format; the message names the file and the field.
    """
    import yaml
    from pydantic import ValidationError

    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=yaml.CSafeLoader)  # ten times as fast as safe_load
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise UsageError(f"{path} cannot be read: {' '.join(str(error).split())}") from None
    try:
        return ClaimFile.model_validate(data)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise UsageError(f"{path}: {where + ': ' if where else ''}{first['msg']}", "see docs/claims.md") from None

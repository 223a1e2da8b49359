"""The static site of one or several runs: a folder of HTML that opens from file:// with no network."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


def build(run_dirs: Sequence[Path], out_dir: Path, training: Sequence[Path] = (), claims: Sequence[Path] = ()) -> Path:
    """Write the site of runs into a folder; the same runs give the same bytes.

    Args:
        run_dirs: Folders that `qkbench run` or `qkbench score` wrote.
        out_dir: Where to write; what an earlier build left there is replaced, all but `CNAME` and names that begin
            with a dot.
        training: Folders that `qkbench train` wrote, for the pages of the models they made.
        claims: Claim files, beside the installed ones that these runs speak to.

    Returns:
        The path of its `index.html`.

    Raises:
        DamagedRunError: A folder is not a run, or is damaged.
        UsageError: The output folder holds something else, or cannot be written.
    """
    from qk_leaderboard.builder import build_site

    return build_site(run_dirs, out_dir, training, claims)


__all__ = ["build"]

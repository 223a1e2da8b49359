"""`qkbench site`: the static leaderboard of one or several runs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer


def site(
    run: Annotated[list[Path], typer.Argument(help="Folders of runs; several are merged.")],
    out: Annotated[Path, typer.Option(help="Folder to write; an earlier site there is replaced.")],
    training: Annotated[
        list[Path] | None,
        typer.Option(help="Folder that `qkbench train` wrote, shown with the model it made. Repeatable."),
    ] = None,
    claims: Annotated[
        list[Path] | None, typer.Option(help="Claim file to judge, besides the installed ones. Repeatable.")
    ] = None,
) -> None:
    """Write the site of runs: one folder that opens from disk or any static host, with no request to anywhere else.

    Exit codes: 0 done, 2 bad input, 3 damaged run.
    """
    from qk_bench.errors import UsageError

    try:
        from qk_leaderboard import build
    except ImportError as error:
        raise UsageError(f"the site builder is not installed: {error}", "install qk-bench whole") from None
    print(f"page: {build(run, out, training or (), claims or ())}")

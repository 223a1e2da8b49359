"""`qkbench claims`: do the published statements hold?"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from qk_bench.cli.show import Format


def claims(
    runs: Annotated[list[Path] | None, typer.Argument(help="Folders of runs; none lists the claims.")] = None,
    claims: Annotated[
        str | None, typer.Option(help="A claim file, or the name of an installed one (`query-kontext`).")
    ] = None,
    model: Annotated[
        list[str] | None, typer.Option(metavar="ROLE=MODEL", help="Which model stands for a role; may be repeated.")
    ] = None,
    format: Annotated[Format, typer.Option(help="How to print it.")] = Format.table,
) -> None:
    """Give each published claim a verdict: supported, contradicted, inconclusive, inconsistent, or not testable here.

    The measured value, its interval and the scale of the test stand beside each. docs/claims.md describes the format of
    claim files.
    """
    from qk_bench.claims.judge import judge
    from qk_bench.claims.load import installed, read
    from qk_bench.claims.render import markdown, print_table
    from qk_bench.compare.scores import load_run
    from qk_bench.errors import UsageError

    known = installed()
    if claims is not None:
        paths = [known[claims] if claims in known else Path(claims)]
    elif known:
        paths = list(known.values())
    else:
        raise UsageError("no claim file is installed", "name one with --claims FILE")
    names = {}
    for pair in model or []:
        role, separator, name = pair.partition("=")
        if not separator:
            raise UsageError(f"{pair!r} is not ROLE=MODEL")
        names[role] = name
    loaded = [load_run(run) for run in runs or []]
    reports = [judge(read(path), loaded, names) for path in paths]
    if format is Format.json:
        print(f"[{', '.join(r.model_dump_json(indent=2) for r in reports)}]")
    elif format is Format.markdown:
        print("\n\n".join(map(markdown, reports)))
    else:
        from rich.console import Console

        console = Console(highlight=False)
        if not console.is_terminal:
            console = Console(highlight=False, width=10_000)
        for report in reports:
            print_table(report, console)

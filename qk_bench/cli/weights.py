"""`qkbench weights pull|list|verify`: the pretrained files that metrics use."""

from __future__ import annotations

import json
from typing import Annotated, Literal

import typer

app = typer.Typer(no_args_is_help=True, help="Pretrained files of the metrics: fetch, list and check them.")

Names = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[NAME]...", help="Names of weights, or an extra (metrics, faces) for all it uses.", show_default=False
    ),
]
Format = Annotated[Literal["table", "json"], typer.Option("--format", help="How to print.")]


@app.command()
def pull(names: Names = None) -> None:
    """Fetch weights into the cache folder; without names, those of the extra `metrics`."""
    from qk_bench import weights

    for name in weights.select(names or []):
        print(weights.pull(name, say=lambda line: typer.echo(line, err=True)))


@app.command("list")
def list_(format: Format = "table") -> None:
    """List all weights: what they are, their licence, their size and whether they are here. Reads no content."""
    from qk_bench import weights

    rows = [
        {
            "name": name,
            "here": weights.present(name)[0],
            "extra": entry.extra,
            "megabytes": round(entry.converted.size / 1e6, 1),
            "licence": entry.licence,
            "package": entry.package.requirement,
            "description": entry.description,
        }
        for name, entry in weights.table().items()
    ]
    if format == "json":
        print(json.dumps({"folder": str(weights.cache_folder() / "weights"), "weights": rows}, indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("name", "here", "extra", "package", "licence", box=None, pad_edge=False)
    table.add_column("MB", justify="right")
    for row in rows:
        here = "yes" if row["here"] else "no"
        table.add_row(*map(str, (row["name"], here, row["extra"], row["package"], row["licence"], row["megabytes"])))
    Console().print(table)


@app.command()
def verify(names: Names = None, format: Format = "table") -> None:
    """Check the hash of weights. Exits with 1 if any is absent or damaged."""
    from qk_bench import weights

    states = {name: weights.state(name) for name in weights.select(names or [])}
    if format == "json":
        print(json.dumps(states, indent=2))
    else:
        for name, state in states.items():
            mend = "" if state == "present" else f"  (qkbench weights pull {name})"
            print(f"{state:8} {name}  {weights.path(name)}{mend}")
    if any(state != "present" for state in states.values()):
        raise typer.Exit(1)

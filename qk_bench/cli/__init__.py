"""The command line `qkbench`: one module per verb.

Modules of this package import nothing heavy at their top (no numpy, pydantic, pyarrow, torch), so that `--help` is
instant; a verb imports what it needs when it runs.
"""

from __future__ import annotations

import sys

import typer

from qk_bench import __version__
from qk_bench.cli import check, data
from qk_bench.cli.doctor import doctor
from qk_bench.cli.list import list_
from qk_bench.cli.run import run
from qk_bench.cli.schema import schema
from qk_bench.cli.score import score
from qk_bench.cli.sheet import sheet
from qk_bench.cli.show import show
from qk_bench.cli.train import train
from qk_bench.errors import QKBenchError

app = typer.Typer(
    name="qkbench",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
    epilog=(
        "[bold]Examples[/bold]\n\n"
        "qkbench run --task edit --model no-op --model oracle --limit 64 --out R\n\n"
        "qkbench show R --format json\n\n"
        "qkbench train query-kontext --preset micro --out TRAINING\n\n"
        "qkbench data export scenes --split test --limit 100 --out FOLDER\n\n"
        "qkbench score OUTPUTS --task edit --samples FOLDER\n\n"
        "Exit codes: 0 done, 1 the check failed, 2 bad input or usage, 3 not comparable or damaged run, "
        "4 inconclusive, 5 done with failed outcomes."
    ),
)
app.command()(run)
app.command()(score)
app.command()(show)
app.command()(train)
app.command()(sheet)
app.command("list")(list_)
app.add_typer(check.app, name="check")
app.command()(doctor)
app.command()(schema)
app.add_typer(data.app, name="data")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"qk-bench {__version__}")
        raise typer.Exit


@app.callback()
def _top(
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Tell whether one image editor or generator is really better than another."""


def main() -> None:
    """Run the command line: a user's mistake is one line on stderr and an exit code, never a traceback."""
    try:
        app()
    except QKBenchError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:  # the reader of our stdout, such as `head`, has gone
        sys.stderr.close()
        sys.exit(141)

"""The command line `qkbench`: one module per verb.

Modules of this package import nothing heavy at their top (no numpy, pydantic, pyarrow, torch), so that `--help` is
instant; a verb imports what it needs when it runs.
"""

from __future__ import annotations

import atexit
import gc
import io
import os
import sys
from typing import NoReturn

import typer

from qk_bench import __version__
from qk_bench.cli import check, container, data, weights
from qk_bench.cli.claims import claims
from qk_bench.cli.compare import compare
from qk_bench.cli.doctor import doctor
from qk_bench.cli.list import list_
from qk_bench.cli.power import power
from qk_bench.cli.run import run
from qk_bench.cli.schema import schema
from qk_bench.cli.score import score
from qk_bench.cli.sheet import sheet
from qk_bench.cli.show import show
from qk_bench.cli.site import site
from qk_bench.cli.train import train
from qk_bench.errors import FULL_DISK, QKBenchError, UsageError

app = typer.Typer(
    name="qkbench",
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
        "4 inconclusive, 5 done with failed outcomes or a judge that failed."
    ),
)
app.command()(run)
app.command()(score)
app.command()(show)
app.command()(compare)
app.command()(site)
app.command()(claims)
app.command()(power)
app.command()(train)
app.command()(sheet)
app.command("list")(list_)
app.add_typer(check.app, name="check")
app.command()(doctor)
app.command()(schema)
app.add_typer(data.app, name="data")
app.add_typer(weights.app, name="weights")
app.add_typer(container.app, name="container")


def _version(wanted: bool) -> None:
    if wanted:
        print(f"qk-bench {__version__}")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _top(
    context: typer.Context,
    version: bool = typer.Option(False, "--version", callback=_version, is_eager=True, help="Print the version."),
) -> None:
    """Tell whether one image editor or generator is really better than another."""
    if context.invoked_subcommand is None:
        print(context.get_help())


_MisuseError: type[Exception] = typer.BadParameter.__bases__[0]
"""What the parser raises for unknown options, missing values and the like."""


def main() -> None:
    """Run the command line: a user's mistake is one line on stderr and an exit code, never a traceback."""
    atexit.register(gc.freeze)  # collecting what dies with the process takes 0.2 s where pandas and scipy are loaded
    _open_streams()
    try:
        _check_encoding(sys.argv[1:])
        code = app(standalone_mode=False, prog_name="qkbench")
        sys.stdout.flush()
    except QKBenchError as error:
        _leave(str(error), error.exit_code)
    except _MisuseError as error:
        _leave(_misuse(error), 2)
    except (typer.Abort, KeyboardInterrupt):
        _leave("stopped", 130)
    except BrokenPipeError:  # the reader of our stdout, such as `head`, has gone
        _silence_stdout()
        sys.exit(141)
    except OSError as error:
        if error.errno not in FULL_DISK:
            raise
        _silence_stdout()
        _leave(f"cannot write {error.filename or 'the output'}: {error.strerror} (free some space)", 2)
    sys.exit(code if isinstance(code, int) else 0)


def _open_streams() -> None:
    """Make stdout and stderr fit to print to, whatever they are: closed, or of an encoding without arrows and lines."""
    while (descriptor := os.open(os.devnull, os.O_RDWR)) < 3:
        pass  # else the first file of a run that is opened becomes what libraries take for stdout
    os.close(descriptor)
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is None:
            setattr(sys, name, open(os.devnull, "w", encoding="utf-8"))  # noqa: SIM115 (as long as the process)
        elif isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _silence_stdout() -> None:
    """Drop what is left to print: the flush at exit must not fail again."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _check_encoding(arguments: list[str]) -> None:
    """Refuse what cannot be written into a manifest.

    Raises:
        UsageError: An argument is not UTF-8.
    """
    for argument in arguments:
        try:
            argument.encode()
        except UnicodeEncodeError:
            raise UsageError(f"{argument!r} is not UTF-8", "rename the file or folder") from None


def _misuse(error: Exception) -> str:
    message = " ".join(getattr(error, "format_message", error.__str__)().split())
    context = getattr(error, "ctx", None)
    return f"{message} (see {context.command_path} --help)" if context else message


def _leave(message: str, code: int) -> NoReturn:
    print(f"error: {message}", file=sys.stderr)
    sys.exit(code)

"""`qkbench data`: samples on disk."""

from __future__ import annotations

import enum
import json
import sys
from pathlib import Path
from typing import Annotated

import typer

from qk_bench.cli.list import Format
from qk_bench.cli.run import DEFAULT_LIMIT, DEFAULT_RESOLUTION, Resolution, Split
from qk_bench.text import plain

SHOWN = 20  # problems that are printed

app = typer.Typer(help="Samples on disk.")


@app.callback()
def _data() -> None:
    """Samples on disk."""


@app.command()
def export(
    task: Annotated[str, typer.Argument(help="Task, suite/task, suite, group, suite:FOLDER or file.py:SUITE.")],
    out: Annotated[Path, typer.Option(help="Folder to write; must not exist or be empty.")],
    split: Split = "test",
    limit: Annotated[int, typer.Option(min=1, help="Samples per task.")] = DEFAULT_LIMIT,
    resolution: Resolution = DEFAULT_RESOLUTION,
) -> None:
    """Write samples as a Hugging Face imagefolder (PNGs and metadata.jsonl), to run a model anywhere.

    Exit codes: 0 done, 5 done with bad input left out, 2 bad input.
    """
    from qk_bench.cli.run import say_left_out, say_of_suites
    from qk_bench.export import export as write
    from qk_bench.plugins import find_tasks
    from qk_bench.run.spec import in_split, make_tasks, without_unusable

    found = find_tasks([task])
    left_out = say_of_suites(found)
    found, empty = in_split(found, split)
    if empty:
        print(f"no samples in split {split}, left out: {', '.join(empty)}", file=sys.stderr)
    suites, tasks = make_tasks(found, split, limit)
    found, tasks, problems = without_unusable(found, tasks, split, resolution)
    left_out += say_left_out(problems)
    count = write(found, suites, tasks, split, resolution, out)
    print(f"{count} samples in {out}" if count else f"{out} holds this export already")
    if left_out:
        raise typer.Exit(5)


class Layout(enum.StrEnum):
    """What annotations are read."""

    coco = "coco-edits"
    openimages = "openimages"


class Form(enum.StrEnum):
    """How pairs are stored."""

    parquet = "parquet"
    webdataset = "webdataset"
    imagefolder = "imagefolder"


@app.command()
def build(
    name: Annotated[Layout, typer.Argument(help="What to build: pairs from COCO's or from Open Images' masks.")],
    source: Annotated[
        Path, typer.Option("--coco", "--openimages", "--from", help="Folder of the annotated photographs.")
    ],
    out: Annotated[Path, typer.Option(help="Folder to write; an interrupted build in it goes on.")],
    resolution: Annotated[int, typer.Option(min=64, max=2048, help="Pixels a side.")] = 512,
    seed: Annotated[int, typer.Option(min=0, help="Decides splits, colours, places and words.")] = 0,
    shares: Annotated[str, typer.Option(help="Shares of photographs in train, val and test.")] = "0.8,0.1,0.1",
    format: Annotated[Form, typer.Option(help="How to store the pairs.")] = Form.parquet,
    limit: Annotated[int | None, typer.Option(min=1, help="Use this many photographs.")] = None,
    photos_per_shard: Annotated[int, typer.Option(min=1, help="Photographs in one file.")] = 100,
    workers: Annotated[int | None, typer.Option(min=1, help="Processes; the number of cores by default.")] = None,
) -> None:
    """Build pairs of edits (recolour, remove, insert, move) from photographs with instance masks.

    Exit codes: 0 done, 5 done with bad input left out (listed in problems.jsonl) or without any pair, 2 bad input.
    """
    from qk_bench.errors import UsageError
    from qk_bench.run.environment import cores

    try:
        parts = tuple(float(part) for part in shares.split(","))
    except ValueError:
        parts = ()
    if len(parts) != 3:
        raise UsageError(f"--shares {shares} are not three numbers", "such as 0.8,0.1,0.1")
    from qk_tasks.pairs.builder import PROBLEMS, Options
    from qk_tasks.pairs.builder import build as make

    options = Options(name.value, seed, resolution, parts, format.value, photos_per_shard, limit)
    built = make(source, out, options, workers or cores())
    print(f"{built.pairs} pairs in {out}" if built.fresh else f"{out} holds this data set already: {built.pairs} pairs")
    if not built.pairs:
        why = built.reason or "no photograph can be used"
        print(f"no pair could be made; the most frequent reason: {why}", file=sys.stderr)
    if built.problems:
        for line in (out / PROBLEMS).read_bytes().splitlines()[:SHOWN]:
            problem = json.loads(line)
            print(_line(f"left out: {problem['file']}: {problem['item']}: {problem['what']}"), file=sys.stderr)
        more = f", of which {SHOWN} are shown" if built.problems > SHOWN else ""
        print(f"{built.problems} problems in the input{more}; all are in {out / PROBLEMS}", file=sys.stderr)
    if built.problems or not built.pairs:
        raise typer.Exit(5)


@app.command()
def check(
    folder: Annotated[Path, typer.Argument(help="Folder that `data build` wrote, or your own.")],
    format: Annotated[Format, typer.Option(help="How to print the result.")] = Format.table,
) -> None:
    """Check a folder of pairs item by item: fields, images, masks, ids, answers, splits.

    Exit codes: 0 all good, 1 an item is not or there is none, 2 not a folder of pairs.
    """
    from dataclasses import asdict

    from qk_tasks.pairs.check import check as inspect

    found = inspect(folder)
    if format is Format.json:
        print(plain(json.dumps(asdict(found), indent=2, ensure_ascii=False)))
    else:
        for problem in found.problems:
            print(_line(str(problem)))
        good = ", ".join(f"{n} {what}" for what, n in found.counts.items()) or "none"
        print(f"{found.items} items; good: {good}; {len(found.problems)} problems")
    if found.problems:
        raise typer.Exit(1)


def _line(text: str) -> str:
    """Names of files from elsewhere can hold anything, line ends too."""
    return plain(" ".join(text.split()))

"""`qkbench container build|verify|run`: the pinned image."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Literal

import typer

app = typer.Typer(no_args_is_help=True, help="The pinned image: build it, verify it, run commands in it.")

Variant = Annotated[str, typer.Option(help="Set of locked wheels: default, cpu, micro.")]
Platform = Annotated[str | None, typer.Option(help="Such as linux/amd64; the engine's own by default.")]
Recipe = Annotated[
    Path | None, typer.Option(help="Folder of Containerfile, image.json and locks; the one that ships by default.")
]
Tag = Annotated[str | None, typer.Option(help="Name of the image; qk-bench:VARIANT by default.")]
Wheels = Annotated[Path | None, typer.Option(help="Folder of the locked wheels; one in the cache folder by default.")]
Wheel = Annotated[Path | None, typer.Option(help="The project's own wheel; made from the checkout by default.")]
Format = Annotated[Literal["table", "json"], typer.Option("--format", help="How to print.")]


@app.command()
def build(
    variant: Variant = "default",
    platform: Platform = None,
    base: Annotated[
        str | None, typer.Option(help="Archive of a root file system, or repository@sha256:…; see docs/container.md.")
    ] = None,
    base_name: Annotated[
        str | None, typer.Option(help="Which base of image.json; with --record its name there.")
    ] = None,
    wheels: Wheels = None,
    wheel: Wheel = None,
    recipe: Recipe = None,
    tag: Tag = None,
    record: Annotated[bool, typer.Option("--record", help="Write what comes out into image.json.")] = False,
    sbom: Annotated[Path | None, typer.Option(help="Write the bill of materials there, as CycloneDX JSON.")] = None,
    format: Format = "table",
) -> None:
    """Build the image from a checked base and locked wheels, with the network off, and hold it against image.json.

    Exit codes: 0 done, 1 something is not what image.json says or a step failed, 2 bad input or no engine.
    """
    import dataclasses

    from qk_containers.build import Order
    from qk_containers.build import build as make
    from qk_containers.records import RECIPE

    order = Order(variant, platform, base, base_name, wheels, wheel, recipe or RECIPE, tag, record, sbom)
    built = make(order, lambda line: typer.echo(line, err=True))
    if record and recipe is None and wheel is None:
        typer.echo("recorded; the record is part of the project in the image: build again, without --record", err=True)
    if format == "json":
        print(json.dumps(dataclasses.asdict(built), indent=2))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table("step", "instruction", box=None, pad_edge=False)
    table.add_column("s", justify="right")
    table.add_column("MB", justify="right")
    for step in built.steps:
        size = "" if step.size is None else f"{step.size / 1e6:.1f}"
        table.add_row(step.number, step.instruction[:90], f"{step.seconds:.1f}", size)
    Console(soft_wrap=True, markup=False).print(table)
    print(f"image  {built.tag}  {built.image}")
    print(f"tree   {built.tree}  {built.files} paths, {built.size / 1e6:.0f} MB, {built.seconds:.0f} s in all")


@app.command()
def verify(
    variant: Variant = "default",
    platform: Platform = None,
    base: Annotated[Path | None, typer.Option(help="Check this archive of the base too.")] = None,
    wheels: Wheels = None,
    wheel: Wheel = None,
    recipe: Recipe = None,
    tag: Tag = None,
    format: Format = "table",
) -> None:
    """Hold an image against image.json: base, lock, recipe, configuration and every file. Exit code 1 if any differs."""
    import dataclasses

    from qk_containers.records import RECIPE
    from qk_containers.verify import Question, require
    from qk_containers.verify import verify as check

    question = Question(variant, platform, base, wheels, wheel, recipe or RECIPE, tag)
    checks = check(question, lambda line: typer.echo(line, err=True))
    if format == "json":
        print(json.dumps([dataclasses.asdict(check) for check in checks], indent=2))
    else:
        for one in checks:
            print(f"{'-' if one.passed is None else 'ok' if one.passed else 'FAIL':<4} {one.what:<12} {one.detail}")
            for line in one.lines:
                print(f"       {line}")
    require(checks)


@app.command(context_settings={"allow_interspersed_args": False})
def run(
    command: Annotated[list[str], typer.Argument(help="Program and arguments, after `--`.")],
    variant: Variant = "default",
    tag: Tag = None,
    runs: Annotated[Path, typer.Option(help="Folder that the command may write to.")] = Path("runs"),
    read: Annotated[
        list[Path] | None, typer.Option(help="File or folder that it may read besides. Repeatable.")
    ] = None,
    weights: Annotated[Path | None, typer.Option(help="Cache folder of weights; the usual one by default.")] = None,
    network: Annotated[str, typer.Option(help="A network of the engine, such as bridge; none by default.")] = "none",
    memory: Annotated[str, typer.Option(help="Memory limit.")] = "8g",
    pids: Annotated[int, typer.Option(min=1, help="Processes and threads at once.")] = 1024,
    cpus: Annotated[float | None, typer.Option(min=0.01, help="Processors; all by default.")] = None,
    gpus: Annotated[
        Literal["auto", "all", "none"], typer.Option(help="auto: pass GPUs on where there are any.")
    ] = "auto",
    env: Annotated[list[str] | None, typer.Option(help="NAME=value for the command. Repeatable.")] = None,
) -> None:
    """Run a command in the image: `qkbench container run -- qkbench run --task edit --out runs/mine`.

    The root is read-only, there is no network, no capability and no root user. Folders below the current one have the
    same relative names inside. Signals and the exit code pass through.
    """
    from qk_containers.run import Job
    from qk_containers.run import run as start

    name = tag or f"qk-bench:{variant}"
    job = Job(
        tuple(command), name, runs, tuple(read or ()), weights, network, memory, pids, cpus, gpus, tuple(env or ())
    )
    raise typer.Exit(start(job))

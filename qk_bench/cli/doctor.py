"""`qkbench doctor`: what is installed, missing or slow, and how to mend it."""

from __future__ import annotations

import enum
from typing import Annotated

import typer


class Format(enum.StrEnum):
    """How the findings are printed."""

    text = "text"
    json = "json"


def doctor(format: Annotated[Format, typer.Option(help="How to print it.")] = Format.text) -> None:
    """Say what is installed, missing or slow here, and how to mend it. Exit code 1 if something needed is broken."""
    import dataclasses
    import json

    from qk_bench.diagnosis import diagnose

    findings = diagnose()
    if format is Format.json:
        print(json.dumps([dataclasses.asdict(finding) for finding in findings], indent=2))
    else:
        for finding in findings:
            print(f"{finding.level:<5} {finding.what}: {finding.found}")
            if finding.mend:
                print(f"      mend: {finding.mend}")
    raise typer.Exit(1 if any(finding.level == "broken" for finding in findings) else 0)

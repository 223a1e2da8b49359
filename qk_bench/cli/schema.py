"""`qkbench schema`: the JSON Schema of the records."""

from __future__ import annotations

from typing import Annotated

import typer


def schema(record: Annotated[str, typer.Argument(help="Record, such as Outcome; all if none is named.")] = "") -> None:
    """Print the JSON Schema of the records that flow through a run."""
    import json

    from qk_bench.errors import UsageError
    from qk_bench.manifest import RECORDS
    from qk_bench.plugins import near

    if record and record not in RECORDS:
        raise UsageError(f"there is no record {record!r}{near(record, RECORDS)}")
    if record:
        print(json.dumps(RECORDS[record].model_json_schema(), indent=2))
        return
    print(json.dumps({name: kind.model_json_schema() for name, kind in RECORDS.items()}, indent=2))

"""`qkbench schema`: the JSON Schema of the records."""

from __future__ import annotations

from typing import Annotated

import typer


def schema(record: Annotated[str, typer.Argument(help="Record, such as Outcome; all if none is named.")] = "") -> None:
    """Print the JSON Schema of the records that flow through a run, and of the reports made from runs."""
    import json

    from qk_bench.claims.records import ClaimFile, ClaimReport
    from qk_bench.compare.planning import Plan
    from qk_bench.compare.records import Report
    from qk_bench.errors import UsageError
    from qk_bench.manifest import RECORDS
    from qk_bench.plugins import near

    records = RECORDS | {kind.__name__: kind for kind in (Report, Plan, ClaimFile, ClaimReport)}
    if record and record not in records:
        raise UsageError(f"there is no record {record!r}{near(record, records)}")
    if record:
        print(json.dumps(records[record].model_json_schema(), indent=2))
        return
    print(json.dumps({name: kind.model_json_schema() for name, kind in records.items()}, indent=2))

"""Training records: what `qkbench train` leaves beside a model, matched to the models of a run by the weights' hash."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from qk_bench.errors import UsageError


@dataclass(frozen=True)
class Training:
    """One training.

    Attributes:
        record: `training.json`.
        log: Lines of `log.jsonl`, in order; empty where it is not there.
    """

    record: dict[str, Any]
    log: tuple[dict[str, Any], ...]

    def curve(self, stage: str, name: str) -> list[tuple[float, float]]:
        """(step, value) of one logged quantity in one stage."""
        lines = [line for line in self.log if line.get("stage") == stage]
        return [(float(line["step"]), float(line[name])) for line in lines if isinstance(line.get(name), int | float)]

    @property
    def stages(self) -> list[str]:
        """The stages that were logged, in order."""
        return list(dict.fromkeys(str(line.get("stage")) for line in self.log))


def read_trainings(folders: Sequence[Path]) -> dict[str, Training]:
    """Training records by the sha256 of the weights they made.

    Args:
        folders: Folders that `qkbench train` wrote, or the `model` folders in them.

    Raises:
        UsageError: A folder holds no training record, or one that cannot be read.
    """
    found: dict[str, Training] = {}
    for folder in folders:
        path = next((p for p in (folder / "training.json", folder / "model" / "training.json") if p.is_file()), None)
        if path is None:
            raise UsageError(f"{folder} holds no training.json", "name a folder that `qkbench train` finished")
        log = next((p for p in (path.parent / "log.jsonl", path.parent.parent / "log.jsonl") if p.is_file()), None)
        try:
            record = json.loads(path.read_bytes())
            weights = str(record["weights_sha256"])
            lines = tuple(json.loads(line) for line in log.read_text("utf-8").splitlines()) if log else ()
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise UsageError(f"{path} cannot be read: {type(error).__name__}: {error}") from None
        found[weights] = Training(record, lines)
    return found

"""The log of a training: JSON lines, TensorBoard, and a line on stderr."""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any


class Log:
    """The log of one stage. Lines beyond the step resumed from are dropped.

    Args:
        out: Folder of the training.
        stage: Name of the stage.
        start: The step it goes on from.
        active: Whether this process writes.
    """

    def __init__(self, out: Path, stage: str, start: int, active: bool) -> None:
        self.out, self.stage, self.start, self.active = out, stage, start, active

    def __enter__(self) -> Log:
        if not self.active:
            return self
        from torch.utils.tensorboard import SummaryWriter

        path = self.out / "log.jsonl"
        kept = [line for line in read_log(path) if line["stage"] != self.stage or line["step"] <= self.start]
        partial = path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
        os.replace(partial, path)
        self.file = path.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(self.out / "tensorboard" / self.stage), purge_step=self.start + 1)
        return self

    def write(self, step: int, total: int, values: dict[str, Any], seconds: float) -> None:
        """Write one line; `seconds` is what the steps since the last line took."""
        if not self.active or not values:
            return
        self.file.write(json.dumps({"stage": self.stage, "step": step, **values, "seconds": round(seconds, 2)}) + "\n")
        self.file.flush()
        flat = {**values, **{f"validation/{k}": v for k, v in values.get("validation", {}).items()}}
        for key, value in flat.items():
            if isinstance(value, int | float):
                self.board.add_scalar(key, value, step)
        shown = "  ".join(
            f"{k} {v:.4g}"
            for k, v in flat.items()
            if isinstance(v, int | float) and "/" not in k.removeprefix("validation/")
        )
        print(f"{self.stage} {step}/{total}  {shown}", file=sys.stderr)

    def __exit__(self, *_: object) -> None:
        if self.active:
            self.file.close()
            self.board.close()


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a log."""
    if not path.exists():
        return
    for line in path.read_text("utf-8").splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)

"""The log of a training that was stopped and resumed tells of each step once."""

from __future__ import annotations

import json
from pathlib import Path

from qk_model.log import Log
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator


def test_a_resumed_log_keeps_the_step_of_its_state_and_drops_what_came_after(tmp_path: Path) -> None:
    for start, last in ((0, 3), (2, 4)):  # stopped after step 3, of which step 2 has a state
        with Log(tmp_path, "stage", start, active=True) as log:
            for step in range(start + 1, last + 1):
                log.write(step, 4, {"loss": float(10 * start + step)}, 0.0)
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text("utf-8").splitlines()]
    board = EventAccumulator(str(tmp_path / "tensorboard" / "stage")).Reload()
    wanted = [(1, 1.0), (2, 2.0), (3, 23.0), (4, 24.0)]
    assert [(line["step"], line["loss"]) for line in lines] == wanted
    assert [(event.step, event.value) for event in board.Scalars("loss")] == wanted

"""Draws samples and what a model made of them into one picture, to be looked at."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import QKBenchError, UsageError, one_line
from qk_bench.interfaces import Model, Task
from qk_bench.records import Request, Sample
from qk_bench.run.plan import make_request
from qk_bench.run.worker import Answer, answer
from qk_bench.store import writing

SIDE: Final = 128  # pixels of a picture
_GAP, _WORDS = 6, 44
_RIGHT, _WRONG, _PLAIN = (40, 150, 70), (200, 50, 50), (190, 190, 190)


def draw_sheet(model: Model, tasks: Sequence[Task], split: str, limit: int, resolution: int, out: Path) -> int:
    """Run a model on the first samples of each task and draw them.

    A model may show more than its output: if it has a method `make(requests)` whose results have `image` and `gate`,
    the gate, an (H, W) map in [0, 1], is drawn beside.

    Args:
        model: The model; `setup` is called here.
        tasks: Its tasks.
        split: Split of the suites.
        limit: Samples per task.
        resolution: Pixels a side.
        out: PNG file.

    Returns:
        The number of samples drawn.
    """
    from PIL import Image

    try:
        model.setup()
    except QKBenchError:
        raise
    except Exception as error:
        raise UsageError(f"model {model.card.name} cannot be used: {one_line(error)}") from error
    rows = []
    for task in tasks:
        samples = [task.sample(split, index, resolution) for index in range(limit)]
        for sample, (made, gate) in zip(samples, _outputs(model, samples), strict=True):
            rows.append(_row(task, sample, made, gate))
    columns = 2 if len(rows) > 4 else 1
    width, height = rows[0].shape[1], rows[0].shape[0]
    sheet = np.full((-(-len(rows) // columns) * height, columns * width, 3), 255, np.uint8)
    for number, row in enumerate(rows):
        y, x = number // columns * height, number % columns * width
        sheet[y : y + height, x : x + width] = row
    with writing(out):
        out.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(sheet).save(out, "PNG")
    return len(rows)


def _outputs(model: Model, samples: list[Sample]) -> list[tuple[Answer, NDArray[Any] | None]]:
    """What came of each sample, and the gate where there is one."""
    size = model.card.batch_size
    found: list[tuple[Answer, NDArray[Any] | None]] = []
    for begin in range(0, len(samples), size):
        some = samples[begin : begin + size]
        requests = [make_request(sample, model.card, 0) for sample in some]
        requests += [requests[-1]] * (size - len(requests))
        try:
            found += _call(model, requests)[: len(some)]
        except Exception as error:
            found += [(Answer("model_error", detail=one_line(error)), None)] * len(some)
    return found


def _call(model: Model, requests: list[Request]) -> list[tuple[Answer, NDArray[Any] | None]]:
    shown = getattr(model, "make", None)
    made = (
        [(one.image, one.gate) for one in shown(requests)] if shown else [(o, None) for o in model.generate(requests)]
    )
    if len(made) != len(requests):
        raise ValueError(f"returned {len(made)} outputs for {len(requests)} requests")
    return [(answer(image, black=True), gate) for image, gate in made]


def _row(task: Task, sample: Sample, made: Answer, gate: NDArray[Any] | None) -> NDArray[np.uint8]:
    """Source, target, output and gate of one sample, and below them the instruction and the verdict."""
    from PIL import Image, ImageDraw

    output = made.pixels
    verdict = None if output is None or not task.decides else task.verify(sample, output)
    colour = _PLAIN if verdict is None else _RIGHT if verdict.success else _WRONG
    gray = None if gate is None else np.repeat((np.clip(gate, 0, 1) * 255).astype(np.uint8)[:, :, None], 3, axis=2)
    pictures = [("source", sample.source), ("target", sample.target), ("output", output), ("gate", gray)]
    canvas = Image.new("RGB", (4 * (SIDE + _GAP) + _GAP, SIDE + 64), "white")
    pen = ImageDraw.Draw(canvas)
    for number, (name, picture) in enumerate(pictures):
        x = _GAP + number * (SIDE + _GAP)
        if picture is not None:
            canvas.paste(Image.fromarray(picture).resize((SIDE, SIDE), Image.Resampling.NEAREST), (x, _GAP))
        if name == "output":
            pen.rectangle((x - 3, _GAP - 3, x + SIDE + 2, _GAP + SIDE + 2), outline=colour, width=3)
        pen.text((x, SIDE + _GAP + 2), name, fill=(120, 120, 120))
    reason = f"{made.status}: {made.detail}" if output is None else ""
    if verdict is not None:
        reason = verdict.reason or "success"
    lines = [*textwrap.wrap(sample.instruction, 2 * _WORDS)[:2], *textwrap.wrap(reason, 2 * _WORDS)[:1]]
    text = "\n".join(lines).encode("latin-1", "replace").decode("latin-1")
    pen.multiline_text((_GAP, SIDE + _GAP + 16), text, fill=(20, 20, 20))
    return np.asarray(canvas)

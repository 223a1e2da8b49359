"""PaintBench (arXiv 2606.00188): triplets of input, instruction and the one right answer.

Layouts: `<task>/<NNN>_input.png`, `<NNN>_answer.png`, `<NNN>.json` as its generator writes them (also of TinyGrafixBench),
or a table with the columns task, problem_id, instruction, input_image, answer_image.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray
from pydantic import JsonValue

from qk_bench.errors import UsageError
from qk_bench.metrics.paintbench import accuracies
from qk_bench.records import Sample, Verdict
from qk_tasks.published.files import BadItemError, Picture, read_json, shown_files, text
from qk_tasks.published.suite import PublishedSuite, Row, Verify, task_name
from qk_tasks.published.tables import image_cell, table_files

BENCHMARKS: Final = ("PaintBench", "TinyGrafixBench")
"""Two benchmarks that are published together, and scored apart."""
PRESERVATION: Final = "preservation"
"""The task whose answer is its input: PaintBench calls it diagnostic, outside of its 1,920 scored problems."""
THRESHOLD: Final = 5
SUCCESS_IOU: Final = 0.9
"""Success is IoU of at least this at CIE76 of 5. Chosen here: PaintBench itself reports IoU and no success."""
KEPT: Final = 0.99


class PaintBenchSuite(PublishedSuite):
    """PaintBench or TinyGrafixBench, as its generator writes it or as a table."""

    name = "paintbench"
    diagnostics = frozenset((PRESERVATION,))
    layout = "<task>/<NNN>_input.png with <NNN>_answer.png and <NNN>.json, or Parquet with input_image and answer_image"

    def rows(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        """Each problem, by task and number."""
        if all((self.folder / name).is_dir() for name in BENCHMARKS):
            raise UsageError(
                f"{self.folder} holds {' and '.join(BENCHMARKS)}", f"name one: {self.folder / BENCHMARKS[0]}"
            )
        if table_files(self.folder):
            yield from self.table_rows(_from_table, "input_image", "answer_image")
            return
        problems = {
            (path.parent, match[1])
            for path in shown_files(self.folder, "*/*.png", "*/*.json")
            if (match := re.fullmatch(r"(\d+)(_input\.png|_answer\.png|\.json)", path.name))
        }
        for folder, number in sorted(problems):
            yield f"{folder.name}/{number}_input.png", partial(_from_files, folder, number)

    def verifier(self, task: str) -> Verify:
        """The answer is the one right picture."""
        return _verify_kept if task == PRESERVATION else _verify_iou

    def make_groups(self, tasks: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """`scored`: what PaintBench scores."""
        return {"scored": tuple(name for name in tasks if name != PRESERVATION)}


def _from_files(folder: Path, number: str) -> Row:
    meta_path = folder / f"{number}.json"
    if not meta_path.is_file():
        raise BadItemError(f"{meta_path.name} is missing")
    try:
        meta = read_json(meta_path)
    except UsageError as error:
        raise BadItemError(error.message) from None
    if not isinstance(meta, dict):
        raise BadItemError(f"{meta_path.name} is not an object")
    source, answer = (
        Picture(f"{folder.name}/{name}", folder / name) for name in (f"{number}_input.png", f"{number}_answer.png")
    )
    return _row(folder.name, number, meta, source, answer)


def _from_table(where: str, row: Mapping[str, Any]) -> Row:
    number = row.get("problem_id")
    if not isinstance(number, int | str):
        raise BadItemError("field 'problem_id' is missing")
    number = f"{number:03d}" if isinstance(number, int) else number
    return _row(text(row, "task"), number, row, image_cell(row, "input_image"), image_cell(row, "answer_image"))


def _row(task: str, key: str, meta: Mapping[str, Any], source: Picture, answer: Picture) -> Row:
    mode, condition = (str(meta.get(name) or "default") for name in ("mode", "visual_condition"))
    return Row(
        key=key,
        task=task_name(task),
        operation=mode,
        instruction=text(meta, "instruction"),
        source=source,
        target=answer,
        cluster=f"{task}/{key}",
        attributes={"mode": mode, "visual_condition": condition, "category": str(meta.get("category") or "")},
    )


def _verify_iou(sample: Sample, image: NDArray[np.uint8]) -> Verdict:
    """PaintBench's IoU with the answer, at CIE76 5, must be at least 0.9. PaintBench itself reports IoU and no success."""
    assert sample.source is not None and sample.target is not None
    found = accuracies(sample.source, sample.target, image)
    iou = float(found.iou[THRESHOLD])
    details: dict[str, JsonValue] = {
        "iou": iou,
        "edit": float(found.edit[THRESHOLD]),
        "preservation": float(found.preservation[THRESHOLD]),
    }
    reason = "" if iou >= SUCCESS_IOU else f"not the answer: IoU {iou:.2f}, success begins at {SUCCESS_IOU}"
    return Verdict(success=not reason, reason=reason, details=details)


def _verify_kept(sample: Sample, image: NDArray[np.uint8]) -> Verdict:
    """At least 99 % of the picture must be kept, within CIE76 5. PaintBench does not score this task."""
    assert sample.source is not None and sample.target is not None
    kept = float(accuracies(sample.source, sample.target, image).preservation[THRESHOLD])
    reason = "" if kept >= KEPT else f"not kept: {1 - kept:.1%} of the picture differs"
    return Verdict(success=not reason, reason=reason, details={"preservation": kept})

"""PaintBench (arXiv 2606.00188): triplets of input, instruction and the one right answer.

Layouts: `<task>/<NNN>_input.png`, `<NNN>_answer.png`, `<NNN>.json` as its generator writes them (also of TinyGrafixBench),
or a table with the columns task, problem_id, instruction, input_image, answer_image.
"""

from __future__ import annotations

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
from qk_tasks.published.files import BadItemError, Picture, has_table, image_cell, read_json, table_rows, text
from qk_tasks.published.suite import PublishedSuite, Row, Verify, task_name

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
        if has_table(self.folder):
            for where, row in table_rows(self.folder, ("input_image", "answer_image")):
                yield where, partial(_from_table, row)
            return
        for path in sorted(self.folder.glob("*/*_input.png")):
            yield path.relative_to(self.folder).as_posix(), partial(_from_files, path)

    def verifier(self, task: str) -> Verify:
        """The answer is the one right picture."""
        return _verify_kept if task == PRESERVATION else _verify_iou

    def make_groups(self, tasks: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """`scored`: what PaintBench scores."""
        return {"scored": tuple(name for name in tasks if name != PRESERVATION)}


def _from_files(path: Path) -> Row:
    stem = path.name.removesuffix("_input.png")
    meta_path = path.with_name(f"{stem}.json")
    if not meta_path.is_file():
        raise BadItemError(f"{meta_path.name} is missing")
    try:
        meta = read_json(meta_path)
    except UsageError as error:
        raise BadItemError(error.message) from None
    if not isinstance(meta, dict):
        raise BadItemError(f"{meta_path.name} is not an object")
    folder = path.parent.name
    answer = path.with_name(f"{stem}_answer.png")
    pictures = (Picture(f"{folder}/{path.name}", path), Picture(f"{folder}/{answer.name}", answer))
    return _row(folder, stem, meta, *pictures)


def _from_table(row: Mapping[str, Any]) -> Row:
    number = row.get("problem_id")
    if not isinstance(number, int | str):
        raise BadItemError("field 'problem_id' is missing")
    return _row(text(row, "task"), str(number), row, image_cell(row, "input_image"), image_cell(row, "answer_image"))


def _row(task: str, key: str, meta: Mapping[str, Any], source: Picture, answer: Picture) -> Row:
    mode, condition = (str(meta.get(name) or "default") for name in ("mode", "visual_condition"))
    return Row(
        key=f"{task}/{key}",
        task=task_name(task),
        operation=mode,
        instruction=text(meta, "instruction"),
        source=source,
        target=answer,
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

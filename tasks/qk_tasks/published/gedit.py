"""GEdit-Bench (Step1X-Edit): instructions in English and Chinese on photographs, scored by a judge.

Layout: Parquet or an imagefolder with the columns key, task_type, instruction, instruction_language, input_image.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from qk_tasks.published.files import text
from qk_tasks.published.suite import PublishedSuite, Row, task_name
from qk_tasks.published.tables import image_cell


class GEditSuite(PublishedSuite):
    """GEdit-Bench, one task per language and type; scores come from the metric `judge`."""

    name = "gedit-bench"
    layout = "Parquet or an imagefolder with key, task_type, instruction, instruction_language and input_image"

    def rows(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        """Each item, in the order of the files."""
        yield from self.table_rows(_row, "input_image", "input_image_raw")

    def make_groups(self, tasks: tuple[str, ...]) -> dict[str, tuple[str, ...]]:
        """`en` and `cn`: the languages, which GEdit-Bench reports apart."""
        languages = sorted({name.partition("-")[0] for name in tasks})
        return {lang: tuple(name for name in tasks if name.startswith(f"{lang}-")) for lang in languages}


def _row(where: str, row: Mapping[str, Any]) -> Row:
    language, kind, key = (text(row, field) for field in ("instruction_language", "task_type", "key"))
    return Row(
        key=key,
        task=task_name(f"{language}-{kind}"),
        operation=kind,
        instruction=text(row, "instruction"),
        source=image_cell(row, "input_image"),
        attributes={"language": language, "intersection": bool(row.get("Intersection_exist", False))},
    )

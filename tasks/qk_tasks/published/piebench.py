"""PIE-Bench and PIE-Bench++: prompts before and after, a mask as run lengths, no target.

Layouts: `mapping_file.json` with `annotation_images/…`, or a table with the columns image, id, target_prompt, mask.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from qk_bench.errors import UsageError
from qk_bench.records import Mask
from qk_tasks.masks import MaskProblemError
from qk_tasks.published.files import BadItemError, Picture, picture, text
from qk_tasks.published.suite import PublishedSuite, Row
from qk_tasks.published.tables import image_cell

TYPES = (
    "random", "change-object", "add-object", "delete-object", "change-content", "change-pose", "change-colour",
    "change-material", "change-background", "change-style",
)  # fmt: skip
"""The ten kinds of edit, by `editing_type_id`."""
SIDE = 512
"""Masks are run lengths over 512 × 512 pixels, whatever the image."""


class PieBenchSuite(PublishedSuite):
    """PIE-Bench: preservation outside its masks; its own masked figures are the metric `pie-bench`."""

    name = "pie-bench"
    layout = "mapping_file.json and annotation_images/, or Parquet with image, id, target_prompt and mask"

    def rows(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        """Each item, in the order of the file."""
        root = next((r for r in (self.folder, self.folder / "data") if (r / "mapping_file.json").is_file()), None)
        if root is not None:
            path = root / "mapping_file.json"
            data = self.read_json(path)
            if not isinstance(data, dict):
                raise UsageError(f"{path} is not an object of items")
            for key, item in data.items():
                yield f"{path.name} item {key}", partial(_from_files, root / "annotation_images", key, item)
        else:
            yield from self.table_rows(_from_table, "image")


def _from_files(images: Path, key: str, item: Any) -> Row:
    if not isinstance(item, dict):
        raise BadItemError("not an object")
    kind = str(item.get("editing_type_id", ""))
    if not re.fullmatch("[0-9]", kind):
        raise BadItemError(f"field 'editing_type_id' is {kind[:40]!r}, expected 0 to {len(TYPES) - 1}")
    source = picture(images, item.get("image_path"), "image_path")
    prompts = text(item, "original_prompt"), text(item, "editing_prompt")
    instruction = item.get("editing_instruction") or prompts[1]
    return _row(key, TYPES[int(kind)], str(instruction), prompts, source, item.get("mask"))


def _from_table(where: str, row: Mapping[str, Any]) -> Row:
    first = where.partition("/")[0].partition("_")[0]  # the folder is called <type>_<name>_<count>
    kind = TYPES[int(first)] if re.fullmatch("[0-9]", first) else "all"
    prompts = text(row, "source_prompt"), text(row, "target_prompt")
    return _row(text(row, "id"), kind, prompts[1], prompts, image_cell(row, "image"), row.get("mask"))


def _row(key: str, task: str, instruction: str, prompts: tuple[str, str], source: Picture, mask: Any) -> Row:
    before, after = (prompt.replace("[", "").replace("]", "") for prompt in prompts)
    return Row(
        key=key,
        task=task,
        operation=task,
        instruction=instruction.replace("[", "").replace("]", ""),
        source=source,
        mask=partial(decode_mask, mask),
        source_caption=before,
        target_caption=after,
    )


def decode_mask(runs: Any, height: int, width: int) -> Mask:
    """A mask from PIE-Bench's run lengths: pairs of start and length along the rows of 512 × 512 pixels.

    The border counts as inside, as in PIE-Bench's own reader, "to avoid annotation errors"; a run that passes the end is
    cut there, as it does. The mask is brought to the image by nearest neighbour.

    Args:
        runs: The list, or JSON or space-separated text of it.
        height: Of the image.
        width: Of the image.

    Raises:
        MaskProblemError: Not whole numbers in pairs, negative, or beginning beyond the end.
    """
    if isinstance(runs, str):
        try:
            runs = json.loads(
                runs if runs.lstrip().startswith("[") else f"[{','.join(runs.replace(',', ' ').split())}]"
            )
        except ValueError:
            runs = None
    if not isinstance(runs, list) or any(type(n) is not int for n in runs):
        raise MaskProblemError("field 'mask' is broken RLE: not a list of whole numbers")
    if len(runs) % 2:
        raise MaskProblemError(f"field 'mask' is broken RLE: {len(runs)} numbers, expected pairs of start and length")
    if len(runs) > 2 * SIDE * SIDE:
        raise MaskProblemError("field 'mask' is broken RLE: more runs than pixels")
    flat = np.zeros(SIDE * SIDE, np.bool_)
    for start, length in zip(runs[::2], runs[1::2], strict=True):
        if not 0 <= start < flat.size or length < 0:
            raise MaskProblemError(f"field 'mask' is broken RLE: a run of {length} pixels from {start}")
        flat[start : start + length] = True
    mask = flat.reshape(SIDE, SIDE)
    mask[[0, -1]] = True
    mask[:, [0, -1]] = True
    if (height, width) == (SIDE, SIDE):
        return mask
    rows, columns = (np.arange(size) * SIDE // size for size in (height, width))
    return np.ascontiguousarray(mask[rows[:, None], columns])

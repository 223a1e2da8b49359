"""MagicBrush: annotated source, mask, instruction and target; each turn starts from the annotated source of that turn.

Layouts: `edit_turns.json` (or `edit_sessions.json`) with `images/<id>/…` as the test and dev archives hold them, or a
table with the columns img_id, turn_index, source_img, mask_img, instruction, target_img. Turns that build on a model's
own earlier output are another protocol ("multi-turn") and are not run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import UsageError
from qk_bench.records import Mask
from qk_tasks.masks import MaskProblemError, from_array
from qk_tasks.published.files import BadItemError, Picture, picture, read_json, text
from qk_tasks.published.suite import PublishedSuite, Row
from qk_tasks.published.tables import image_cell

TASK = "single-turn"


class MagicBrushSuite(PublishedSuite):
    """MagicBrush, single-turn: each edit from its annotated source."""

    name = "magicbrush"
    layout = "edit_turns.json and images/<id>/…, or Parquet with source_img, mask_img, instruction and target_img"

    def rows(self) -> Iterator[tuple[str, Callable[[], Row]]]:
        """Each turn, in the order of the file."""
        root = next((path for path in (self.folder, self.folder / "test") if _annotation(path)), None)
        if root is not None:
            path = _annotation(root)
            assert path is not None
            captions = _captions(root / "global_descriptions.json")
            for where, turn in _turns(path, self.read_json(path)):
                yield where, partial(_from_files, root / "images", captions, turn)
        else:
            yield from self.table_rows(_from_table, "source_img", "mask_img", "target_img")


def _annotation(root: Path) -> Path | None:
    return next((root / name for name in ("edit_turns.json", "edit_sessions.json") if (root / name).is_file()), None)


def _turns(path: Path, data: Any) -> Iterator[tuple[str, Any]]:
    if isinstance(data, dict):  # sessions: id → turns
        turns = [turn for session in data.values() for turn in (session if isinstance(session, list) else [session])]
    elif isinstance(data, list):
        turns = data
    else:
        raise UsageError(f"{path} is neither a list of turns nor an object of sessions")
    for number, turn in enumerate(turns):
        yield f"{path.name} turn {number}", turn


def _captions(path: Path) -> dict[str, str]:
    """Global descriptions by image file, where the archive has them."""
    data = read_json(path) if path.is_file() else {}
    sessions = data.values() if isinstance(data, dict) else []
    return {str(k): str(v) for session in sessions if isinstance(session, dict) for k, v in session.items()}


def _from_files(images: Path, captions: Mapping[str, str], turn: Any) -> Row:
    if not isinstance(turn, dict):
        raise BadItemError("not an object")
    names = {field: text(turn, field) for field in ("input", "mask", "output")}
    session = names["output"].partition("-")[0]
    source, mask, target = (picture(images, f"{session}/{name}", field) for field, name in names.items())
    return _row(names["output"].rpartition(".")[0], session, turn, (source, mask, target), captions, names)


def _from_table(where: str, row: Mapping[str, Any]) -> Row:
    session, turn = str(row.get("img_id") or ""), row.get("turn_index")
    if isinstance(turn, float) and turn.is_integer():  # as pandas writes a column of which some are absent
        turn = int(turn)
    if not session or not isinstance(turn, int):
        raise BadItemError("field 'img_id' or 'turn_index' is missing")
    source, mask, target = (image_cell(row, field) for field in ("source_img", "mask_img", "target_img"))
    return _row(f"{session}-output{turn}", session, row, (source, mask, target), {}, {})


def _row(
    key: str,
    session: str,
    turn: Mapping[str, Any],
    pictures: tuple[Picture, Picture, Picture],
    captions: Mapping[str, str],
    names: Mapping[str, str],
) -> Row:
    source, mask, target = pictures
    mask.size()  # absent or broken masks are named here, with the item
    return Row(
        key=key,
        task=TASK,
        operation="edit",
        instruction=text(turn, "instruction"),
        source=source,
        target=target,
        mask=partial(read_mask, mask, source),
        cluster=session,
        source_caption=captions.get(names.get("input", ""), ""),
        target_caption=captions.get(names.get("output", ""), ""),
    )


def read_mask(mask: Picture, source: Picture, height: int, width: int) -> Mask:
    """The edit mask of a turn: transparent pixels, or white ones on the source, or a plain mask of two values.

    Raises:
        MaskProblemError: It has another size, nothing of it is marked, or it is a plain mask of other values.
        BadItemError: It cannot be read.
    """
    from PIL import Image

    mask.size()  # nearly everything that can be wrong with the file is named by this
    try:
        with Image.open(mask.stream()) as image:
            found = (image.height, image.width)
            alpha = np.asarray(image.getchannel("A")) if image.mode in ("RGBA", "LA") else None
            pixels = np.asarray(image.convert("RGB"))
    except Exception as error:  # decoders raise OSError, SyntaxError, ValueError, struct.error, …
        raise BadItemError(f"{mask.name}: corrupt or truncated image ({type(error).__name__})") from None
    if found != (height, width):
        raise MaskProblemError(f"{mask.name}: {found[1]}x{found[0]} pixels, its image is {width}x{height}")
    if alpha is not None and alpha.min() < 255:
        return np.ascontiguousarray(alpha < 128)
    two_values = np.isin(pixels, (0, 255)).all() or np.isin(pixels, (0, 1)).all()
    if two_values or (_is_grey(pixels) and not _is_grey(source.read())):
        try:
            marked = from_array(pixels)
        except MaskProblemError as error:
            raise MaskProblemError(f"{mask.name}: {error}") from None
    else:  # white on the source, which may itself be a grey photograph
        marked = np.ascontiguousarray((pixels == 255).all(axis=2))
    if not marked.any():
        raise MaskProblemError(f"{mask.name}: nothing is marked: neither transparent nor white pixels")
    return marked


def _is_grey(pixels: NDArray[np.uint8]) -> bool:
    return bool((pixels == pixels[:, :, :1]).all())

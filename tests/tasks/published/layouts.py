"""Writes small folders in the layouts the benchmarks are published in."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 24
Pixels = NDArray[np.uint8]


def picture(seed: int, height: int = SIDE, width: int = SIDE) -> Pixels:
    """A smooth random image."""
    small = np.random.default_rng(seed).integers(0, 256, (3, 3, 3), dtype=np.uint8)
    return np.asarray(Image.fromarray(small).resize((width, height), Image.Resampling.BICUBIC))


def edited(pixels: Pixels, colour: Sequence[int] = (250, 10, 30)) -> Pixels:
    """The image with a rectangle painted over."""
    result = pixels.copy()
    result[4:12, 6:16] = colour
    return result


def save(path: Path, pixels: Pixels, **options: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)


def png(pixels: Pixels) -> dict[str, Any]:
    """An image as the cell of a table, the way the `datasets` library writes it."""
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return {"bytes": buffer.getvalue(), "path": None}


def write_parquet(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    path.parent.mkdir(parents=True, exist_ok=True)
    pq.write_table(pa.Table.from_pylist([dict(row) for row in rows]), path)


def paintbench(root: Path, tasks: Sequence[str] = ("recolor", "border", "preservation"), count: int = 2) -> Path:
    """`<task>/<NNN>_input.png`, `<NNN>_answer.png`, `<NNN>.json`, and problems.jsonl."""
    lines = []
    for number, task in enumerate(tasks):
        for index in range(count):
            source = picture(10 * number + index, SIDE, SIDE + 8 * index)
            answer = source if task == "preservation" else edited(source)
            save(root / task / f"{index:03d}_input.png", source)
            save(root / task / f"{index:03d}_answer.png", answer)
            meta = {
                "instruction": f"Do {task} number {index}.", "task": task, "mode": "default", "visual_condition": "baseline",
                "problem_id": index, "seed": 7, "n": 3, "W": source.shape[1], "H": source.shape[0],
            }  # fmt: skip
            (root / task / f"{index:03d}.json").write_text(json.dumps(meta))
            lines.append(json.dumps(meta))
    (root / "problems.jsonl").write_text("\n".join(lines) + "\n")
    return root


def magicbrush(root: Path, sessions: int = 2) -> Path:
    """The test archive: edit_turns.json, edit_sessions.json, descriptions and images/<id>/…."""
    turns: list[dict[str, str]] = []
    by_session: dict[str, list[dict[str, str]]] = {}
    captions: dict[str, dict[str, str]] = {}
    for number in range(sessions):
        name = str(100 + number)
        before = picture(number)
        save(root / "images" / name / f"{name}-input.png", before)
        captions[name] = {f"{name}-input.png": "before"}
        for turn in (1, 2):
            after = edited(before, (20 * turn, 200, 40))
            mask = np.dstack([before, np.full(before.shape[:2], 255, np.uint8)])
            mask[2:14, 4:18, 3] = 0
            save(root / "images" / name / f"{name}-mask{turn}.png", mask)
            save(root / "images" / name / f"{name}-output{turn}.png", after)
            entry = {
                "input": f"{name}-input.png" if turn == 1 else f"{name}-output{turn - 1}.png",
                "mask": f"{name}-mask{turn}.png", "output": f"{name}-output{turn}.png", "instruction": f"edit {turn}",
            }  # fmt: skip
            turns.append(entry)
            by_session.setdefault(name, []).append(entry)
            captions[name][entry["output"]] = f"after {turn}"
            before = after
    root.mkdir(parents=True, exist_ok=True)
    (root / "edit_turns.json").write_text(json.dumps(turns))
    (root / "edit_sessions.json").write_text(json.dumps(by_session))
    (root / "global_descriptions.json").write_text(json.dumps(captions))
    return root


def piebench(root: Path, count: int = 3) -> Path:
    """mapping_file.json and annotation_images/, with masks over 512 × 512."""
    items: dict[str, Any] = {}
    for index in range(count):
        kind = index % 10
        name = f"{kind}_kind_80/1_artificial/{index:012d}.jpg"
        save(root / "annotation_images" / name, picture(index, 512, 512), quality=95)
        items[f"{index:012d}"] = {
            "image_path": name, "original_prompt": "a [red] bicycle", "editing_prompt": "a [blue] bicycle",
            "editing_instruction": "make the bicycle blue", "editing_type_id": str(kind), "blended_word": "bicycle bicycle",
            "mask": [512 * 100 + 50, 200, 512 * 101 + 50, 200, 512 * 511 + 500, 400],
        }  # fmt: skip
    (root / "mapping_file.json").write_text(json.dumps(items))
    return root


def gedit_rows(count: int = 2) -> list[dict[str, Any]]:
    """Rows of GEdit-Bench's table, in both languages."""
    return [
        {
            "key": f"key{index}", "task_type": kind, "instruction": "变红" if language == "cn" else "make it red",
            "instruction_language": language, "input_image": png(picture(index)), "input_image_raw": png(picture(index, 40, 40)),
            "Intersection_exist": index == 0,
        }
        for language in ("en", "cn") for kind in ("color_alter", "subject-add") for index in range(count)
    ]  # fmt: skip


def imgedit(root: Path) -> Path:
    """basic_edit.json beside the originals, as ImgEdit-Bench's readme lays them out."""
    items = {
        "1082": {"id": "animal/000342021.jpg", "prompt": "Smooth the shell.", "edit_type": "adjust"},
        "673": {"id": "style/000278574.jpg", "prompt": "Turn it into ukiyo-e.", "edit_type": "style"},
        "674": {"id": "style/000278574.jpg", "prompt": "Turn it into graffiti.", "edit_type": "style"},
    }
    for number, item in enumerate(items.values()):
        save(root / "original_images" / item["id"], picture(number), quality=95)
    (root / "basic_edit.json").write_text(json.dumps(items))
    (root / "judge_prompt.json").write_text(json.dumps({"adjust": "You are a data rater"}))
    return root

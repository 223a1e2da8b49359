"""The gallery's data: an index of all verdicts to filter by, and the samples themselves in pages loaded as scripts.

A page holds about `OUTPUTS_PER_PAGE` outputs with their texts and difference pictures; images lie beside it, named by
their hash, and load when they come into view. Pages are independent of each other, so several processes write them.
"""

from __future__ import annotations

import contextlib
import itertools
import pickle
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from qk_bench.errors import QKBenchError
from qk_bench.records import FAILURES, SUCCESS
from qk_bench.run.environment import cores
from qk_leaderboard.boards import Board
from qk_leaderboard.pictures import Answer, DrawnSamples, Output, PageJob, Place, write_page
from qk_leaderboard.results import counted
from qk_leaderboard.text import script

OUTPUTS_PER_PAGE: Final = 300
FEW: Final = 2000
"""With no more outputs than this, starting processes takes longer than the work."""

LARGE: Final = 128
"""Pictures of more pixels a side are shown larger, and smoothed."""

_CODES: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789"
SUCCEEDED, ABSENT, OTHER, OPEN = ".", "-", "_", "~"
_REASONS: Final = 40
"""Kinds of reason that are told apart in the filter; the rarest beyond these are `other reasons`."""


@dataclass(frozen=True)
class Gallery:
    """What the pages need to know of the gallery that was written.

    Attributes:
        examples: Per task, its first samples as they stand in the data pages.
        count: Number of samples.
        unjudged: Why no output has a verdict, where all have the same reason; else empty.
        size: How large pictures are shown at first, `s` or `m`.
    """

    examples: dict[str, list[dict[str, Any]]]
    count: int
    unjudged: str = ""
    size: str = "s"


@dataclass(frozen=True)
class _Table:
    """A board's outcomes in gallery order: (sample, model, seed)."""

    samples: list[tuple[str, int, str]]  # task, index, id
    rows: pd.DataFrame  # sample, model and seed numbers, and what came back
    seeds: list[int]
    metrics: list[str]
    values: NDArray[np.float64]  # (row, metric)
    unjudged: str


def write_gallery(board: Board, images: Path, data: Path, drawn: DrawnSamples, *, examples: int = 4) -> Gallery:
    """Write the images and data of a board's gallery.

    Args:
        board: The board.
        images: The site's image folder.
        data: Where the data files go.
        drawn: What was drawn before, with its images in the image folder.
        examples: How many samples of each task to give back.
    """
    data.mkdir(parents=True, exist_ok=True)
    for byte in range(256):
        (images / f"{byte:02x}").mkdir(parents=True, exist_ok=True)
    table = _table(board)
    per_page = max(4, OUTPUTS_PER_PAGE // max(1, len(board.models) * len(table.seeds)))
    (data / "index.js").write_text(script("index", _index(board, table, per_page)))
    jobs = _jobs(board, table, per_page, images, data, examples)
    found: dict[str, list[dict[str, Any]]] = {task: [] for task in board.tasks}
    for sample in _perform(jobs, len(table.rows), drawn):
        found[sample["task"]].append(sample)
    size = "m" if pd.to_numeric(table.rows["width"]).median() > LARGE else "s"
    return Gallery(found, len(table.samples), table.unjudged, size)


def _perform(jobs: Iterator[PageJob], outputs: int, drawn: DrawnSamples) -> list[dict[str, Any]]:
    """Do the jobs, here or in processes of their own; give back the samples that are kept, in gallery order."""
    workers = min(cores(), 8)
    if outputs - sum(len(sample.differences) for sample in drawn.values()) <= FEW or workers == 1:
        return [sample for job in jobs for sample in write_page(job, drawn)]
    command = [sys.executable, "-P", "-m", "qk_leaderboard.pictures"]
    with contextlib.ExitStack() as stack:
        pool = [
            stack.enter_context(subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE))
            for _ in range(workers)
        ]
        for process, job in zip(itertools.cycle(pool), jobs, strict=False):
            assert process.stdin is not None
            pickle.dump(job, process.stdin)
        kept: list[dict[str, Any]] = []
        for process in pool:
            answer, _ = process.communicate()
            if process.returncode:
                raise QKBenchError("a process that draws the gallery has failed; its message is above")
            kept += pickle.loads(answer)
    return sorted(kept, key=lambda sample: int(sample["n"]))


def _table(board: Board) -> _Table:
    outcomes = board.outcomes.reset_index(drop=True)
    tasks, models = list(board.tasks), board.models
    order = pd.DataFrame(
        {
            "task": pd.Categorical(outcomes["task"], categories=tasks).codes.astype(np.int64),
            "index": outcomes["index"].astype(np.int64),
            "model": pd.Categorical(outcomes["model"], categories=models).codes.astype(np.int64),
            "seed": outcomes["seed"].astype(np.int64),
        }
    ).sort_values(["task", "index", "model", "seed"])
    rows = outcomes.loc[order.index].reset_index(drop=True)
    numbers, keys = pd.factorize(rows["task"] + "\0" + rows["sample_id"])
    firsts = rows.iloc[np.unique(numbers, return_index=True)[1]]
    samples = list(zip(firsts["task"], firsts["index"], firsts["sample_id"], strict=True))
    rows = rows.assign(sample=numbers, model_number=order["model"].to_numpy())
    seeds = sorted(int(seed) for seed in rows["seed"].unique())
    metrics = [name for name in board.metrics if name != SUCCESS]

    def code(frame: pd.DataFrame) -> NDArray[np.int64]:
        """One number per (sample, model, seed)."""
        sample = pd.Index(keys).get_indexer(pd.Index(frame["task"].astype(str) + "\0" + frame["sample_id"].astype(str)))
        model = pd.Categorical(frame["model"].astype(str), categories=models).codes.astype(np.int64)
        seed = np.searchsorted(seeds, frame["seed"].to_numpy())
        return np.asarray((sample.astype(np.int64) * len(models) + model) * len(seeds) + seed)

    at = pd.Index(code(rows))
    success = board.scores[board.scores["metric"] == SUCCESS]
    place = at.get_indexer(pd.Index(code(success)))
    known = place >= 0
    verdicts, reasons = np.full(len(rows), np.nan), np.full(len(rows), "", dtype=object)
    verdicts[place[known]] = counted(success).to_numpy()[known]
    reasons[place[known]] = success["reason"].astype(str).to_numpy()[known]
    answered = place[known][(rows["status"] == "ok").to_numpy()[place[known]]]
    said, unjudged = set(reasons[answered]), ""
    if len(said) == 1 and np.isnan(verdicts[answered]).all():
        unjudged, reasons[answered] = said.pop(), ""  # said once, not at each output
    rows = rows.assign(success=verdicts, reason=reasons)
    values = np.full((len(rows), len(metrics)), np.nan)
    for number, metric in enumerate(metrics):
        own = board.scores[board.scores["metric"] == metric]
        place = at.get_indexer(pd.Index(code(own)))
        known = place >= 0
        values[place[known], number] = own["value"].to_numpy(float, na_value=np.nan)[known]
    present = [m for m in range(len(metrics)) if not np.isnan(values[:, m]).all()]
    return _Table(samples, rows, seeds, [metrics[m] for m in present], values[:, present], unjudged)


def kind_of_reason(reason: str) -> str:
    """A reason without what is particular to the sample: `wrong colour: ΔE 31 from blue` → `wrong colour`."""
    return re.sub(r"\d+(\.\d+)?", "#", reason.partition(":")[0]).strip()[:60]


def _index(board: Board, table: _Table, per_page: int) -> dict[str, Any]:
    rows = table.rows
    failed_edit = (rows["status"] == "ok") & (rows["success"] == 0)
    kinds = rows["reason"].where(failed_edit, "").map(kind_of_reason)
    frequent = sorted(Counter(kinds[failed_edit]).items(), key=lambda item: (-item[1], item[0]))
    named = [kind for kind, _ in frequent[:_REASONS]]
    statuses = sorted(set(rows["status"]) - {"ok"})
    codes = [(SUCCEEDED, "right", "right")]
    codes += [(_CODES[n], "wrong", kind or "wrong") for n, kind in enumerate(named)]
    codes += [
        (_CODES[len(named) + n], "failed" if status in FAILURES else "unverified", status.replace("_", " "))
        for n, status in enumerate(statuses)
    ]
    codes += [(OTHER, "wrong", "other reasons"), (OPEN, "unverified", "no verdict")]
    by_kind = dict(zip(named, _CODES, strict=False))
    by_status = {status: _CODES[len(named) + n] for n, status in enumerate(statuses)}
    letters = np.full((len(board.models), len(table.seeds), len(table.samples)), ABSENT, dtype="U1")
    seed = np.searchsorted(table.seeds, rows["seed"].to_numpy())

    def letter(success: float, status: str, kind: str) -> str:
        if status != "ok":
            return by_status[status]
        return SUCCEEDED if success == 1 else by_kind.get(kind, OTHER) if success == 0 else OPEN

    found = itertools.starmap(letter, zip(rows["success"], rows["status"], kinds, strict=True))
    letters[rows["model_number"].to_numpy(), seed, rows["sample"].to_numpy()] = list(found)
    used = set(letters.ravel().tolist())
    starts = np.unique([list(board.tasks).index(task) for task, _, _ in table.samples], return_counts=True)
    return {
        "page": per_page,
        "ids": [id for _, _, id in table.samples],
        "tasks": [[list(board.tasks)[n], int(count)] for n, count in zip(*starts, strict=True)],
        "models": [{"name": name, "role": board.entry(name).role} for name in board.models],
        "seeds": table.seeds,
        "metrics": table.metrics,
        "codes": [code for code in codes if code[0] in used],
        "verdicts": [["".join(line) for line in model] for model in letters.tolist()],
    }


def _jobs(board: Board, table: _Table, per_page: int, images: Path, data: Path, examples: int) -> Iterator[PageJob]:
    folders = {entry.run.label: entry.run.directory.path for held in board.entries.values() for entry in held}
    names = ("model_number", "seed", "status", "image", "width", "height", "success", "reason", "detail", "run")
    columns = {name: table.rows[name].tolist() for name in names}
    left = dict.fromkeys(board.tasks, examples)
    bounds = np.searchsorted(table.rows["sample"].to_numpy(), np.arange(len(table.samples) + 1))
    place = Place(board.suite_ref, board.digest, board.split, board.resolution)
    make = partial(PageJob, images=images, suite=board.suite, place=place)
    for page, start in enumerate(range(0, len(table.samples), per_page)):
        answers = []
        for number in range(start, min(start + per_page, len(table.samples))):
            task, index, id = table.samples[number]
            rows = range(int(bounds[number]), int(bounds[number + 1]))
            answers.append(Answer(task, int(index), id, _outputs(table, columns, rows, folders), left[task] > 0))
            left[task] -= 1
        yield make(name=f"samples-{page}", path=data / f"samples-{page}.js", answers=tuple(answers))


def _outputs(table: _Table, columns: dict[str, list[Any]], rows: range, folders: dict[str, Path]) -> tuple[Output, ...]:
    found = []
    for row in rows:
        image, width, success = columns["image"][row], columns["width"][row], columns["success"][row]
        status = columns["status"][row]
        values = tuple(None if v != v else float(f"{v:.4g}") for v in table.values[row].tolist())
        found.append(
            Output(
                model=columns["model_number"][row],
                seed=columns["seed"][row],
                status=status,
                image=image if isinstance(image, str) else None,
                size=None if width is None or width != width else (int(width), int(columns["height"][row])),
                success=None if success != success else bool(success),
                reason=(columns["reason"][row] if status == "ok" else columns["detail"][row]) or "",
                folder=folders[columns["run"][row]],
                lead=_lead(table, values) if success != success and status == "ok" else "",
                values=values,
            )
        )
    return tuple(found)


def _lead(table: _Table, values: tuple[float | None, ...]) -> str:
    """The first value of an output, with its metric's name."""
    return next((f"{name} {v:g}" for name, v in zip(table.metrics, values, strict=True) if v is not None), "")

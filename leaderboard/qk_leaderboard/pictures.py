"""Writes one data page of the gallery: draws its samples again, links its images, makes its difference pictures.

Runs in worker processes too, as `python -m qk_leaderboard.pictures`, which read jobs from stdin. A sample is drawn from
the suite by its index, because a run stores only outputs; where the suite is not installed, or no longer the one that
was run, the page shows outputs without source and target.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import pickle
import shutil
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import one_line
from qk_bench.images import decode_png, encode_png, resample
from qk_bench.records import Sample
from qk_bench.store import IMAGES
from qk_leaderboard.difference import Judge, encode
from qk_leaderboard.suites import installed
from qk_leaderboard.text import script

MAX_DIFFERENCE_SIDE = 512
"""Difference pictures are made at no more than this many pixels a side; they travel inside the data pages."""


@dataclass(frozen=True)
class Output:
    """What one model gave for one sample and seed."""

    model: int
    seed: int
    status: str
    image: str | None
    size: tuple[int, int] | None
    success: bool | None
    reason: str
    lead: str  # a value to show where there is no verdict
    folder: Path
    values: tuple[float | None, ...]


@dataclass(frozen=True)
class Answer:
    """One sample and all its outputs; `keep` asks for it to be handed back."""

    task: str
    index: int
    id: str
    outputs: tuple[Output, ...]
    keep: bool


@dataclass(frozen=True)
class Place:
    """Where samples come from: the suite as it was run."""

    suite_ref: str
    digest: str
    split: str
    resolution: int


@dataclass(frozen=True)
class PageJob:
    """One data page."""

    name: str
    path: Path
    images: Path
    suite: str
    place: Place
    answers: tuple[Answer, ...]


@dataclass
class Drawn:
    """What a gallery shows of a sample and of the outputs that were drawn: the images lie in its image folder.

    Attributes:
        entry: The sample's own part of its entry.
        differences: Difference pictures as base64 by the hash of the output; empty where it cannot be told.
    """

    entry: dict[str, Any]
    differences: dict[str, str] = field(default_factory=dict)

    def covers(self, answer: Answer) -> bool:
        """Whether nothing is left to draw."""
        return all(output.image is None or output.image in self.differences for output in answer.outputs)


DrawnSamples = Mapping[tuple[str, str, str], Drawn]
"""By suite, task and id of the sample."""


def write_page(job: PageJob, drawn: DrawnSamples) -> list[dict[str, Any]]:
    """Write one data page and its images, but those that are drawn; give back the samples that are to be kept."""
    samples = [_sample(job, answer, drawn) for answer in job.answers]
    job.path.write_text(script(job.name, samples))
    return [sample for sample, answer in zip(samples, job.answers, strict=True) if answer.keep]


def _sample(job: PageJob, answer: Answer, drawn: DrawnSamples) -> dict[str, Any]:
    here = drawn.get((job.suite, answer.task, answer.id))
    if here is None or not here.covers(answer):
        pencil = Pencil(job.place, answer.task, answer.index, answer.id, job.images)
        here = pencil.drawn
        for output in answer.outputs:
            if output.image is not None:
                pencil.draw(output.folder, output.image)
    return here.entry | {"outputs": [_output(output, here) for output in answer.outputs]}


class Pencil:
    """Draws one sample and the differences of its outputs.

    Args:
        place: The suite and how it was run.
        task: Task of the sample.
        index: Its index.
        id: Its id; where the suite now has another sample there, outputs stand without source and target.
        images: The gallery's image folder.
    """

    def __init__(self, place: Place, task: str, index: int, id: str, images: Path) -> None:
        self._images = images
        self._judge: Judge | None = None
        self.drawn = Drawn({"id": id, "task": task, "n": index})
        sample = _load(place, task, index)
        if sample is None or sample.id != id:
            return
        self.drawn.entry |= {
            "op": sample.operation,
            "key": str(sample.attributes.get("key", "")),
            "text": sample.instruction,
            "source": _put(images, sample.source),
            "target": _put(images, sample.target),
            "references": [_put(images, reference) for reference in sample.references],
            "size": [sample.width, sample.height],
        }
        if sample.source is not None and sample.target is not None:
            scale = min(1.0, MAX_DIFFERENCE_SIDE / max(sample.width, sample.height))
            self._size = max(1, round(sample.width * scale)), max(1, round(sample.height * scale))
            self._judge = Judge(resample(sample.source, *self._size), resample(sample.target, *self._size))

    def draw(self, folder: Path, sha: str) -> None:
        """Bring an output of a run into the image folder and draw its difference picture, where it can be told."""
        if sha in self.drawn.differences:
            return
        png = _link(folder, sha, self._images)
        if png is None:
            return
        difference = b""
        if self._judge is not None:
            difference = encode(self._judge.classify(resample(decode_png(png), *self._size)))
        self.drawn.differences[sha] = base64.b64encode(difference).decode()


def _load(place: Place, task: str, index: int) -> Sample | None:
    suite = installed(place.suite_ref, place.digest)
    found = suite.tasks.get(task) if suite else None
    if found is None:
        return None
    try:
        return found.sample(place.split, index, place.resolution)
    except Exception as error:  # a plug-in's own code
        print(f"{place.suite_ref}/{task}, sample {index}: {one_line(error)}", file=sys.stderr)
        return None


def _output(output: Output, drawn: Drawn) -> dict[str, Any]:
    entry: dict[str, Any] = {"m": output.model, "s": output.seed}
    if output.success is not None:
        entry["ok"] = int(output.success)
    if output.status != "ok":
        entry["status"] = output.status.replace("_", " ")
    if output.reason:
        entry["why"] = output.reason
    if output.lead:
        entry["lead"] = output.lead
    if output.image is not None:
        difference = drawn.differences.get(output.image)
        if difference is None:
            entry["why"] = "the stored image is missing or damaged"
            return entry
        entry["image"] = output.image
        if output.size is not None and list(output.size) != drawn.entry.get("size"):
            entry["size"] = output.size
        entry["diff"] = difference
    if any(value is not None for value in output.values):
        entry["values"] = output.values
    return entry


def _link(folder: Path, sha: str, images: Path) -> bytes | None:
    """Bring a stored output into the site, as another name of the same file where the disk allows.

    Returns:
        The PNG; None if it is missing or not what its name says.
    """
    stored = os.path.join(folder, IMAGES, sha[:2], f"{sha}.png")  # as text: there may be 100,000 of them
    try:
        with open(stored, "rb") as file:
            data = file.read()
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() != sha:
        return None
    path = _place(images, sha)
    if not os.path.exists(path):
        try:
            os.link(stored, path)
        except FileExistsError:
            pass
        except OSError:
            shutil.copyfile(stored, path)
    return data


def _put(images: Path, pixels: NDArray[np.uint8] | None) -> str | None:
    """Store an image of a sample by the hash of its PNG."""
    if pixels is None:
        return None
    data = encode_png(pixels)
    sha = hashlib.sha256(data).hexdigest()
    with contextlib.suppress(FileExistsError), open(_place(images, sha), "xb") as file:
        file.write(data)
    return sha


def _place(images: Path, sha: str) -> str:
    return os.path.join(images, sha[:2], f"{sha}.png")


def main() -> None:
    """Do the jobs that arrive on stdin, one pickle after the other, and answer with all samples that are to be kept."""
    kept: list[dict[str, Any]] = []
    while True:
        try:
            job = pickle.load(sys.stdin.buffer)
        except EOFError:
            break
        kept += write_page(job, {})
    pickle.dump(kept, sys.stdout.buffer)


if __name__ == "__main__":
    main()

"""Writes one data page of the gallery: draws its samples again, links its images, makes its difference pictures.

Runs in worker processes too, as `python -m qk_leaderboard.pictures`, which read jobs from stdin. A sample is drawn from
the suite by its index, because a run stores only outputs; where the suite is not installed, or no longer the one that
was run, the page shows outputs without source and target.
"""

from __future__ import annotations

import base64
import hashlib
import os
import pickle
import shutil
import sys
from dataclasses import dataclass
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
class PageJob:
    """One data page."""

    name: str
    path: Path
    images: Path
    suite_ref: str
    suite: str
    digest: str
    split: str
    resolution: int
    answers: tuple[Answer, ...]


def write_page(job: PageJob) -> list[dict[str, Any]]:
    """Write one data page and its images; give back the samples that are to be kept."""
    samples = [_sample(job, answer) for answer in job.answers]
    job.path.write_text(script(job.name, samples))
    return [sample for sample, answer in zip(samples, job.answers, strict=True) if answer.keep]


def _sample(job: PageJob, answer: Answer) -> dict[str, Any]:
    sample = _draw(job, answer)
    entry: dict[str, Any] = {"id": answer.id, "task": answer.task, "n": answer.index}
    if sample is not None:
        entry |= {
            "op": sample.operation,
            "key": str(sample.attributes.get("key", "")),
            "text": sample.instruction,
            "source": _put(job.images, sample.source),
            "target": _put(job.images, sample.target),
            "references": [_put(job.images, reference) for reference in sample.references],
            "size": [sample.width, sample.height],
        }
    differences = _Differences(sample)
    entry["outputs"] = [_output(job, output, sample, differences) for output in answer.outputs]
    return entry


def _draw(job: PageJob, answer: Answer) -> Sample | None:
    suite = installed(job.suite_ref, job.digest)
    task = suite.tasks.get(answer.task) if suite else None
    if task is None:
        return None
    try:
        sample = task.sample(job.split, answer.index, job.resolution)
    except Exception as error:  # a plug-in's own code
        print(f"{job.suite}/{answer.task}, sample {answer.index}: {one_line(error)}", file=sys.stderr)
        return None
    return sample if sample.id == answer.id else None


def _output(job: PageJob, output: Output, sample: Sample | None, differences: _Differences) -> dict[str, Any]:
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
        data = _link(output.folder, output.image, job.images)
        if data is None:
            entry["why"] = "the stored image is missing or damaged"
            return entry
        entry["image"] = output.image
        if output.size is not None and (sample is None or output.size != (sample.width, sample.height)):
            entry["size"] = output.size
        entry["diff"] = differences.of(output.image, data)
    if any(value is not None for value in output.values):
        entry["values"] = output.values
    return entry


class _Differences:
    """The difference pictures of one sample's outputs, each made once."""

    def __init__(self, sample: Sample | None) -> None:
        self._made: dict[str, str] = {}
        self._judge: Judge | None = None
        if sample is not None and sample.source is not None and sample.target is not None:
            scale = min(1.0, MAX_DIFFERENCE_SIDE / max(sample.width, sample.height))
            self._size = max(1, round(sample.width * scale)), max(1, round(sample.height * scale))
            self._judge = Judge(resample(sample.source, *self._size), resample(sample.target, *self._size))

    def of(self, sha: str, png: bytes) -> str:
        """A difference picture as base64; empty where source or target is not known."""
        if self._judge is None:
            return ""
        if sha not in self._made:
            output = resample(decode_png(png), *self._size)
            self._made[sha] = base64.b64encode(encode(self._judge.classify(output))).decode()
        return self._made[sha]


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
    path = _place(images, sha)
    if not os.path.exists(path):
        temporary = f"{path}.{os.getpid()}"
        with open(temporary, "wb") as file:
            file.write(data)
        os.replace(temporary, path)
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
        kept += write_page(job)
    pickle.dump(kept, sys.stdout.buffer)


if __name__ == "__main__":
    main()

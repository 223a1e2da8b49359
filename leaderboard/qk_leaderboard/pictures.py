"""Writes one data page of the gallery: draws its samples again, links its images, makes its difference pictures.

Runs in worker processes. A sample is drawn from the suite by its index, because a run stores only outputs; where the
suite is not installed, or is no longer the one that was run, the page shows outputs without source and target.
"""

from __future__ import annotations

import base64
import hashlib
import os
import shutil
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import QKBenchError
from qk_bench.images import decode_png, encode_png, resample
from qk_bench.interfaces import Suite
from qk_bench.plugins import load_suite
from qk_bench.records import Sample
from qk_bench.run.plan import SampleReader
from qk_bench.store import RunDirectory
from qk_leaderboard.difference import classify, encode
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
            "text": sample.instruction,
            "source": _put(job.images, sample.source),
            "target": _put(job.images, sample.target),
            "references": [_put(job.images, reference) for reference in sample.references],
            "size": [sample.width, sample.height],
        }
    differences: dict[str, str] = {}
    entry["outputs"] = [_output(job, output, sample, differences) for output in answer.outputs]
    return entry


def _draw(job: PageJob, answer: Answer) -> Sample | None:
    suite = _suite(job.suite_ref, job.digest)
    task = suite.tasks.get(answer.task) if suite else None
    if task is None:
        return None
    try:
        sample = SampleReader(task, job.split, job.resolution).read(answer.index)[0]
    except QKBenchError:
        return None
    return sample if sample.id == answer.id else None


@cache
def _suite(ref: str, digest: str) -> Suite | None:
    """The suite, if it is the one that was run."""
    try:
        suite = load_suite(ref)
    except QKBenchError:
        return None
    return suite if suite.digest() == digest else None


def _output(job: PageJob, output: Output, sample: Sample | None, differences: dict[str, str]) -> dict[str, Any]:
    entry: dict[str, Any] = {"m": output.model, "s": output.seed}
    if output.success is not None:
        entry["ok"] = int(output.success)
    if output.status != "ok":
        entry["status"] = output.status.replace("_", " ")
    if output.reason:
        entry["why"] = output.reason
    if output.image is not None:
        data = _link(output.folder, output.image, job.images)
        if data is None:
            entry["why"] = "the stored image is missing or damaged"
            return entry
        entry["image"] = output.image
        if sample is not None and output.size not in (None, (sample.width, sample.height)):
            entry["size"] = output.size
        if output.image not in differences:
            differences[output.image] = _difference(sample, data)
        entry["diff"] = differences[output.image]
    if any(value is not None for value in output.values):
        entry["values"] = output.values
    return entry


def _difference(sample: Sample | None, data: bytes) -> str:
    """The difference picture as base64; empty where source or target is not known."""
    if sample is None or sample.source is None or sample.target is None:
        return ""
    side = max(sample.width, sample.height)
    scale = min(1.0, MAX_DIFFERENCE_SIDE / side)
    width, height = max(1, round(sample.width * scale)), max(1, round(sample.height * scale))
    source, target, output = (resample(p, width, height) for p in (sample.source, sample.target, decode_png(data)))
    return base64.b64encode(encode(classify(source, target, output))).decode()


def _link(folder: Path, sha: str, images: Path) -> bytes | None:
    """Bring a stored output into the site, as another name of the same file where the disk allows.

    Returns:
        The PNG; None if it is missing or not what its name says.
    """
    stored = RunDirectory(folder).image_path(sha)
    try:
        data = stored.read_bytes()
    except OSError:
        return None
    if hashlib.sha256(data).hexdigest() != sha:
        return None
    path = _place(images, sha)
    if not path.exists():
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
    if not path.exists():
        temporary = path.with_name(f"{sha}.{os.getpid()}")
        temporary.write_bytes(data)
        temporary.replace(path)
    return sha


def _place(images: Path, sha: str) -> Path:
    path = images / sha[:2] / f"{sha}.png"
    path.parent.mkdir(exist_ok=True)
    return path

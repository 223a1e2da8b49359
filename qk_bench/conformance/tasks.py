"""Checks of a task: pure samples, a verifier that the answer satisfies and the question does not, honest masks."""

from __future__ import annotations

import itertools
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable, Sequence

import numpy as np

from qk_bench.conformance.checks import Check, attempt
from qk_bench.images import resample
from qk_bench.plugins import FoundTask, find_tasks
from qk_bench.records import Sample
from qk_bench.run.plan import sample_digest

_SAFE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")


def check_task(found: FoundTask, *, resolution: int = 64, count: int = 32) -> list[Check]:
    """Check a task on the first samples of each of its splits.

    Args:
        found: The task, as `qk_bench.plugins.find_tasks` gives it.
        resolution: Pixels a side.
        count: Samples per split.
    """
    checks = _Checks(found, resolution, count)
    made = attempt(
        "its samples can be made", "task.sample(split, index, resolution) must work for each index", checks.make
    )
    return [made, *checks.all()] if made.passed else [made]


def digests(ref: str, split: str, resolution: int, count: int) -> list[str]:
    """The digests of the first samples of a task, for comparison between processes."""
    task = find_tasks([ref])[0].task
    return [sample_digest(task.sample(split, index, resolution)) for index in range(count)]


class _Checks:
    def __init__(self, found: FoundTask, resolution: int, count: int) -> None:
        self.found, self.task = found, found.task
        self.resolution, self.count = resolution, count
        self.samples: dict[str, list[Sample]] = {}

    @property
    def every(self) -> list[Sample]:
        return list(itertools.chain.from_iterable(self.samples.values()))

    def make(self) -> str:
        for split in self.task.splits:
            size = self.task.size(split)
            numbers = range(self.count if size is None else min(size, self.count))
            self.samples[split] = [self.task.sample(split, index, self.resolution) for index in numbers]
        return "" if self.every else "there are none"

    def all(self) -> list[Check]:
        edit = self.task.kind == "edit"
        checks: list[tuple[str, str, Callable[[], str]]] = [
            ("ids are unique and safe as file names", "build ids from split and index", self._ids),
            ("samples say what they are", "fill suite, task, split, index, size and instruction", self._fields),
            ("samples are pure functions", "draw all randomness from (split, index)", self._pure),
            ("samples are the same in another process", "do not use hash(), time or global state", self._processes),
            ("splits share no sample", "let the split seed the sample", self._splits),
        ]
        if self.task.decides and all(sample.target is not None for sample in self.every):
            checks.append(
                ("the answer passes its own verification", "loosen verify() or mend the target", self._oracle)
            )
        if edit and self.task.decides:
            mend = "an edit must change something verify() sees"
            checks.append(("the unedited source fails verification", mend, self._no_op))
            checks.append(
                ("edit masks cover all changes", "mark every pixel where source and target differ", self._masks)
            )
        if not self.task.decides:
            return [attempt(name, mend, find) for name, mend, find in checks]
        checks += [
            ("verification is repeatable and changes nothing", "verify() must be a pure function", self._verify_pure),
            ("verification takes outputs of any size", "resample in verify()", self._verify_sizes),
        ]
        return [attempt(name, mend, find) for name, mend, find in checks]

    def _ids(self) -> str:
        seen: set[str] = set()
        for sample in self.every:
            if sample.id in seen:
                return f"{sample.id} is there twice"
            if not _SAFE.fullmatch(sample.id):
                return f"{sample.id!r} is not a safe file name"
            seen.add(sample.id)
        return ""

    def _fields(self) -> str:
        for split, samples in self.samples.items():
            for index, sample in enumerate(samples):
                told = (sample.suite, sample.task, sample.split, sample.index, sample.suite_version)
                due = (self.found.suite.name, self.task.name, split, index, self.found.suite.version)
                if told != due:
                    return f"{sample.id}: says {told}, is {due}"
                for name, pixels in (
                    ("source", sample.source),
                    ("target", sample.target),
                    ("edit_mask", sample.edit_mask),
                ):
                    if pixels is not None and pixels.shape[:2] != (sample.height, sample.width):
                        return f"{sample.id}: {name} is not {sample.width}x{sample.height}"
                if not sample.instruction.strip():
                    return f"{sample.id}: no instruction"
                if self.task.operations and sample.operation not in self.task.operations:
                    return f"{sample.id}: operation {sample.operation!r} is not among task.operations"
        return ""

    def _pure(self) -> str:
        for split, samples in self.samples.items():
            for sample in reversed(samples):
                again = self.task.sample(split, sample.index, self.resolution)
                if sample_digest(again) != sample_digest(sample):
                    return f"{sample.id}: different when made again"
        return ""

    def _processes(self) -> str:
        """Another process with another hash seed, which draws the samples in the same way."""
        split, samples = next((split, samples) for split, samples in self.samples.items() if samples)
        code = "import json, sys; from qk_bench.conformance.tasks import digests; " + (
            "ref, split, resolution, count = json.loads(sys.argv[1]); "
            "print(json.dumps(digests(ref, split, resolution, count)))"
        )
        ref = f"{self.found.suite_ref}/{self.task.name}"
        done = subprocess.run(
            [sys.executable, "-P", "-c", code, json.dumps([ref, split, self.resolution, len(samples)])],
            capture_output=True,
            text=True,
            env={**os.environ, "PYTHONHASHSEED": "12345"},
            check=False,
        )
        if done.returncode:
            return f"the other process failed: {done.stderr.strip().splitlines()[-1:]}"
        others = json.loads(done.stdout.splitlines()[-1])
        wrong = [s.id for s, other in zip(samples, others, strict=True) if sample_digest(s) != other]
        return f"{len(wrong)} differ, the first is {wrong[0]}" if wrong else ""

    def _splits(self) -> str:
        seen: dict[str, str] = {}
        for split, samples in self.samples.items():
            for sample in samples:
                content = sample.model_dump_json(include={"source", "target", "instruction", "references"})
                other = seen.setdefault(content, split)
                if other != split:
                    return f"{sample.id} is in {other} too"
        return ""

    def _oracle(self) -> str:
        for sample in self.every:
            assert sample.target is not None
            verdict = self.task.verify(sample, sample.target)
            if not verdict.success:
                return f"{sample.id}: {verdict.reason or 'no reason given'}"
        return ""

    def _no_op(self) -> str:
        for sample in self.every:
            if sample.source is None:
                return f"{sample.id}: no source"
            verdict = self.task.verify(sample, sample.source)
            if verdict.success:
                return f"{sample.id}: the source passes"
            if not verdict.reason:
                return f"{sample.id}: no reason given for the failure"
        return ""

    def _masks(self) -> str:
        for sample in self.every:
            if sample.source is None or sample.target is None or sample.edit_mask is None:
                continue
            outside = (sample.source != sample.target).any(axis=2) & ~sample.edit_mask
            if outside.any():
                return f"{sample.id}: {outside.sum()} changed pixels are outside the mask"
        return ""

    def _outputs(self) -> list[tuple[Sample, np.ndarray[tuple[int, ...], np.dtype[np.uint8]]]]:
        noise = np.random.default_rng(0)
        return [
            (sample, image)
            for sample in self.every[:8]
            for image in (
                sample.target,
                sample.source,
                noise.integers(0, 256, (sample.height, sample.width, 3), dtype=np.uint8),
            )
            if image is not None
        ]

    def _verify_pure(self) -> str:
        for sample, image in self._outputs():
            before, content = image.copy(), sample_digest(sample)
            verdict = self.task.verify(sample, image)
            if not np.array_equal(before, image) or content != sample_digest(sample):
                return f"{sample.id}: verify() changes its input"
            if self.task.verify(sample, image) != verdict:
                return f"{sample.id}: two verdicts on one output"
        return ""

    def _verify_sizes(self) -> str:
        sizes: Sequence[tuple[int, int]] = (
            (1, 1),
            (self.resolution * 2, self.resolution * 2),
            (self.resolution + 1, 17),
        )
        for sample, image in self._outputs()[:6]:
            for width, height in sizes:
                self.task.verify(sample, resample(image, width, height))
        return ""

"""Success of a model on the val split of the scenes suite, by the suite's own verifier."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from qk_bench.interfaces import Failure
from qk_bench.records import Sample
from qk_model.config import Stage
from qk_model.infer import Job, make
from qk_model.model import QueryKontext

BATCH = 32


@dataclass
class Tally:
    """Successes and trials by task and by operation, and why edits failed."""

    right: Counter[str] = field(default_factory=Counter)
    total: Counter[str] = field(default_factory=Counter)
    reasons: Counter[str] = field(default_factory=Counter)

    def add(self, sample: Sample, success: bool, reason: str) -> None:
        """Count one output."""
        for key in ("all", sample.task, f"{sample.task}/{sample.operation}"):
            self.total[key] += 1
            self.right[key] += success
        if not success:
            self.reasons[f"{sample.operation}: {reason.split(':')[0]}"] += 1

    def rates(self) -> dict[str, float]:
        """Success rates."""
        return {key: round(self.right[key] / count, 4) for key, count in sorted(self.total.items())}

    def figures(self) -> dict[str, Any]:
        """Rates and reasons as the log has them."""
        return {
            "validation": {**self.rates(), "samples": self.total["all"]},
            "reasons": dict(self.reasons.most_common(8)),
        }


def validate(
    model: QueryKontext, stage: Stage, samples_per_task: int, *, split: str = "val", resolution: int | None = None
) -> Tally:
    """Edit the first samples of every task of the group `edit`, and let the verifier decide.

    Args:
        model: The model; put into evaluation mode here, and back.
        stage: Decides whether the low-level tokens enter and which network denoises.
        samples_per_task: How many of each task.
        split: Split of the suite.
        resolution: Pixels a side; the model's own by default.
    """
    training = model.training
    model.eval()
    found = tally(
        lambda jobs: [
            made.image for made in make(model, jobs, low_level=stage.low_level, head=stage.denoiser == "head")
        ],
        samples_per_task,
        resolution or model.config.resolution,
        split=split,
    )
    model.train(training)
    return found


def tally(
    edit: Callable[[list[Job]], Sequence[NDArray[np.uint8] | Failure]],
    samples_per_task: int,
    resolution: int,
    *,
    split: str = "val",
) -> Tally:
    """Edit the first samples of every task of the group `edit`, and let the verifier decide; failures count as wrong.

    Args:
        edit: From jobs to images, or to why there is none.
        samples_per_task: How many of each task.
        resolution: Pixels a side.
        split: Split of the suite.
    """
    from qk_tasks.scenes import SUITE

    found = Tally()
    for name in SUITE.groups["edit"]:
        task = SUITE.tasks[name]
        for begin in range(0, samples_per_task, BATCH):
            indices = range(begin, min(begin + BATCH, samples_per_task))
            samples = [task.sample(split, index, resolution) for index in indices]
            jobs = [Job(s.instruction, s.width, s.height, _seed(s.id), s.source) for s in samples]
            for sample, output in zip(samples, edit(jobs), strict=True):
                if isinstance(output, Failure):
                    found.add(sample, False, output.detail)
                else:
                    verdict = task.verify(sample, output)
                    found.add(sample, verdict.success, verdict.reason)
    return found


@torch.no_grad()
def gate_agreement(model: QueryKontext, samples: int, *, split: str = "val") -> float:
    """Mean intersection over union of the open gate and the true edit, over the tasks of the group `edit`."""
    from qk_tasks.scenes import SUITE

    if model.gate is None:
        return float("nan")
    training = model.training
    model.eval()
    scores: list[float] = []
    for name in SUITE.groups["edit"]:
        drawn = [SUITE.tasks[name].sample(split, index, model.config.resolution) for index in range(samples)]
        jobs = [Job(s.instruction, s.width, s.height, 0, s.source) for s in drawn]
        for sample, output in zip(drawn, make(model, jobs, steps=1), strict=True):
            assert output.gate is not None
            assert sample.edit_mask is not None
            opened = output.gate > 0.5
            both, either = (opened & sample.edit_mask).sum(), (opened | sample.edit_mask).sum()
            scores.append(float(both / max(1, either)))
    model.train(training)
    return sum(scores) / len(scores)


def _seed(sample_id: str) -> int:
    return int.from_bytes(hashlib.sha256(f"validate/{sample_id}".encode()).digest()[:7], "big")

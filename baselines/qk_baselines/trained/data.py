"""Training batches of the baselines: those of Query-Kontext, with other words beside them."""

from __future__ import annotations

from random import Random
from typing import Any, Literal

from qk_model.config import Mode, ModelConfig, Optimisation
from qk_model.data import TrainingBatches, answer, framed

from qk_bench.records import Sample

CAPTION_LENGTH = 80  # more words than the longest caption of the scenes suite has, its two marks included
CHANGE_LENGTH = 48  # and than the longest change

Words = Literal["instruction", "change", "target-caption", "picture-caption", "marked-caption"]
"""What a stage reads and writes beside its pictures.

`instruction`: the instruction alone. `change`: what changes is to be written. `target-caption`: the target's caption is to be written. `picture-caption`: one of source and
target is the target, and its caption is to be written. `marked-caption`: the caption to generate from has its
beginning and end marked, as a written one has.
"""


class BaselineBatches(TrainingBatches):
    """Batches of a stage, with the words that the stage needs."""

    def __init__(
        self, config: ModelConfig, stage: Optimisation, name: str, seed: int, tokenizer: Any, rank: int, world: int,
        what: Words,
    ) -> None:  # fmt: skip
        super().__init__(config, stage, name, seed, tokenizer, rank, world)
        self.what = what
        self.answer_length = CHANGE_LENGTH if what == "change" else CAPTION_LENGTH

    def words(self, mode: Mode, sample: Sample, rng: Random) -> dict[str, Any]:
        """The words of a sample."""
        match self.what:
            case "change":
                return {"answer": framed(answer(sample))}
            case "target-caption":
                return {"answer": framed(sample.target_caption)}
            case "picture-caption" if rng.random() < 0.5:
                return {"target": sample.source, "answer": framed(sample.source_caption)}
            case "picture-caption":
                return {"answer": framed(sample.target_caption)}
            case "marked-caption":
                return {"text": framed(sample.target_caption)}
        return {}

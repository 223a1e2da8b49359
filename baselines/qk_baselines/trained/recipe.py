"""The baselines as the training loop sees them: what each stage starts from, reads, frees and is validated on."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from qk_model.config import to_json
from qk_model.data import TrainingBatches
from qk_model.infer import Job, make
from qk_model.model import QueryKontext
from qk_model.recipe import Recipe
from qk_model.validate import tally
from torch import nn

from qk_baselines.trained.blip3o import Blip3o
from qk_baselines.trained.config import TITLES, Baseline, BaselineStage, UnifiedAConfig
from qk_baselines.trained.data import BaselineBatches, Words
from qk_baselines.trained.network import Network, Output, own_config
from qk_baselines.trained.two_stage import TwoStage
from qk_baselines.trained.two_stage_generate import TwoStageGenerate
from qk_baselines.trained.unified_a import UnifiedA
from qk_bench.errors import UsageError

NETWORKS: Mapping[str, type[Network]] = {
    "blip3o": Blip3o,
    "two-stage": TwoStage,
    "two-stage-generate": TwoStageGenerate,
}
WORDS: Mapping[str, Words] = {
    "features": "picture-caption",
    "ground": "change",
    "inpaint": "change",
    "describe": "target-caption",
    "draw": "marked-caption",
    "edit": "target-caption",
}
"""Of the stages that read or write more than the instruction."""


class BaselineRecipe(Recipe):
    """One baseline.

    Args:
        name: One of `config.NAMES`.
        baseline: Its values, with the steps of its stages.
        pretrained: Folder of the pretrained Query-Kontext it goes on from.
        budget: What `budget.plan` counted, for the record.
    """

    stages: Mapping[str, BaselineStage]
    quick = True

    def __init__(self, name: str, baseline: Baseline, pretrained: Path, budget: Mapping[str, Any]) -> None:
        self.name, self.title, self.baseline = name, TITLES[name], baseline
        self.loop, self.stages = baseline.training, baseline.training.stages
        self.pretrained = QueryKontext.from_pretrained(pretrained)
        low_level = dataclasses.replace(self.pretrained.config.low_level, patch=baseline.patch)
        self.shared = dataclasses.replace(self.pretrained.config, low_level=low_level)
        self.budget = dict(budget)
        values = to_json(baseline)
        # The folder is this machine's; what was in it is in `budget`.
        self.values = {
            "model": {**to_json(self.shared), "own": values["model"]},
            "training": values["training"],
            "budget_scale": values["budget_scale"],
            "pretraining": self.budget["pretraining_sha256"],
        }

    def make(self) -> nn.Module:
        """A fresh model on the pretrained parts."""
        if self.name == UnifiedA.name:
            own: UnifiedAConfig = own_config(self.name, self.baseline.model)
            return UnifiedA.made_from(self.pretrained, self.shared, own)
        model = NETWORKS[self.name](self.shared, self.baseline.model, self.pretrained.tokenizer)
        model.adopt(self.pretrained)
        return model

    def load(self, folder: Path) -> nn.Module:
        """The model that a stage saved."""
        return load_network(self.name, folder)

    def dataset(self, model: Any, name: str, rank: int = 0, world: int = 1) -> TrainingBatches:
        """The batches of a stage."""
        return BaselineBatches(
            self.shared, self.stages[name], name, self.loop.seed, model.tokenizer, rank, world,
            WORDS.get(name, "instruction"),
        )  # fmt: skip

    def prepare(self, model: Any, name: str) -> None:
        """Free the parts that the stage trains; the network asks by the stage's name what to do."""
        model.requires_grad_(False)
        parts = model.parts()
        for part in self.stages[name].trained:
            if part not in parts:
                raise UsageError(f"{self.name}: stage {name} trains {part!r}", f"parts: {', '.join(parts)}")
            parts[part].requires_grad_(True)

    def finish(self, model: Any, name: str, prepared: Any, dataset: TrainingBatches) -> None:
        """Nothing was added."""
        model.requires_grad_(False)

    def told(self, name: str) -> str:
        """The stage's name."""
        return name

    def validate(self, model: Any, name: str, samples: int) -> dict[str, Any]:
        """Success by the verifier, once every part has been trained."""
        last = self.loop.schedule[-1]
        if name != last and self.name != UnifiedA.name:
            return {}
        training = model.training
        model.eval()
        found = tally(lambda jobs: answers(model, jobs), samples, self.shared.resolution)
        model.train(training)
        return found.figures()

    def parameters(self, model: Any) -> dict[str, int]:
        """Parameters of each part that a trained model uses."""
        return {name: n for name, n in super().parameters(model).items() if name not in model.for_training}

    def about(self) -> dict[str, Any]:
        """Where the number of steps comes from."""
        return {"budget": self.budget}


def load_network(name: str, folder: Path) -> Any:
    """The model in a folder.

    Raises:
        UsageError: The folder holds another model, or none.
    """
    kind: Any = UnifiedA if name == UnifiedA.name else NETWORKS[name]
    return kind.from_pretrained(folder)


@torch.no_grad()
def answers(model: Any, jobs: list[Job], *, steps: int | None = None) -> list[Output]:
    """An image or a failure for each job."""
    if isinstance(model, QueryKontext):
        return [made.image for made in make(model, jobs, steps=steps)]
    outputs: list[Output] = model.make(jobs, steps=steps)
    return outputs

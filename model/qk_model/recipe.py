"""What a model must say of itself for the training loop to train it, and the record that is left of a training."""

from __future__ import annotations

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import nn

from qk_bench.errors import UsageError, one_line
from qk_model.card import write_card
from qk_model.config import Loop, Optimisation
from qk_model.data import TrainingBatches
from qk_model.digest import weights_digest
from qk_model.log import read_log


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    preset: str
    out: Path
    stage: str = "all"
    max_steps: int | None = None  # of each stage
    overrides: dict[str, Any] = field(default_factory=dict)


def read_plan(folder: Path) -> dict[str, Any] | None:
    """What was asked for of the training in a folder; None where it holds none.

    Raises:
        UsageError: Its `plan.json` is damaged.
    """
    path = folder / "plan.json"
    if not path.exists():
        return None
    try:
        plan = json.loads(path.read_text("utf-8"))
        if not isinstance(plan, dict):
            raise ValueError("not an object")
    except (OSError, ValueError) as error:
        raise UsageError(
            f"{path} cannot be read: {one_line(error)}", "restore it, or move its folder away and train again"
        ) from None
    return plan


class Recipe(ABC):
    """A model, its stages, and what becomes of it in each.

    Models are `nn.Module`s with a `tokenizer`; `forward(batch, told, seed)`, which returns losses, `loss` among them;
    `parts()`, its parts by name; `save_pretrained(folder, dtype)`; and `lighten()`, for accelerators.

    Attributes:
        name: As `qkbench train` knows it.
        title: As the model card names it.
        loop: Values of the loop.
        stages: The stages by name.
        values: Every value, as JSON: what decides the training.
        quick: Whether a step can be tried for the estimate.
    """

    name: str
    title: str
    loop: Loop
    stages: Mapping[str, Optimisation]
    values: dict[str, Any]
    quick: bool

    @abstractmethod
    def make(self) -> nn.Module:
        """The model as the first stage starts with it; its chance is torch's, seeded by the caller."""

    @abstractmethod
    def load(self, folder: Path) -> nn.Module:
        """The model that a stage saved."""

    @abstractmethod
    def dataset(self, model: Any, name: str, rank: int = 0, world: int = 1) -> TrainingBatches:
        """The batches of a stage."""

    def initialise(self, model: Any, name: str, dataset: TrainingBatches) -> None:  # noqa: B027 (most have no need)
        """Set weights from data before a stage."""

    @abstractmethod
    def prepare(self, model: Any, name: str) -> Any:
        """Add what only this stage has, freeze everything, free what it trains; returns what `finish` wants back."""

    @abstractmethod
    def finish(self, model: Any, name: str, prepared: Any, dataset: TrainingBatches) -> None:
        """Drop what only this stage had."""

    def told(self, name: str) -> Any:
        """What the model's `forward` is told of a stage."""
        return self.stages[name]

    @abstractmethod
    def validate(self, model: Any, name: str, samples: int) -> dict[str, Any]:
        """Figures on the val split, with `samples` of each task; empty where a stage has none."""

    def parameters(self, model: Any) -> dict[str, int]:
        """Parameters of each part of the final model."""
        return {name: count(part) for name, part in model.parts().items() if part is not None}

    def about(self) -> dict[str, Any]:
        """What the record holds of this model beyond what all records hold."""
        return {}


def write_model(recipe: Recipe, options: Options, last: Path, final: Path) -> None:
    """Write the final folder: weights in bf16, the record, and the card made from the record."""
    from qk_bench.run.environment import git, hardware, now, versions

    partial = final.with_name("partial-model")
    shutil.rmtree(partial, ignore_errors=True)
    model: Any = recipe.load(last)
    model.save_pretrained(partial, torch.bfloat16)
    validations = [line for line in read_log(options.out / "log.jsonl") if "validation" in line]
    steps = {name: recipe.stages[name] for name in recipe.loop.schedule}
    command = f"qkbench train {recipe.name} --preset {options.preset}"
    command += f" --max-steps {options.max_steps}" if options.max_steps else ""
    command += "".join(f" --set {key}={json.dumps(value)}" for key, value in options.overrides.items())
    record = {
        "model": recipe.name,
        "title": recipe.title,
        "preset": options.preset,
        "command": command,
        "values": recipe.values,
        "overrides": options.overrides,
        "weights_sha256": weights_digest(partial),
        "parameters": recipe.parameters(model),
        "samples": {name: stage.steps * stage.batch_size for name, stage in steps.items()},
        "validation": validations[-1]["validation"] if validations else {},
        **recipe.about(),
        "versions": versions(),
        "git": git(),
        "measured": {
            "finished": now(),
            "hardware": hardware(),
            "seconds": {
                name: json.loads((options.out / f"after-{name}" / "measured.json").read_text())["seconds"]
                for name in steps
            },
        },
    }
    (partial / "training.json").write_text(json.dumps(record, indent=1) + "\n", "utf-8")
    write_card(partial, record)
    os.replace(partial, final)


def count(part: nn.Module) -> int:
    """Number of parameters."""
    return sum(p.numel() for p in part.parameters())

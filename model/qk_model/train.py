"""Training Query-Kontext: its stages, for the training loop."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from qk_bench.errors import UsageError
from qk_model import loop
from qk_model.config import Preset, Stage, load_preset, to_json
from qk_model.data import TrainingBatches
from qk_model.model import QueryKontext
from qk_model.recipe import Options, Recipe
from qk_model.stages import Adapters, finish, prepare
from qk_model.vae import LeanVAE
from qk_model.validate import gate_agreement, validate

__all__ = ["Options", "QueryKontextRecipe", "train"]


def train(options: Options) -> Path | None:
    """Train, or go on training, the stages asked for; see `qk_model.loop.run`."""
    preset = load_preset(options.preset, options.overrides)
    if options.max_steps is not None:
        shorter = {
            n: dataclasses.replace(s, steps=min(s.steps, options.max_steps)) for n, s in preset.training.stages.items()
        }
        preset = dataclasses.replace(preset, training=dataclasses.replace(preset.training, stages=shorter))
    return loop.run(QueryKontextRecipe(preset), options)


class QueryKontextRecipe(Recipe):
    """Query-Kontext in one preset."""

    name, title = "query-kontext", "Query-Kontext"
    stages: Mapping[str, Stage]

    def __init__(self, preset: Preset) -> None:
        self.preset, self.loop, self.stages = preset, preset.training, preset.training.stages
        self.values = to_json(preset)
        self.quick = preset.model.mmdit.block == "lean"

    def make(self) -> QueryKontext:
        """A fresh model."""
        return QueryKontext(self.preset.model)

    def load(self, folder: Path) -> QueryKontext:
        """The model that a stage saved."""
        return QueryKontext.from_pretrained(folder)

    def dataset(self, model: QueryKontext, name: str, rank: int = 0, world: int = 1) -> TrainingBatches:
        """The batches of a stage."""
        return TrainingBatches(
            self.preset.model, self.stages[name], name, self.loop.seed, model.tokenizer, rank, world,
            answers=self.stages[name].objective == "vlm",
        )  # fmt: skip

    def initialise(self, model: QueryKontext, name: str, dataset: TrainingBatches) -> None:
        """Start the autoencoder from principal components."""
        if self.stages[name].objective == "vae":
            _autoencoder(model).start_from_components(_first_images(dataset))

    def prepare(self, model: QueryKontext, name: str) -> Adapters:
        """Freeze and free, inject adapters; see `qk_model.stages`."""
        stage = self.stages[name]
        adapters = prepare(model, self.preset, stage)
        if self.preset.training.compile:
            (model.head if stage.denoiser == "head" else model.mmdit).compile()  # type: ignore[union-attr]
        return adapters

    def finish(self, model: QueryKontext, name: str, prepared: Adapters, dataset: TrainingBatches) -> None:
        """Standardise the autoencoder's latents; merge the adapters."""
        if self.stages[name].objective == "vae":
            autoencoder = _autoencoder(model)
            autoencoder.standardise(_first_images(dataset).to(autoencoder.shift.device))
        finish(model, prepared)

    def validate(self, model: QueryKontext, name: str, samples: int) -> dict[str, Any]:
        """Success by the verifier; of the pretrained VLM, how well the gate fits the edits."""
        stage = self.stages[name]
        if stage.objective == "vae":
            return {}
        if stage.objective == "vlm":
            return {"validation": {"gate_iou": gate_agreement(model, samples)}}
        return validate(model, stage, samples).figures()


def _autoencoder(model: QueryKontext) -> LeanVAE:
    """The autoencoder of a model that trains its own.

    Raises:
        UsageError: It is a library class, of which pretrained ones exist.
    """
    if not isinstance(model.vae, LeanVAE):
        raise UsageError("only the lean autoencoder is trained here", "take the pretrain-vae stage out of the schedule")
    return model.vae


def _first_images(dataset: TrainingBatches) -> torch.Tensor:
    """Targets of the first batches of a stage, (N, 3, H, W)."""
    return torch.cat(
        [batch.target for batch in (dataset[k] for k in range(min(8, len(dataset)))) if batch.target is not None]
    )

"""The sheet of the trained baselines as dataclasses. Imports nothing heavy."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any

import yaml
from qk_model.config import Loop, ModelConfig, Optimisation, fill, leaf_values, override

NAMES = ("unified-a", "blip3o", "two-stage", "two-stage-generate")
TITLES = {
    "unified-a": "Unified baseline A",
    "blip3o": "BLIP3-o at micro scale",
    "two-stage": "Two-stage: ground, then inpaint",
    "two-stage-generate": "Two-stage: generate, then edit",
}


@dataclass(frozen=True)
class BaselineStage(Optimisation):
    """One stage of training a baseline; its steps follow from its share."""

    share: float  # of the model's training FLOPs


@dataclass(frozen=True)
class BaselineTraining(Loop):
    """The training of a baseline."""

    stages: dict[str, BaselineStage]


@dataclass(frozen=True)
class Baseline:
    """One model of the sheet."""

    pretraining: str
    budget_scale: float  # training FLOPs as a share of those of Query-Kontext's stages after pretraining
    patch: int  # latent positions a side of a token of its diffusion models
    model: dict[str, Any]
    training: BaselineTraining


@dataclass(frozen=True)
class Size:
    """Size of a transformer."""

    width: int
    depth: int
    num_heads: int


@dataclass(frozen=True)
class UnifiedAConfig:
    """What `unified-a` has of its own."""

    depth: int  # of the MMDiT


@dataclass(frozen=True)
class Blip3oConfig:
    """What `blip3o` has of its own."""

    feature_channels: int  # a multiple of the squared patch
    encoder: Size
    prior: Size
    decoder: Size
    feature_noise: float  # largest standard deviation of the noise added to the features the decoder learns on
    pixel_weight: float


@dataclass(frozen=True)
class TwoStageConfig:
    """What `two-stage` has of its own."""

    inpainter: Size
    region_threshold: float
    positive_weight: float  # of places that change, in the grounding's cross entropy
    found_regions: float  # share of the inpainter's training regions that the grounder found


@dataclass(frozen=True)
class TwoStageGenerateConfig:
    """What `two-stage-generate` has of its own."""

    drawer: Size
    editor: Size
    draft_steps: int


Own = UnifiedAConfig | Blip3oConfig | TwoStageConfig | TwoStageGenerateConfig
OWN: Mapping[str, type[Own]] = {
    "unified-a": UnifiedAConfig,
    "blip3o": Blip3oConfig,
    "two-stage": TwoStageConfig,
    "two-stage-generate": TwoStageGenerateConfig,
}


@dataclass(frozen=True)
class NetworkConfig:
    """Everything that decides a network: what `config.json` of a saved one holds."""

    model: str
    shared: ModelConfig
    own: dict[str, Any]


@cache
def sheet() -> dict[str, Any]:
    """The sheet as it stands in the file."""
    data = yaml.safe_load(resources.files("qk_baselines.trained").joinpath("baselines.yaml").read_text("utf-8"))
    assert isinstance(data, dict)
    return data


def load_baseline(name: str, overrides: Mapping[str, Any] | None = None) -> Baseline:
    """One model of the sheet; its stages have no steps yet.

    Args:
        name: One of `NAMES`.
        overrides: Dotted path to value, such as `{"budget_scale": 0.5}`.

    Raises:
        UsageError: A key is unknown, missing or of the wrong type.
    """
    values = leaf_values(sheet()["models"][name], sheet()["sources"], "baselines.yaml", f"models.{name}")
    override(values, overrides or {}, name)
    for stage in values["training"]["stages"].values():
        stage["steps"] = 0
    baseline = fill(Baseline, values, name)
    fill(OWN[name], baseline.model, f"{name}.model")
    return baseline


def with_steps(baseline: Baseline, steps: Mapping[str, int]) -> Baseline:
    """The same with a number of steps for each stage."""
    stages = {name: dataclasses.replace(s, steps=steps[name]) for name, s in baseline.training.stages.items()}
    return dataclasses.replace(baseline, training=dataclasses.replace(baseline.training, stages=stages))

"""The presets: one dataclass per part, filled from `hyperparameters.yaml`, the one sheet of every value.

Each leaf of the sheet is `{value: V, source: KEY}`; KEY names a line of its `sources` table. A key that no dataclass
has, a key that is missing and a source that is not in the table are refused, so that the sheet and the code cannot
drift apart.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import types
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, TypeVar

import yaml

from qk_bench.errors import UsageError

FACES = "drawn-faces"
PRESETS = ("micro", "micro-faces", "base", "paper")
Mode = Literal["edit", "generate", "reconstruct", "compose"]
MODES: tuple[Mode, ...] = ("edit", "generate", "reconstruct", "compose")
Block = Literal["library", "lean"]
T = TypeVar("T")


@dataclass(frozen=True)
class Part:
    """A network that is either a library class or the lean block behind the same interface.

    Attributes:
        block: `library` (transformers or diffusers) or `lean`.
        pretrained: Hub name or folder whose weights start it; empty: from scratch.
        arguments: What its class is made with.
    """

    block: Block
    pretrained: str
    arguments: dict[str, Any]


@dataclass(frozen=True)
class Kontext:
    """The multimodal kontext: learnable queries, and the connector that carries them to the diffusion model."""

    enabled: bool  # ablation switch: without it the diffusion model is conditioned on the text tokens alone
    num_queries: int
    connector_hidden: int
    context_dim: int


@dataclass(frozen=True)
class Gate:
    """The Cross-Modal Gate."""

    enabled: bool  # ablation switch: without it the flow starts from noise everywhere
    width: int
    depth: int
    num_heads: int
    stretch: float  # the sigmoid is stretched by this much at both ends and clipped, so that 0 and 1 are reached
    composite: bool  # carry the source's own pixels, not their reconstruction by the VAE, where the gate is closed
    shown: bool  # whether the target's tokens are told in channels how far the gate is open under them
    patch: int  # latent positions a side of the gate's own tokens
    placements: int  # at most so many objects whose place is said before they are drawn; 0: no placement
    share: float  # at most this share of the target's tokens is denoised, where it is widest open; 1 is all


@dataclass(frozen=True)
class LowLevel:
    """The low-level image encoder: VAE latents of source and reference images as tokens."""

    enabled: bool  # ablation switch: without it no stage sees source tokens
    patch: int  # latent positions a side of a target's token …
    source_patch: int  # … and of a source's or reference's; a multiple of the former
    aligned: bool  # whether the target's tokens also have the source's latents of the same place in channels
    residual: bool  # whether what the diffusion model puts out is added to the source's latents, by a mask it puts out

    def __post_init__(self) -> None:
        if self.patch < 1 or self.source_patch < 1 or self.source_patch % self.patch:
            raise UsageError(
                f"model.low_level.source_patch is {self.source_patch}, patch is {self.patch}",
                "make the former a multiple of the latter",
            )


@dataclass(frozen=True)
class Region:
    """Region queries (box, mask, point) as a token of the VLM's input."""

    enabled: bool  # ablation switch
    mask_grid: int  # a mask is pooled to this many cells a side
    share: float  # share of training samples that carry a region query


@dataclass(frozen=True)
class Flow:
    """Flow matching and its sampler."""

    prediction: Literal["sample", "velocity"]  # what the diffusion model puts out
    time_mean: float  # training times are drawn from a logistic normal
    time_std: float
    error: Literal["squared", "log"]  # what is minimised: the squared error, or its logarithm, sample by sample
    weight_cap: float  # a squared error of the clean latents is weighted by 1 / sigma², up to this
    context_dropout: float  # share of training samples without context, for guidance
    scheduler: str  # a class of diffusers.schedulers
    shift: float
    num_inference_steps: int
    guidance_scale: float


@dataclass(frozen=True)
class ModelConfig:
    """Everything that decides the network: what `config.json` of a saved model holds."""

    preset: str
    resolution: int
    vlm_resolution: int
    max_text_tokens: dict[str, int]  # by mode; the adapter pads to this, training to the batch's longest
    fusion_depth: int | None  # ablation switch: blocks of the MMDiT that see the context; None is all
    tokenizer: str  # hub name or folder; empty: the words of the scenes suite
    vlm: Part
    vae: Part
    head: Part
    mmdit: Part
    kontext: Kontext
    gate: Gate
    low_level: LowLevel
    region: Region
    flow: Flow

    def __post_init__(self) -> None:
        if not 0 < self.gate.share <= 1:
            raise UsageError(f"model.gate.share is {self.gate.share}", "give more than 0 and at most 1")
        library = "library" in (self.head.block, self.mmdit.block)
        if library and (self.fusion_depth is not None or self.gate.share < 1):
            raise UsageError(
                "model.fusion_depth and model.gate.share are of the lean block",
                "leave them at null and 1 with `block: library`",
            )
        depth = self.mmdit.arguments.get("depth", 0)
        if self.fusion_depth is not None and not 0 <= self.fusion_depth < depth:
            raise UsageError(
                f"model.fusion_depth is {self.fusion_depth}",
                f"null for all {depth} blocks, or the number of the first ones",
            )


@dataclass(frozen=True)
class Optimisation:
    """What the training loop and the data need of a stage, whatever model it trains."""

    trained: tuple[str, ...]  # parts of the model; a part with `_lora` behind it stands for adapters on it, frozen
    steps: int
    batch_size: int
    micro_batch: int  # samples of a batch that go through the model at once; the gradients of the rest are added
    optimizer: Literal["adamw", "muon"]
    learning_rate: float
    warmup_steps: int
    final_learning_rate: float  # as a share of learning_rate, reached on a cosine
    weight_decay: float
    clip_norm: float
    ema_decay: float
    query_ratio: float  # ablation switch: share of query-conditioned batches (edits); the rest generate
    generation: dict[str, float]  # how the rest divides among the other modes
    tasks: dict[str, float]  # how the edits divide among the tasks of the scenes suite, and of `drawn-faces/TASK`
    resolutions: dict[int, float]  # buckets and their shares

    def __post_init__(self) -> None:
        for name in ("batch_size", "micro_batch"):
            if getattr(self, name) < 1:
                raise UsageError(f"a stage's {name} is {getattr(self, name)}", "give at least 1")
        if not 0 <= self.query_ratio <= 1:
            raise UsageError(f"a stage's query_ratio is {self.query_ratio}", "it is a share: give 0 to 1")
        generating = [mode for mode in MODES if mode != "edit"]
        if unknown := set(self.generation) - set(generating):
            raise UsageError(f"a stage's generation has {min(unknown)!r}", f"known: {', '.join(generating)}")
        for name in ("tasks", "resolutions", *(["generation"] if self.query_ratio < 1 else [])):
            shares = getattr(self, name)
            if not sum(shares.values()) > 0 or min(shares.values()) < 0:
                raise UsageError(f"a stage's {name} is {shares}", "give shares, one of them above 0")


@dataclass(frozen=True)
class Stage(Optimisation):
    """One stage of training Query-Kontext."""

    objective: Literal["vae", "vlm", "flow"]
    denoiser: Literal["none", "head", "mmdit"]
    low_level: bool  # whether source and reference tokens enter the diffusion model
    lora_rank: int
    gate_weight: float  # of the gate's cross entropy, beside the flow loss
    placement_weight: float  # of the placement's cross entropies, beside the flow loss or the words
    gate_positive_weight: float  # pixels of the edit count this much more than others


@dataclass(frozen=True)
class Loop:
    """What the training loop needs beside the stages."""

    seed: int
    mixed_precision: Literal["no", "bf16"]
    workers: int
    log_every: int
    checkpoint_every: int
    validate_every: int
    validation_samples: int  # per task
    schedule: tuple[str, ...]  # ablation switch: the stages, in order


@dataclass(frozen=True)
class Training(Loop):
    """The training recipe of a preset."""

    compile: bool
    stages: dict[str, Stage]

    def __post_init__(self) -> None:
        if not self.schedule or len({*self.schedule} & {*self.stages}) < len(self.schedule):
            raise UsageError(
                f"training.schedule is {list(self.schedule)}", f"name stages, each once, of: {', '.join(self.stages)}"
            )


@dataclass(frozen=True)
class Preset:
    """One column of the sheet."""

    model: ModelConfig
    training: Training


@cache
def sheet() -> dict[str, Any]:
    """The sheet as it stands in the file."""
    data = yaml.safe_load(resources.files("qk_model").joinpath("hyperparameters.yaml").read_text("utf-8"))
    assert isinstance(data, dict)
    return data


def load_preset(name: str, overrides: dict[str, Any] | None = None) -> Preset:
    """Fill the dataclasses with one preset of the sheet.

    Args:
        name: `micro`, `base` or `paper`.
        overrides: Dotted path to value, such as `{"model.gate.enabled": False}`: what an ablation changes.

    Raises:
        UsageError: No such preset, or a key that is unknown, missing or of the wrong type.
    """
    if name not in sheet()["presets"]:
        raise UsageError(f"there is no preset {name!r}; there are: {', '.join(PRESETS)}")
    return parse_preset(name, sheet(), overrides)


def parse_preset(name: str, data: dict[str, Any], overrides: dict[str, Any] | None = None) -> Preset:
    """One preset of a sheet that is already read."""
    values = leaf_values(data["presets"][name], data["sources"], "hyperparameters.yaml", f"presets.{name}")
    override(values, overrides or {}, f"preset {name}")
    values["model"]["preset"] = name
    return fill(Preset, values, name)


def override(values: dict[str, Any], overrides: Mapping[str, Any], where: str) -> None:
    """Change values, in place, by their dotted paths.

    Raises:
        UsageError: There is no value at a path.
    """
    for path, value in overrides.items():
        *parents, last = path.split(".")
        node = values
        for key in parents:
            node = node.get(key, {}) if isinstance(node, dict) else {}
        if not isinstance(node, dict) or last not in node:
            raise UsageError(f"{where} has no value {path}")
        node[last] = value


def to_json(config: Any) -> dict[str, Any]:
    """A config dataclass as JSON values."""
    return json.loads(json.dumps(dataclasses.asdict(config)))  # type: ignore[no-any-return]


def model_config(values: dict[str, Any]) -> ModelConfig:
    """The inverse of `to_json` for a `ModelConfig`."""
    return fill(ModelConfig, values, "config.json")


def preset_of(values: dict[str, Any], where: str) -> Preset:
    """The inverse of `to_json` for a `Preset`, such as the `values` of a plan."""
    return fill(Preset, values, where)


def leaf_values(node: Any, sources: dict[str, str], file: str, where: str) -> Any:
    """A sheet less its sources, each checked.

    Raises:
        UsageError: A leaf has an unknown key or no source.
    """
    if not isinstance(node, dict):
        raise UsageError(f"{file}: {where} must be {{value: …, source: …}}")
    if "value" not in node:
        return {key: leaf_values(child, sources, file, f"{where}.{key}") for key, child in node.items()}
    if set(node) - {"value", "source", "note"}:
        raise UsageError(f"{file}: {where} has the unknown key {min(set(node) - {'value', 'source', 'note'})}")
    if node.get("source") not in sources:
        raise UsageError(f"{file}: {where} has no source", f"name one of: {', '.join(sources)}")
    return copy.deepcopy(node["value"])


def fill(kind: type[T], values: Any, where: str) -> T:
    """A dataclass from a mapping; every field must be there and nothing else."""
    if not isinstance(values, dict):
        raise UsageError(f"{where} must be a mapping")
    hints = typing.get_type_hints(kind)
    for key in values:
        if key not in hints:
            raise UsageError(f"{where} has the unknown key {key!r}", f"known: {', '.join(hints)}")
    for key in hints:
        if key not in values:
            raise UsageError(f"{where} lacks {key!r}")
    return kind(**{key: _convert(hint, values[key], f"{where}.{key}") for key, hint in hints.items()})


def _convert(hint: Any, value: Any, where: str) -> Any:
    if dataclasses.is_dataclass(hint):
        return fill(typing.cast("type[Any]", hint), value, where)
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is dict and isinstance(value, dict):
        return {_convert(arguments[0], k, where): _convert(arguments[1], v, f"{where}.{k}") for k, v in value.items()}
    if origin is tuple and isinstance(value, list | tuple):
        return tuple(_convert(arguments[0], v, where) for v in value)
    if origin is Literal and value in arguments:
        return value
    if origin is types.UnionType:
        return None if value is None else _convert(arguments[0], value, where)
    if hint is Any or (
        isinstance(hint, type) and isinstance(value, hint) and (hint is bool or not isinstance(value, bool))
    ):
        return value
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if hint is int and isinstance(value, str) and value.isdigit():  # keys of JSON objects are text
        return int(value)
    raise UsageError(f"{where} is {value!r}, expected {getattr(hint, '__name__', hint)}")

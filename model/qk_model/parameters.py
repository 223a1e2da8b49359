"""The part-by-part table of a preset: parameters counted on meta tensors, memory, tokens, beside published figures."""

from __future__ import annotations

import dataclasses
import math

import torch
from torch import nn

from qk_bench.training import Table
from qk_model import stages
from qk_model.config import ModelConfig, Part, Preset, load_preset
from qk_model.mmdit import make_mmdit
from qk_model.model import QueryKontext
from qk_model.tokenizer import build_tokenizer
from qk_model.trunk import BLOCKS
from qk_model.vlm import QwenVLM

CARD_BYTES = 32e9  # the card the article names
PROCESSES = 8  # among which FSDP divides
BF16 = 2  # bytes a parameter, as a model is saved
BESIDE = 4 + 8 + 4  # bytes beside a trained parameter: gradient, two moments and an average

# What is published of each part, as far as it is known (second-hand for the paper's sizes).
PUBLISHED: dict[str, tuple[str, str]] = {
    "vlm": ("7 B", "BLIP3-o-like"),
    "tokens": ("K = 128", ""),
    "connector": ("about 50 M", ""),
    "gate": ("", "about 6.2 M"),
    "head": ("about 870 M", ""),
    "mmdit": ("about 10 B", ""),
    "in use": ("", "about 130 M"),
}


def tables(name: str) -> list[Table]:
    """The tables of a preset: parts, training stages, tokens of a request."""
    preset = load_preset(name)
    counts = count(preset)
    in_use = {part: n for part, n in counts.items() if part != "head"}
    rows = [
        (
            part,
            _kind(preset.model, part),
            _short(n),
            _gb(n * BF16) if part != "head" else "-",
            *PUBLISHED.get(part, ("", "")),
        )
        for part, n in [*counts.items(), ("in use", sum(in_use.values()))]
    ]
    title = (
        f"query-kontext, preset {name}: parts (in use: at inference; the light head is stage 1's and dropped after it)"
    )
    columns = ("part", "class", "parameters", "bf16", "paper", "article")
    return [Table(title, columns, tuple(rows)), _memory(preset), _tokens(preset)]


def count(preset: Preset) -> dict[str, int]:
    """Parameters of each part, the light head included."""
    with torch.device("meta"):
        model = _scratch(preset)
        model.head = make_mmdit(_bare(preset.model.head))
    return {name: sum(p.numel() for p in part.parameters()) for name, part in model.parts().items() if part is not None}


def _memory(preset: Preset) -> Table:
    """Memory on an accelerator, of inference and of each stage: weights, gradients, moments and averages."""
    with torch.device("meta"):
        model = _scratch(preset).requires_grad_(False)
    rows = [("inference", *_held(model))]
    for name in preset.training.schedule:
        with torch.device("meta"):
            model = _scratch(preset)
            bare = dataclasses.replace(preset, model=dataclasses.replace(preset.model, head=_bare(preset.model.head)))
            stages.prepare(model, bare, preset.training.stages[name])
        rows.append((f"stage {name}", *_held(model)))
    title = (
        "memory on an accelerator, before activations: frozen library classes in bf16, all else in float32; 16 bytes more"
        " a trained parameter (gradient, moments, average). By FSDP a share of that, and whole: what lies outside the blocks,"
        " one block, and the trained weights in bf16, which autocast keeps for the backward pass"
    )
    columns = ("", "trained", "resident", "memory", "one 32 GB card", f"each of {PROCESSES} by FSDP")
    return Table(title, columns, tuple(rows))


def _held(model: QueryKontext) -> tuple[str, ...]:
    """Trained and resident parameters of a model, and the memory that they take on an accelerator."""
    model.lighten()
    parameters = list(model.parameters())
    trained = sum(p.numel() for p in parameters if p.requires_grad)
    memory = _size(model) + BESIDE * trained
    resident = sum(p.numel() for p in parameters)
    blocks = [_size(module) for module in model.modules() if type(module).__name__ in BLOCKS]
    each = memory / PROCESSES + _size(model) - sum(blocks) + max(blocks) + BF16 * trained
    shown = (_short(trained), _gb(each)) if trained else ("-", "-")
    return shown[0], _short(resident), _gb(memory), _fits(memory), shown[1]


def _size(module: nn.Module) -> int:
    """Bytes of its weights."""
    return sum(p.numel() * p.element_size() for p in module.parameters())


def _tokens(preset: Preset) -> Table:
    """Tokens of one edit request at the preset's resolution."""
    config = preset.model
    with torch.device("meta"):
        model = _scratch(preset)
    text = config.max_text_tokens["edit"]
    kontext = config.kontext.num_queries if config.kontext.enabled else 0
    image = (config.vlm_resolution // model.vlm.multiple) ** 2
    latent = (config.resolution // model.multiple) ** 2
    target = (config.resolution // (model.factor * config.low_level.patch)) ** 2
    drawn = math.ceil(config.gate.share * target) if config.gate.enabled else target
    asked = f"{drawn} of {target} target" if drawn < target else f"{target} target"
    markers = 2 if isinstance(model.vlm, QwenVLM) else 0
    region = 1 if config.region.enabled else 0
    source = latent if config.low_level.enabled else 0
    rows = (
        (
            "VLM",
            f"{image + markers} image + {text} text + {region} region + {kontext} kontext",
            str(image + markers + text + region + kontext),
        ),
        (
            "MMDiT",
            f"{asked} + {source} source + {text} text + {kontext} kontext",
            str(drawn + source + text + kontext),
        ),
    )
    return Table(
        f"tokens of an edit at {config.resolution} x {config.resolution} pixels (each reference adds {latent})",
        ("", "made of", "tokens"),
        rows,
    )


def _scratch(preset: Preset) -> QueryKontext:
    """The model without any pretrained weights; call it under the meta device."""
    model = preset.model
    bare = dataclasses.replace(
        model, vlm=_bare(model.vlm), vae=_bare(model.vae), mmdit=_bare(model.mmdit), tokenizer=""
    )
    return QueryKontext(bare, tokenizer=build_tokenizer())


def _bare(part: Part) -> Part:
    return dataclasses.replace(part, pretrained="")


def _kind(config: ModelConfig, part: str) -> str:
    classes = {
        "vlm": ("Qwen2_5_VLModel", "LeanVLM"),
        "vae": ("AutoencoderKL", "LeanVAE"),
        "head": ("FluxTransformer2DModel", "LeanMMDiT"),
        "mmdit": ("FluxTransformer2DModel", "LeanMMDiT"),
    }
    own = {
        "tokens": "KontextTokens",
        "connector": "Connector",
        "gate": "CrossModalGate",
        "low_level": "LowLevelEncoder",
    }
    if part in classes:
        return classes[part][getattr(config, part).block == "lean"]
    return own.get(part, "")


def _fits(memory: float) -> str:
    return "fits" if memory <= CARD_BYTES else f"no: {memory / CARD_BYTES:.1f} x"


def _short(n: float) -> str:
    for unit, size in (("B", 1e9), ("M", 1e6), ("K", 1e3)):
        if n >= size:
            return f"{n / size:.2f} {unit}"
    return str(int(n))


def _gb(size: float) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e8 else f"{size / 1e6:.2f} MB"

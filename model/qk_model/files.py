"""A model's folder: config.json, a folder for each part with a library's form, and one file for the small parts."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from qk_bench.errors import UsageError
from qk_model import vae
from qk_model.config import Part, model_config, to_json
from qk_model.mmdit import FluxMMDiT, LeanMMDiT
from qk_model.vlm import LeanVLM, QwenVLM

if TYPE_CHECKING:
    from qk_model.model import QueryKontext

Model = TypeVar("Model", bound="QueryKontext")
S = TypeVar("S")
T = TypeVar("T")

LARGE_PARTS = ("vlm", "vae", "mmdit")
SMALL_PARTS = ("tokens", "connector", "gate", "low_level", "head", "reader")


def save(model: QueryKontext, folder: Path, dtype: torch.dtype | None) -> None:
    """Write the folder, in this type of numbers if one is named."""
    folder.mkdir(parents=True, exist_ok=True)
    if dtype is not None:
        model.to(dtype)
    for name in LARGE_PARTS:
        getattr(model, name).save_pretrained(folder / name)
    model.tokenizer.save_pretrained(folder / "tokenizer")
    small = {
        f"{name}.{key}": value.contiguous()
        for name in SMALL_PARTS
        if (part := getattr(model, name)) is not None
        for key, value in part.state_dict().items()
    }
    save_file(small, folder / "kontext.safetensors")
    text = json.dumps(to_json(model.config), indent=1, sort_keys=True)
    (folder / "config.json").write_text(text + "\n", "utf-8")
    for path in folder.glob("*/*.json"):
        _forget_origin(path)


def load(kind: type[Model], folder: Path) -> Model:
    """Make a model of this kind from its folder.

    Raises:
        UsageError: It is not such a folder, or a part of it is missing or damaged.
    """
    try:
        config = model_config(json.loads((folder / "config.json").read_text("utf-8")))
        from transformers import PreTrainedTokenizerFast

        model = kind(
            config,
            tokenizer=PreTrainedTokenizerFast.from_pretrained(folder / "tokenizer"),
            vlm=(QwenVLM if config.vlm.block == "library" else LeanVLM).from_pretrained(folder / "vlm"),
            autoencoder=vae.kind(config.vae).from_pretrained(folder / "vae"),
            mmdit=(FluxMMDiT if config.mmdit.block == "library" else LeanMMDiT).from_pretrained(folder / "mmdit"),
        )
        weights = load_file(folder / "kontext.safetensors")
        for name in SMALL_PARTS:
            if (part := getattr(model, name)) is not None:
                part.load_state_dict({k[len(name) + 1 :]: v for k, v in weights.items() if k.startswith(f"{name}.")})
    except UsageError:
        raise
    except Exception as error:  # the libraries raise OSError, ValueError, RuntimeError, SafetensorError, …
        why = " ".join(str(error).split())[:160]
        raise UsageError(
            f"{folder} is not a folder with a Query-Kontext model: {why}",
            "name the `model` folder that `qkbench train query-kontext` wrote",
        ) from None
    return model


def named(name: str, make: Callable[[S], T], what: S) -> T:
    """Make a part; pretrained weights that cannot be had are one line.

    Raises:
        UsageError: The hub name or folder cannot be loaded.
    """
    pretrained = what.pretrained if isinstance(what, Part) else what
    if not pretrained:
        return make(what)
    try:
        return make(what)
    except (OSError, ValueError, SafetensorError) as error:
        key = "model.tokenizer" if name == "tokenizer" else f"model.{name}.pretrained"
        why = " ".join(str(error).split())[:100]
        raise UsageError(
            f"{name}: {pretrained} cannot be loaded ({why})", f"download it, then --set {key}=FOLDER"
        ) from None


def _forget_origin(path: Path) -> None:
    """Take out the folder a part was once loaded from: libraries note it, and it would make equal models differ."""
    values = json.loads(path.read_text("utf-8"))
    if isinstance(values, dict) and {"_name_or_path", "name_or_path"} & set(values):
        kept = {key: value for key, value in values.items() if key not in ("_name_or_path", "name_or_path")}
        path.write_text(json.dumps(kept, indent=2) + "\n", "utf-8")

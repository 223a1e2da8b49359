"""The parameter and budget table: what each model weighs and what its training costs, beside Query-Kontext."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from qk_model.config import Preset, load_preset
from qk_model.model import QueryKontext
from qk_model.recipe import Recipe
from qk_model.train import QueryKontextRecipe

from qk_baselines.trained.budget import PRETRAINED, plan, step_flops, write_plan
from qk_bench.training import Table

TOLERANCE = 0.10  # of the summed inference parameters without the autoencoder, against Query-Kontext's


def tables(names: Sequence[str]) -> list[Table]:
    """The tables of the baselines as the sheets have them; counted on models with random weights."""
    torch.manual_seed(0)
    preset = load_preset("micro")
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_plan(folder, preset)
        QueryKontext(preset.model).save_pretrained(folder / PRETRAINED)
        reference = QueryKontextRecipe(preset)
        each = {s: step_flops(reference, s) for s in preset.training.schedule if not s.startswith("pretrain")}
        spent = {s: flops * preset.training.stages[s].steps for s, flops in each.items()}
        recipes = [plan(name, folder, spent, {}) for name in names]
    own = {name: count for name, count in _in_use(preset).items() if name != "vae"}
    total, budget = sum(own.values()), sum(spent.values())
    sizes = [_size_row("query-kontext", own, total)]
    costs = _cost_rows("query-kontext", reference, each, spent, budget)
    for recipe in recipes:
        parts = {name: count for name, count in recipe.parameters(recipe.make()).items() if name != "vae"}
        sizes.append(_size_row(recipe.name, parts, total))
        costs += _cost_rows(recipe.name, recipe, recipe.budget["step_flops"], recipe.budget["flops"], budget)
    return [
        Table(
            f"parameters at inference, without the autoencoder that all share; within {TOLERANCE:.0%} of Query-Kontext's",
            ("model", "made of", "parameters", "against Query-Kontext"),
            tuple(sizes),
        ),
        Table(
            "training FLOPs after the pretraining that all share (torch.utils.flop_counter, forwards and backwards)",
            ("model", "stage", "a step", "steps", "TFLOP", "against Query-Kontext"),
            tuple(costs),
        ),
    ]


def _in_use(preset: Preset) -> dict[str, int]:
    from qk_model.parameters import count

    return {name: n for name, n in count(preset).items() if name != "head"}


def _size_row(name: str, parts: Mapping[str, int], reference: int) -> tuple[str, ...]:
    total = sum(parts.values())
    made_of = ", ".join(f"{part} {n / 1e6:.2f}" for part, n in parts.items())
    return name, made_of, f"{total / 1e6:.2f} M", f"{total / reference - 1:+.1%}"


def _cost_rows(
    name: str, recipe: Recipe, each: Mapping[str, float], spent: Mapping[str, float], reference: float
) -> list[tuple[str, ...]]:
    rows = [
        (name, stage, f"{each[stage] / 1e9:.0f} GFLOP", str(recipe.stages[stage].steps), f"{flops / 1e12:.1f}", "")
        for stage, flops in spent.items()
    ]
    total = sum(spent.values())
    return [*rows, (name, "all", "", "", f"{total / 1e12:.1f}", f"{total / reference - 1:+.2%}")]

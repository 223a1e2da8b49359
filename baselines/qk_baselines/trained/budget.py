"""Equal training FLOPs: what Query-Kontext spends after pretraining, counted, and the steps that buys each baseline.

Counted are the matrix products and convolutions of real training steps, forwards and backwards, by
`torch.utils.flop_counter`, for each mode of each stage on a few samples; frozen weights cost no gradient, and what is
computed without gradients (a frozen encoder, drafts) counts as well.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from qk_model import trunk
from qk_model.config import Preset, preset_of, to_json
from qk_model.data import micro_batches
from qk_model.digest import weights_digest
from qk_model.model import QueryKontext
from qk_model.recipe import Recipe, read_plan
from qk_model.train import QueryKontextRecipe

from qk_baselines.trained.config import Baseline, load_baseline, with_steps
from qk_baselines.trained.recipe import BaselineRecipe
from qk_bench.errors import UsageError

PRETRAINED = "after-pretrain-vlm"
SAMPLES = 2  # on which a step is counted


def step_flops(recipe: Recipe, name: str) -> float:
    """FLOPs of one optimiser step of a stage, the mean over its modes by their shares."""
    stage = recipe.stages[name]
    total = sum(stage.generation.values())
    shares = {"edit": stage.query_ratio}
    shares |= {mode: (1 - stage.query_ratio) * share / total for mode, share in stage.generation.items()}
    model: Any = recipe.make().train()
    recipe.prepare(model, name)
    dataset = recipe.dataset(model, name)
    flops = 0.0
    for mode, share in shares.items():
        if share > 0:
            only = {"query_ratio": 1.0} if mode == "edit" else {"query_ratio": 0.0, "generation": {mode: 1.0}}
            dataset.stage = dataclasses.replace(stage, **only)  # type: ignore[arg-type]
            batch = next(micro_batches(dataset[0], SAMPLES))
            flops += share * _count(model, batch, recipe, name) / len(batch.input_ids) * stage.batch_size
    return flops


def _count(model: Any, batch: trunk.Batch, recipe: Recipe, name: str) -> int:
    from torch.utils.flop_counter import FlopCounterMode

    model.zero_grad()
    counter = FlopCounterMode(display=False)
    with counter, torch.enable_grad():
        model(batch, recipe.told(name), 0)["loss"].backward()
    return counter.get_total_flops()


def reference(folder: Path) -> tuple[Preset, dict[str, float]]:
    """The Query-Kontext training in a folder, and the FLOPs of each stage after pretraining.

    Raises:
        UsageError: The folder holds no training of it, or one of another size than can be counted here.
    """
    preset = _plan(folder)
    if preset.model.mmdit.block != "lean":
        raise UsageError(f"{folder} holds a training of preset {preset.model.preset}", "baselines are trained in micro")
    recipe = _Reference(preset, folder)
    names = [name for name in preset.training.schedule if not name.startswith("pretrain")]
    return preset, {name: step_flops(recipe, name) * preset.training.stages[name].steps for name in names}


class _Reference(QueryKontextRecipe):
    """Query-Kontext as its stages after pretraining meet it."""

    def __init__(self, preset: Preset, folder: Path) -> None:
        super().__init__(preset)
        self.folder = folder / PRETRAINED

    def make(self) -> QueryKontext:
        return self.load(self.folder)


def plan(
    name: str, folder: Path, spent: Mapping[str, float], overrides: Mapping[str, Any], max_steps: int | None = None
) -> BaselineRecipe:
    """A baseline whose stages are as long as its share of the FLOPs allows.

    Args:
        name: The baseline.
        folder: The Query-Kontext training whose pretraining it goes on from.
        spent: What `reference` counted there.
        overrides: Values of the sheet to change, by dotted path.
        max_steps: At most this many steps of each stage.
    """
    baseline = load_baseline(name, overrides)
    _check(name, baseline)
    total = sum(spent.values()) * baseline.budget_scale
    digest = weights_digest(folder / PRETRAINED)
    draft = BaselineRecipe(name, baseline, folder / PRETRAINED, {"pretraining_sha256": digest})
    schedule = baseline.training.schedule
    shares = sum(baseline.training.stages[stage].share for stage in schedule)
    each = {stage: step_flops(draft, stage) for stage in schedule}
    steps = {
        stage: max(1, round(total * baseline.training.stages[stage].share / shares / flops))
        for stage, flops in each.items()
    }
    if max_steps is not None:
        steps = {stage: min(count, max_steps) for stage, count in steps.items()}
    budget = {
        "pretraining_sha256": digest,
        "query_kontext_flops": dict(spent),
        "budget_scale": baseline.budget_scale,
        "step_flops": each,
        "flops": {stage: each[stage] * count for stage, count in steps.items()},
    }
    return BaselineRecipe(name, with_steps(baseline, steps), folder / PRETRAINED, budget)


def _check(name: str, baseline: Baseline) -> None:
    stages = baseline.training.stages
    for stage in baseline.training.schedule:
        if stage not in stages:
            raise UsageError(f"{name}: training.schedule names the stage {stage!r}", f"there are: {', '.join(stages)}")
        if not stages[stage].share > 0:
            raise UsageError(f"{name}: training.stages.{stage}.share must be more than 0")
    if not baseline.budget_scale > 0:
        raise UsageError(f"{name}: budget_scale must be more than 0")


def write_plan(folder: Path, preset: Preset) -> None:
    """Write of a training's plan what `reference` reads."""
    (folder / "plan.json").write_text(json.dumps({"values": to_json(preset)}), "utf-8")


def _plan(folder: Path) -> Preset:
    plan = read_plan(folder)
    if plan is None or "values" not in plan:
        raise UsageError(f"{folder} holds no training of Query-Kontext", f"qkbench train query-kontext --out {folder}")
    preset = preset_of(plan["values"], str(folder / "plan.json"))
    if not (folder / PRETRAINED / "config.json").exists():
        raise UsageError(
            f"{folder} holds no {PRETRAINED}",
            f"qkbench train query-kontext --stage pretrain --out {folder}",
        )
    return preset

"""What `qkbench train baselines`, `qkbench train unified-a` … and `qkbench show` of them call."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from qk_baselines.trained.config import NAMES, load_baseline
from qk_bench.errors import UsageError
from qk_bench.training import Table, Trainer

PRETRAINING = "pretraining"


class BaselineTrainer(Trainer):
    """Trains one baseline, or all of them, on a pretraining that they share with Query-Kontext."""

    presets = ("micro",)
    names: Sequence[str] = NAMES

    def train(
        self, preset: str, *, stage: str, max_steps: int | None, out: Path, overrides: Mapping[str, Any]
    ) -> Path | None:
        """Train, or go on with, a stage or all of them; a set of models in a folder each.

        Raises:
            UsageError: The preset is not trained here, or a value or stage is not there.
        """
        self._check(preset)
        from qk_model.loop import estimate, run
        from qk_model.recipe import Options

        from qk_baselines.trained.budget import plan, reference

        whole = len(self.names) > 1
        if whole and stage != "all":
            raise UsageError("the baselines have no stages in common", f"qkbench train {NAMES[0]} --stage {stage}")
        chosen = {name: self._of(name, overrides) for name in self.names}
        for name, own in chosen.items():
            load_baseline(name, own)  # before anything takes time
        folder = _pretrained(preset, out, str(overrides.get(PRETRAINING, "")), max_steps)
        _, spent = reference(folder)
        recipes = {name: plan(name, folder, spent, own, max_steps) for name, own in chosen.items()}
        places = {name: out / name if whole else out for name in chosen}
        seconds = 0.0
        for name, recipe in recipes.items() if whole else ():
            print(f"{name}: {sum(recipe.budget['flops'].values()) / 1e12:.4g} TFLOP", file=sys.stderr)
            seconds += estimate(recipe, recipe.loop.schedule, places[name])
        if seconds:
            print(f"about {seconds / 60:.0f} min for all models, validation aside", file=sys.stderr)
        for name, recipe in recipes.items():
            options = Options(preset, places[name], stage, max_steps, chosen[name])
            made = run(recipe, options, estimated=whole)
        return None if whole else made

    def tables(self, preset: str) -> list[Table]:
        """Parameters and training FLOPs beside Query-Kontext's, as the sheets have them."""
        self._check(preset)
        from qk_baselines.trained.table import tables

        return tables(self.names)

    def _of(self, name: str, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """The overrides of one model: in a set, those under its name and those under no model's name."""
        if len(self.names) == 1:
            return dict(overrides)
        mine = {}
        for path, value in overrides.items():
            head, _, tail = path.partition(".")
            if head not in NAMES:
                mine[path] = value
            elif head == name:
                mine[tail] = value
        return mine

    def _check(self, preset: str) -> None:
        from qk_model.trainer import need_libraries

        need_libraries("the baselines")
        if preset not in self.presets:
            raise UsageError(f"the baselines have no preset {preset!r}", f"there is: {', '.join(self.presets)}")


class UnifiedATrainer(BaselineTrainer):
    """Trains `unified-a`."""

    names = ("unified-a",)


class Blip3oTrainer(BaselineTrainer):
    """Trains `blip3o`."""

    names = ("blip3o",)


class TwoStageTrainer(BaselineTrainer):
    """Trains `two-stage`."""

    names = ("two-stage",)


class TwoStageGenerateTrainer(BaselineTrainer):
    """Trains `two-stage-generate`."""

    names = ("two-stage-generate",)


def _pretrained(preset: str, out: Path, named: str, max_steps: int | None) -> Path:
    """The folder of the Query-Kontext training to go on from; its pretraining is done first where it is missing.

    Raises:
        UsageError: The one beside `out` was a trial of a few steps, and this training is none; or its plan is damaged.
    """
    from qk_model.recipe import read_plan
    from qk_model.train import Options, train

    from qk_baselines.trained.budget import PRETRAINED

    folder = Path(named) if named else out.parent / f"train-query-kontext-{preset}"
    if not named and not (folder / PRETRAINED).exists():
        print(f"first the pretraining that all share, in {folder}", file=sys.stderr)
        train(Options(preset, folder, "pretrain", max_steps))
    trial = (read_plan(folder) or {}).get("max_steps")
    if trial and max_steps is None and not named:
        raise UsageError(
            f"{folder} is a trial of at most {trial} steps a stage",
            f"move it away, so that the pretraining is made; or name it: --set {PRETRAINING}={folder}",
        )
    return folder

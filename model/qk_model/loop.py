"""The training loop: stage after stage, each from what the one before left, resumable to the same bits.

A run folder holds `plan.json` (what was asked for), `state-<stage>-<step>` (the newest full state), `after-<stage>`
(the model as the stage left it), `log.jsonl`, `tensorboard/`, and at the end `model/`: config.json, weights in bf16,
the training record and the model card. A batch, its noise and its learning rate are functions of the step alone, so
what a state must hold is weights, optimiser moments, averages and the step.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs, PartialState
from accelerate.utils import parse_flag_from_env
from diffusers.training_utils import EMAModel
from torch import nn

from qk_bench.errors import UsageError
from qk_model import sharding
from qk_model.config import Optimisation
from qk_model.data import batches, micro_batches, to_device
from qk_model.log import Log
from qk_model.recipe import Options, Recipe, read_plan, write_model

SECONDS = "seconds.json"  # in a state: what its steps took
AVERAGE = "average"  # in a state of sharded weights: their average
DIVIDED = ("FSDP", "DEEPSPEED", "MEGATRON_LM")


def run(recipe: Recipe, options: Options, *, estimated: bool = False) -> Path | None:
    """Train, or go on training, the stages asked for.

    Args:
        recipe: The model.
        options: What is asked for.
        estimated: Whether the time it takes has been told already.

    Returns:
        The final model's folder, once the last stage of the schedule is done.

    Raises:
        UsageError: The folder holds another training, a stage's predecessor is not there, or the processes that
            accelerate started cannot share the training.
    """
    schedule = recipe.loop.schedule
    chosen = [name for name in schedule if options.stage == "all" or options.stage in (name, name.split("-")[0])]
    if not chosen:
        raise UsageError(
            f"preset {options.preset} has no stage {options.stage!r}", f"stages: all, {', '.join(schedule)}"
        )
    accelerator = Accelerator(
        mixed_precision=recipe.loop.mixed_precision,
        fsdp_plugin=sharding.plugin(),
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    _check_processes(recipe, chosen, accelerator)
    _check_plan(options, recipe, accelerator)
    if accelerator.is_main_process and not estimated:
        estimate(recipe, chosen, options.out)
    for name in remaining(chosen, options.out):
        _Run(recipe, name, options, accelerator).run()
    last = options.out / f"after-{schedule[-1]}"
    if not last.exists():
        return None
    final = options.out / "model"
    if accelerator.is_main_process and not final.exists():
        write_model(recipe, options, last, final)
    accelerator.wait_for_everyone()
    return final


class _Run:
    """One stage."""

    def __init__(self, recipe: Recipe, name: str, options: Options, accelerator: Accelerator) -> None:
        self.recipe, self.name, self.out, self.accelerator = recipe, name, options.out, accelerator
        self.stage = recipe.stages[name]
        torch.manual_seed(_seed(recipe.loop.seed, name))
        self.model: Any = _load_before(recipe, name, options.out)
        count = accelerator.num_processes
        self.dataset = recipe.dataset(self.model, name, accelerator.process_index, count)
        recipe.initialise(self.model, name, recipe.dataset(self.model, name, 0, count))  # all processes alike
        self.prepared = recipe.prepare(self.model, name)
        if accelerator.device.type != "cpu" and recipe.loop.mixed_precision == "bf16":
            self.model.lighten()
        self.wrapped, *self.optimizers = accelerator.prepare(self.model, *_optimizers(self.model, self.stage))
        self.trained = [p for p in self.model.parameters() if p.requires_grad]  # on their device by now
        self.ema = EMAModel(sharding.shares(self.trained), decay=self.stage.ema_decay, foreach=True)
        self.sharded = accelerator.is_fsdp2
        if self.sharded:
            sharding.start_moments(self.optimizers)
        else:
            accelerator.register_for_checkpointing(self.ema)

    def run(self) -> None:
        """Train from the newest state, or from the start, to the end of the stage."""
        config, total = self.recipe.loop, self.stage.steps
        start, before = self._resume()
        with Log(self.out, self.name, start, self.accelerator.is_main_process) as log:
            began, seconds = time.monotonic() - before, 0.0
            sums: dict[str, list[float]] = {}
            source = batches(self.dataset, start, config.workers)
            for step in range(start, total):
                tick = time.monotonic()
                losses = self._step(step, next(source))
                seconds += time.monotonic() - tick
                for key, value in losses.items():
                    sums.setdefault(key, []).append(value)
                done = step + 1
                if done % config.log_every == 0 or done == total:
                    means = {key: sum(values) / len(values) for key, values in sums.items()}
                    log.write(done, total, {**means, "learning_rate": _learning_rate(self.stage, step)}, seconds)
                    sums, seconds = {}, 0.0
                if done % config.validate_every == 0 or done == total:
                    log.write(done, total, self._validate(), 0.0)
                if done % config.checkpoint_every == 0 and done < total:
                    self._save_state(done, time.monotonic() - began)
            wall = time.monotonic() - began
        self._end(wall)

    def _step(self, step: int, batch: Any) -> dict[str, float]:
        """One optimiser step; returns the losses."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(self.stage, step)
        mean: dict[str, float] = {}
        pieces = list(micro_batches(to_device(batch, self.accelerator.device), self.stage.micro_batch))
        for number, piece in enumerate(pieces):
            summed = self.sharded or number == len(pieces) - 1  # unsummed, gradients are as large as the whole model
            quiet = contextlib.nullcontext() if summed else self.accelerator.no_sync(self.wrapped)
            seed = _seed(self.recipe.loop.seed, self.name, step, number, self.accelerator.process_index)
            with quiet:
                with self.accelerator.autocast():  # which accelerate does not do for FSDP
                    losses = self.wrapped(piece, self.recipe.told(self.name), seed)
                self.accelerator.backward(losses["loss"] / len(pieces))
            for key, value in losses.items():
                mean[key] = mean.get(key, 0.0) + float(value.detach()) / len(pieces)
        if not math.isfinite(mean["loss"]):
            raise UsageError(
                f"stage {self.name}: the loss is {mean['loss']} at step {step}", "lower its learning_rate in the sheet"
            )
        self.accelerator.clip_grad_norm_(self.trained, self.stage.clip_norm)
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
        self.ema.step(sharding.shares(self.trained))
        return {f"{key}/{batch.mode}" if key == "flow" else key: value for key, value in mean.items()}

    def _validate(self) -> dict[str, Any]:
        """Figures on the val split with the averaged weights; of a sharded model by all processes alike."""
        samples = self.recipe.loop.validation_samples
        if not samples or not (self.accelerator.is_main_process or self.sharded):
            return {}
        shares = sharding.shares(self.trained)
        self.ema.store(shares)
        self.ema.copy_to(shares)
        if self.sharded:
            self.model.unshard()  # what lies outside the blocks; these are gathered as they are called
        try:
            with self.accelerator.autocast():
                return self.recipe.validate(self.model, self.name, samples)
        finally:
            if self.sharded:
                self.model.reshard()
            self.ema.restore(shares)

    # ---- states ----

    def _save_state(self, step: int, seconds: float) -> None:
        """Save everything the rest of the stage depends on; the older state goes when the newer is whole.

        Args:
            step: Steps done …
            seconds: … and what they took, in all sessions.
        """
        folder = self.out / f"state-{self.name}-{step:07d}"
        partial = self.out / f"partial-{folder.name}"
        if self.accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(partial))
        if self.sharded:
            sharding.save_average(self.ema, self.trained, partial / AVERAGE)
        self.accelerator.wait_for_everyone()  # each process has written its share
        if self.accelerator.is_main_process:
            (partial / SECONDS).write_text(json.dumps(seconds), "utf-8")
            os.replace(partial, folder)
            for old in self.out.glob("state-*"):
                if old != folder:
                    shutil.rmtree(old)

    def _resume(self) -> tuple[int, float]:
        """Load the newest state of this stage, if there is one. Returns the step to go on with, and the seconds so far."""
        found = sorted(self.out.glob(f"state-{self.name}-[0-9]*"))
        if not found:
            return 0, 0.0
        if (found[-1] / AVERAGE).exists() != self.sharded:
            raise UsageError(
                f"{found[-1]} was saved {'without' if self.sharded else 'with'} FSDP",
                "launch it as before, or delete it",
            )
        self.accelerator.load_state(str(found[-1]))
        if self.sharded:
            sharding.load_average(self.ema, self.trained, found[-1] / AVERAGE)
        else:
            self.ema.to(self.accelerator.device)  # accelerate loads it to the CPU
        return int(found[-1].name.rsplit("-", 1)[1]), json.loads((found[-1] / SECONDS).read_text("utf-8"))

    def _end(self, wall: float) -> None:
        """Keep the averaged weights, and leave the model for the next stage."""
        self.ema.copy_to(sharding.shares(self.trained))
        weights = self.accelerator.get_state_dict(self.wrapped) if self.sharded else None  # all processes take part
        if self.accelerator.is_main_process:
            model, prepared = self.model, self.prepared
            if weights is not None:
                model = _load_before(self.recipe, self.name, self.out)
                prepared = self.recipe.prepare(model, self.name)
                model.load_state_dict(weights)
            self.recipe.finish(model, self.name, prepared, self.dataset)
            partial = self.out / f"partial-after-{self.name}"
            shutil.rmtree(partial, ignore_errors=True)
            model.save_pretrained(partial)
            measured = {"seconds": round(wall, 1), "trained_parameters": sum(p.numel() for p in self.trained)}
            (partial / "measured.json").write_text(json.dumps(measured), "utf-8")
            os.replace(partial, self.out / f"after-{self.name}")
            for old in self.out.glob("state-*"):
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()
        self.accelerator.free_memory()
        self.accelerator._custom_objects.clear()


def _load_before(recipe: Recipe, name: str, out: Path) -> Any:
    """The model as the stage before left it; for the first stage, a fresh one."""
    schedule = recipe.loop.schedule
    position = schedule.index(name)
    if position == 0:
        return recipe.make()
    before = out / f"after-{schedule[position - 1]}"
    if not before.exists():
        raise UsageError(
            f"stage {name} goes on from {before}, which is not there",
            f"run stage {schedule[position - 1]} first, or all",
        )
    return recipe.load(before).train()


def _optimizers(model: nn.Module, stage: Optimisation) -> list[torch.optim.Optimizer]:
    """AdamW, or Muon for the matrices inside the blocks and AdamW for the rest."""
    named = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
    muon = [
        p for name, p in named if stage.optimizer == "muon" and "blocks" in name and p.ndim == 2 and min(p.shape) >= 32
    ]
    inside = {id(p) for p in muon}
    rest = [p for _, p in named if id(p) not in inside]
    decayed = [p for p in rest if p.ndim > 1]
    groups = [
        {"params": decayed, "weight_decay": stage.weight_decay},
        {"params": [p for p in rest if p.ndim <= 1], "weight_decay": 0.0},
    ]
    found: list[torch.optim.Optimizer] = [
        torch.optim.AdamW([g for g in groups if g["params"]], lr=stage.learning_rate, betas=(0.9, 0.98), fused=True)
    ]
    if muon:
        found.append(
            torch.optim.Muon(
                muon, lr=stage.learning_rate, weight_decay=stage.weight_decay, adjust_lr_fn="match_rms_adamw"
            )
        )
    return found


def _learning_rate(stage: Optimisation, step: int) -> float:
    """Linear warm-up, then a cosine to the final rate."""
    if step < stage.warmup_steps:
        return stage.learning_rate * (step + 1) / stage.warmup_steps
    progress = (step - stage.warmup_steps) / max(1, stage.steps - stage.warmup_steps)
    low = stage.final_learning_rate
    return stage.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))


def _seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("/".join(str(p) for p in ("qk-train", *parts)).encode()).digest()[:7], "big")


# ---- plan and estimate ----


def _check_processes(recipe: Recipe, names: Sequence[str], accelerator: Accelerator) -> None:
    """Refuse processes that would not train the same model as one does."""
    if accelerator.distributed_type in DIVIDED and not accelerator.is_fsdp2:
        raise UsageError(
            f"{accelerator.distributed_type.value}: of what divides a model among processes, only FSDP version 2 is used here",
            "accelerate launch with --use_fsdp --fsdp_version 2",
        )
    count = accelerator.num_processes
    if count < int(os.environ.get("WORLD_SIZE", 1)):
        raise UsageError(
            f"{os.environ['WORLD_SIZE']} processes were started that do not know of each other: each would train alone",
            "where there is no GPU, set ACCELERATE_USE_CPU=true",
        )
    for name in names:
        if accelerator.is_fsdp2 and recipe.stages[name].optimizer == "muon":
            raise UsageError(
                f"stage {name}: Muon wants whole matrices, and FSDP leaves each process its rows of them",
                f"--set training.stages.{name}.optimizer=adamw, or launch with --multi_gpu",
            )
        if recipe.stages[name].batch_size % count:
            raise UsageError(
                f"stage {name}: a batch of {recipe.stages[name].batch_size} does not divide among {count} processes",
                "choose another --num_processes or batch_size",
            )


def _check_plan(options: Options, recipe: Recipe, accelerator: Accelerator) -> None:
    """Refuse to go on with another training than the folder holds."""
    plan = {
        "preset": options.preset,
        "overrides": options.overrides,
        "max_steps": options.max_steps,
        "values": recipe.values,
    }
    path = options.out / "plan.json"
    stored = read_plan(options.out)
    if stored is not None:
        if stored != json.loads(json.dumps(plan)):
            different = [key for key in plan if stored.get(key) != json.loads(json.dumps(plan[key]))]
            raise UsageError(
                f"{options.out} holds another training: {', '.join(different)} differ",
                "choose another --out or delete it",
            )
    elif accelerator.is_main_process:
        options.out.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        partial.write_text(json.dumps(plan, indent=1), "utf-8")
        os.replace(partial, path)
    accelerator.wait_for_everyone()


def remaining(names: Sequence[str], out: Path) -> list[str]:
    """Those of the stages that are not done."""
    return [name for name in names if not (out / f"after-{name}").exists()]


def estimate(recipe: Recipe, names: Sequence[str], out: Path) -> float:
    """Say what is about to be done and, where the model is small enough to try on the CPU, how long it will take.

    Returns:
        Seconds of the stages that are not done, validation aside; 0 where they were not tried.
    """
    total = 0.0
    device = PartialState(parse_flag_from_env("ACCELERATE_USE_CPU")).device  # as the training's Accelerator chooses it
    for name in remaining(names, out):
        stage = recipe.stages[name]
        text = f"stage {name}: {stage.steps} steps of {stage.batch_size} samples, trains {', '.join(stage.trained)}"
        if recipe.quick and stage.steps >= 50 and device.type == "cpu":
            seconds = stage.steps * _time_step(recipe, name, stage)
            total += seconds
            text += f"; about {seconds / 60:.0f} min"
        print(text, file=sys.stderr)
    if total:
        print(f"about {total / 60:.0f} min in all, validation aside; {out} can be stopped and resumed", file=sys.stderr)
    return total


def _time_step(recipe: Recipe, name: str, stage: Optimisation) -> float:
    """Seconds of one training step, tried on a throw-away model."""
    model: Any = recipe.make()
    recipe.prepare(model, name)
    optimizers = _optimizers(model, stage)
    batch = recipe.dataset(model, name)[0]
    times = []
    for _ in range(2):
        began = time.monotonic()
        with torch.autocast("cpu", torch.bfloat16, enabled=recipe.loop.mixed_precision == "bf16"):
            loss = model(batch, recipe.told(name), 0)["loss"]
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        times.append(time.monotonic() - began)
    return min(times)

"""The training loop: stage after stage, each from what the one before left, resumable to the same bits.

A run folder holds `plan.json` (what was asked for), `state-<stage>-<step>` (the newest full state), `after-<stage>`
(the model as the stage left it), `log.jsonl`, `tensorboard/`, and at the end `model/`: config.json, weights in bf16,
the training record and the model card. A batch, its noise and its learning rate are functions of the step alone, so
what a state must hold is weights, optimiser moments, averages and the step.
"""

from __future__ import annotations

import contextlib
import copy
import dataclasses
import hashlib
import json
import math
import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, DistributedDataParallelKwargs
from diffusers.training_utils import EMAModel
from torch import nn

from qk_bench.errors import UsageError
from qk_model import stages
from qk_model.card import write_card
from qk_model.config import Preset, Stage, load_preset, to_json
from qk_model.data import TrainingBatches, batches, micro_batches, to_device
from qk_model.digest import weights_digest
from qk_model.model import QueryKontext
from qk_model.vae import LeanVAE
from qk_model.validate import gate_agreement, validate


@dataclass(frozen=True)
class Options:
    """What the command line asks for."""

    preset: str
    out: Path
    stage: str = "all"
    max_steps: int | None = None  # of each stage
    overrides: dict[str, Any] = field(default_factory=dict)


def train(options: Options) -> Path | None:
    """Train, or go on training, the stages asked for.

    Returns:
        The final model's folder, once the last stage of the schedule is done.

    Raises:
        UsageError: The folder holds another training, or a stage's predecessor is not there.
    """
    preset = load_preset(options.preset, options.overrides)
    if options.max_steps is not None:
        shorter = {
            n: dataclasses.replace(s, steps=min(s.steps, options.max_steps)) for n, s in preset.training.stages.items()
        }
        preset = dataclasses.replace(preset, training=dataclasses.replace(preset.training, stages=shorter))
    schedule = preset.training.schedule
    chosen = [name for name in schedule if options.stage == "all" or name.split("-")[0] == options.stage]
    if not chosen:
        raise UsageError(
            f"preset {options.preset} has no stage {options.stage!r}", f"stages: all, {', '.join(schedule)}"
        )
    accelerator = Accelerator(
        mixed_precision=preset.training.mixed_precision,
        kwargs_handlers=[DistributedDataParallelKwargs(find_unused_parameters=True)],
    )
    _check_plan(options, preset, accelerator)
    todo = [name for name in chosen if not (options.out / f"after-{name}").exists()]
    if accelerator.is_main_process:
        _estimate(preset, todo, options)
    for name in todo:
        _Run(preset, name, options, accelerator).run()
    last = options.out / f"after-{schedule[-1]}"
    if not last.exists():
        return None
    final = options.out / "model"
    if accelerator.is_main_process and not final.exists():
        _finish(preset, options, last, final)
    accelerator.wait_for_everyone()
    return final


class _Run:
    """One stage."""

    def __init__(self, preset: Preset, name: str, options: Options, accelerator: Accelerator) -> None:
        self.preset, self.name, self.out, self.accelerator = preset, name, options.out, accelerator
        self.stage = preset.training.stages[name]
        seed = _seed(preset.training.seed, name)
        torch.manual_seed(seed)
        self.model = _load_before(preset, name, options.out)
        self.dataset = TrainingBatches(
            preset.model, self.stage, name, preset.training.seed, self.model.tokenizer,
            accelerator.process_index, accelerator.num_processes,
        )  # fmt: skip
        if self.stage.objective == "vae":
            _autoencoder(self.model).start_from_components(_first_images(self.dataset))
        self.adapters = stages.prepare(self.model, preset, self.stage)
        self.trained = [p for p in self.model.parameters() if p.requires_grad]
        self.ema = EMAModel(self.trained, decay=self.stage.ema_decay, foreach=True)
        self.optimizers = _optimizers(self.model, self.stage)
        if preset.training.compile:
            (self.model.head if self.stage.denoiser == "head" else self.model.mmdit).compile()  # type: ignore[union-attr]
        self.wrapped, *prepared = accelerator.prepare(self.model, *self.optimizers)
        self.optimizers = list(prepared)
        accelerator.register_for_checkpointing(self.ema)

    def run(self) -> None:
        """Train from the newest state, or from the start, to the end of the stage."""
        config, total = self.preset.training, self.stage.steps
        start = self._resume()
        with _Log(self.out, self.name, start, self.accelerator.is_main_process) as log:
            began, seconds = time.monotonic(), 0.0
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
                    self._save_state(done)
            wall = time.monotonic() - began
        self._end(wall, start)

    def _step(self, step: int, batch: Any) -> dict[str, float]:
        """One optimiser step; returns the losses."""
        for optimizer in self.optimizers:
            for group in optimizer.param_groups:
                group["lr"] = _learning_rate(self.stage, step)
        mean: dict[str, float] = {}
        pieces = list(micro_batches(to_device(batch, self.accelerator.device), self.stage.micro_batch))
        for number, piece in enumerate(pieces):
            last = number == len(pieces) - 1
            quiet = contextlib.nullcontext() if last else self.accelerator.no_sync(self.wrapped)
            seed = _seed(self.preset.training.seed, self.name, step, number, self.accelerator.process_index)
            with quiet:
                losses = self.wrapped(piece, self.stage, seed)
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
        self.ema.step(self.trained)
        return {f"{key}/{batch.mode}" if key == "flow" else key: value for key, value in mean.items()}

    def _validate(self) -> dict[str, Any]:
        """Figures on the val split with the averaged weights."""
        samples = self.preset.training.validation_samples
        if not self.accelerator.is_main_process or self.stage.objective == "vae" or not samples:
            return {}
        self.ema.store(self.trained)
        self.ema.copy_to(self.trained)
        try:
            with self.accelerator.autocast():
                if self.stage.objective == "vlm":
                    return {"validation": {"gate_iou": gate_agreement(self.model, samples)}}
                tally = validate(self.model, self.stage, samples)
        finally:
            self.ema.restore(self.trained)
        return {
            "validation": {**tally.rates(), "samples": tally.total["all"]},
            "reasons": dict(tally.reasons.most_common(8)),
        }

    # ---- states ----

    def _save_state(self, step: int) -> None:
        """Save everything the rest of the stage depends on; the older state goes when the newer is whole."""
        folder = self.out / f"state-{self.name}-{step:07d}"
        partial = self.out / f"partial-{folder.name}"
        if self.accelerator.is_main_process:
            shutil.rmtree(partial, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self.accelerator.save_state(str(partial))
        if self.accelerator.is_main_process:
            os.replace(partial, folder)
            for old in self.out.glob("state-*"):
                if old != folder:
                    shutil.rmtree(old)

    def _resume(self) -> int:
        """Load the newest state of this stage, if there is one. Returns the step to go on with."""
        found = sorted(self.out.glob(f"state-{self.name}-[0-9]*"))
        if not found:
            return 0
        self.accelerator.load_state(str(found[-1]))
        return int(found[-1].name.rsplit("-", 1)[1])

    def _end(self, wall: float, start: int) -> None:
        """Keep the averaged weights, merge the adapters, and leave the model for the next stage."""
        self.ema.copy_to(self.trained)
        if self.stage.objective == "vae":
            _autoencoder(self.model).standardise(_first_images(self.dataset))
        stages.finish(self.model, self.adapters)
        if self.accelerator.is_main_process:
            partial = self.out / f"partial-after-{self.name}"
            shutil.rmtree(partial, ignore_errors=True)
            self.model.save_pretrained(partial)
            measured = {
                "seconds": round(wall, 1),
                "from_step": start,
                "trained_parameters": sum(p.numel() for p in self.trained),
            }
            (partial / "measured.json").write_text(json.dumps(measured), "utf-8")
            os.replace(partial, self.out / f"after-{self.name}")
            for old in self.out.glob("state-*"):
                shutil.rmtree(old)
        self.accelerator.wait_for_everyone()
        self.accelerator.free_memory()
        self.accelerator._custom_objects.clear()


def _load_before(preset: Preset, name: str, out: Path) -> QueryKontext:
    """The model as the stage before left it; for the first stage, a fresh one."""
    schedule = preset.training.schedule
    position = schedule.index(name)
    if position == 0:
        return QueryKontext(preset.model)
    before = out / f"after-{schedule[position - 1]}"
    if not before.exists():
        raise UsageError(
            f"stage {name} goes on from {before}, which is not there",
            f"run stage {schedule[position - 1]} first, or all",
        )
    return QueryKontext.from_pretrained(before).train()


def _optimizers(model: QueryKontext, stage: Stage) -> list[torch.optim.Optimizer]:
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


def _learning_rate(stage: Stage, step: int) -> float:
    """Linear warm-up, then a cosine to the final rate."""
    if step < stage.warmup_steps:
        return stage.learning_rate * (step + 1) / stage.warmup_steps
    progress = (step - stage.warmup_steps) / max(1, stage.steps - stage.warmup_steps)
    low = stage.final_learning_rate
    return stage.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))


def _seed(*parts: object) -> int:
    return int.from_bytes(hashlib.sha256("/".join(str(p) for p in ("qk-train", *parts)).encode()).digest()[:7], "big")


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


# ---- plan, estimate, log ----


def _check_plan(options: Options, preset: Preset, accelerator: Accelerator) -> None:
    """Refuse to go on with another training than the folder holds."""
    plan = {
        "preset": options.preset,
        "overrides": options.overrides,
        "max_steps": options.max_steps,
        "values": to_json(preset),
    }
    path = options.out / "plan.json"
    if path.exists():
        stored = json.loads(path.read_text("utf-8"))
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


def _estimate(preset: Preset, todo: list[str], options: Options) -> None:
    """Say what is about to be done and, where the model is small enough to try, how long it will take."""
    small = preset.model.mmdit.block == "lean"
    total = 0.0
    for name in todo:
        stage = preset.training.stages[name]
        text = f"stage {name}: {stage.steps} steps of {stage.batch_size} samples, trains {', '.join(stage.trained)}"
        if small and stage.steps >= 50:
            seconds = stage.steps * _time_step(preset, name, stage)
            total += seconds
            text += f"; about {seconds / 60:.0f} min"
        print(text, file=sys.stderr)
    if total:
        print(
            f"about {total / 60:.0f} min in all, validation aside; {options.out} can be stopped and resumed",
            file=sys.stderr,
        )


def _time_step(preset: Preset, name: str, stage: Stage) -> float:
    """Seconds of one training step, tried on a throw-away model."""
    model = QueryKontext(preset.model)
    stages.prepare(model, preset, stage)
    optimizers = _optimizers(model, stage)
    batch = TrainingBatches(preset.model, copy.copy(stage), name, preset.training.seed, model.tokenizer)[0]
    times = []
    for _ in range(2):
        began = time.monotonic()
        with torch.autocast("cpu", torch.bfloat16, enabled=preset.training.mixed_precision == "bf16"):
            loss = model(batch, stage, 0)["loss"]
        loss.backward()
        for optimizer in optimizers:
            optimizer.step()
        times.append(time.monotonic() - began)
    return min(times)


class _Log:
    """JSON lines and TensorBoard, and a line on stderr. Lines beyond the step resumed from are dropped."""

    def __init__(self, out: Path, stage: str, start: int, active: bool) -> None:
        self.out, self.stage, self.start, self.active = out, stage, start, active

    def __enter__(self) -> _Log:
        if not self.active:
            return self
        from torch.utils.tensorboard import SummaryWriter

        path = self.out / "log.jsonl"
        kept = [line for line in _lines(path) if line["stage"] != self.stage or line["step"] <= self.start]
        partial = path.with_suffix(".partial")
        partial.write_text("".join(json.dumps(line) + "\n" for line in kept), "utf-8")
        os.replace(partial, path)
        self.file = path.open("a", encoding="utf-8")
        self.board = SummaryWriter(str(self.out / "tensorboard" / self.stage), purge_step=self.start)
        return self

    def write(self, step: int, total: int, values: dict[str, Any], seconds: float) -> None:
        """Write one line; `seconds` is what the steps since the last line took."""
        if not self.active or not values:
            return
        self.file.write(json.dumps({"stage": self.stage, "step": step, **values, "seconds": round(seconds, 2)}) + "\n")
        self.file.flush()
        flat = {**values, **{f"validation/{k}": v for k, v in values.get("validation", {}).items()}}
        for key, value in flat.items():
            if isinstance(value, int | float):
                self.board.add_scalar(key, value, step)
        shown = "  ".join(
            f"{k} {v:.4g}"
            for k, v in flat.items()
            if isinstance(v, int | float) and "/" not in k.removeprefix("validation/")
        )
        print(f"{self.stage} {step}/{total}  {shown}", file=sys.stderr)

    def __exit__(self, *_: object) -> None:
        if self.active:
            self.file.close()
            self.board.close()


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    """The whole lines of a log."""
    if not path.exists():
        return
    for line in path.read_text("utf-8").splitlines():
        with contextlib.suppress(ValueError):
            yield json.loads(line)


def _finish(preset: Preset, options: Options, last: Path, final: Path) -> None:
    """Write the final folder: weights in bf16, the record, and the card made from the record."""
    from qk_bench.run.environment import git, hardware, now, versions

    partial = final.with_name("partial-model")
    shutil.rmtree(partial, ignore_errors=True)
    model = QueryKontext.from_pretrained(last)
    model.save_pretrained(partial, torch.bfloat16)
    log = list(_lines(options.out / "log.jsonl"))
    validations = [line for line in log if "validation" in line]
    steps = {name: preset.training.stages[name] for name in preset.training.schedule}
    command = f"qkbench train query-kontext --preset {options.preset}"
    command += f" --max-steps {options.max_steps}" if options.max_steps else ""
    command += "".join(f" --set {key}={json.dumps(value)}" for key, value in options.overrides.items())
    record = {
        "model": "query-kontext",
        "preset": options.preset,
        "command": command,
        "values": to_json(preset),
        "overrides": options.overrides,
        "weights_sha256": weights_digest(partial),
        "parameters": {name: _count(part) for name, part in model.parts().items() if part is not None},
        "samples": {name: stage.steps * stage.batch_size for name, stage in steps.items()},
        "validation": validations[-1]["validation"] if validations else {},
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


def _count(part: nn.Module) -> int:
    return sum(p.numel() for p in part.parameters())

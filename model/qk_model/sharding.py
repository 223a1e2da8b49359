"""FSDP2: weights, gradients, moments and averages divided among processes (torch's `fully_shard`, through accelerate).

What the training loop asks for where a parameter is a `DTensor`, of which each process holds its rows.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from accelerate import FullyShardedDataParallelPlugin
from diffusers.training_utils import EMAModel
from torch import nn
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save
from torch.distributed.fsdp import MixedPrecisionPolicy
from torch.distributed.tensor import DTensor


def plugin() -> FullyShardedDataParallelPlugin | None:
    """How accelerate is to shard, where `accelerate launch --use_fsdp --fsdp_version 2` started this process.

    The blocks of a model are gathered one after the other, by its `_no_split_modules`, in the type they are held in:
    the forward runs under autocast, as it does without FSDP, so that a step is the same. Every process reads the whole
    model before it keeps its share: accelerate's other way, to read it on one process alone, knows of transformers'
    classes only.
    """
    told = {name: os.environ.get(name, "").lower() for name in ("ACCELERATE_USE_FSDP", "FSDP_VERSION")}
    if told != {"ACCELERATE_USE_FSDP": "true", "FSDP_VERSION": "2"}:
        return None
    return FullyShardedDataParallelPlugin(
        mixed_precision_policy=MixedPrecisionPolicy(),
        auto_wrap_policy="transformer_based_wrap",
        cpu_ram_efficient_loading=False,
    )


def start_moments(optimizers: Iterable[torch.optim.Optimizer]) -> None:
    """Give every parameter its moments, at zero, as AdamW does at its first gradient.

    A sharded state is loaded only if it holds them all, and parameters that no batch has used yet have none.
    """
    for optimizer in optimizers:
        rates = [group["lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = 0.0
            for parameter in group["params"]:
                parameter.grad = torch.zeros_like(parameter)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        for values in optimizer.state.values():
            values["step"].zero_()
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


def shares(parameters: Sequence[nn.Parameter]) -> list[Any]:
    """What this process holds of parameters: its rows of those that are sharded, as plain tensors of the same memory."""
    return [p.to_local() if isinstance(p, DTensor) else p for p in parameters]


def save_average(ema: EMAModel, parameters: Sequence[nn.Parameter], folder: Path) -> None:
    """Save the average of sharded parameters; all processes take part."""
    save(_average(ema, parameters), checkpoint_id=folder)


def load_average(ema: EMAModel, parameters: Sequence[nn.Parameter], folder: Path) -> None:
    """Load what `save_average` saved; all processes take part."""
    state = _average(ema, parameters)
    load(state, checkpoint_id=folder)
    ema.optimization_step = state["step"]


def _average(ema: EMAModel, parameters: Sequence[nn.Parameter]) -> dict[str, Any]:
    found: dict[str, Any] = {"step": ema.optimization_step}
    for number, (share, p) in enumerate(zip(ema.shadow_params, parameters, strict=True)):
        assert isinstance(p, DTensor)
        found[str(number)] = DTensor.from_local(share, p.device_mesh, p.placements, shape=p.shape, stride=p.stride())
    return found

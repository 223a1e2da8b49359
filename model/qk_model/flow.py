"""Rectified flow between a start (noise, or noise behind the gate) and the clean latents.

x_σ = (1 - σ) · clean + σ · start for σ in [0, 1]; the velocity is start - clean. The network's output, whatever it
predicts, is turned into an estimate of the clean latents at once: the gate blends it, the loss and the sampler use it.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor

from qk_bench.errors import UsageError
from qk_model.config import Flow


def draw_sigmas(flow: Flow, batch: int, generator: torch.Generator) -> Tensor:
    """Training times from a logistic normal (Esser et al. 2024, arXiv 2403.03206), (B,) in (0, 1)."""
    return (flow.time_mean + flow.time_std * torch.randn(batch, generator=generator)).sigmoid()


def mix(clean: Tensor, start: Tensor, sigma: Tensor) -> Tensor:
    """The point at σ on the way from the clean latents to the start; all (B, C, H, W), σ (B,)."""
    sigma = sigma[:, None, None, None]
    return (1 - sigma) * clean + sigma * start


def to_clean(flow: Flow, output: Tensor, x: Tensor, sigma: Tensor) -> Tensor:
    """The estimate of the clean latents in a network's output."""
    return output if flow.prediction == "sample" else x - sigma[:, None, None, None] * output


def loss(flow: Flow, estimate: Tensor, clean: Tensor, sigma: Tensor, share: Tensor | None = None) -> Tensor:
    """What to minimise, from estimates of the clean latents.

    `squared`: the mean squared error times 1 / σ², which is that of the velocity; capped near σ = 0. `log`: the mean
    of the logarithm of each sample's squared error, whose gradient is that of the error divided by itself (MeanFlow's
    adaptive weight with p = 1, Geng et al. 2025, arXiv 2505.13447): what can be drawn exactly is not drowned by what
    cannot be known.

    Args:
        flow: Says which.
        estimate: (B, C, H, W).
        clean: The same.
        sigma: (B,).
        share: (B,) the share of each picture that may differ: errors are averaged over as much, so that edits weigh as
            much as whole pictures do, however small they are.
    """
    error = ((estimate - clean) ** 2).mean(dim=(1, 2, 3))
    if share is not None:
        error = error / share.clamp(min=1e-3)
    if flow.error == "log":
        return (error + 1e-3).log().mean()
    return ((1 / sigma**2).clamp(max=flow.weight_cap) * error).mean()


@torch.no_grad()
def sample(flow: Flow, start: Tensor, estimate: Callable[[Tensor, Tensor], Tensor], steps: int | None = None) -> Tensor:
    """Follow the flow from the start to the clean latents.

    Args:
        flow: Names the scheduler of diffusers, its shift and its number of steps.
        start: (B, C, H, W).
        estimate: From x and σ (B,) to an estimate of the clean latents.
        steps: Instead of the flow's number of steps.
    """
    import diffusers

    kind: Any = getattr(diffusers, flow.scheduler, None)
    if kind is None:
        raise UsageError(f"diffusers has no scheduler {flow.scheduler!r}", "such as FlowMatchEulerDiscreteScheduler")
    count = steps or flow.num_inference_steps
    scheduler = kind(shift=flow.shift)
    if "sigmas" in inspect.signature(scheduler.set_timesteps).parameters:
        scheduler.set_timesteps(sigmas=np.linspace(1, 1 / count, count), device=start.device)
    else:
        scheduler.set_timesteps(count, device=start.device)
    x = start
    for timestep in scheduler.timesteps:
        sigma = (timestep.float() / scheduler.config.num_train_timesteps).expand(len(x))
        velocity = (x - estimate(x, sigma)) / sigma[:, None, None, None].clamp(min=1e-4)
        x = scheduler.step(velocity, timestep, x, return_dict=False)[0]
    return x

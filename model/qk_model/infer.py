"""Requests to images: padding to fixed shapes, one generator per request, any size in and out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from qk_bench.records import RegionQuery as Region
from qk_model.config import Mode
from qk_model.data import region_query, to_device, to_images, to_pixels
from qk_model.kontext import RegionForm
from qk_model.model import QueryKontext
from qk_model.tokenizer import encode
from qk_model.trunk import Batch, Trunk


@dataclass(frozen=True)
class Job:
    """One image to make."""

    instruction: str
    width: int
    height: int
    seed: int
    source: NDArray[np.uint8] | None = None
    references: tuple[NDArray[np.uint8], ...] = ()
    region: Region | None = None


@dataclass(frozen=True)
class Made:
    """One image made, with the gate's map where there is one."""

    image: NDArray[np.uint8]  # (H, W, 3)
    gate: NDArray[np.float32] | None  # (H, W) in [0, 1]


def make(
    model: QueryKontext,
    jobs: Sequence[Job],
    *,
    region: RegionForm = "none",
    steps: int | None = None,
    guidance_scale: float | None = None,
    low_level: bool = True,
    head: bool = False,
) -> list[Made]:
    """Make images of one mode and one size.

    The model works at the resolution it was trained for, as near to the request's proportions as its grid allows; the
    output is brought to the size asked for. Where the gate is closed the source's own pixels are kept, at full size.

    Args:
        model: The model, in evaluation mode.
        jobs: Of one size, all with a source, or all with equally many references, or all with neither.
        region: The form in which the jobs' regions are given to the model.
        steps: Instead of the config's number of steps.
        guidance_scale: Instead of the config's.
        low_level: Whether source and reference tokens enter the diffusion model.
        head: Sample with stage 1's light head.
    """
    width, height = jobs[0].width, jobs[0].height
    batch, noise = prepare(model, jobs, region=region)
    edited = model.sample(batch, noise, steps=steps, guidance_scale=guidance_scale, low_level=low_level, head=head)
    pixels = resize(edited.pixels, (height, width)).cpu()
    gates: list[NDArray[np.float32] | None] = [None] * len(jobs)
    if edited.gate is not None:
        gate = F.interpolate(edited.gate.float(), (height, width), mode="bilinear", align_corners=False).cpu()
        if model.config.gate.composite and edited.pixels.shape[2:] != (height, width):
            pixels = gate * pixels + (1 - gate) * sources(jobs)
        gates = list(gate[:, 0].numpy())
    return [Made(image, gate) for image, gate in zip(to_images(pixels), gates, strict=True)]


def prepare(model: Trunk, jobs: Sequence[Job], *, region: RegionForm = "none") -> tuple[Batch, Tensor]:
    """Jobs of one size and mode as a model's input, and their noise: (B, C, H / f, W / f) at the size it works at."""
    inner = inner_size(model, jobs[0].width, jobs[0].height)
    images: tuple[Tensor, ...]
    mode: Mode
    if jobs[0].source is not None:
        mode, images = "edit", (sources(jobs),)
    elif jobs[0].references:
        mode, images = (
            "compose",
            tuple(to_pixels(list(column)) for column in zip(*(j.references for j in jobs), strict=True)),
        )
    else:
        mode, images = "generate", ()
    device = next(model.parameters()).device
    ids, mask = encode(model.tokenizer, [job.instruction for job in jobs], model.config.max_text_tokens[mode])
    batch = Batch(
        mode=mode,
        images=tuple(resize(image, inner) for image in images),
        input_ids=ids,
        mask=mask,
        region=region_query([(region, job.region) for job in jobs], model.config.region.mask_grid),
    )
    return to_device(batch, device), torch.stack([_noise(model, job.seed, inner) for job in jobs]).to(device)


def sources(jobs: Sequence[Job]) -> Tensor:
    """The jobs' sources, (B, 3, H, W) in [-1, 1]."""
    return to_pixels([job.source for job in jobs if job.source is not None])


def inner_size(model: Trunk, width: int, height: int) -> tuple[int, int]:
    """Height and width the model works at: the trained area, the request's proportions, multiples of its token size."""
    if width == height:
        return model.config.resolution, model.config.resolution
    scale = model.config.resolution / (width * height) ** 0.5
    rows, columns = (max(1, round(side * scale / model.multiple)) for side in (height, width))
    return rows * model.multiple, columns * model.multiple


def _noise(model: Trunk, seed: int, inner: tuple[int, int]) -> Tensor:
    """Noise of one request, from a CPU generator of its own: the same whatever else is in the batch."""
    return torch.randn(model.noise_shape(*inner), generator=torch.Generator().manual_seed(seed))


def resize(pixels: Tensor, size: tuple[int, int]) -> Tensor:
    """Bring pixels to a height and width."""
    if tuple(pixels.shape[2:]) == size:
        return pixels
    return F.interpolate(pixels, size, mode="bicubic", antialias=True, align_corners=False).clamp(-1, 1)

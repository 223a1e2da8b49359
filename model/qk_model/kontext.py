"""The multimodal kontext: learnable queries, region queries, the connector, the low-level encoder's adapter."""

from __future__ import annotations

import math
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qk_model.config import ModelConfig

RegionForm = Literal["none", "box", "mask", "point"]
FORMS: tuple[RegionForm, ...] = ("none", "box", "mask", "point")


class RegionQuery(NamedTuple):
    """Region queries of a batch: which form each takes, and its values."""

    form: Tensor  # (B,) int64, an index into FORMS
    place: Tensor  # (B, 4): x0, y0, x1, y1 of a box; x, y, x, y of a point; fractions of the side
    mask: Tensor  # (B, grid · grid) in [0, 1]: the pooled mask

    @classmethod
    def none(cls, batch: int, grid: int) -> RegionQuery:
        """No region for any sample."""
        return cls(torch.zeros(batch, dtype=torch.long), torch.zeros(batch, 4), torch.zeros(batch, grid * grid))


class RegionEncoder(nn.Module):
    """One token that says where: Fourier features of a box or point, or a coarse mask, or a learned `not said`."""

    frequencies = 6

    def __init__(self, width: int, grid: int) -> None:
        super().__init__()
        self.forms = nn.Embedding(len(FORMS), width)
        self.place = nn.Sequential(nn.Linear(4 * 2 * self.frequencies, width), nn.GELU(), nn.Linear(width, width))
        self.mask = nn.Linear(grid * grid, width)

    def forward(self, region: RegionQuery) -> Tensor:
        """(B, 1, D)."""
        octaves = math.pi * 2.0 ** torch.arange(self.frequencies, device=region.place.device)
        angles = (region.place[:, :, None] * octaves).flatten(1)  # (B, 4 · frequencies)
        is_mask, is_place = region.form == FORMS.index("mask"), (region.form == 1) | (region.form == 3)
        token = self.forms(region.form)
        token = token + is_place[:, None] * self.place(torch.cat([angles.sin(), angles.cos()], dim=1))
        return (token + is_mask[:, None] * self.mask(region.mask))[:, None]  # type: ignore[no-any-return]


class Connector(nn.Module):
    """The 2-layer MLP from the VLM's hidden states to the diffusion model's context."""

    def __init__(self, width: int, hidden: int, context_dim: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.fc1 = nn.Linear(width, hidden)
        self.fc2 = nn.Linear(hidden, context_dim)

    def forward(self, x: Tensor) -> Tensor:
        """(B, N, D) to (B, N, E)."""
        return self.fc2(F.gelu(self.fc1(self.norm(x))))  # type: ignore[no-any-return]


class LowLevelEncoder(nn.Module):
    """VAE latents of source and reference images as tokens of the diffusion model.

    The latents come from the model's own VAE; what is learned is how they enter: a map that starts as the identity
    where it can, and a mark that tells a source from a reference.

    Args:
        channels: Channels of a token of latents.
        out_channels: Channels of a token of the diffusion model; None is as many.
    """

    def __init__(self, channels: int, out_channels: int | None = None) -> None:
        super().__init__()
        out_channels = out_channels or channels
        self.map = nn.Linear(channels, out_channels)
        self.marks = nn.Parameter(torch.randn(2, out_channels) * 0.02)
        if out_channels >= channels:
            nn.init.eye_(self.map.weight)
        nn.init.zeros_(self.map.bias)

    def forward(self, tokens: Tensor, *, reference: bool) -> Tensor:
        """(B, N, C) to (B, N, out_channels)."""
        return self.map(tokens) + self.marks[int(reference)]  # type: ignore[no-any-return]


class KontextTokens(nn.Module):
    """The learnable kontext queries, and a null context for guidance."""

    def __init__(self, config: ModelConfig, width: int) -> None:
        super().__init__()
        count = config.kontext.num_queries if config.kontext.enabled else 0
        self.queries = nn.Parameter(torch.randn(count, width) * 0.02)
        self.null = nn.Parameter(torch.zeros(config.kontext.context_dim))
        self.region = RegionEncoder(width, config.region.mask_grid) if config.region.enabled else None

    def forward(self, region: RegionQuery) -> Tensor:
        """The tokens that follow the words: the region's, then the queries, (B, E, D)."""
        queries = self.queries.expand(len(region.form), -1, -1)
        return queries if self.region is None else torch.cat([self.region(region), queries], dim=1)

"""Shifted 2D positions: where each image's tokens stand for the rotary embedding.

The target's token in row i, column j stands at (i, j), the source's at (-i, -j), and those of the n-th reference (n
from 1) at (i + h·n, j + w·n) for a grid of h rows and w columns (facts of arXiv 2509.26641, which writes x before y).
A token of `stride` times the side stands at the middle of the tokens it covers.
"""

from __future__ import annotations

import torch
from torch import Tensor


def target_positions(rows: int, columns: int, stride: int = 1) -> Tensor:
    """Positions of the target's tokens, (rows · columns / stride², 2) float."""
    i, j = (torch.arange(side // stride) * stride + (stride - 1) / 2 for side in (rows, columns))
    return torch.stack(torch.meshgrid(i, j, indexing="ij"), dim=-1).reshape(-1, 2).float()


def source_positions(rows: int, columns: int, stride: int = 1) -> Tensor:
    """Positions of the source image's tokens, mirrored through the origin."""
    return -target_positions(rows, columns, stride)


def reference_positions(rows: int, columns: int, number: int, stride: int = 1) -> Tensor:
    """Positions of the tokens of reference `number`, counted from 1: on the diagonal beyond the target."""
    return target_positions(rows, columns, stride) + torch.tensor([rows * number, columns * number])


def sincos(positions: Tensor, width: int) -> Tensor:
    """Fixed absolute embedding of |position|, (…, 2) to (…, width); a source token and its mirror image share it.

    Rotary embeddings only speak of differences, and the difference between a token and its mirror image is another
    one at every place; with this, attention from the target to the same place of the source is a matter of content.
    """
    quarter = width // 4
    frequencies = torch.exp(
        -torch.arange(quarter, device=positions.device) / quarter * 4.6
    )  # wavelengths 2π to 2π · 100
    angles = positions.abs()[..., None] * frequencies  # (…, 2, quarter)
    return torch.cat([angles.sin(), angles.cos()], dim=-1).flatten(-2)

"""The lean transformer block that the micro preset is built of: one set of weights, plain attention, little else.

What it leaves out against the library classes, and what that saves on a CPU, is in docs/micro-model.md.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

MLP_RATIO = 2  # with two maps in, as many weights as a plain MLP of ratio 3


class Attention(nn.Module):
    """Multi-head self-attention with an additive bias and optional rotary positions."""

    def __init__(self, width: int, num_heads: int) -> None:
        super().__init__()
        self.num_heads = num_heads
        self.qkv = nn.Linear(width, 3 * width)
        self.out = nn.Linear(width, width)

    def forward(self, x: Tensor, bias: Tensor | None = None, rotary: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Attend.

        Args:
            x: (B, N, D).
            bias: (B, 1, 1 or N, N), added to the logits: 0, or a large negative number where attention is barred.
            rotary: Cosines and sines, each (N, D / num_heads) or (B, 1, N, D / num_heads).
        """
        batch, length, width = x.shape
        q, k, v = self.qkv(x).view(batch, length, 3, self.num_heads, -1).permute(2, 0, 3, 1, 4)  # (B, heads, N, d)
        if rotary is not None:
            q, k = _rotate(q, rotary), _rotate(k, rotary)
        # The plain product: at these sizes faster than the fused kernels on a CPU, forwards and backwards.
        logits = (q * q.shape[-1] ** -0.5) @ k.transpose(-1, -2)  # (B, heads, N, N)
        x = (logits if bias is None else logits + bias.to(logits.dtype)).softmax(dim=-1).to(v.dtype) @ v
        return self.out(x.transpose(1, 2).reshape(batch, length, width))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and a gated MLP (SwiGLU, Shazeer 2020, arXiv 2002.05202), before each a LayerNorm.

    Args:
        width: Channels.
        num_heads: Attention heads.
        modulated: Whether the time modulates it (adaLN).
    """

    lora_targets = ("qkv", "out", "fc1", "fc2")

    def __init__(self, width: int, num_heads: int, *, modulated: bool = False) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(width, elementwise_affine=not modulated)
        self.attention = Attention(width, num_heads)
        self.norm2 = nn.LayerNorm(width, elementwise_affine=not modulated)
        self.fc1 = nn.Linear(width, 2 * MLP_RATIO * width)
        self.fc2 = nn.Linear(MLP_RATIO * width, width)
        # PixArt's adaLN-single: one projection of the time for all blocks, and a table of offsets for each.
        self.table = nn.Parameter(torch.zeros(6, width)) if modulated else None

    def forward(
        self,
        x: Tensor,  # (B, N, D)
        bias: Tensor | None = None,
        rotary: tuple[Tensor, Tensor] | None = None,
        time: Tensor | None = None,  # (B, 6, D)
    ) -> Tensor:
        if self.table is None or time is None:
            x = x + self.attention(self.norm1(x), bias, rotary)
            return x + self._mlp(self.norm2(x))
        shift1, scale1, gain1, shift2, scale2, gain2 = (time + self.table)[:, :, None].unbind(1)  # each (B, 1, D)
        x = x + gain1 * self.attention(torch.addcmul(shift1, self.norm1(x), 1 + scale1), bias, rotary)
        h = torch.addcmul(shift2, self.norm2(x), 1 + scale2)
        return x + gain2 * self._mlp(h)

    def _mlp(self, x: Tensor) -> Tensor:
        gate, value = self.fc1(x).chunk(2, dim=-1)
        return self.fc2(F.silu(gate) * value)  # type: ignore[no-any-return]


def rotary(positions: Tensor, head_dim: int, theta: float = 100.0) -> tuple[Tensor, Tensor]:
    """Cosines and sines of 2D rotary positions: half of each head's pairs turn with the row, half with the column.

    Args:
        positions: (N, 2), or (B, N, 2) where samples have tokens in other places.
        head_dim: Divisible by 4.
        theta: Base of the wavelengths; small, because the grids are.

    Returns:
        Two (N, head_dim) or (B, 1, N, head_dim) tensors.
    """
    quarter = head_dim // 4
    frequencies = theta ** (-torch.arange(quarter, device=positions.device) / quarter)
    angles = (positions[..., None] * frequencies).flatten(-2)  # (…, N, head_dim / 2)
    angles = torch.cat([angles, angles], dim=-1)
    angles = angles[:, None] if positions.ndim == 3 else angles
    return angles.cos(), angles.sin()


def key_bias(mask: Tensor) -> Tensor:
    """The attention bias of a (B, N) mask of the keys that count: (B, 1, 1, N)."""
    return torch.zeros(mask.shape, device=mask.device).masked_fill(~mask, -1e4)[:, None, None]


def _rotate(x: Tensor, rotary: tuple[Tensor, Tensor]) -> Tensor:
    cos, sin = (t.to(x.dtype) for t in rotary)
    a, b = x.chunk(2, dim=-1)
    return x * cos + torch.cat([-b, a], dim=-1) * sin

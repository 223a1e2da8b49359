"""The Cross-Modal Gate: from the kontext and the source image, a map g in [0, 1] of what the query concerns.

The article gives it one sentence ("gates generation noise using a learned query-context vector"); the form is ours:
the flow starts from g · noise + (1 - g) · source and its prediction is blended the same way, so that what the query
does not concern is carried through every step instead of being drawn again.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qk_model.config import Gate
from qk_model.lean import Block, key_bias
from qk_model.placement import PlacementHead, Placing, covered
from qk_model.positions import sincos, target_positions


def region_loss(logits: Tensor, wanted: Tensor, positive_weight: float, placements: Tensor | None) -> Tensor:
    """Cross entropy of a region against the one wanted, but for what placed objects cover in any case.

    Args:
        logits: (B, 1, h, w).
        wanted: The same, in {0, 1}; ones count `positive_weight` times.
        positive_weight: How much more.
        placements: (B, S, 3), or None where nothing is placed.
    """
    weight = wanted * (positive_weight - 1) + 1
    if placements is not None:
        weight = weight * (1 - covered(placements, *wanted.shape[2:]))
    return F.binary_cross_entropy_with_logits(logits, wanted, weight)


class CrossModalGate(nn.Module):
    """A small transformer over source tokens and kontext tokens.

    Args:
        config: Its size.
        image_dim: Channels of the VLM's image tokens.
        channels: Channels of the latents.
        context_dim: Channels of a context token.
    """

    def __init__(self, config: Gate, image_dim: int, channels: int, context_dim: int) -> None:
        super().__init__()
        self.patch, self.stretch = config.patch, config.stretch
        self.image = nn.Linear(image_dim, config.width)
        self.latent = nn.Linear(channels * config.patch**2, config.width)
        self.context = nn.Linear(context_dim, config.width)
        self.blocks = nn.ModuleList(Block(config.width, config.num_heads) for _ in range(config.depth))
        self.norm = nn.LayerNorm(config.width)
        self.out = nn.Linear(config.width, config.patch**2)
        self.placement = PlacementHead(config.width, config.placements) if config.placements else None

    def forward(
        self, image: Tensor, source: Tensor, grid: tuple[int, int], context: Tensor, mask: Tensor
    ) -> tuple[Tensor, Placing | None]:
        """Logits of the gate, one per latent position, and the placement of what is drawn anew.

        Args:
            image: (B, D, h', w') the VLM's tokens of the source, resampled to the latent grid.
            source: (B, N, C) tokens of the source's latents, N = rows · columns.
            grid: rows, columns.
            context: (B, M, E) the kontext tokens, or the text tokens where there is no kontext.
            mask: (B, M) bool, true where a context token counts.

        Returns:
            (B, 1, rows · patch, columns · patch) logits; the placement, where the preset has it.
        """
        image = F.interpolate(image.float(), grid, mode="bilinear", align_corners=False).flatten(2).transpose(1, 2)
        x = self.image(image) + self.latent(source)
        x = x + sincos(target_positions(*grid).to(x.device), x.shape[2])
        count = x.shape[1]
        x = torch.cat([x, self.context(context)], dim=1)  # (B, N + M, D)
        slots = 0
        if self.placement is not None:
            slots = len(self.placement.slots)
            x = torch.cat([x, self.placement.slots.expand(len(x), -1, -1)], dim=1)
        bias = key_bias(F.pad(mask, (count, slots), value=True))
        for block in self.blocks:
            x = block(x, bias)
        logits = self.out(self.norm(x[:, :count])).float()  # (B, N, p · p)
        placing = None if self.placement is None else self.placement(x[:, :count], grid, x[:, x.shape[1] - slots :])
        return F.pixel_shuffle(logits.transpose(1, 2).unflatten(2, grid), self.patch), placing

    def open(self, logits: Tensor) -> Tensor:
        """The gate from its logits: a sigmoid stretched beyond [0, 1] and clipped, so that it can be 0 and 1."""
        return (logits.sigmoid() * (1 + 2 * self.stretch) - self.stretch).clamp(0, 1)

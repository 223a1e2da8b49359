"""The diffusion transformer: joint attention over context, target, source and reference tokens with explicit positions.

`FluxMMDiT` is FluxTransformer2DModel from diffusers, chosen over QwenImageTransformer2DModel because it takes
`img_ids` as they are (the other computes its rotary positions inside) and because it was 1.3 to 2 times faster at
equal width (docs/micro-model.md). `LeanMMDiT` is the micro preset's. Both serve as stage 1's light head and as the
backbone.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, Self

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, FluxTransformer2DModel, ModelMixin
from diffusers.configuration_utils import register_to_config
from diffusers.models.embeddings import get_timestep_embedding
from torch import Tensor, nn

from qk_bench.errors import UsageError
from qk_model.config import Part
from qk_model.lean import Block, key_bias, rotary
from qk_model.positions import sincos


class LeanMMDiT(ModelMixin, ConfigMixin):
    """Blocks that share their weights between context and image tokens, modulated by the time.

    Args:
        in_channels: Channels of an image token.
        context_dim: Channels of a context token.
        width: Hidden size D.
        depth: Number of blocks.
        num_heads: Attention heads; D / num_heads must be divisible by 4.
        out_channels: Channels of a token put out; None is as many as go in.
    """

    @register_to_config
    def __init__(
        self,
        in_channels: int,
        context_dim: int,
        width: int,
        depth: int,
        num_heads: int,
        out_channels: int | None = None,
    ) -> None:
        super().__init__()
        self.width, self.head_dim = width, width // num_heads
        self.embed = nn.Linear(in_channels, width)
        self.embed_context = nn.Linear(context_dim, width)
        self.score = nn.Linear(context_dim, 1)
        self.summary = nn.Sequential(nn.LayerNorm(context_dim), nn.Linear(context_dim, width))
        self.time = nn.Sequential(nn.Linear(width, width), nn.SiLU(), nn.Linear(width, 8 * width))
        self.blocks = nn.ModuleList(Block(width, num_heads, modulated=True) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, out_channels or in_channels)
        nn.init.zeros_(self.time[-1].weight)  # type: ignore[arg-type]
        nn.init.zeros_(self.time[-1].bias)  # type: ignore[arg-type]
        nn.init.zeros_(self.out.weight)
        for block in self.blocks:
            for layer in block.modules():
                if isinstance(layer, nn.Linear):
                    nn.init.xavier_uniform_(layer.weight)
                    nn.init.zeros_(layer.bias)
            nn.init.ones_(block.table[2])  # type: ignore[index]
            nn.init.ones_(block.table[5])  # type: ignore[index]

    @property
    def lora_targets(self) -> list[str]:
        """Names of the linear layers that LoRA adapts."""
        return list(Block.lora_targets)

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        context: Tensor,
        mask: Tensor,
        sigma: Tensor,
        fusion_depth: int | None = None,
        present: Tensor | None = None,
    ) -> Tensor:
        """Denoise.

        Args:
            tokens: (B, N, C): the target's, then the source's, then the references'.
            positions: (N, 2), or (B, N, 2) where samples have tokens in other places.
            context: (B, M, E).
            mask: (B, M) bool, true where a context token counts.
            sigma: (B,) in [0, 1]: the share of noise.
            fusion_depth: Number of blocks that see the context; None is all.
            present: (B, N) bool, true where an image token counts; None is everywhere.

        Returns:
            (B, N, out_channels).
        """
        count, ahead = tokens.shape[1], context.shape[1]
        x = self.embed(tokens) + sincos(positions, self.width)
        weight = self.score(context).float().masked_fill(~mask[:, :, None], -1e4).softmax(dim=1)  # (B, M, 1)
        x = x + self.summary((weight * context).sum(dim=1, keepdim=True))
        x = torch.cat([self.embed_context(context), x], dim=1)  # (B, M + N, D)
        turn = rotary(F.pad(positions, (0, 0, ahead, 0)), self.head_dim)
        seen = F.pad(mask, (0, count), value=True) if present is None else torch.cat([mask, present], dim=1)
        bias: Tensor | None = key_bias(seen)
        time = self.time(get_timestep_embedding(sigma * 1000, self.width)).unflatten(1, (8, self.width))
        time, last = time[:, :6], time[:, 6:, None]
        for number, block in enumerate(self.blocks):
            if number == fusion_depth:
                x, turn = x[:, -count:], (turn[0][..., ahead:, :], turn[1][..., ahead:, :])
                bias = None if present is None else key_bias(present)
            x = block(x, bias, turn, time)
        return self.out(torch.addcmul(last[:, 0], self.norm(x[:, -count:]), 1 + last[:, 1]))  # type: ignore[no-any-return]


class FluxMMDiT(nn.Module):
    """FluxTransformer2DModel; the pooled projection it wants is the mean context token, folded to that size."""

    def __init__(self, model: FluxTransformer2DModel) -> None:
        super().__init__()
        self.model = model

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """A randomly initialised one; arguments are those of `FluxTransformer2DModel`."""
        return cls(FluxTransformer2DModel(**arguments))

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> Self:
        """Load the weights of a hub name or folder."""
        return cls(FluxTransformer2DModel.from_pretrained(name, **kwargs))

    def save_pretrained(self, folder: str | Path) -> None:
        """Save in the library's own form."""
        self.model.save_pretrained(folder)

    @property
    def config(self) -> Any:
        """The library's config."""
        return self.model.config

    @property
    def lora_targets(self) -> list[str]:
        """Names of the linear layers that LoRA adapts: attention of image and context stream."""
        return ["to_q", "to_k", "to_v", "to_out.0", "add_q_proj", "add_k_proj", "add_v_proj", "to_add_out"]

    def forward(
        self,
        tokens: Tensor,
        positions: Tensor,
        context: Tensor,
        mask: Tensor,
        sigma: Tensor,
        fusion_depth: int | None = None,
        present: Tensor | None = None,
    ) -> Tensor:
        """Denoise; arguments as in `LeanMMDiT.forward`. Context that does not count is zeroed, as Flux pads its own."""
        assert fusion_depth is None, "the config refuses it"
        assert present is None, "the config refuses it"
        config = self.config
        context = context * mask[:, :, None]
        pooled = context.sum(dim=1) / mask.sum(dim=1, keepdim=True)  # (B, E)
        return self.model(  # type: ignore[no-any-return]
            hidden_states=tokens,
            encoder_hidden_states=context,
            pooled_projections=F.adaptive_avg_pool1d(pooled, config.pooled_projection_dim),
            timestep=sigma,
            img_ids=F.pad(positions, (1, 0)),
            txt_ids=torch.zeros(context.shape[1], 3, device=context.device),
            guidance=torch.ones_like(sigma) if config.guidance_embeds else None,
            return_dict=False,
        )[0]


MMDiT = LeanMMDiT | FluxMMDiT


def make_mmdit(part: Part) -> MMDiT:
    """The diffusion transformer of a preset: from its pretrained weights if it names any."""
    kind = FluxMMDiT if part.block == "library" else LeanMMDiT
    if part.pretrained:
        folder, _, subfolder = part.pretrained.partition("#")
        return kind.from_pretrained(folder, subfolder=subfolder or None)  # type: ignore[no-any-return]
    return FluxMMDiT.from_arguments(part.arguments) if part.block == "library" else LeanMMDiT(**part.arguments)


def check_channels(name: str, denoiser: MMDiT, inside: int, outside: int) -> None:
    """Refuse a denoiser for tokens of another size than the target's.

    Args:
        name: `mmdit`, or `head` for stage 1's.
        denoiser: It.
        inside: Channels of the target's tokens as they go in …
        outside: … and as they come out.

    Raises:
        UsageError: It takes or puts out more or fewer channels.
    """
    takes = int(denoiser.config["in_channels"])
    gives = int(denoiser.config["out_channels"] or takes)
    if (takes, gives) != (inside, outside):
        raise UsageError(
            f"the {name} makes tokens of {gives} channels from {takes}, the target's have {outside} and {inside}",
            f"set in_channels of model.{name}.arguments to {inside} and out_channels to {outside}, "
            "or change patch, aligned and residual of model.low_level and model.gate.shown",
        )

"""What every model built on the pretrained VLM and autoencoder shares: inputs, understanding, tokens of latents."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL
from torch import Tensor, nn

from qk_model import flow, vae
from qk_model.config import Mode, ModelConfig
from qk_model.kontext import Connector, KontextTokens, RegionQuery
from qk_model.mmdit import FluxMMDiT
from qk_model.vlm import LeanVLM, QwenVLM

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# Of the lean parts, of Qwen2_5_VLModel and of FluxTransformer2DModel.
BLOCKS = {
    "Block", "Qwen2_5_VLDecoderLayer", "Qwen2_5_VLVisionBlock", "FluxTransformerBlock", "FluxSingleTransformerBlock",
}  # fmt: skip


class Batch(NamedTuple):
    """Inputs of one mode. Images are (B, 3, H, W) in [-1, 1]."""

    mode: Mode
    images: tuple[Tensor, ...]  # what the VLM sees: the source of an edit or a reconstruction, or the references
    input_ids: Tensor  # (B, T)
    mask: Tensor  # (B, T) bool
    region: RegionQuery
    target: Tensor | None = None
    edit_mask: Tensor | None = None  # (B, 1, H, W) in {0, 1}
    placements: Tensor | None = None  # (B, S, 3): x, y, radius of what is drawn anew, fractions of the side
    answer_ids: Tensor | None = None  # (B, A): what changes, in words; zeros where there is no word


class Context(NamedTuple):
    """What the VLM passes on."""

    tokens: Tensor  # (B, M, E): text, then kontext
    mask: Tensor  # (B, M) bool
    query: Tensor  # (B, Q, E): the kontext tokens; the text where there is no kontext
    query_mask: Tensor  # (B, Q) bool
    image: Tensor | None  # (B, D, h, w): the VLM's tokens of the first image


class Open(NamedTuple):
    """Tokens that are denoised."""

    which: Tensor  # (B, K) int64, of N
    present: Tensor  # (B, K) bool: false where there are fewer

    def gather(self, tokens: Tensor) -> Tensor:
        """Those of (B, N, C) tokens, (B, K, C)."""
        return tokens.gather(1, self.which[:, :, None].expand(-1, -1, tokens.shape[2]))

    def scatter(self, tokens: Tensor, rest: Tensor) -> Tensor:
        """(B, K, C) tokens back among the (B, N, C) of the rest."""
        return rest.to(tokens.dtype).scatter(1, self.which[:, :, None].expand_as(tokens), tokens)


def widest_open(gate: Tensor, share: float, patch: int) -> Open:
    """The tokens under an open gate, then those around it, up to a share of all.

    Args:
        gate: (B, 1, h, w) in [0, 1].
        share: In (0, 1].
        patch: Latent positions a side of a token.
    """
    gate = gate.detach()
    around = gate + 0.5 * F.max_pool2d(gate, 3, 1, 1) + 0.25 * F.max_pool2d(gate, 5, 1, 2)
    score = F.max_pool2d(around, patch).flatten(1)  # (B, N)
    top, which = score.topk(math.ceil(share * score.shape[1]), dim=1)
    return Open(which, top > 0)


class Trunk(nn.Module):
    """A model with a VLM that reads kontext tokens, a connector and an autoencoder; subclasses make these parts."""

    config: ModelConfig
    vlm: LeanVLM | QwenVLM
    vae: vae.VAE
    tokens: KontextTokens
    connector: Connector
    latent_channels: int
    factor: int  # pixels a side of one latent position
    tokenizer: PreTrainedTokenizerFast

    @property
    def _no_split_modules(self) -> list[str]:
        """Classes of the blocks that FSDP gathers one at a time, by the name under which accelerate asks for them."""
        return sorted(BLOCKS & {type(module).__name__ for module in self.modules()})

    def lighten(self) -> None:
        """Hold the frozen weights of the library classes in bf16, in which their authors ship them.

        For accelerators, under autocast. What is trained, small or of the lean block stays as it is, and so do buffers.
        """
        for part in self.children():
            if isinstance(part, QwenVLM | AutoencoderKL | FluxMMDiT):
                for parameter in part.parameters():
                    if not parameter.requires_grad:
                        parameter.data = parameter.data.bfloat16()

    def understand(self, batch: Batch) -> Context:
        """Run the VLM and the connector."""
        side = self.config.vlm_resolution
        images = [
            image
            if image.shape[2:] == (side, side)
            else F.interpolate(image, (side, side), mode="bilinear", antialias=True)
            for image in batch.images
        ]
        read = self.vlm(images, batch.input_ids, batch.mask, self.tokens(batch.region))
        count = self.tokens.queries.shape[0]
        kept = torch.cat(
            [read.text, read.extra[:, read.extra.shape[1] - count :]], dim=1
        )  # the region token is not passed on
        tokens = self.connector(kept)  # (B, T + K, E)
        mask = F.pad(batch.mask, (0, count), value=True)
        query, query_mask = (tokens[:, -count:], mask[:, -count:]) if count else (tokens, mask)
        return Context(tokens, mask, query, query_mask, read.image)

    def noise_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """The shape of one image's noise."""
        return self.latent_channels, height // self.factor, width // self.factor

    @property
    def multiple(self) -> int:
        """Sides of images must be multiples of this many pixels."""
        return self.factor * self.config.low_level.source_patch

    def patchify(self, latents: Tensor, patch: int | None = None) -> tuple[Tensor, tuple[int, int]]:
        """(B, C, h, w) to (B, N, C · p · p), and the grid of the N tokens; p is the target's unless it is given."""
        folded = F.pixel_unshuffle(latents, patch or self.config.low_level.patch)
        return folded.flatten(2).transpose(1, 2), (folded.shape[2], folded.shape[3])

    def unpatchify(self, tokens: Tensor, grid: tuple[int, int]) -> Tensor:
        """The inverse of `patchify`."""
        return F.pixel_shuffle(tokens.transpose(1, 2).unflatten(2, grid), self.config.low_level.patch)

    def clean(self, output: Tensor, x: Tensor, sigma: Tensor, source: Tensor | None) -> Tensor:
        """The estimate of the clean latents in what a diffusion model puts out, (B, C, h, w).

        With `low_level.residual` that is C + 1 channels, of which the last is a mask: what is added to the source's
        latents, and where. Without a source the others are the estimate.

        Args:
            output: What it puts out, (B, C or C + 1, h, w).
            x: What it was given …
            sigma: … at these times, (B,).
            source: The source's latents where it sees them; by `low_level.residual` they are added.
        """
        own = flow.to_clean(self.config.flow, output[:, : x.shape[1]], x, sigma)
        if source is None or not self.config.low_level.residual:
            return own
        return source + (4 * output[:, -1:]).sigmoid() * own  # 4: it decides sooner

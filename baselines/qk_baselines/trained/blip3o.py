"""blip3o: the BLIP3-o design (arXiv 2505.09568). What the VLM means is first drawn as features, then as pixels.

Learnable queries → a diffusion transformer (the prior) that flow-matches *semantic image features* → a separate
diffusion decoder from features to pixels. The feature encoder is trained here, on captions and coarse pixels, and then
frozen; CLIP is what it stands for. BLIP3-o itself does not edit; what its successor BLIP3o-NEXT adds for that is here
too, or every background would be lost: the source's features enter the prior, and its VAE latents the decoder, both
as tokens and in the channels of the same place, as in Query-Kontext.

Features have tokens of 8 x 8 pixels; the decoder takes them, repeated to its grid, as channels of its own tokens.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from qk_model import flow, vae
from qk_model.config import ModelConfig
from qk_model.data import to_images
from qk_model.infer import Job, prepare, resize
from qk_model.kontext import LowLevelEncoder
from qk_model.lean import Block
from qk_model.positions import sincos, source_positions, target_positions
from qk_model.reader import AnswerReader
from qk_model.trunk import Batch, Context
from torch import Tensor, nn

from qk_baselines.trained.config import Blip3oConfig, Size
from qk_baselines.trained.data import CAPTION_LENGTH
from qk_baselines.trained.network import Network, Output, own_config

FEATURE_PATCH = 2  # latent positions a side of a token of features


class FeatureEncoder(nn.Module):
    """A small vision transformer: pixels to features of zero mean and unit variance."""

    def __init__(self, size: Size, channels: int, patch: int) -> None:
        super().__init__()
        width = size.width
        self.stem = nn.Sequential(
            nn.Conv2d(3, width // 2, 4, stride=4), nn.GELU(),
            nn.Conv2d(width // 2, width // 2, 3, padding=1), nn.GELU(),
            nn.Conv2d(width // 2, width, patch // 4, stride=patch // 4),
        )  # fmt: skip
        self.blocks = nn.ModuleList(Block(width, size.num_heads) for _ in range(size.depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, channels)

    def forward(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to (B, F, H / patch, W / patch)."""
        x = self.stem(pixels)
        grid = x.shape[2:]
        x = x.flatten(2).transpose(1, 2) + sincos(target_positions(*grid).to(x.device), x.shape[1])  # (B, N, D)
        for block in self.blocks:
            x = block(x)
        x = self.out(self.norm(x)).float()  # (B, N, F)
        return F.layer_norm(x, x.shape[-1:]).transpose(1, 2).unflatten(2, grid)


class FeatureReader(nn.Module):
    """What the features must tell while the encoder is trained: the caption, and the pixels of each patch."""

    def __init__(self, channels: int, reader: AnswerReader, patch: int) -> None:
        super().__init__()
        self.lift = nn.Linear(channels, reader.out.in_features)
        self.reader = reader
        self.pixels = nn.Conv2d(channels, 3 * patch**2, 1)
        self.patch = patch

    def forward(self, features: Tensor, caption: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """(B, F, h, w) and (B, A) to the loss and share of right words, and the pixels (B, 3, H, W)."""
        tokens = self.lift(features.flatten(2).transpose(1, 2))
        every = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        loss, right = self.reader(tokens, every, caption)
        return loss, right, F.pixel_shuffle(self.pixels(features), self.patch)


class Blip3o(Network):
    """Queries, a prior over features, a decoder from features."""

    name = "blip3o"
    own_parts: ClassVar[tuple[str, ...]] = ("encoder", "features_in", "prior", "low_level", "decoder", "reader")
    for_training = ("reader",)

    def __init__(self, shared: ModelConfig, own: dict[str, Any], tokenizer: Any = None) -> None:
        super().__init__(shared, own, tokenizer)
        self.values: Blip3oConfig = own_config(self.name, own)
        size, context_dim = self.values.feature_channels, shared.kontext.context_dim
        side = self.factor * FEATURE_PATCH  # pixels a side of a token of features
        inside = 2 * self.channels + size  # of a decoder's token: its latents, the source's, the features
        self.encoder = FeatureEncoder(self.values.encoder, size, side)
        self.features_in = LowLevelEncoder(size)
        self.prior = self.denoiser(self.values.prior, 2 * size, context_dim, size)
        self.low_level = LowLevelEncoder(self.latent_channels * shared.low_level.source_patch**2, inside)
        self.decoder = self.denoiser(self.values.decoder, inside, 1, self.channels_out)
        self.reader = FeatureReader(size, self.reader_of(shared.kontext.context_dim, CAPTION_LENGTH), side)

    # ---- training ----

    def losses(self, batch: Batch, stage: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Of the encoder, the decoder on true features, or the prior."""
        assert batch.target is not None
        if stage == "features":
            return self._feature_losses(batch)
        with torch.no_grad():
            wanted = self.encoder(batch.target)
        loss = self._decoder_loss if stage == "decoder" else self._prior_loss
        value = loss(batch, wanted, generator)
        return {"flow": value, "loss": value}

    def _feature_losses(self, batch: Batch) -> dict[str, Tensor]:
        assert batch.target is not None
        assert batch.answer_ids is not None
        caption, right, pixels = self.reader(self.encoder(batch.target), batch.answer_ids)
        mse = F.mse_loss(pixels.float(), batch.target)
        return {"words_right": right, "mse": mse, "loss": caption + self.values.pixel_weight * mse}

    def _decoder_loss(self, batch: Batch, wanted: Tensor, generator: torch.Generator) -> Tensor:
        assert batch.target is not None
        with torch.no_grad():
            clean = vae.encode(self.vae, batch.target)
            source = vae.encode(self.vae, batch.images[0]) if batch.mode == "edit" else None
        noise, sigma = _draw(self.config, clean, generator)
        blur = torch.rand(len(wanted), generator=generator).to(wanted.device) * self.values.feature_noise
        wanted = wanted + blur[:, None, None, None] * torch.randn(wanted.shape, generator=generator).to(wanted.device)
        estimate = self._decode(flow.mix(clean, noise, sigma), sigma, wanted, source)
        return flow.loss(self.config.flow, estimate, clean, sigma)

    def _prior_loss(self, batch: Batch, wanted: Tensor, generator: torch.Generator) -> Tensor:
        context = self.understand(batch)
        with torch.no_grad():
            source = self.encoder(batch.images[0]) if batch.mode == "edit" else None
        noise, sigma = _draw(self.config, wanted, generator)
        estimate = self._imagine(flow.mix(wanted, noise, sigma), sigma, context, source)
        return flow.loss(self.config.flow, estimate, wanted, sigma)

    # ---- the two flows ----

    def _imagine(self, x: Tensor, sigma: Tensor, context: Context, source: Tensor | None) -> Tensor:
        """The clean features in x, (B, F, h, w) to the same; of the VLM only the queries count."""
        grid, count = (x.shape[2], x.shape[3]), x.shape[1]
        aligned = torch.zeros_like(x) if source is None else source
        sequence, places = [_tokens(torch.cat([x, aligned.to(x.dtype)], dim=1))], [target_positions(*grid)]
        if source is not None:
            sequence.append(F.pad(self.features_in(_tokens(source), reference=False), (0, count)))
            places.append(source_positions(*grid))
        positions = torch.cat(places).to(x.device)
        output = self.prior(torch.cat(sequence, dim=1), positions, context.query, context.query_mask, sigma)
        output = output[:, : grid[0] * grid[1]].float().transpose(1, 2).unflatten(2, grid)
        return flow.to_clean(self.config.flow, output, x, sigma)

    def _decode(self, x: Tensor, sigma: Tensor, features: Tensor, source: Tensor | None) -> Tensor:
        """The clean latents in x, (B, C, h, w) to the same, from features and from the source's latents."""
        tokens, grid = self.patchify(x)
        aligned = self.patchify(torch.zeros_like(x) if source is None else source)[0]
        features = _tokens(F.interpolate(features, grid, mode="nearest")).to(tokens.dtype)
        sequence, places = [torch.cat([tokens, aligned, features], dim=2)], [target_positions(*grid)]
        if source is not None:
            side = self.config.low_level.source_patch
            sequence.append(self.low_level(self.patchify(source, side)[0], reference=False))
            places.append(source_positions(*grid, side // self.config.low_level.patch))
        positions = torch.cat(places).to(x.device)
        nothing = tokens.new_zeros(len(x), 1, 1)
        mask = torch.ones(len(x), 1, dtype=torch.bool, device=x.device)
        output = self.decoder(torch.cat(sequence, dim=1), positions, nothing, mask, sigma)
        output = self.unpatchify(output[:, : tokens.shape[1]].float(), grid)
        return self.clean(output, x, sigma, source)

    # ---- use ----

    def noise_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """The shape of one image's noise: of its latents, and behind them of its features, folded to their grid."""
        channels, rows, columns = super().noise_shape(height, width)
        return channels + self.values.feature_channels // FEATURE_PATCH**2, rows, columns

    @torch.no_grad()
    def make(self, jobs: Sequence[Job], *, steps: int | None = None) -> list[Output]:
        """Draw features, then pixels."""
        batch, noise = prepare(self, jobs)
        latent_noise, feature_noise = noise[:, : self.latent_channels], noise[:, self.latent_channels :]
        context, edits = self.understand(batch), batch.mode == "edit"
        source = vae.encode(self.vae, batch.images[0]) if edits else None
        source_features = self.encoder(batch.images[0]) if edits else None
        features = flow.sample(
            self.config.flow,
            F.pixel_unshuffle(feature_noise, FEATURE_PATCH),
            lambda x, sigma: self._imagine(x, sigma, context, source_features),
            steps,
        )
        latents = flow.sample(
            self.config.flow, latent_noise, lambda x, sigma: self._decode(x, sigma, features, source), steps
        )
        return list(to_images(resize(vae.decode(self.vae, latents), (jobs[0].height, jobs[0].width))))


def _draw(config: ModelConfig, clean: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Noise and times of a training step."""
    noise = torch.randn(clean.shape, generator=generator).to(clean.device)
    return noise, flow.draw_sigmas(config.flow, len(clean), generator).to(clean.device)


def _tokens(features: Tensor) -> Tensor:
    """(B, F, h, w) to (B, h · w, F)."""
    return features.flatten(2).transpose(1, 2)

"""The autoencoder between pixels and latents.

`AutoencoderKL` from diffusers for base and paper; `LeanVAE`, which works at a quarter of the resolution throughout,
for micro. `encode` and `decode` give and take latents of about unit variance, whatever the class.
"""

from __future__ import annotations

from typing import Any, TypeAlias

import torch
import torch.nn.functional as F
from diffusers import AutoencoderKL, ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from qk_model.config import Part

POSTERIOR_STD = 0.1  # of LeanVAE's latents, whose own standard deviation is about 1


class _Residual(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(width, width, 3, padding=1)
        self.conv2 = nn.Conv2d(width, width, 3, padding=1)
        nn.init.zeros_(self.conv2.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + self.conv2(F.gelu(self.conv1(x)))


class LeanVAE(ModelMixin, ConfigMixin):
    """A convolutional autoencoder that first folds 4 x 4 pixels into channels, so that nothing runs at full size.

    Its posterior has a fixed standard deviation, so the KL term is a penalty on the mean's square alone.

    Args:
        latent_channels: Channels of the latents.
        width: Channels inside.
        encoder_depth: Residual blocks of the encoder.
        decoder_depth: Residual blocks of the decoder.
    """

    factor = 4

    @register_to_config
    def __init__(self, latent_channels: int, width: int, encoder_depth: int, decoder_depth: int) -> None:
        super().__init__()
        self.latent_channels = latent_channels
        folded = 3 * self.factor**2
        self.encoder = nn.Sequential(
            nn.PixelUnshuffle(self.factor),
            nn.Conv2d(folded, width, 3, padding=1),
            *(_Residual(width) for _ in range(encoder_depth)),
            nn.Conv2d(width, latent_channels, 1),
        )
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1),
            *(_Residual(width) for _ in range(decoder_depth)),
            nn.Conv2d(width, folded, 3, padding=1),
            nn.PixelShuffle(self.factor),
        )
        self.register_buffer("mean", torch.zeros(latent_channels))
        self.register_buffer("std", torch.ones(latent_channels))
        self.mean: Tensor
        self.std: Tensor

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruct through a noisy latent.

        Args:
            pixels: (B, 3, H, W) in [-1, 1].
            noise: (B, C, H / 4, W / 4), standard normal.

        Returns:
            The reconstruction and the raw latent mean.
        """
        mean = self.encoder(pixels)
        return self.decoder(mean + POSTERIOR_STD * noise), mean

    @torch.no_grad()
    def standardise(self, pixels: Tensor) -> None:
        """Set the shift and scale that give these images' latents mean 0 and variance 1 per channel."""
        latents = self.encoder(pixels).float().transpose(0, 1).flatten(1)  # (C, B · h · w)
        self.mean.copy_(latents.mean(dim=1))
        self.std.copy_(latents.std(dim=1))


VAE: TypeAlias = "LeanVAE | AutoencoderKL"


def encode(vae: VAE, pixels: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) in [-1, 1] to latents (B, C, H / f, W / f) of about unit variance."""
    if isinstance(vae, LeanVAE):
        return ((vae.encoder(pixels) - vae.mean[:, None, None]) / vae.std[:, None, None]).float()  # type: ignore[no-any-return]
    config: Any = vae.config
    latents = vae.encode(pixels.to(vae.dtype)).latent_dist.mode().float()
    return (latents - (config.shift_factor or 0.0)) * config.scaling_factor  # type: ignore[no-any-return]


def decode(vae: VAE, latents: Tensor) -> Tensor:
    """The inverse of `encode`."""
    if isinstance(vae, LeanVAE):
        return vae.decoder(latents * vae.std[:, None, None] + vae.mean[:, None, None]).float()  # type: ignore[no-any-return]
    config: Any = vae.config
    return vae.decode((latents / config.scaling_factor + (config.shift_factor or 0.0)).to(vae.dtype)).sample.float()  # type: ignore[no-any-return]


def shape(vae: VAE) -> tuple[int, int]:
    """Latent channels, and pixels a side of one latent position."""
    if isinstance(vae, LeanVAE):
        return vae.latent_channels, vae.factor
    config: Any = vae.config
    return config.latent_channels, 2 ** (len(config.block_out_channels) - 1)


def kind(part: Part) -> Any:
    """The class of an autoencoder."""
    return AutoencoderKL if part.block == "library" else LeanVAE


def make_vae(part: Part) -> VAE:
    """The autoencoder of a preset: from its pretrained weights if it names any."""
    if not part.pretrained:
        return kind(part)(**part.arguments)
    folder, _, subfolder = part.pretrained.partition("#")
    return kind(part).from_pretrained(folder, subfolder=subfolder or None)  # type: ignore[no-any-return]

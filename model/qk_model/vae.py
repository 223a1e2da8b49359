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

POSTERIOR_STD = 0.02  # of LeanVAE's latents, whose own standard deviation is about 0.5


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

    Notable: a linear path beside the convolutions both ways, set to the principal components of the first images, so
    that training starts at their error; a posterior of fixed standard deviation, so that the KL term is a penalty on
    the mean's square alone.

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
        self.to_latents = nn.Conv2d(folded, latent_channels, 1)
        self.encoder = nn.Sequential(
            nn.Conv2d(folded, width, 3, padding=1),
            *(_Residual(width) for _ in range(encoder_depth)),
            nn.Conv2d(width, latent_channels, 1, bias=False),
        )
        self.to_pixels = nn.Conv2d(latent_channels, folded, 1)
        self.decoder = nn.Sequential(
            nn.Conv2d(latent_channels, width, 3, padding=1),
            *(_Residual(width) for _ in range(decoder_depth)),
            nn.Conv2d(width, folded, 3, padding=1, bias=False),
        )
        for path in (self.encoder, self.decoder):
            nn.init.zeros_(path[-1].weight)  # type: ignore[arg-type]
        self.register_buffer("shift", torch.zeros(latent_channels))
        self.register_buffer("scale", torch.ones(()))
        self.shift: Tensor
        self.scale: Tensor

    def to_mean(self, pixels: Tensor) -> Tensor:
        """(B, 3, H, W) in [-1, 1] to the raw latent mean, (B, C, H / 4, W / 4)."""
        folded = F.pixel_unshuffle(pixels, self.factor)
        return self.to_latents(folded) + self.encoder(folded)  # type: ignore[no-any-return]

    def from_raw(self, latents: Tensor) -> Tensor:
        """The inverse of `to_mean`."""
        return F.pixel_shuffle(self.to_pixels(latents) + self.decoder(latents), self.factor)

    def forward(self, pixels: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        """Reconstruct through a noisy latent.

        Args:
            pixels: (B, 3, H, W) in [-1, 1].
            noise: (B, C, H / 4, W / 4), standard normal.

        Returns:
            The reconstruction and the raw latent mean.
        """
        mean = self.to_mean(pixels)
        return self.from_raw(mean + POSTERIOR_STD * noise), mean

    @torch.no_grad()
    def start_from_components(self, pixels: Tensor) -> None:
        """Set the linear paths to the principal components of the images' 4 x 4 patches.

        Each component is divided by the square root of its standard deviation: half way between keeping their sizes,
        which would drown the small ones in noise, and making them equal, which would spend the diffusion model on
        them.
        """
        folded = F.pixel_unshuffle(pixels, self.factor).transpose(0, 1).flatten(1).double()  # (48, B · h · w)
        mean = folded.mean(dim=1)
        values, vectors = torch.linalg.eigh(torch.cov(folded))
        vectors, values = vectors.flip(1)[:, : self.latent_channels], values.flip(0)[: self.latent_channels]
        sizes = values.clamp(min=1e-8) ** 0.25  # (C,)
        self.to_latents.weight.copy_((vectors / sizes).T[:, :, None, None])
        self.to_latents.bias.copy_(-(vectors / sizes).T @ mean)  # type: ignore[union-attr]
        self.to_pixels.weight.copy_((vectors * sizes)[:, :, None, None])
        self.to_pixels.bias.copy_(mean)  # type: ignore[union-attr]

    @torch.no_grad()
    def standardise(self, pixels: Tensor) -> None:
        """Set the shift and the one scale that give these images' latents mean 0 and variance 1."""
        latents = self.to_mean(pixels).float().transpose(0, 1).flatten(1)  # (C, B · h · w)
        self.shift.copy_(latents.mean(dim=1))
        self.scale.copy_(latents.var(dim=1).mean().sqrt())


VAE: TypeAlias = "LeanVAE | AutoencoderKL"


def encode(vae: VAE, pixels: Tensor) -> Tensor:
    """Pixels (B, 3, H, W) in [-1, 1] to latents (B, C, H / f, W / f) of about unit variance."""
    if isinstance(vae, LeanVAE):
        return ((vae.to_mean(pixels) - vae.shift[:, None, None]) / vae.scale).float()  # type: ignore[no-any-return]
    config: Any = vae.config
    latents = vae.encode(pixels.to(vae.dtype)).latent_dist.mode().float()
    return (latents - (config.shift_factor or 0.0)) * config.scaling_factor  # type: ignore[no-any-return]


def decode(vae: VAE, latents: Tensor) -> Tensor:
    """The inverse of `encode`."""
    if isinstance(vae, LeanVAE):
        return vae.from_raw(latents * vae.scale + vae.shift[:, None, None]).float()  # type: ignore[no-any-return]
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

"""Query-Kontext, whole: VLM with kontext queries → connector → MMDiT over latents, behind the Cross-Modal Gate.

Edit: the VLM reads the source image, the instruction and K learnable queries; its text and query states, through a
2-layer MLP, are the context of the diffusion transformer; the source's latents enter it as tokens at mirrored
positions; the gate decides where anything may change. Without a source it generates from text, or from text and
reference images.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Self

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qk_model import files, flow, placement, vae
from qk_model.config import ModelConfig, Stage
from qk_model.gate import CrossModalGate, region_loss
from qk_model.kontext import Connector, KontextTokens, LowLevelEncoder
from qk_model.mmdit import FluxMMDiT, LeanMMDiT, check_channels, make_mmdit
from qk_model.placement import Placing
from qk_model.positions import reference_positions, source_positions, target_positions
from qk_model.reader import AnswerReader
from qk_model.tokenizer import load_tokenizer
from qk_model.trunk import Batch, Context, Trunk, widest_open
from qk_model.vlm import LeanVLM, QwenVLM, make_vlm

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast


@dataclass(frozen=True)
class Scene:
    """What the flow carries: latents of the source and the references, and the gate."""

    source: Tensor | None  # (B, C, h, w), of an edit
    references: tuple[Tensor, ...]
    gate: Tensor | None  # (B, 1, h, w) in [0, 1]; None is open everywhere
    logits: Tensor | None = None
    placing: Placing | None = None
    placements: Tensor | None = None  # (B, S, 3)


class Edited(NamedTuple):
    """What sampling returns."""

    pixels: Tensor  # (B, 3, H, W) in [-1, 1]
    gate: Tensor | None  # (B, 1, H, W) in [0, 1]


class QueryKontext(Trunk):
    """The model. Made from a `ModelConfig`, or loaded with `from_pretrained`."""

    def __init__(
        self,
        config: ModelConfig,
        *,
        tokenizer: PreTrainedTokenizerFast | None = None,
        vlm: LeanVLM | QwenVLM | None = None,
        autoencoder: vae.VAE | None = None,
        mmdit: LeanMMDiT | FluxMMDiT | None = None,
    ) -> None:
        super().__init__()
        self.config = config
        self.tokenizer = tokenizer or files.named("tokenizer", load_tokenizer, config.tokenizer)
        self.vlm = vlm if vlm is not None else files.named("vlm", make_vlm, config.vlm)
        self.vae = autoencoder if autoencoder is not None else files.named("vae", vae.make_vae, config.vae)
        self.mmdit = mmdit if mmdit is not None else files.named("mmdit", make_mmdit, config.mmdit)
        self.latent_channels, self.factor = vae.shape(self.vae)
        area = config.low_level.patch**2
        self.channels = self.latent_channels * area
        beside = self.latent_channels * config.low_level.aligned + config.gate.shown
        beside += placement.channels(config.gate.placements)
        inside = self.channels + beside * area
        self.token_channels = inside, self.channels + config.low_level.residual * area  # of the target's, in and out
        check_channels("mmdit", self.mmdit, *self.token_channels)
        context_dim = config.kontext.context_dim
        self.tokens = KontextTokens(config, self.vlm.width)
        self.connector = Connector(self.vlm.width, config.kontext.connector_hidden, context_dim)
        self.gate = (
            CrossModalGate(config.gate, self.vlm.width, self.latent_channels, context_dim)
            if config.gate.enabled
            else None
        )
        source_channels = self.latent_channels * config.low_level.source_patch**2
        self.low_level = LowLevelEncoder(source_channels, inside) if config.low_level.enabled else None
        self.head: LeanMMDiT | FluxMMDiT | None = None  # stage 1 only
        self.reader: AnswerReader | None = None  # pretraining only

    # ---- source and gate ----

    def look(self, batch: Batch, context: Context) -> Scene:
        """Encode source and references, and open the gate."""
        with torch.no_grad():
            latents = (
                [vae.encode(self.vae, image) for image in batch.images] if batch.mode in ("edit", "compose") else []
            )
        if batch.mode != "edit":
            return Scene(None, tuple(latents), None)
        source = latents[0]
        if self.gate is None or context.image is None:
            return Scene(source, (), None)
        tokens, grid = self.patchify(source, self.gate.patch)
        logits, placing = self.gate(context.image, tokens, grid, context.query, context.query_mask)
        gate, placements = self.gate.open(logits), None
        if placing is not None:
            placements = placing.best() if batch.placements is None else batch.placements
            gate = torch.maximum(gate, placement.covered(placements, *source.shape[2:]))
        return Scene(source, (), gate, logits, placing, placements)

    # ---- diffusion ----

    def estimate(
        self,
        x: Tensor,
        sigma: Tensor,
        context: Tensor,
        mask: Tensor,
        scene: Scene,
        *,
        low_level: bool,
        head: bool = False,
    ) -> Tensor:
        """Estimate the clean latents behind the gate, (B, C, h, w) to the same."""
        sees = self.low_level is not None and low_level
        tokens, grid = self.patchify(self._beside(x, scene, sees=sees))
        positions = target_positions(*grid).to(x.device)
        share, open_ = self.config.gate.share, None
        if share < 1 and scene.gate is not None and scene.source is not None:
            open_ = widest_open(scene.gate, share, self.config.low_level.patch)
            tokens, positions = open_.gather(tokens), positions[open_.which]
        others = self._others(scene, grid) if sees else []
        sequence = torch.cat([tokens, *(other for other, _ in others)], dim=1)
        for _, places in others:
            places = places.to(x.device)
            places = places if positions.ndim == 2 else places.expand(len(x), -1, -1)
            positions = torch.cat([positions, places], dim=-2)
        denoiser = self.head if head else self.mmdit
        assert denoiser is not None
        present = None if open_ is None else F.pad(open_.present, (0, sequence.shape[1] - tokens.shape[1]), value=True)
        output = denoiser(sequence, positions, context, mask, sigma, self.config.fusion_depth, present)
        output = output[:, : tokens.shape[1]].float()
        residual = sees and self.config.low_level.residual
        if open_ is not None:  # the rest is the source
            assert scene.source is not None
            rest = self.patchify(torch.zeros_like(x) if residual else scene.source)[0]
            output = open_.scatter(output, F.pad(rest, (0, output.shape[2] - self.channels)))
        return self.clean(self.unpatchify(output, grid), x, sigma, scene.source if sees else None)

    def _others(self, scene: Scene, grid: tuple[int, int]) -> list[tuple[Tensor, Tensor]]:
        """Tokens of the source and the references, and their positions."""
        assert self.low_level is not None
        side = self.config.low_level.source_patch
        stride = side // self.config.low_level.patch
        found = []
        if scene.source is not None:
            tokens = self.low_level(self.patchify(scene.source, side)[0], reference=False)
            found.append((tokens, source_positions(*grid, stride)))
        for number, latents in enumerate(scene.references, start=1):
            tokens = self.low_level(self.patchify(latents, side)[0], reference=True)
            found.append((tokens, reference_positions(*grid, number, stride)))
        return found

    def _beside(self, x: Tensor, scene: Scene, *, sees: bool) -> Tensor:
        """The noisy latents with what the preset puts beside them in channels, as FLUX.1 Fill has it.

        Args:
            x: (B, C, h, w).
            scene: Its source (zeros where there is none) and its gate (open where there is none).
            sees: Whether the source may be seen.

        Returns:
            (B, C and more, h, w).
        """
        stack = [x]
        if self.config.low_level.aligned:
            stack.append(scene.source if sees and scene.source is not None else torch.zeros_like(x))
        if self.config.gate.shown:
            gate = torch.ones_like(x[:, :1]) if scene.gate is None else scene.gate.detach()
            stack.append(gate.to(x.dtype))
        if self.config.gate.placements:
            none = x.new_zeros(len(x), self.config.gate.placements, 3)
            places = none if scene.placements is None else scene.placements
            stack.append(placement.coordinates(places, *x.shape[2:]).to(x.dtype))
        return torch.cat(stack, dim=1)

    def forward(self, batch: Batch, stage: Stage, seed: int) -> dict[str, Tensor]:
        """The losses of a batch; `loss` is what to minimise. All chance comes from the seed."""
        generator = torch.Generator().manual_seed(seed)
        if stage.objective == "vae":
            return self._vae_losses(batch, generator)
        context = self.understand(batch)
        scene = self.look(batch, context)
        losses: dict[str, Tensor] = {}
        if scene.logits is not None and batch.edit_mask is not None:
            wanted = F.max_pool2d(batch.edit_mask, self.factor)  # open where any pixel under a latent changes
            losses["gate"] = region_loss(scene.logits, wanted, stage.gate_positive_weight, scene.placements)
        if scene.placing is not None and batch.placements is not None:
            losses["placement"] = scene.placing.loss(batch.placements)
        placed = stage.placement_weight * losses.get("placement", 0.0)
        if stage.objective == "vlm":
            assert self.reader is not None
            assert batch.answer_ids is not None
            answer, losses["words_right"] = self.reader(context.query, context.query_mask, batch.answer_ids)
            return losses | {"answer": answer, "loss": answer + losses.get("gate", 0.0) + placed}
        losses["flow"] = self.flow_loss(
            batch, context, scene, generator, low_level=stage.low_level, head=stage.denoiser == "head"
        )
        return losses | {"loss": losses["flow"] + stage.gate_weight * losses.get("gate", 0.0) + placed}

    def _vae_losses(self, batch: Batch, generator: torch.Generator) -> dict[str, Tensor]:
        assert isinstance(self.vae, vae.LeanVAE)
        assert batch.target is not None
        pixels = torch.cat([batch.target, *batch.images[:1]])
        size = pixels.shape[-1] // self.factor
        noise = torch.randn(len(pixels), self.latent_channels, size, size, generator=generator).to(pixels.device)
        output, mean = self.vae(pixels, noise)
        error = output.float() - pixels
        mse = (error**2).mean()
        kl = (mean.float() ** 2).mean()
        return {"loss": error.abs().mean() + 4 * mse + 1e-4 * kl, "psnr": -10 * torch.log10(mse.detach() / 4)}

    def flow_loss(
        self,
        batch: Batch,
        context: Context,
        scene: Scene,
        generator: torch.Generator,
        *,
        low_level: bool = True,
        head: bool = False,
    ) -> Tensor:
        """The flow matching loss of a batch with a target, at random times, part of it without context."""
        assert batch.target is not None
        with torch.no_grad():
            clean = vae.encode(self.vae, batch.target)
        batch_size = len(clean)
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        sigma = flow.draw_sigmas(self.config.flow, batch_size, generator).to(clean.device)
        dropped = (torch.rand(batch_size, generator=generator) < self.config.flow.context_dropout).to(clean.device)
        tokens = torch.where(dropped[:, None, None], self.tokens.null.to(context.tokens.dtype), context.tokens)
        start = noise
        if scene.gate is not None and scene.source is not None:
            gate = scene.gate.detach()  # the start is given; without a mask the gate learns from the estimate alone
            start = gate * noise + (1 - gate) * scene.source
            if batch.edit_mask is not None:  # with one, from the mask alone: the flow would close what it cannot draw
                scene = dataclasses.replace(scene, gate=gate)
        x = flow.mix(clean, start, sigma)
        estimate = self.estimate(x, sigma, tokens, context.mask, scene, low_level=low_level, head=head)
        share = None if scene.gate is None else scene.gate.detach().mean(dim=(1, 2, 3))  # behind it there is no error
        return flow.loss(self.config.flow, _behind(estimate, scene), clean, sigma, share)

    # ---- sampling ----

    @torch.no_grad()
    def sample(
        self,
        batch: Batch,
        noise: Tensor,
        *,
        steps: int | None = None,
        guidance_scale: float | None = None,
        low_level: bool = True,
        head: bool = False,
    ) -> Edited:
        """Edit or generate.

        Args:
            batch: Inputs, without target.
            noise: (B, C, H / f, W / f), standard normal; see `noise_shape`.
            steps: Instead of the config's number of steps.
            guidance_scale: Instead of the config's; 1 is without guidance.
            low_level: Whether source and reference tokens enter; false for models of stages 1 and 2.
            head: Sample with stage 1's light head.
        """
        context = self.understand(batch)
        scene = self.look(batch, context)
        scale = self.config.flow.guidance_scale if guidance_scale is None else guidance_scale

        def estimate(x: Tensor, sigma: Tensor) -> Tensor:
            clean = self.estimate(x, sigma, context.tokens, context.mask, scene, low_level=low_level, head=head)
            if scale != 1:
                null = self.tokens.null.to(context.tokens.dtype).expand_as(context.tokens)
                free = self.estimate(x, sigma, null, context.mask, scene, low_level=low_level, head=head)
                clean = free + scale * (clean - free)
            return _behind(clean, scene)

        start = noise
        if scene.gate is not None and scene.source is not None:
            start = scene.gate * noise + (1 - scene.gate) * scene.source
        pixels = vae.decode(self.vae, flow.sample(self.config.flow, start, estimate, steps))
        if scene.gate is None:
            return Edited(pixels, None)
        gate = F.interpolate(scene.gate, pixels.shape[2:], mode="nearest")
        if self.config.gate.composite:
            pixels = gate * pixels + (1 - gate) * batch.images[0]
        return Edited(pixels, gate)

    # ---- files ----

    def parts(self) -> dict[str, nn.Module | None]:
        """The model's parts by name, in the order of the figure."""
        names = ("vlm", "tokens", "connector", "gate", "low_level", "head", "mmdit", "vae", "reader")
        return {name: getattr(self, name) for name in names}

    def save_pretrained(self, folder: str | Path, dtype: torch.dtype | None = None) -> None:
        """Save as a folder: config.json, one folder each for VLM, VAE, MMDiT and tokenizer, and kontext.safetensors.

        Args:
            folder: Where to; made if it is not there.
            dtype: Cast the weights first (the model itself is cast).
        """
        files.save(self, Path(folder), dtype)

    @classmethod
    def from_pretrained(cls, folder: str | Path, dtype: torch.dtype = torch.float32) -> Self:
        """Load a folder that `save_pretrained` wrote.

        Raises:
            UsageError: It is not such a folder, or a part of it is missing or damaged.
        """
        return files.load(cls, Path(folder)).to(dtype).eval()


def make_reader(model: QueryKontext) -> AnswerReader:
    """The reader of a model that is about to be pretrained."""
    return AnswerReader(len(model.tokenizer), model.config.kontext.context_dim)


def _behind(clean: Tensor, scene: Scene) -> Tensor:
    """The estimate where the gate is open, the source where it is closed."""
    if scene.gate is None or scene.source is None:
        return clean
    return scene.gate * clean + (1 - scene.gate) * scene.source

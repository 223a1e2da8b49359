"""two-stage: a grounder and an inpainter, two models with nothing between them but a region and a sentence.

1. Ground. The VLM reads source and instruction; from its queries a head draws the region, and a reader writes what
   changes there: `small red circle top left becomes small blue circle top left`.
2. Inpaint. A diffusion transformer that has never seen the instruction fills that region of the source from that
   sentence; only the tokens in and around the region are denoised, as in Query-Kontext; it sees the source with the region cut out, as StableDiffusionInpaintPipeline does, and starts and ends on
   the source's own latents outside.

The junction is real: a binary mask and a text. Where the first stage gives neither, the request fails under the name
of that stage, and the second is not asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from qk_model import flow, vae
from qk_model.config import ModelConfig
from qk_model.data import framed, to_images
from qk_model.gate import CrossModalGate, region_loss
from qk_model.infer import Job, prepare, resize, sources
from qk_model.placement import Placing, covered
from qk_model.positions import target_positions
from qk_model.tokenizer import encode
from qk_model.trunk import Batch, widest_open
from torch import Tensor

from qk_baselines.trained.config import TwoStageConfig
from qk_baselines.trained.data import CHANGE_LENGTH
from qk_baselines.trained.network import Network, Output, Words, own_config
from qk_bench.interfaces import Failure


class TwoStage(Network):
    """Ground, then inpaint."""

    name = "two-stage"
    shared = ("vlm", "tokens", "connector", "gate", "vae")
    own_parts: ClassVar[tuple[str, ...]] = ("reader", "words", "inpainter")

    def __init__(self, shared: ModelConfig, own: dict[str, Any], tokenizer: Any = None) -> None:
        super().__init__(shared, own, tokenizer)
        self.values: TwoStageConfig = own_config(self.name, own)
        patch, context_dim = shared.low_level.patch, shared.kontext.context_dim
        # Of Query-Kontext's gate only the network: pretrained to find the edit, used here as a segmentation head.
        self.gate = CrossModalGate(shared.gate, self.vlm.width, self.latent_channels, context_dim)
        self.reader = self.reader_of(context_dim, CHANGE_LENGTH)
        width = self.values.inpainter.width
        self.words = Words(len(self.tokenizer), width, CHANGE_LENGTH)
        self.inpainter = self.denoiser(self.values.inpainter, 2 * self.channels + patch**2, width, self.channels)

    # ---- training ----

    def losses(self, batch: Batch, stage: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Of the grounding: region and sentence; or of the inpainting, with the true ones."""
        assert batch.edit_mask is not None
        wanted = F.max_pool2d(batch.edit_mask, self.factor)  # (B, 1, h, w): where any pixel under a latent changes
        assert batch.answer_ids is not None
        if stage == "ground":
            context, logits, placing = self._locate(batch)
            placements = batch.placements if placing is not None else None
            region = region_loss(logits, wanted, self.values.positive_weight, placements)
            if placing is not None and placements is not None:
                region = region + placing.loss(placements)
            answer, right = self.reader(context.query, context.query_mask, batch.answer_ids)
            return {"region": region, "answer": answer, "words_right": right, "loss": answer + region}
        with torch.no_grad():
            # What the grounder finds, too, so that the inpainter knows regions that are larger than the change.
            found = torch.maximum(wanted, self._region(*self._locate(batch)[1:]))
        some = (torch.rand(len(found), generator=generator) < self.values.found_regions).to(found.device)
        region = torch.where(some[:, None, None, None], found, wanted)
        value = self._inpainting_loss(batch, region, generator)
        return {"flow": value, "loss": value}

    def _inpainting_loss(self, batch: Batch, region: Tensor, generator: torch.Generator) -> Tensor:
        assert batch.target is not None
        assert batch.answer_ids is not None
        with torch.no_grad():
            clean, source = vae.encode(self.vae, batch.target), vae.encode(self.vae, batch.images[0])
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        sigma = flow.draw_sigmas(self.config.flow, len(clean), generator).to(clean.device)
        x = flow.mix(clean, region * noise + (1 - region) * source, sigma)
        cut = self._cut(batch.images[0], region)
        estimate = self._inpaint(x, sigma, source, cut, region, batch.answer_ids, batch.answer_ids != 0)
        return flow.loss(self.config.flow, estimate, clean, sigma, region.mean(dim=(1, 2, 3)))  # as Query-Kontext's

    # ---- stage one ----

    def _locate(self, batch: Batch) -> tuple[Any, Tensor, Placing | None]:
        """What the VLM understands, the logits of the region, (B, 1, h, w), and the place of what is drawn anew."""
        context = self.understand(batch)
        assert context.image is not None
        with torch.no_grad():
            source = vae.encode(self.vae, batch.images[0])
        tokens, grid = self.patchify(source, self.gate.patch)
        return context, *self.gate(context.image, tokens, grid, context.query, context.query_mask)

    def ground(self, batch: Batch) -> tuple[Tensor, list[str | None]]:
        """The region of each edit, (B, 1, h, w) in {0, 1}, and what becomes of it; None where that has no end."""
        context, logits, placing = self._locate(batch)
        return self._region(logits, placing), self.write(self.reader, context.query, context.query_mask)

    def _region(self, logits: Tensor, placing: Placing | None) -> Tensor:
        found = (logits.sigmoid() >= self.values.region_threshold).float()
        return found if placing is None else torch.maximum(found, covered(placing.best(), *found.shape[2:]))

    # ---- stage two ----

    def _cut(self, pixels: Tensor, region: Tensor) -> Tensor:
        """Latents of the source with the region painted grey."""
        hole = F.interpolate(region, pixels.shape[2:], mode="nearest")
        with torch.no_grad():
            return vae.encode(self.vae, pixels * (1 - hole))

    def _inpaint(
        self, x: Tensor, sigma: Tensor, source: Tensor, cut: Tensor, region: Tensor, ids: Tensor, mask: Tensor
    ) -> Tensor:
        """The clean latents in x: drawn within the region, the source's outside it."""
        tokens, grid = self.patchify(torch.cat([x, cut, region], dim=1))  # all in the target's channels
        open_ = widest_open(region, self.config.gate.share, self.config.low_level.patch)
        positions = target_positions(*grid).to(x.device)[open_.which]
        output = self.inpainter(open_.gather(tokens), positions, self.words(ids), mask, sigma, present=open_.present)
        output = self.unpatchify(open_.scatter(output.float(), self.patchify(source)[0]), grid)
        return region * flow.to_clean(self.config.flow, output, x, sigma) + (1 - region) * source

    def inpaint(
        self, batch: Batch, region: Tensor, sentences: Sequence[str], noise: Tensor, steps: int | None
    ) -> Tensor:
        """Fill the region of each source after its sentence, (B, 3, H, W)."""
        ids, mask = encode(self.tokenizer, [framed(sentence) for sentence in sentences], CHANGE_LENGTH)
        ids, mask = ids.to(noise.device), mask.to(noise.device)
        source, cut = vae.encode(self.vae, batch.images[0]), self._cut(batch.images[0], region)
        latents = flow.sample(
            self.config.flow,
            region * noise + (1 - region) * source,
            lambda x, sigma: self._inpaint(x, sigma, source, cut, region, ids, mask),
            steps,
        )
        return vae.decode(self.vae, latents)

    # ---- use ----

    @torch.no_grad()
    def make(self, jobs: Sequence[Job], *, steps: int | None = None) -> list[Output]:
        """Ground, then inpaint; outside the region the source's own pixels stay."""
        batch, noise = prepare(self, jobs)
        region, sentences = self.ground(batch)
        failures = [_failure(r, s) for r, s in zip(region, sentences, strict=True)]
        pixels = self.inpaint(batch, region, [s or "nothing" for s in sentences], noise, steps)
        size = (jobs[0].height, jobs[0].width)
        inside = F.interpolate(region, size, mode="nearest")
        pixels = inside * resize(pixels, size) + (1 - inside) * sources(jobs).to(pixels.device)
        return [failure or image for failure, image in zip(failures, to_images(pixels), strict=True)]


def _failure(region: Tensor, sentence: str | None) -> Failure | None:
    """Why stage one has nothing for stage two."""
    if sentence is None:
        return Failure("model_error", "stage ground: the description of the change has no end")
    if " becomes " not in f" {sentence} ":
        return Failure("model_error", f"stage ground: {sentence!r} describes no change")
    if not bool(region.any()):
        return Failure("model_error", "stage ground: found no region for the instruction")
    return None

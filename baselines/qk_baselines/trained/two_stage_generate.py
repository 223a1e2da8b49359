"""two-stage-generate: separate generation, then edit, the pipeline that the article holds its model against.

1. Describe. The VLM reads source and instruction, and a reader writes the caption of the picture that is wanted.
2. Draw. A text-to-image model that has seen neither source nor instruction draws a draft from that caption.
3. Edit. An editor in InstructPix2Pix's form brings the draft's content into the source: source and draft enter in the
   channels of its tokens, the instruction as words.

The junctions are a text and an 8-bit picture. For a request to generate, the instruction is the caption, and the draft
the answer. The editor is trained on drafts that the trained drawer makes from true captions.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

import torch
from qk_model import flow, vae
from qk_model.config import ModelConfig
from qk_model.data import framed, to_images, to_pixels
from qk_model.infer import Job, prepare, resize
from qk_model.positions import target_positions
from qk_model.tokenizer import encode
from qk_model.trunk import Batch
from torch import Tensor

from qk_baselines.trained.config import TwoStageGenerateConfig
from qk_baselines.trained.data import CAPTION_LENGTH
from qk_baselines.trained.network import Network, Output, Words, own_config
from qk_bench.interfaces import Failure


class TwoStageGenerate(Network):
    """Describe, draw, edit."""

    name = "two-stage-generate"
    own_parts: ClassVar[tuple[str, ...]] = ("reader", "drawer_words", "drawer", "editor_words", "editor")

    def __init__(self, shared: ModelConfig, own: dict[str, Any], tokenizer: Any = None) -> None:
        super().__init__(shared, own, tokenizer)
        self.values: TwoStageGenerateConfig = own_config(self.name, own)
        words, drawer, editor = len(self.tokenizer), self.values.drawer, self.values.editor
        self.reader = self.reader_of(shared.kontext.context_dim, CAPTION_LENGTH)
        self.drawer_words = Words(words, drawer.width, CAPTION_LENGTH)
        self.drawer = self.denoiser(drawer, self.channels, drawer.width, self.channels)
        self.editor_words = Words(words, editor.width, shared.max_text_tokens["edit"])
        self.editor = self.denoiser(editor, 3 * self.channels, editor.width, self.channels_out)

    # ---- training ----

    def losses(self, batch: Batch, stage: str, generator: torch.Generator) -> dict[str, Tensor]:
        """Of the caption, the draft, or the edit."""
        if stage == "describe":
            assert batch.answer_ids is not None
            context = self.understand(batch)
            answer, right = self.reader(context.query, context.query_mask, batch.answer_ids)
            return {"answer": answer, "words_right": right, "loss": answer}
        assert batch.target is not None
        with torch.no_grad():
            clean = vae.encode(self.vae, batch.target)
        noise = torch.randn(clean.shape, generator=generator).to(clean.device)
        sigma = flow.draw_sigmas(self.config.flow, len(clean), generator).to(clean.device)
        x = flow.mix(clean, noise, sigma)
        if stage == "draw":
            estimate = self._draw(x, sigma, batch.input_ids, batch.mask)
        else:
            assert batch.answer_ids is not None
            first = torch.randn(clean.shape, generator=generator).to(clean.device)
            with torch.no_grad():
                source = vae.encode(self.vae, batch.images[0])
                draft = self._draft(first, batch.answer_ids, batch.answer_ids != 0, self.values.draft_steps)
            estimate = self._edit(x, sigma, source, draft, batch)
        value = flow.loss(self.config.flow, estimate, clean, sigma)
        return {"flow": value, "loss": value}

    # ---- the two flows ----

    def _draw(self, x: Tensor, sigma: Tensor, ids: Tensor, mask: Tensor) -> Tensor:
        """The clean latents in x after a caption, (B, C, h, w) to the same."""
        tokens, grid = self.patchify(x)
        output = self.drawer(tokens, target_positions(*grid).to(x.device), self.drawer_words(ids), mask, sigma)
        return flow.to_clean(self.config.flow, self.unpatchify(output.float(), grid), x, sigma)

    def _draft(self, noise: Tensor, ids: Tensor, mask: Tensor, steps: int | None) -> Tensor:
        """Latents of a picture drawn from a caption."""
        return flow.sample(self.config.flow, noise, lambda x, sigma: self._draw(x, sigma, ids, mask), steps)

    def _edit(self, x: Tensor, sigma: Tensor, source: Tensor, draft: Tensor, batch: Batch) -> Tensor:
        """The clean latents in x after source, draft and instruction, (B, C, h, w) to the same."""
        tokens, grid = self.patchify(torch.cat([x, source, draft], dim=1))
        positions = target_positions(*grid).to(x.device)
        output = self.editor(tokens, positions, self.editor_words(batch.input_ids), batch.mask, sigma)
        return self.clean(self.unpatchify(output.float(), grid), x, sigma, source)

    # ---- use ----

    @torch.no_grad()
    def make(self, jobs: Sequence[Job], *, steps: int | None = None) -> list[Output]:
        """Describe, draw, edit; or draw alone, where there is no source."""
        batch, noise = prepare(self, jobs)
        size = (jobs[0].height, jobs[0].width)
        second, first = noise.split(self.latent_channels, dim=1)  # the editor's and the drawer's
        if batch.mode == "generate":
            return list(to_images(resize(self.draw([job.instruction for job in jobs], first, steps), size)))
        captions = self.describe(batch)
        failures = [
            None if caption else Failure("model_error", "stage describe: the caption has no words or no end")
            for caption in captions
        ]
        drafts = to_images(self.draw([c or "nothing" for c in captions], first, self.values.draft_steps))
        pixels = self.edit(batch, to_pixels(drafts).to(noise.device), second, steps)
        return [failure or image for failure, image in zip(failures, to_images(resize(pixels, size)), strict=True)]

    def describe(self, batch: Batch) -> list[str | None]:
        """The caption of each picture that is wanted; None where it has no end."""
        context = self.understand(batch)
        return self.write(self.reader, context.query, context.query_mask)

    def draw(self, captions: Sequence[str], noise: Tensor, steps: int | None) -> Tensor:
        """Pictures after captions, (B, 3, H, W) in [-1, 1]."""
        ids, mask = encode(self.tokenizer, [framed(caption) for caption in captions], CAPTION_LENGTH)
        return vae.decode(self.vae, self._draft(noise, ids.to(noise.device), mask.to(noise.device), steps))

    def edit(self, batch: Batch, drafts: Tensor, noise: Tensor, steps: int | None) -> Tensor:
        """The sources edited after instruction and drafts, (B, 3, H, W) in [-1, 1]."""
        source, draft = vae.encode(self.vae, batch.images[0]), vae.encode(self.vae, drafts)
        latents = flow.sample(
            self.config.flow, noise, lambda x, sigma: self._edit(x, sigma, source, draft, batch), steps
        )
        return vae.decode(self.vae, latents)

    def noise_shape(self, height: int, width: int) -> tuple[int, int, int]:
        """The shape of one image's noise: the editor's, and behind it the drawer's."""
        channels, rows, columns = super().noise_shape(height, width)
        return 2 * channels, rows, columns

"""unified-a: an assembled unified model. The VLM's hidden states of the words condition the same MMDiT; that is all.

It is Query-Kontext less what its authors added: no kontext queries (the context is the instruction's words, which the
VLM has read beside the source image, through the same connector), and no gate (the flow starts from noise everywhere,
and every pixel is drawn anew). The source's latents enter as tokens, as in FLUX.1 Kontext and Qwen-Image-Edit. What
the parts left out would have weighed goes into one more block of the MMDiT.
"""

from __future__ import annotations

import dataclasses
from typing import Any

import torch
from qk_model.config import ModelConfig
from qk_model.model import QueryKontext
from qk_model.trunk import Batch
from torch import Tensor

from qk_baselines.trained.config import UnifiedAConfig


class UnifiedA(QueryKontext):
    """Query-Kontext without kontext queries and gate; saved and loaded in the same form."""

    name = "unified-a"
    shared = ("vlm", "connector", "vae")
    for_training: tuple[str, ...] = ()

    @classmethod
    def made_from(cls, pretrained: QueryKontext, shared: ModelConfig, own: UnifiedAConfig) -> UnifiedA:
        """A model that goes on from the pretrained parts."""
        model = cls(assembled(shared, own, pretrained.latent_channels), tokenizer=pretrained.tokenizer)
        for name in cls.shared:
            getattr(model, name).load_state_dict(getattr(pretrained, name).state_dict())
        tokens = {k: v for k, v in pretrained.tokens.state_dict().items() if k != "queries"}
        model.tokens.load_state_dict(tokens, strict=False)
        return model

    def forward(self, batch: Batch, stage: Any, seed: int) -> dict[str, Tensor]:
        """The flow loss of a batch; all chance comes from the seed."""
        context = self.understand(batch)
        scene = self.look(batch, context)
        flow = self.flow_loss(batch, context, scene, torch.Generator().manual_seed(seed))
        return {"flow": flow, "loss": flow}


def assembled(config: ModelConfig, own: UnifiedAConfig, channels: int) -> ModelConfig:
    """Query-Kontext's config with its own parts switched off and the MMDiT deepened.

    Args:
        config: Query-Kontext's, with this model's tokens.
        own: This model's values.
        channels: Channels of the latents.
    """
    area, seen = config.low_level.patch**2, channels * config.low_level.aligned
    tokens = {
        "in_channels": (channels + seen) * area,
        "out_channels": (channels + config.low_level.residual) * area,
    }
    return dataclasses.replace(
        config,
        kontext=dataclasses.replace(config.kontext, enabled=False),
        gate=dataclasses.replace(config.gate, enabled=False, shown=False, placements=0),
        low_level=dataclasses.replace(config.low_level, enabled=True),
        mmdit=dataclasses.replace(config.mmdit, arguments={**config.mmdit.arguments, **tokens, "depth": own.depth}),
    )

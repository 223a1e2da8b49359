"""The vision-language model that reads images, words and the kontext queries in one sequence.

Two blocks behind one interface: `QwenVLM` is Qwen2.5-VL from transformers; `LeanVLM` is small enough to train on a CPU.
Both return hidden states only: the language output is not used.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple, Self

import torch
import torch.nn.functional as F
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from qk_model.config import Part
from qk_model.lean import Block, key_bias
from qk_model.positions import sincos, target_positions

MAX_IMAGES, MAX_TEXT = 4, 128


class Read(NamedTuple):
    """What a VLM made of its input."""

    text: Tensor  # (B, T, D)
    extra: Tensor  # (B, E, D): the region and kontext tokens
    image: Tensor | None  # (B, D, h, w): the first image's tokens


class LeanVLM(ModelMixin, ConfigMixin):
    """A small bidirectional transformer over image patches, words and extra tokens.

    Notable: a convolutional stem; fixed sine positions; every token sees every other, so that image tokens know what
    is asked.

    Args:
        vocab_size: Number of words.
        width: Hidden size D.
        depth: Number of blocks.
        num_heads: Attention heads.
        patch: Pixels a side of an image token; a multiple of 4.
    """

    @register_to_config
    def __init__(self, vocab_size: int, width: int, depth: int, num_heads: int, patch: int) -> None:
        super().__init__()
        self.width, self.multiple = width, patch
        self.words = nn.Embedding(vocab_size, width)
        self.word_places = nn.Parameter(torch.randn(MAX_TEXT, width) * 0.02)
        self.image_kinds = nn.Parameter(torch.randn(MAX_IMAGES, width) * 0.02)
        self.stem = nn.Sequential(
            nn.Conv2d(3, width // 4, 4, stride=4), nn.GELU(),
            nn.Conv2d(width // 4, width // 2, 3, padding=1), nn.GELU(),
            nn.Conv2d(width // 2, width, patch // 4, stride=patch // 4),
        )  # fmt: skip
        self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        nn.init.normal_(self.words.weight, std=0.02)

    @property
    def lora_targets(self) -> list[str]:
        """Names of the linear layers that LoRA adapts."""
        return list(Block.lora_targets)

    def forward(self, images: list[Tensor], input_ids: Tensor, mask: Tensor, extra: Tensor) -> Read:
        """Read.

        Args:
            images: Each (B, 3, H, W) in [-1, 1]; the source, or the references, or none.
            input_ids: (B, T).
            mask: (B, T) bool, true where a word counts.
            extra: (B, E, D) tokens that follow the words.
        """
        tokens, grid = [], None
        for number, image in enumerate(images):
            features = self.stem(image)  # (B, D, h, w)
            grid = grid or features.shape[2:]
            places = sincos(target_positions(*features.shape[2:]).to(image.device), self.width)
            tokens.append(features.flatten(2).transpose(1, 2) + places + self.image_kinds[number])
        length = input_ids.shape[1]
        tokens += [self.words(input_ids) + self.word_places[:length], extra]
        seen = F.pad(mask, (sum(t.shape[1] for t in tokens[:-2]), extra.shape[1]), value=True)
        bias = key_bias(seen)
        x = torch.cat(tokens, dim=1)  # (B, images + T + E, D)
        for block in self.blocks:
            x = block(x, bias)
        x = self.norm(x)
        start = x.shape[1] - extra.shape[1]
        image_out = None
        if grid is not None:
            rows, columns = grid
            image_out = x[:, : rows * columns].transpose(1, 2).unflatten(2, (rows, columns))
        return Read(x[:, start - length : start], x[:, start:], image_out)


class QwenVLM(nn.Module):
    """Qwen2.5-VL: image tokens between its markers, then the words, then the extra tokens; causal, with M-RoPE."""

    def __init__(self, model: Any) -> None:
        super().__init__()
        self.model = model
        self.width = model.config.text_config.hidden_size
        vision = model.config.vision_config
        self.multiple = vision.patch_size * vision.spatial_merge_size

    @classmethod
    def from_arguments(cls, arguments: dict[str, Any]) -> Self:
        """A randomly initialised one; arguments are those of `Qwen2_5_VLConfig`."""
        from transformers import Qwen2_5_VLConfig, Qwen2_5_VLModel

        return cls(Qwen2_5_VLModel(Qwen2_5_VLConfig(**arguments)))

    @classmethod
    def from_pretrained(cls, name: str | Path, **kwargs: Any) -> Self:
        """Load the weights of a hub name or folder, without the language head."""
        from transformers import Qwen2_5_VLModel

        return cls(Qwen2_5_VLModel.from_pretrained(name, **kwargs))

    def save_pretrained(self, folder: str | Path) -> None:
        """Save in the library's own form."""
        self.model.save_pretrained(folder)

    @property
    def lora_targets(self) -> list[str]:
        """Names of the linear layers that LoRA adapts: those of the language model."""
        return ["q_proj", "k_proj", "v_proj", "o_proj"]

    def forward(self, images: list[Tensor], input_ids: Tensor, mask: Tensor, extra: Tensor) -> Read:
        """Read; arguments as in `LeanVLM.forward`, image sides multiples of `multiple`."""
        config = self.model.config
        embed = self.model.get_input_embeddings()
        batch = len(input_ids)
        ids, embeds, grids, kinds = [], [], [], []
        for image in images:
            patches, grid = _patches(image, config.vision_config)
            features = self.model.visual(patches, grid_thw=grid).pooler_output.view(batch, -1, self.width)
            markers = [
                torch.full((batch, 1), i, device=image.device)
                for i in (config.vision_start_token_id, config.vision_end_token_id)
            ]
            pads = torch.full(features.shape[:2], config.image_token_id, device=image.device)
            ids += [markers[0], pads, markers[1]]
            kinds += [torch.zeros(1), torch.ones(pads.shape[1]), torch.zeros(1)]
            embeds += [embed(markers[0]), features, embed(markers[1])]
            grids.append(grid)
        blank = torch.zeros(extra.shape[:2], dtype=input_ids.dtype, device=extra.device)
        ids += [input_ids, blank]
        kinds += [torch.zeros(input_ids.shape[1] + extra.shape[1])]
        embeds += [embed(input_ids), extra]
        all_ids = torch.cat(ids, dim=1)
        seen = F.pad(mask, (all_ids.shape[1] - mask.shape[1] - extra.shape[1], extra.shape[1]), value=True)
        positions, _ = self.model.get_rope_index(
            all_ids,
            mm_token_type_ids=torch.cat(kinds).int().to(all_ids.device).expand(batch, -1),
            image_grid_thw=torch.stack(grids, dim=1).flatten(0, 1)
            if grids
            else None,  # all of sample 1, then of sample 2 …
            attention_mask=seen,
        )
        hidden = self.model.language_model(
            inputs_embeds=torch.cat([e.to(extra.dtype) for e in embeds], dim=1),
            position_ids=positions,
            attention_mask=seen.long(),
            use_cache=False,
        ).last_hidden_state  # (B, L, D)
        start = hidden.shape[1] - extra.shape[1]
        image_out = None
        if images:
            _, rows, columns = (int(n) for n in grids[0][0])
            merge = config.vision_config.spatial_merge_size
            rows, columns = rows // merge, columns // merge
            image_out = hidden[:, 1 : 1 + rows * columns].transpose(1, 2).unflatten(2, (rows, columns))
        return Read(hidden[:, start - input_ids.shape[1] : start], hidden[:, start:], image_out)


# What Qwen2.5-VL's image processor subtracts and divides by, for images in [0, 1].
_MEAN, _STD = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)


def _patches(image: Tensor, vision: Any) -> tuple[Tensor, Tensor]:
    """Images as Qwen2.5-VL's vision tower wants them: each patch a row, patches of one merged token together.

    Args:
        image: (B, 3, H, W) in [-1, 1].
        vision: The `vision_config`.

    Returns:
        (B · h · w, 3 · t · p · p) patches and (B, 3) grids of (1, h, w).
    """
    batch, _, height, width = image.shape
    p, m, t = vision.patch_size, vision.spatial_merge_size, vision.temporal_patch_size
    mean, std = (image.new_tensor(v).view(1, 3, 1, 1) for v in (_MEAN, _STD))
    x = ((image + 1) / 2 - mean) / std
    x = x.view(batch, 3, height // (p * m), m, p, width // (p * m), m, p)
    x = x.permute(0, 2, 5, 3, 6, 1, 4, 7)  # (B, rows, columns, m, m, 3, p, p)
    x = x[:, :, :, :, :, :, None].expand(-1, -1, -1, -1, -1, -1, t, -1, -1)  # a still image fills every frame
    grid = torch.tensor([1, height // p, width // p], device=image.device).expand(batch, 3)
    return x.reshape(-1, 3 * t * p * p), grid


def make_vlm(part: Part) -> LeanVLM | QwenVLM:
    """The VLM of a preset: from its pretrained weights if it names any."""
    kind = QwenVLM if part.block == "library" else LeanVLM
    if part.pretrained:
        return kind.from_pretrained(part.pretrained)
    return QwenVLM.from_arguments(part.arguments) if part.block == "library" else LeanVLM(**part.arguments)

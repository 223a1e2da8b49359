"""Words from kontext tokens: what an edit changes, or what a picture shows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from qk_model.lean import Block, key_bias


class AnswerReader(nn.Module):
    """Says in words what an edit changes, from the kontext tokens alone; dropped once the VLM is pretrained.

    Through this bottleneck the kontext learns to hold what is meant: which object, where, and what becomes of it.
    """

    def __init__(self, vocab_size: int, width: int, num_heads: int = 4, depth: int = 2, length: int = 64) -> None:
        super().__init__()
        self.words = nn.Embedding(vocab_size, width)
        self.places = nn.Parameter(torch.randn(length, width) * 0.02)
        self.blocks = nn.ModuleList(Block(width, num_heads) for _ in range(depth))
        self.norm = nn.LayerNorm(width)
        self.out = nn.Linear(width, vocab_size)
        nn.init.normal_(self.words.weight, std=0.02)

    def forward(self, query: Tensor, mask: Tensor, answer: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and share of right words, (B, Q, E) and (B, A) to two scalars; word 0 is padding."""
        wanted = answer[:, 1:]
        logits = self.logits(query, mask, answer[:, :-1])
        counts = wanted != 0
        right = (logits.argmax(dim=-1) == wanted)[counts].float().mean()
        return F.cross_entropy(logits.flatten(0, 1), wanted.flatten(), ignore_index=0), right

    @torch.no_grad()
    def write(self, query: Tensor, mask: Tensor, begin: int, end: int) -> Tensor:
        """The most likely words after `begin`, each given those before it: (B, Q, E) to (B, A) ids.

        A text ends with `end`, followed by zeros; one that has no end within the reader's length has none.
        """
        ids = torch.full((len(query), 1), begin, device=query.device)
        open_ = torch.ones(len(query), dtype=torch.bool, device=query.device)
        while ids.shape[1] <= self.places.shape[0] and bool(open_.any()):
            word = self.logits(query, mask, ids)[:, -1].argmax(dim=-1) * open_
            ids = torch.cat([ids, word[:, None]], dim=1)
            open_ = open_ & (word != end)
        return ids[:, 1:]

    def logits(self, query: Tensor, mask: Tensor, given: Tensor) -> Tensor:
        """Of each next word, (B, Q, E) and (B, A) to (B, A, V)."""
        ahead, length = query.shape[1], given.shape[1]
        x = torch.cat([query, self.words(given) + self.places[:length]], dim=1)  # (B, Q + A - 1, E)
        causal = torch.ones(ahead + length, ahead + length, dtype=torch.bool, device=x.device).tril()
        causal[:, :ahead] = True
        bias = torch.zeros_like(causal, dtype=torch.float32).masked_fill(~causal, -1e4) + key_bias(
            F.pad(mask, (0, length), value=True)
        )
        for block in self.blocks:
            x = block(x, bias)
        return self.out(self.norm(x[:, ahead:])).float()  # type: ignore[no-any-return]

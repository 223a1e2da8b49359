"""The tokenizer: a hub one where a preset names it, else one word a token over the vocabulary of the scenes suite."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

# What captions, compositions from references and answers say beyond the grammar of the instructions.
OTHER_WORDS = [
    "a",
    "an",
    "the",
    "at",
    "on",
    "in",
    "of",
    "and",
    "then",
    "also",
    "but",
    "with",
    ",",
    ";",
    ".",
    "plain",
    "cloudy",
    "striped",
    "checked",
    "background",
    "photograph",
    "nothing",
    "becomes",
    "image",
    "first",
    "second",
    "third",
    "reconstruct",
    "picture",
]


def scenes_words() -> list[str]:
    """Every word of the scenes suite's training instructions and captions, sorted."""
    from qk_tasks.scenes import grammar, world

    texts = [text for pool in grammar.PHRASINGS.values() for text in pool]
    texts += [*world.SHAPES, *world.COLOURS, *world.SIZES, *world.PLACES, *grammar.JOINERS]
    texts += ["object shape part to the left right of above below leftmost rightmost topmost lowest"]
    found = {word for text in texts for word in re.findall(r"[a-z]+|[,;]", re.sub(r"\{\w+\}", "", text))}
    return sorted(found | set(OTHER_WORDS))


def faces_words() -> list[str]:
    """Every word of the instructions, captions and answers of drawn-faces, sorted."""
    from qk_tasks.faces import edits, person

    texts = [text for pool in edits.PHRASINGS.values() for text in pool]
    texts += [
        *person.HAIR,
        *person.LIPSTICK,
        *person.BACKGROUNDS,
        *person.HATS,
        *person.FRAMES,
        *person.LENSES,
        *person.STYLES,
    ]
    texts += [*person.Look._fields, "a drawn smiling face with hair, wearing lipstick, on a background"]
    return sorted({word for text in texts for word in re.findall(r"[a-z]+|[,;]", re.sub(r"\{\w+\}", "", text))})


def build_tokenizer(*, faces: bool = False) -> PreTrainedTokenizerFast:
    """A word-level tokenizer of the scenes suite, and of drawn-faces too if asked for; other words become [UNK]."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    specials = ["[PAD]", "[UNK]", "[BOS]", "[EOS]"]
    words = [*specials, *scenes_words(), *(faces_words() if faces else ())]
    vocabulary = {word: number for number, word in enumerate(dict.fromkeys(words))}
    made = Tokenizer(models.WordLevel(vocabulary, unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[a-z0-9]+|[^\sa-z0-9]"), "removed", invert=True)
    return PreTrainedTokenizerFast(
        tokenizer_object=made, pad_token="[PAD]", unk_token="[UNK]", bos_token="[BOS]", eos_token="[EOS]"
    )


def load_tokenizer(name: str) -> PreTrainedTokenizerFast:
    """The tokenizer of a hub name or folder; empty: of the scenes suite; `scenes+drawn-faces`: of both."""
    if name in ("", "scenes+drawn-faces"):
        return build_tokenizer(faces=bool(name))
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(name)  # type: ignore[no-any-return]


def encode(
    tokenizer: PreTrainedTokenizerFast, texts: list[str], length: int, *, pad_to: int | None = None
) -> tuple[Tensor, Tensor]:
    """Token ids and mask of a batch of texts.

    Args:
        tokenizer: The tokenizer.
        texts: B texts.
        length: Longer ones are cut.
        pad_to: Pad to a multiple of this, no further than `length`; None pads to `length` itself.

    Returns:
        (B, T) int64 ids and (B, T) bool, true where a token counts.
    """
    rows = [
        tokenizer(text, add_special_tokens=False)["input_ids"][:length] or [tokenizer.unk_token_id or 0]
        for text in texts
    ]
    longest = max(len(row) for row in rows)
    width = length if pad_to is None else min(length, -(-longest // pad_to) * pad_to)
    pad = tokenizer.pad_token_id or 0
    ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows])
    mask = torch.tensor([[True] * len(row) + [False] * (width - len(row)) for row in rows])
    return ids, mask

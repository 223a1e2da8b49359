"""Makes text that came from elsewhere safe to print: model names, instructions and quotations can hold anything."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from typing import Any

_UNSAFE = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def is_unicode(value: Any) -> bool:
    """Whether the texts in a JSON value can be written: JSON can hold half of a surrogate pair, a file cannot."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return False
    return True


def plain(text: str) -> str:
    """Without control characters and overrides of the writing direction."""
    return _UNSAFE.sub("\N{REPLACEMENT CHARACTER}", text)


def markdown_safe(text: str) -> str:
    """One line in which no markup of the text's own works."""
    text = plain(text).replace("\n", " ").replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"([\\|`*_\[\]!~])", r"\\\1", text)


def markdown_table(head: list[str], rows: Iterable[list[str]]) -> list[str]:
    """The lines of a Markdown table; cells are made safe."""
    lines = [[markdown_safe(cell) for cell in row] for row in (head, *rows)]
    return [f"| {' | '.join(line)} |" for line in (lines[0], ["---"] * len(head), *lines[1:])]

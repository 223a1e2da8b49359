"""Text that others wrote (names, instructions, reasons) made safe to show and to name files after."""

from __future__ import annotations

import hashlib
import json
import re
from typing import Any, Final

from markupsafe import Markup

_UNSEEN: Final = re.compile(
    "[\u0000-\u0008\u000b-\u001f\u007f-\u009f\u061c\u200b\u200e\u200f\u2028-\u202e\u2060-\u2069\ufeff\ud800-\udfff]"
)
"""Controls, zero-width characters, direction overrides: they could make a name look like another or reorder a line."""

_PLAIN: Final = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_RESERVED: Final = frozenset({"con", "prn", "aux", "nul", *(f"{p}{n}" for p in ("com", "lpt") for n in range(1, 10))})


def visible(text: str) -> str:
    """A text in which every character can be seen: hidden ones are written as `⟨U+202E⟩`."""
    return _UNSEEN.sub(lambda match: f"⟨U+{ord(match[0]):04X}⟩", text)


def shown(value: Any) -> Any:
    """What a template shows for a value: texts with `visible`, markup of our own as it is, nothing for None."""
    if value is None:
        return ""
    return visible(value) if isinstance(value, str) and not isinstance(value, Markup) else value


def file_name(name: str) -> str:
    """A file name (no suffix) for a name, safe on every system; different names get different ones."""
    if _PLAIN.fullmatch(name) and name.partition(".")[0] not in _RESERVED and not name.endswith("."):
        return name
    base = re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40]
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    return f"{base}-{digest}" if base else digest


def script(name: str, data: Any) -> str:
    """A data file that a page loads as a script, because browsers refuse to fetch from file://.

    The text is ASCII without `<`, so nothing in it can be read as markup or end a line early.
    """
    body = json.dumps(_visible_in(data), ensure_ascii=True, separators=(",", ":"), allow_nan=False)
    return f"qk.receive({json.dumps(name)},{body.replace('<', chr(92) + 'u003c')});\n"


def _visible_in(data: Any) -> Any:
    if isinstance(data, str):
        return visible(data)
    if isinstance(data, dict):
        return {visible(key): _visible_in(value) for key, value in data.items()}
    if isinstance(data, list | tuple):
        return [_visible_in(value) for value in data]
    return data

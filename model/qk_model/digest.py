"""What identifies the weights of a saved model. Imports nothing heavy: model cards are made without loading weights."""

from __future__ import annotations

import hashlib
from pathlib import Path


def weights_digest(folder: Path) -> str:
    """The sha256 of a saved model: its config and every weight file, by name."""
    digest = hashlib.sha256()
    for path in sorted(
        p for p in folder.rglob("*") if p.suffix == ".safetensors" or p.name in ("config.json", "tokenizer.json")
    ):
        digest.update(str(path.relative_to(folder)).encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()

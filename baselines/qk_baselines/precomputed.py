"""Images made elsewhere, as a model: `precomputed:FOLDER`.

How files are named is told in `qk_bench.outputs`. Where there is no file for a request the outcome is `missing`; where
the file cannot be accepted it is `invalid_output`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from qk_bench.images import ImageProblemError, read_pixels
from qk_bench.interfaces import Failure, Model
from qk_bench.outputs import find_file, image_files
from qk_bench.records import ModelCard, Request


class Precomputed(Model):
    """Returns the images of a folder by sample id and seed index.

    Args:
        folder: Where the images are.
        name: What to call the model that made them; `precomputed:` and the folder's name where it is not given.
    """

    def __init__(self, folder: str, name: str = "") -> None:
        self.files = image_files(Path(folder))
        self.card = ModelCard(
            name=name or f"precomputed:{Path(folder).resolve().name}",
            version="1",
            weights=self._digest(),
            description="Images made elsewhere.",
            kinds=("edit", "generate", "compose"),
        )

    def generate(self, requests: Sequence[Request]) -> list[NDArray[np.uint8] | Failure]:
        """The image of each request; a named failure where there is none, or none that can be accepted."""
        return [self._read(request) for request in requests]

    def _read(self, request: Request) -> NDArray[np.uint8] | Failure:
        path = find_file(self.files, request.sample_id, request.seed_index)
        if path is None:
            return Failure("missing", "no file of this name")
        try:
            return read_pixels(path)
        except FileNotFoundError:
            return Failure("missing", "the file is gone")
        except ImageProblemError as problem:
            return Failure("invalid_output", f"{path.name}: {problem}")

    def _digest(self) -> str:
        """The sha256 over names and contents, so that a changed image is a changed model."""
        whole = hashlib.sha256()
        for stem, path in sorted(self.files.items()):
            with path.open("rb") as file:
                whole.update(f"{stem}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return whole.hexdigest()

"""Images made elsewhere, as a model: `precomputed:FOLDER`.

The image for a sample is `<sample id>.png` for seed 0 and `<sample id>-seed<K>.png` for seed K (`-seed0` is accepted
too), also .jpg, .jpeg and .webp, in the folder or in one of its sub-folders. Where there is no file the outcome is
`missing`; where it cannot be accepted it is `invalid_output`.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import UsageError
from qk_bench.images import ImageProblemError, read_pixels
from qk_bench.interfaces import Failure, Model
from qk_bench.records import ModelCard, Request

SUFFIXES: Final = (".png", ".jpg", ".jpeg", ".webp")


def image_files(folder: Path) -> list[Path]:
    """The image files of a folder and of its sub-folders one level down, sorted.

    Raises:
        UsageError: It is not a folder, or holds no image.
    """
    if not folder.is_dir():
        raise UsageError(f"there is no folder {folder}")
    files = sorted(p for p in [*folder.glob("*"), *folder.glob("*/*")] if p.suffix.lower() in SUFFIXES and p.is_file())
    if not files:
        raise UsageError(f"{folder} holds no image", "name the files <sample id>.png or <sample id>-seed<K>.png")
    return files


def by_stem(files: Sequence[Path]) -> Mapping[str, Path]:
    """The files by what names them.

    Raises:
        UsageError: Two files have the same name.
    """
    found: dict[str, Path] = {}
    for path in files:
        other = found.setdefault(path.stem, path)
        if other is not path:
            raise UsageError(f"two images are called {path.stem}: {other} and {path}", "keep one of them")
    return found


class Precomputed(Model):
    """Returns the images of a folder by sample id and seed index.

    Args:
        folder: Where the images are.
        name: What to call the model that made them; the folder's own name where it is not given.
    """

    def __init__(self, folder: str, name: str = "") -> None:
        self.folder = Path(folder)
        self.files = by_stem(image_files(self.folder))
        self.card = ModelCard(
            name=name or f"precomputed:{self.folder.resolve().name}",
            version="1",
            weights=self._digest(),
            description="Images made elsewhere.",
            kinds=("edit", "generate", "compose"),
        )

    def generate(self, requests: Sequence[Request]) -> list[NDArray[np.uint8] | Failure]:
        """The image of each request; a named failure where there is none, or none that can be accepted."""
        return [self._read(request) for request in requests]

    def _read(self, request: Request) -> NDArray[np.uint8] | Failure:
        stems = [f"{request.sample_id}-seed{request.seed_index}"]
        if request.seed_index == 0:
            stems.insert(0, request.sample_id)
        found = [self.files[stem] for stem in stems if stem in self.files]
        if not found:
            return Failure("missing", f"no file {stems[0]}.png")
        try:
            return read_pixels(found[0])
        except ImageProblemError as problem:
            return Failure("invalid_output", f"{found[0].name}: {problem}")

    def _digest(self) -> str:
        """The sha256 over names and contents, so that a changed image is a changed model."""
        whole = hashlib.sha256()
        for stem, path in sorted(self.files.items()):
            with path.open("rb") as file:
                whole.update(f"{stem}\0{hashlib.file_digest(file, 'sha256').hexdigest()}\n".encode())
        return whole.hexdigest()

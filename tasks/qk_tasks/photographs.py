"""Photographs that ship inside scikit-image, scikit-learn and matplotlib, each assigned to one split for all suites."""

from __future__ import annotations

import hashlib
from functools import cache
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

import yaml
from PIL import Image
from pydantic import BaseModel, ConfigDict

from qk_bench.errors import QKBenchError


class Photograph(BaseModel):
    """One row of `photographs.yaml`."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: str
    package: str
    file: str
    split: Literal["train", "val", "test"]
    licence: str
    sha256: str


@cache
def table() -> dict[str, Photograph]:
    """All photographs by name, in the order of the file."""
    rows = yaml.safe_load((Path(__file__).parent / "photographs.yaml").read_text())["photographs"]
    return {row["name"]: Photograph(**row) for row in rows}


@cache
def of_split(split: str) -> tuple[str, ...]:
    """Names of a split's photographs. The out-of-distribution splits of a suite use those of `test`."""
    base = split if split in ("train", "val") else "test"
    return tuple(p.name for p in table().values() if p.split == base)


@cache
def pyramid(name: str) -> tuple[Image.Image, ...]:
    """A photograph as RGB, then halved again and again until its short side is under 128 px.

    Raises:
        QKBenchError: The package is missing or holds another file than the table says.
    """
    photo = table()[name]
    spec = find_spec(photo.package)
    if spec is None or not spec.submodule_search_locations:
        raise QKBenchError(f"photograph {name}: package {photo.package} is not installed", "pip install qk-bench again")
    path = Path(spec.submodule_search_locations[0]) / photo.file
    data = path.read_bytes() if path.is_file() else b""
    if hashlib.sha256(data).hexdigest() != photo.sha256:
        raise QKBenchError(
            f"photograph {name}: {path} is not the file that the suite is defined on",
            f"install a {photo.package} version within the range that qk-bench asks for",
        )
    with Image.open(path) as image:
        levels = [image.convert("RGB")]
    while min(levels[-1].size) >= 128:
        levels.append(levels[-1].reduce(2))
    return tuple(levels)

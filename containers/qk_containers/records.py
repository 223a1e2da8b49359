"""`image.json`: the bases an image may stand on, the variants, and what each image must look like."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from qk_bench.errors import QKBenchError, UsageError, folded

RECIPE: Final = Path(__file__).parent
"""The recipe that ships: Containerfile, image.json, locks/ and trees/."""
MAX_BYTES: Final = 10_000_000

Sha256 = Annotated[str, StringConstraints(pattern=r"^sha256:[0-9a-f]{64}$")]
Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]{0,63}$")]
Platform = Annotated[str, StringConstraints(pattern=r"^linux/[a-z0-9]{1,16}$")]


class MismatchError(QKBenchError):
    """Something is not what `image.json` or a lock says it is (exit code 1)."""

    exit_code = 1


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Base(_Strict):
    """A root file system that an image may stand on."""

    digest: Sha256 = Field(description="of the archive, or of the manifest in a registry")
    reference: str = Field(default="", description="repository of a base in a registry; empty for an archive")
    layers: tuple[Sha256, ...] = Field(
        min_length=1, description="digests of the uncompressed layers, as engines list them"
    )
    platform: Platform
    made_by: str = Field(default="", description="the command that makes the archive")


class Variant(_Strict):
    """A set of locked wheels."""

    description: str
    python: str = Field(pattern=r"^3\.\d{1,2}$", description="version of Python in the bases it is for")
    glibc: tuple[int, int] = Field(description="newest C library a wheel may ask for")
    index: str = Field(default="", description="package index that some wheels come from, besides pip's own")


class Config(_Strict):
    """The part of an image's configuration that decides how programs in it run."""

    user: str
    env: tuple[str, ...]
    entrypoint: tuple[str, ...] = ()
    command: tuple[str, ...] = ()
    working_dir: str


class Expected(_Strict):
    """What an image of a variant on a base must look like."""

    variant: Name
    platform: Platform
    base: Name
    lock: Sha256
    recipe: Sha256 = Field(description="of the Containerfile and the files it copies")
    tree: Sha256 = Field(description="of the root file system without the project's own package; see tree.py")
    files: int = Field(ge=0)
    config: Config


class ImageFile(_Strict):
    """`image.json`."""

    format: Literal["qk-bench image"] = "qk-bench image"
    format_version: Literal[1] = 1
    variants: dict[Name, Variant]
    bases: dict[Name, Base] = {}
    images: tuple[Expected, ...] = ()

    def expected(self, variant: str, platform: str, base: str | None = None) -> Expected | None:
        """The newest entry for a variant and a platform, on a certain base if one is named."""
        found = [e for e in self.images if (e.variant, e.platform) == (variant, platform) and base in (None, e.base)]
        return found[-1] if found else None

    def base_by_digest(self, digest: str) -> str | None:
        """The name of a base."""
        return next((name for name, base in self.bases.items() if base.digest == digest), None)

    def with_entry(self, name: str, base: Base, entry: Expected) -> ImageFile:
        """The file with one image more; an entry of the same variant, platform and base gives way."""
        key = (entry.variant, entry.platform, entry.base)
        rest = [e for e in self.images if (e.variant, e.platform, e.base) != key]
        return self.model_copy(update={"bases": {**self.bases, name: base}, "images": (*rest, entry)})


def read_image_file(recipe: Path) -> ImageFile:
    """Read and check `image.json` of a recipe.

    Raises:
        UsageError: It is absent, too large, or not what its format asks for.
    """
    path = recipe / "image.json"
    try:
        if path.stat().st_size > MAX_BYTES:
            raise UsageError(f"{path} is larger than {MAX_BYTES} bytes", "it is no image.json")
        return ImageFile.model_validate_json(path.read_bytes())
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror}", "name the folder of a recipe") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "file"
        raise UsageError(f"{path}: {where}: {folded(first['msg'])}") from None


def write_image_file(recipe: Path, content: ImageFile) -> None:
    """Replace `image.json` of a recipe in one step."""
    path = recipe / "image.json"
    temporary = path.with_suffix(".json.tmp")
    named = {"format": content.format, "format_version": content.format_version}
    values = named | content.model_dump(mode="json", exclude_defaults=True)
    temporary.write_text(json.dumps(values, indent=2) + "\n", "utf-8")
    temporary.replace(path)


def choose_variant(image_file: ImageFile, name: str) -> Variant:
    """A variant by name.

    Raises:
        UsageError: There is none.
    """
    if name not in image_file.variants:
        raise UsageError(f"--variant {name}: there is none", f"one of: {', '.join(image_file.variants)}")
    return image_file.variants[name]

"""diffusers pipelines by name: where their files are, and how each class is called.

A pipeline is named by a folder that `save_pretrained` wrote or by a repository that lies in the hub cache. Nothing is
downloaded here: forty gigabytes are fetched on purpose, not by a benchmark.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np

from qk_bench.errors import UsageError
from qk_bench.plugins import near
from qk_bench.records import Kind

INDEX: Final = "model_index.json"
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_KEPT: Final = {".safetensors", ".json", ".txt", ".model", ".jinja"}  # files that decide what a pipeline computes
_HEADER_LIMIT: Final = 100_000_000  # bytes, as in the safetensors library


@dataclass(frozen=True)
class Form:
    """How a class of pipelines is called.

    Args:
        takes: `text` alone; one `image`; a list of `images`, source first; or an image and a `mask` to be filled.
        image: The parameter that takes the image or images.
        generates: Whether it also draws from text alone.
        batches: Whether it takes a list of prompts with as many images.
        defaults: Arguments where the class's own defaults are not how the model is meant to be used.
        placeholder: What stands in the prompt for the n-th image, where the class wants that.
    """

    takes: Literal["text", "image", "images", "mask"]
    image: str = "image"
    generates: bool = False
    batches: bool = False
    defaults: Mapping[str, Any] = field(default_factory=dict)
    placeholder: str = ""

    @property
    def kinds(self) -> tuple[Kind, ...]:
        """The kinds of task it can do."""
        if self.takes == "text":
            return ("generate",)
        compose: tuple[Kind, ...] = ("compose",) if self.takes == "images" else ()
        return ("edit", *compose, *(("generate",) if self.generates else ()))


# Without a negative prompt the Qwen pipelines leave their guidance (true_cfg_scale) out.
_QWEN: Final = {"negative_prompt": " "}
FORMS: Final[Mapping[str, Form]] = {
    "StableDiffusionInstructPix2PixPipeline": Form("image", batches=True),
    "StableDiffusionXLInstructPix2PixPipeline": Form("image", batches=True),
    "QwenImageEditPipeline": Form("image", defaults=_QWEN),
    "QwenImageEditPlusPipeline": Form("images", defaults=_QWEN),
    "FluxKontextPipeline": Form("image", generates=True),
    "Flux2Pipeline": Form("images", generates=True),
    "Flux2KleinPipeline": Form("images", generates=True),
    "LongCatImageEditPipeline": Form("image"),
    "OmniGenPipeline": Form("images", "input_images", generates=True, placeholder="<img><|image_{n}|></img>"),
    "StableDiffusionInpaintPipeline": Form("mask", batches=True),
    "StableDiffusionXLInpaintPipeline": Form("mask", batches=True),
    "FluxFillPipeline": Form("mask"),
    "QwenImageInpaintPipeline": Form("mask", defaults=_QWEN),
    "QwenImageEditInpaintPipeline": Form("mask", defaults=_QWEN),
    "StableDiffusionPipeline": Form("text", batches=True),
    "StableDiffusionXLPipeline": Form("text", batches=True),
    "StableDiffusion3Pipeline": Form("text", batches=True),
    "FluxPipeline": Form("text"),
    "QwenImagePipeline": Form("text", defaults=_QWEN),
}


@dataclass(frozen=True)
class Found:
    """A pipeline on disk.

    Args:
        folder: Where its files are.
        name: How it is called: the repository, or the folder's name.
        class_name: The diffusers class that its index names.
        form: How that class is called.
    """

    folder: Path
    name: str
    class_name: str
    form: Form

    def digest(self) -> str:
        """The sha256 over names and contents of its files. Files of the hub cache are named by their own hash."""
        whole = hashlib.sha256()
        for path in sorted(self.folder.rglob("*")):
            if path.suffix not in _KEPT or not path.is_file():
                continue
            blob = path.resolve()
            if path.is_symlink() and blob.parent.name == "blobs":
                content = blob.name
            else:
                with path.open("rb") as file:
                    content = hashlib.file_digest(file, "sha256").hexdigest()
            whole.update(f"{path.relative_to(self.folder)}\0{content}\n".encode())
        return whole.hexdigest()

    def parameters(self) -> int:
        """Number of parameters of all components, read from the headers of their weights."""
        return sum(
            _parameters(path)
            for path in sorted(self.folder.glob("*/*.safetensors"))
            if not re.search(r"\.(fp16|bf16|non_ema|ema)[.-]", path.name)  # variants of the same weights
        )


def find(where: str, revision: str = "") -> Found:
    """Find a pipeline by folder or by repository.

    Raises:
        UsageError: It is not on this machine, or no pipeline; the message says what to download and where to put it.
    """
    folder = Path(where).expanduser()
    if folder.is_dir():
        name = folder.resolve().name
    elif _REPOSITORY.fullmatch(where):
        folder, name = _in_cache(where, revision), where
    else:
        raise UsageError(f"there is no folder {where}", "name a folder that save_pretrained wrote, or OWNER/REPOSITORY")
    path = folder / INDEX
    try:
        index = json.loads(path.read_text("utf-8"))
        class_name = index["_class_name"]
    except FileNotFoundError:
        raise UsageError(f"there is no {path}", "name the folder of a whole diffusers pipeline") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise UsageError(f"{path} is not the index of a diffusers pipeline") from None
    if not isinstance(class_name, str):
        raise UsageError(f"{path}: _class_name is {class_name!r}: pipelines that bring their own code are not run")
    return Found(folder, name, class_name, FORMS.get(class_name) or _form_of(class_name, path))


def _in_cache(repository: str, revision: str) -> Path:
    from huggingface_hub import constants, snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(repository, revision=revision or None, local_files_only=True))
    except (LocalEntryNotFoundError, HFValidationError, HfHubHTTPError, OSError, ValueError):
        at = f" --revision {revision}" if revision else ""
        raise UsageError(
            f"the repository {repository}{f' at {revision}' if revision else ''} is not on this machine: there is "
            f"no folder {repository}, and no copy in {constants.HF_HUB_CACHE}",
            f"where there is a network run `hf download {repository}{at} --local-dir FOLDER`, copy FOLDER here and "
            "name diffusers:FOLDER",
        ) from None


def _form_of(class_name: str, path: Path) -> Form:
    """The form of a class that is not in the table, from its signature."""
    parameters = inspect.signature(pipeline_class(class_name, path).__call__).parameters
    if "prompt" not in parameters:
        raise UsageError(f"{path}: {class_name} takes no prompt, so that it can follow no instruction")
    if "mask_image" in parameters:
        return Form("mask")
    if "input_images" in parameters:
        return Form("images", "input_images")
    return Form("image" if "image" in parameters else "text")


def pipeline_class(class_name: str, where: Path) -> Any:
    """A pipeline class of the installed diffusers.

    Raises:
        UsageError: It has none of that name; `where` says who named it.
    """
    import diffusers

    found = getattr(diffusers, class_name, None) if class_name.isidentifier() else None
    if not (isinstance(found, type) and issubclass(found, diffusers.DiffusionPipeline)):
        known = [name for name in dir(diffusers) if name.endswith("Pipeline")]
        raise UsageError(
            f"{where}: diffusers {diffusers.__version__} has no pipeline {class_name!r}"
            f"{near(class_name, known, listing=False)}",
            "install the version of diffusers that its model_index.json names",
        )
    return found


def _parameters(path: Path) -> int:
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        if size > _HEADER_LIMIT:
            return 0
        try:
            header = json.loads(file.read(size))
        except ValueError:
            return 0  # a damaged file is reported when it is loaded
    return sum(int(np.prod(entry["shape"], dtype=np.int64)) for key, entry in header.items() if key != "__metadata__")

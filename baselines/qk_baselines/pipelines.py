"""diffusers pipelines by name: where their files are, how each class is called, how they are loaded and run.

A pipeline is named by a folder that `save_pretrained` wrote or by a repository that lies in the hub cache. Nothing is
downloaded here: forty gigabytes are fetched on purpose, not by a benchmark. Nothing is unpickled and no code that
comes with weights is run.
"""

from __future__ import annotations

import hashlib
import inspect
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from numpy.typing import NDArray

from qk_bench.errors import UsageError, one_line
from qk_bench.images import resample
from qk_bench.interfaces import Failure
from qk_bench.plugins import near
from qk_bench.records import Kind

if TYPE_CHECKING:
    from PIL import Image

INDEX: Final = "model_index.json"
_REPOSITORY: Final = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_KEPT: Final = {".safetensors", ".json", ".txt", ".model", ".jinja"}  # files that decide what a pipeline computes
_OURS: Final = {"prompt", "image", "images", "input_images", "mask_image", "generator", "output_type", "return_dict",
                "latents", "num_images_per_prompt", "self"}  # fmt: skip
_MULTIPLE: Final = 16  # pixels; every class takes sizes that are multiples of this
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
    parameters = inspect.signature(_class(class_name, path).__call__).parameters
    if "prompt" not in parameters:
        raise UsageError(f"{path}: {class_name} takes no prompt, so that it can follow no instruction")
    if "mask_image" in parameters:
        return Form("mask")
    if "input_images" in parameters:
        return Form("images", "input_images")
    return Form("image" if "image" in parameters else "text")


def _class(class_name: str, where: Path) -> Any:
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


@dataclass(frozen=True)
class Placement:
    """Where and how a pipeline is held.

    Args:
        dtype: `auto` (bfloat16 on an accelerator, float32 without), `bfloat16`, `float16` or `float32`.
        device: `auto` (the accelerator if there is one), `cpu`, `cuda`, `cuda:1`, `mps`.
        device_map: How to spread it over devices, as diffusers takes it, such as `balanced`; instead of `device`.
        offload: `none`; `model`: only the component in use is on the accelerator; `sequential`: only the layer in use.
        variant: Which variant of the weights, such as `fp16`.
    """

    dtype: str = "auto"
    device: str = "auto"
    device_map: Any = None
    offload: str = "none"
    variant: str | None = None

    def check(self) -> None:
        """Refuse what cannot be.

        Raises:
            UsageError: A value is not one of those that are.
        """
        choices = {"dtype": ("auto", "bfloat16", "float16", "float32"), "offload": ("none", "model", "sequential")}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise UsageError(f"{name}={getattr(self, name)!r}", f"one of: {', '.join(allowed)}")
        if self.offload != "none" and self.device_map is not None:
            raise UsageError("offload and device_map exclude each other", "give one of them")


@dataclass(frozen=True)
class Job:
    """One picture to make.

    Args:
        instruction: The prompt.
        images: (H, W, 3) uint8; the source first.
        mask: (H, W) bool, true where the picture may change.
        width: Wanted, in pixels.
        height: Wanted, in pixels.
        seed: Of the noise.
    """

    instruction: str
    images: tuple[NDArray[np.uint8], ...]
    mask: NDArray[np.bool_] | None
    width: int
    height: int
    seed: int


class Pipeline:
    """A loaded pipeline.

    Args:
        found: Which.
        placement: Where and how it is held.
        arguments: Of its call, beside those that come from the request.
        resolution: Length in pixels of the longer side it works at; None for what the class does by itself.

    Raises:
        UsageError: It cannot be loaded, or does not take the arguments.
    """

    def __init__(
        self, found: Found, placement: Placement, arguments: Mapping[str, Any], resolution: int | None = None
    ) -> None:
        import torch

        self.found, self.form, self.resolution = found, found.form, resolution
        kind = _class(found.class_name, found.folder / INDEX)
        self._takes = set(inspect.signature(kind.__call__).parameters)
        self.arguments = {**self.form.defaults, **check_arguments(found.class_name, self._takes, arguments)}
        accelerator = torch.accelerator.current_accelerator() if torch.accelerator.is_available() else None
        if placement.offload != "none" and accelerator is None:
            raise UsageError(f"offload={placement.offload}: this machine has no accelerator to offload from")
        auto = torch.float32 if accelerator is None or placement.device == "cpu" else torch.bfloat16
        dtype = auto if placement.dtype == "auto" else getattr(torch, placement.dtype)
        options = {"device_map": placement.device_map} if placement.device_map is not None else {}
        try:
            self._pipeline = kind.from_pretrained(
                found.folder,
                torch_dtype=dtype,
                use_safetensors=True,
                local_files_only=True,
                variant=placement.variant,
                **options,
            )
            self._place(placement, accelerator)
        except Exception as error:
            mend = "download it again, whole and as safetensors"
            raise UsageError(
                f"{found.folder} cannot be loaded as {found.class_name}: {one_line(error)}", mend
            ) from error
        self._pipeline.set_progress_bar_config(disable=True)

    def _place(self, placement: Placement, accelerator: Any) -> None:
        if placement.offload == "model":
            self._pipeline.enable_model_cpu_offload()
        elif placement.offload == "sequential":
            self._pipeline.enable_sequential_cpu_offload()
        elif placement.device_map is None:
            device = (accelerator or "cpu") if placement.device == "auto" else placement.device
            self._pipeline.to(device)

    def make(self, jobs: Sequence[Job]) -> list[NDArray[np.uint8] | Failure]:
        """Make a picture for each job, in one call if the class can do that, else in as many."""
        if self.form.batches:
            return self._call(jobs)
        return [output for job in jobs for output in self._call([job])]

    def _call(self, jobs: Sequence[Job]) -> list[NDArray[np.uint8] | Failure]:
        import torch

        arguments = dict(self.arguments)
        if self.resolution is not None and {"height", "width"} <= self._takes:
            width, height = self._size(jobs[0])
            arguments = {"width": width, "height": height, **arguments}
        prompts = [self._prompt(job) for job in jobs]
        # On the CPU and fresh for each picture: the documented way to the same noise on every device and in any order
        generators = [torch.Generator("cpu").manual_seed(job.seed) for job in jobs]
        single = len(jobs) == 1
        arguments["prompt"] = prompts[0] if single else prompts
        arguments["generator"] = generators[0] if single else generators
        if self.form.takes == "images":
            if jobs[0].images:
                arguments[self.form.image] = [self._image(image, jobs[0]) for image in jobs[0].images]
        elif self.form.takes != "text" and jobs[0].images:
            images = [self._image(job.images[0], job) for job in jobs]
            arguments[self.form.image] = images[0] if single else images
        if self.form.takes == "mask":
            masks = [self._mask(job) for job in jobs]
            arguments["mask_image"] = masks[0] if single else masks
        with torch.inference_mode():
            made = self._pipeline(**arguments, output_type="np")
        flagged = getattr(made, "nsfw_content_detected", None) or [False] * len(jobs)
        return [
            Failure("refused", "the pipeline's safety checker held the image back") if flag else to_pixels(image)
            for image, flag in zip(made.images, flagged, strict=True)
        ]

    def _prompt(self, job: Job) -> str:
        if not self.form.placeholder:
            return job.instruction
        named = [self.form.placeholder.format(n=n) for n in range(1, len(job.images) + 1)]
        return " ".join([*named, job.instruction])

    def _size(self, job: Job) -> tuple[int, int]:
        """Width and height to work at: the request's shape at our resolution, in multiples every class takes."""
        assert self.resolution is not None
        scale = self.resolution / max(job.width, job.height)
        return tuple(max(1, round(side * scale / _MULTIPLE)) * _MULTIPLE for side in (job.width, job.height))  # type: ignore[return-value]

    def _image(self, pixels: NDArray[np.uint8], job: Job) -> Image.Image:
        from PIL import Image

        return Image.fromarray(pixels if self.resolution is None else resample(pixels, *self._size(job)))

    def _mask(self, job: Job) -> Image.Image:
        from PIL import Image

        assert job.mask is not None
        mask = Image.fromarray(job.mask.astype(np.uint8) * np.uint8(255))
        return mask if self.resolution is None else mask.resize(self._size(job), Image.Resampling.NEAREST)


def check_arguments(class_name: str, takes: set[str], arguments: Mapping[str, Any]) -> dict[str, Any]:
    """Refuse arguments that a class does not take, or that come from the request.

    Raises:
        UsageError: It names the argument and what there is.
    """
    free = takes - _OURS - {"kwargs", "args"}
    for name in arguments:
        if name in _OURS:
            raise UsageError(f"{class_name}: {name} comes from the request and cannot be given")
        if name not in free:
            raise UsageError(f"{class_name} takes no argument {name!r}{near(name, free)}")
    return dict(arguments)


def to_pixels(image: NDArray[np.floating[Any]]) -> NDArray[np.uint8] | Failure:
    """An (H, W, 3) picture in [0, 1] as uint8; a failure where it holds NaN or infinity."""
    if not np.isfinite(image).all():
        share = 1 - np.isfinite(image).mean()
        return Failure("invalid_output", f"NaN or infinity in {share:.0%} of the values")
    return (image.clip(0, 1) * 255).round().astype(np.uint8)

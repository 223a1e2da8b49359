"""diffusers pipelines: loaded, and called as their class wants to be called.

Nothing is unpickled and no code that comes with weights is run.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np
from numpy.typing import NDArray

from qk_baselines.pipeline_files import INDEX, Found, pipeline_class
from qk_bench.errors import UsageError, one_line
from qk_bench.images import resample
from qk_bench.interfaces import Failure
from qk_bench.plugins import near

if TYPE_CHECKING:
    from PIL import Image

_OURS: Final = {"prompt", "image", "images", "input_images", "mask_image", "generator", "output_type", "return_dict",
                "latents", "num_images_per_prompt", "self"}  # fmt: skip
_MULTIPLE: Final = 16  # pixels; every class takes sizes that are multiples of this


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
        kind = pipeline_class(found.class_name, found.folder / INDEX)
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
        except Exception as error:
            mend = "download it again, whole and as safetensors" + (", or give another device_map" if options else "")
            raise UsageError(
                f"{found.folder} cannot be loaded as {found.class_name}: {one_line(error)}", mend
            ) from error
        try:
            self._place(placement, accelerator)
        except Exception as error:
            raise UsageError(
                f"{found.class_name} is loaded and cannot be put where it shall run: {one_line(error)}",
                "give another device or dtype, or offload=model",
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
